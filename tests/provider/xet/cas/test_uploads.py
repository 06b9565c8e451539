"""How an upload is done depends on its shape: how many files at a time, and which of them CAS is asked about."""

from __future__ import annotations

import os
import threading

import pytest

from airflow_provider_xethub import CommitRequest
from airflow_provider_xethub.exceptions import XetSourceError, XetTransferError
from airflow_provider_xethub.operators.xethub import XetUploadOperator
from airflow_provider_xethub.xet.cas import cache
from airflow_provider_xethub.xet.cas import session as cas_session
from support.builders import content, write
from xethub_local.control.faults import Fault

QUERIES = "GET /cas/.*/v1/chunks/.*"


@pytest.fixture
def where(connection, repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.mark.parametrize(
    ("size", "deduplicate", "asked"),
    [(10_000, None, 0), (10_000, True, 20), (300_000, None, 20), (300_000, False, 0)],
)
def test_cas_is_not_asked_about_tiny_files_unless_told(hub, where, tmp_path, run_task, size, deduplicate, asked):
    source = write(tmp_path / "in", {f"{number}.bin": os.urandom(size) for number in range(20)})

    run_task(XetUploadOperator, source=str(source), deduplicate=deduplicate, commit=False, **where).value  # noqa: B018

    assert len(hub.log.requests(QUERIES)) == asked


@pytest.mark.parametrize("commit", [True, False])
def test_of_a_slightly_changed_file_only_the_change_is_sent(hub, where, tmp_path, run_task, monkeypatch, commit):
    old = os.urandom(24 << 20)
    source = write(tmp_path / "in", {"a.bin": old})
    run_task(XetUploadOperator, source=str(source), **where).value  # noqa: B018
    (source / "a.bin").write_bytes(old[: 12 << 20] + b"changed" + old[12 << 20 :])
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "of another worker"))

    again = run_task(XetUploadOperator, source=str(source), commit=commit, **where).xcoms["transfer"]

    assert again["bytes_sent"] < (2 << 20)
    assert again["bytes_deduplicated"] > (22 << 20)


def test_files_of_all_sizes_arrive_as_they_are(hub, where, repo, tmp_path, run_task):
    sizes = {
        "empty": 0,
        "one": 1,
        "small": cas_session.SMALL_FILE,
        "large": cas_session.SMALL_FILE + 1,
        "larger": 40_000_001,
    }
    files = {f"{name}.bin": os.urandom(size) for name, size in sizes.items()}

    result = run_task(XetUploadOperator, source=str(write(tmp_path / "in", files)), **where).value

    assert {file["path"]: file["size"] for file in result["files"]} == {name: len(files[name]) for name in files}
    for name, value in files.items():
        assert content(hub, repo, name, tmp_path) == value, name


def test_the_clients_report_is_looked_at_once_not_for_each_file(hub, hook, repo, tmp_path, monkeypatch):
    """It is made anew at each look: with 5,000 files that took half a minute."""
    looks = []
    start = cas_session.start

    class Report:
        def __init__(self, real):
            self.real, self.dedup_metrics = real, real.dedup_metrics

        @property
        def uploads(self):
            looks.append(1)
            return self.real.uploads

    class Commit:
        def __init__(self, real):
            self.real = real

        def __getattr__(self, name):
            return getattr(self.real, name)

        def wait_to_finish(self):
            return Report(self.real.wait_to_finish())

    class Session:
        def __init__(self, real):
            self.real = real

        def new_upload_commit(self, **options):
            return Commit(self.real.new_upload_commit(**options))

    monkeypatch.setattr(cas_session, "start", lambda *of: Session(start(*of)))
    source = write(tmp_path / "in", {f"{number}.bin": os.urandom(100) for number in range(50)})

    assert len(hook.upload(source, repo)["files"]) == 50
    assert len(looks) == 1


