"""Copies of more files than are kept in memory: on disk, in batches, with the commit and the key of a small copy."""

from __future__ import annotations

import tracemalloc

import pytest

from airflow_provider_xethub.exceptions import XetInputError, XetResponseError, XetSourceError
from airflow_provider_xethub.xet import records
from airflow_provider_xethub.xet.publish import commit, copies
from airflow_provider_xethub.xet.records import xet_file_record
from airflow_provider_xethub.xet.repo import Repo
from support.builders import publish
from support.commit_builders import request, tree
from xethub_local.control.faults import Fault

PATHS = [*(f"d{n % 2}/{n}.bin" for n in range(7)), "notes.txt", "d0/Z ü%?#.txt", "empty.bin"]


def content(path):
    return b"" if path == "empty.bin" else path.encode() + (b"\n" if path.endswith(".txt") else b"\0")


@pytest.fixture
def source(make_repo, connection, tmp_path):
    made = make_repo("dataset")
    publish(made, tmp_path, {path: content(path) for path in PATHS})
    return made


def files_of(hook, source, pattern=("d*", "notes.txt", "empty.bin")):
    return hook.list_files(source, patterns=list(pattern))


def read(hook, repo):
    return {file["path"]: (file["size"], file["sha256"], file.get("blob_id")) for file in files_of(hook, repo)}


def test_many_files_are_copied_like_few_in_one_commit_with_the_same_key(hook, hub, repo, source, monkeypatch):
    few = hook.copy(files_of(hook, source), request(repo))
    monkeypatch.setattr(records, "IN_MEMORY", 3)
    hub.log.clear()
    many = hook.copy(files_of(hook, source), request(repo))
    assert many["oid"] == few["oid"], "found by its key, which is the same"
    assert list(many["files"]) == sorted(few["files"], key=lambda file: file["path"])
    assert not isinstance(many["files"], list)

    other = hub.create_repo("many/copied", "dataset")
    there = hook.copy(files_of(hook, source), request(other))
    assert there["copied"] == few["copied"]
    assert there["copied"]["inline_files"] == 3
    assert len(there["commits"]) == 1
    assert read(hook, other) == read(hook, source)
    again = hook.copy(files_of(hook, source), request(other, idempotency_key="next day"))
    assert (again["created"], again["copied"]["files"]) == (False, 0)


def test_a_manifest_is_copied_without_a_list_of_its_records(hook, hub, repo, source, three_in_memory, monkeypatch):
    monkeypatch.setenv("AIRFLOW__XETHUB__MANIFEST_FILES", "3")
    manifest = hook.xcom_files(hook.find_files(source))
    result = hook.copy(manifest, request(repo), path_in_repo="below/")
    assert tree(hub, repo) == {f"below/{path}" for path in [*PATHS, ".gitattributes"]}
    assert result["copied"]["files"] == len(PATHS) + 1


def test_many_files_are_copied_into_a_bucket_and_from_one_to_another(hook, hub, source, three_in_memory):
    bucket, other = (hub.create_repo(f"many/{name}", "bucket") for name in ("one", "two"))
    first = hook.copy(hook.list_files(source), request(bucket))
    assert {file["path"] for file in hook.list_files(bucket)} == set(PATHS)
    assert first["copied"]["inline_files"] == 3
    hook.copy(hook.list_files(bucket), request(other))
    assert [(file["path"], file["xet_hash"]) for file in hook.list_files(other)] == [
        (file["path"], file["xet_hash"]) for file in hook.list_files(bucket)
    ]
    assert not hook.copy(hook.list_files(source), request(bucket))["created"]


def test_two_copies_with_one_path_and_a_file_outside_of_cas_are_refused_before_any_request(
    hook, hub, repo, source, three_in_memory
):
    files = files_of(hook, source)
    hub.log.clear()
    with pytest.raises(XetInputError, match=r"notes\.txt occurs twice among the files"):
        hook.copy([*files, next(file for file in files if file["path"] == "notes.txt")], request(repo))
    lost = {**files[-1], "path": "lost.bin", "size": 5, "xet_hash": None}
    lost.pop("blob_id", None)
    with pytest.raises(XetInputError, match="is not in CAS, so it cannot be copied"):
        hook.copy([*files, {**lost, "sha256": "a" * 64}], request(repo))
    assert not hub.log.requests("POST .*")


