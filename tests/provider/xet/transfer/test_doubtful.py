"""A large file that the repository may have: whichever of its upload and its digest ends first, the result is right."""

from __future__ import annotations

import hashlib
import os
import signal
import threading

import pytest

from airflow_provider_xethub.exceptions import XetCancelledError, XetSourceError
from airflow_provider_xethub.operators.xethub import XetUploadOperator
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.transfer import doubtful
from support.builders import commits
from xethub_local.control.faults import Fault

SIZE = 3_000_000
GRANTS = "POST /cas/.*/v1/xorb-grants/.*"


@pytest.fixture(autouse=True)
def small_files_are_large(monkeypatch):
    monkeypatch.setattr(doubtful, "SMALLEST", 1 << 20)
    monkeypatch.setattr(doubtful, "_cores", lambda: 2)


@pytest.fixture
def where(connection, repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def source(where, tmp_path, run_task, monkeypatch):
    """A file that the repository has; the next task knows nothing of its upload."""
    path = tmp_path / "data.bin"
    path.write_bytes(os.urandom(SIZE))
    run_task(XetUploadOperator, source=str(path), **where).value  # noqa: B018 - raises what failed
    monkeypatch.setenv("AIRFLOW__XETHUB__CACHE_FOLDER", str(tmp_path / "another worker"))
    return path


@pytest.fixture
def digest(monkeypatch):
    """Lets a test do something before the digest is known."""
    real = doubtful.digest

    def replace(before):
        def computed(*arguments):
            before()
            return real(*arguments)

        monkeypatch.setattr(doubtful, "digest", computed)

    return replace


def change(path):
    with path.open("r+b") as stream:
        stream.write(os.urandom(300_000))


def upload(run_task, source, where, **options):
    return run_task(XetUploadOperator, source=str(source), **where, **options)


def test_the_upload_of_an_unchanged_file_ends_when_its_digest_is_known(hub, repo, where, source, run_task):
    hub.faults.add(Fault(GRANTS, endless="silent"))
    before = commits(hub, repo)
    hub.log.clear()

    again = upload(run_task, source, where, deduplicate=False).value

    assert (again["created"], again["unchanged"], again["transfer"]["bytes_sent"]) == (False, ["data.bin"], 0)
    assert [file["sha256"] for file in again["files"]] == [hashlib.sha256(source.read_bytes()).hexdigest()]
    assert again["files"][0]["xet_hash"]
    assert commits(hub, repo) == before
    assert not hub.log.requests("(PUT|POST) .*/(uploads|xorb-commits|shards).*")


@pytest.mark.parametrize("is_first", ["upload", "digest"])
def test_a_changed_file_is_published_whichever_ends_first(hub, repo, where, source, run_task, hook, digest, is_first):
    ended, known = threading.Event(), threading.Event()
    digest(lambda: ended.wait(30) if is_first == "upload" else known.set())
    if is_first == "digest":
        hub.faults.add(Fault(GRANTS, delay=0.3, times=1))
    change(source)

    again = upload(run_task, source, where).value
    ended.set()

    assert again["created"]
    wanted = hashlib.sha256(source.read_bytes()).hexdigest()
    assert [file["sha256"] for file in again["files"]] == [wanted]
    assert hook.hub.read_inline(repo, "data.bin") == source.read_bytes()


def test_an_unchanged_file_whose_upload_ends_first_is_not_committed(hub, repo, where, source, run_task, digest):
    ended = threading.Event()
    digest(lambda: ended.wait(30))
    before = commits(hub, repo)
    again = upload(run_task, source, where).value
    ended.set()
    assert (again["created"], again["unchanged"]) == (False, ["data.bin"])
    assert commits(hub, repo) == before


def test_a_file_that_somebody_replaced_meanwhile_is_uploaded_after_all(
    hub, repo, where, source, run_task, hook, digest, tmp_path
):
    other = tmp_path / "other.bin"
    other.write_bytes(os.urandom(SIZE))
    records = hook.upload(str(other), repo, path_in_repo="data.bin")["files"]
    digest(lambda: hook.commit(CommitRequest(repo, records, message="Replace")))
    hub.faults.add(Fault(GRANTS, times=1, delay=2))

    again = upload(run_task, source, where, deduplicate=False).value

    assert [file["sha256"] for file in again["files"]] == [hashlib.sha256(source.read_bytes()).hexdigest()]
    # As if this task had come before the other one, whose file stays.
    assert (again["created"], again["transfer"]["bytes"]) == (False, SIZE)
    assert hook.hub.read_inline(repo, "data.bin") == other.read_bytes()


@pytest.mark.parametrize("is_changed", [False, True])
def test_a_token_that_cas_refuses_is_replaced(hub, repo, where, source, run_task, is_changed):
    hub.faults.add(Fault(GRANTS, status=401, times=1))
    if is_changed:
        change(source)
    again = upload(run_task, source, where, deduplicate=False).value
    assert again["created"] == is_changed


def test_a_file_that_changes_while_it_is_compared_is_refused(where, source, run_task, digest):
    digest(lambda: change(source))
    run = upload(run_task, source, where)
    assert isinstance(run.error, XetSourceError)
    assert "changed while being uploaded. Nothing was published" in run.text


def test_a_file_that_cannot_be_read_any_more_is_refused(where, source, run_task, digest):
    digest(source.unlink)
    run = upload(run_task, source, where)
    assert isinstance(run.error, XetSourceError)


def test_a_task_that_is_stopped_stays_stopped_although_the_file_is_equal(hub, repo, source, hook, digest):
    """The signal and the digest come at the same moment."""

    def stop(*_):
        raise XetCancelledError("The task was stopped.")

    before = commits(hub, repo)
    former = signal.signal(signal.SIGUSR1, stop)
    hub.faults.add(Fault(GRANTS, endless="silent"))
    digest(lambda: os.kill(os.getpid(), signal.SIGUSR1))
    try:
        with pytest.raises(XetCancelledError, match="The task was stopped"):
            hook.publish(str(source), CommitRequest(repo, (), message="Again"), deduplicate=False)
    finally:
        signal.signal(signal.SIGUSR1, former)
    assert commits(hub, repo) == before


@pytest.mark.parametrize("why", ["several files", "small", "new", "one core"])
def test_where_it_would_be_slower_the_digest_comes_first(where, source, run_task, monkeypatch, tmp_path, why):
    compared = []
    monkeypatch.setattr(doubtful.Comparison, "start", lambda *_: compared.append(1))
    given = {"source": str(source)}
    if why == "several files":
        (tmp_path / "second.bin").write_bytes(os.urandom(SIZE))
        given = {"source": [str(source), str(tmp_path / "second.bin")]}
    elif why == "small":
        monkeypatch.setattr(doubtful, "SMALLEST", SIZE + 1)
    elif why == "new":
        given["path_in_repo"] = "new.bin"
    else:
        monkeypatch.setattr(doubtful, "_cores", lambda: 1)
    assert run_task(XetUploadOperator, **given, **where).state == "success"
    assert not compared