@pytest.mark.parametrize("size", [5000, cas_session.SMALL_FILE + 1])
def test_a_file_that_vanishes_before_its_turn_is_named(hub, hook, repo, tmp_path, monkeypatch, size):
    source = write(tmp_path / "in", {"a.bin": os.urandom(size), "b.bin": b"b"})
    start = cas_session.start

    def delete_and_begin(*of):
        (source / "a.bin").unlink()
        return start(*of)

    monkeypatch.setattr(cas_session, "start", delete_and_begin)

    with pytest.raises(XetSourceError, match=r"in/a\.bin can no longer be read: no such file or directory"):
        hook.upload(source, repo)


def test_a_retry_does_not_repeat_what_cas_refuses_of_an_interrupted_upload(hook, repo, hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "cache"))
    source = write(tmp_path / "in", {"a.bin": os.urandom(1000), "b.bin": os.urandom(1000)})
    lie = hub.faults.add(Fault("POST /cas/.*/xorb-grants/.*", status=200, body="{}"))
    with pytest.raises(XetTransferError, match="is listed in the shard, but not stored here"):
        hook.upload(source / "a.bin", repo)
    hub.faults.remove(lie)

    for path in (source / "b.bin", source / "a.bin"):
        hook.publish(path, CommitRequest(repo, ()))
        assert content(hub, repo, path.name, tmp_path) == path.read_bytes()


def test_an_upload_does_not_notice_that_another_task_forgets_what_is_staged(hook, repo, hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "cache"))
    old = os.urandom(100 << 20)
    source = write(tmp_path / "in", {"a.bin": old})
    hub.faults.add(Fault("PUT /cas/.*", skip=1, delay=0.5))
    done, forgotten = threading.Event(), []

    def forget():
        while not done.wait(0.01):
            forgotten.append(cache.forget(tmp_path / "cache"))

    forgetting = threading.Thread(target=forget)
    forgetting.start()
    try:
        hook.upload(source, repo)
    finally:
        done.set()
        forgetting.join()
    assert sum(forgotten) > 0
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "of another worker"))
    again = hook.upload(source, repo, deduplicate=True)
    assert again["transfer"]["bytes_deduplicated"] == len(old), "all of it is in CAS"


SIGN_IN = {"status": 200, "body": "<html>", "headers": {"Content-Type": "text/html"}}
"""What a network's sign-in page is: no error."""


def test_content_that_cas_never_got_is_sent_though_the_client_has_recorded_it(
    hub, where, repo, tmp_path, run_task, monkeypatch
):
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "cache"))
    kept = b"\0" + os.urandom(5_000)
    source = write(tmp_path / "in", {"a.bin": kept})
    sign_in = hub.faults.add(Fault("POST /cas/.*/v1/xorb.*", times=3, **SIGN_IN))

    refused = run_task(XetUploadOperator, source=str(source), **where)
    retried = run_task(XetUploadOperator, source=str(source), try_number=2, **where)

    assert isinstance(refused.error, XetTransferError)
    assert hub.faults.acted(sign_in) == 3, "the first try ended with the third refusal"
    assert retried.value["created"]
    assert content(hub, repo, "a.bin", tmp_path) == kept


def test_what_else_the_client_has_recorded_is_not_sent_again(hub, where, tmp_path, run_task, monkeypatch):
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "cache"))
    before = write(tmp_path / "before", {"a.bin": b"\0" + os.urandom(50_000)})
    run_task(XetUploadOperator, source=str(before), **where).value  # noqa: B018
    source = write(tmp_path / "in", {"a.bin": (before / "a.bin").read_bytes(), "b.bin": b"\0" + os.urandom(20_000)})
    hub.faults.add(Fault("POST /cas/.*/v1/xorb.*", times=1, **SIGN_IN))

    transfer = run_task(XetUploadOperator, source=str(source), commit=False, **where).xcoms["transfer"]

    assert transfer["bytes_sent"] < 50_000


def test_an_upload_that_is_refused_for_another_reason_is_not_sent_again(hub, where, tmp_path, run_task, monkeypatch):
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "cache"))
    source = write(tmp_path / "in", {"a.bin": b"\0" + os.urandom(5_000)})
    refused = hub.faults.add(Fault("POST /cas/.*/v1/xorb.*", status=400))

    assert run_task(XetUploadOperator, source=str(source), **where).is_final

    assert hub.faults.acted(refused) == 1