@pytest.mark.parametrize("lie", [{"sha256": "a" * 64}, {"size": 99}])
def test_a_record_in_a_later_batch_that_lies_about_content_in_cas_is_not_committed(
    hook, hub, repo, source, three_in_memory, lie
):
    files = [{**file, **lie} if file["path"] == "d1/5.bin" else file for file in files_of(hook, source)]
    with pytest.raises(XetResponseError, match=r"d1/5\.bin"):
        hook.copy(files, request(repo))
    assert tree(hub, repo) == set()


def test_a_bucket_gets_no_copy_whose_record_lies_about_the_xet_hash(hook, hub, source, three_in_memory):
    bucket = hub.create_repo("many/lies", "bucket")
    lie = {"xet_hash": "b" * 64}
    files = [{**file, **lie} if file["path"] == "d1/5.bin" else file for file in files_of(hook, source)]
    with pytest.raises(XetResponseError, match=r"d1/5\.bin"):
        hook.copy(files, request(bucket))
    assert "d1/5.bin" not in {file["path"] for file in hook.list_files(bucket)}


@pytest.mark.parametrize("lie", [{"size": 99}, {"blob_id": "c" * 40, "sha256": None}])
def test_a_record_in_a_later_batch_that_lies_about_inline_content_is_not_committed(
    hook, hub, repo, source, three_in_memory, lie
):
    files = [{**file, **lie} if file["path"] == "notes.txt" else file for file in files_of(hook, source)]
    with pytest.raises(XetSourceError, match=r"notes\.txt .* changed since it was listed"):
        hook.copy(files, request(repo))
    assert tree(hub, repo) == set()


KILLED = """
import sys
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet import records
from airflow_provider_xethub.xet.publish import commit
from airflow_provider_xethub.xet.publish.request import CommitRequest

records.IN_MEMORY = commit.MAX_CHANGES = 3
hook = XetHubConnection()
files = hook.list_files(hook.repo(sys.argv[1], "dataset"), patterns=["d*", "notes.txt", "empty.bin"])
hook.copy(files, CommitRequest(hook.repo(sys.argv[2], "dataset"), (), message="many", idempotency_key="k"))
"""


@pytest.mark.parametrize(
    ("route", "before"),
    [("POST .*/duplicate", 1), ("POST .*/commit/.*", 2)],
    ids=["while the Hub copies", "between commits"],
)
def test_a_copy_that_is_killed_is_continued(
    hook, hub, repo, source, three_in_memory, monkeypatch, kill_at, route, before
):
    monkeypatch.setattr(commit, "MAX_CHANGES", 3)
    kill_at(Fault(route, skip=before, delay=4, status=500), KILLED, source.repo_id, repo.repo_id)
    hub.log.clear()
    result = hook.copy(files_of(hook, source), request(repo))
    assert read(hook, repo) == read(hook, source)
    assert len(result["commits"]) == 4
    sent = hub.log.requests("POST .*/commit/.*")
    assert len(sent) == (2 if "commit" in route else 4), "what is committed is not sent again"


def test_the_plan_of_many_copies_takes_the_same_memory_whatever_their_number():
    source, target = Repo("acme/source", "dataset", "1" * 40), Repo("acme/target", "dataset")

    def targets(count):
        for number in range(count):
            sha256 = f"{number:064x}"
            yield f"to/{number}", xet_file_record(f"{number}", 5, source.uri, sha256=sha256, xet_hash=sha256)

    def peak(count):
        tracemalloc.start()
        try:
            job = copies.plan_copies_as(source, targets(count), request(target), are_many=True)
            assert sum(file["size"] for file in job.request.files) == 5 * count
            assert job.original(f"to/{count - 1}")["path"] == f"{count - 1}"
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(12_000) < 1.3 * peak(4_000)
