"""Work with more files than are kept in memory: on disk, in batches, with the same requests and keys as small work."""

from __future__ import annotations

import json
import sqlite3

import pytest

from airflow_provider_xethub.exceptions import XetDestinationError, XetInputError, XetSourceError
from airflow_provider_xethub.xet import records
from airflow_provider_xethub.xet.files.sources import collect
from airflow_provider_xethub.xet.process import path_table
from airflow_provider_xethub.xet.publish import batches, commit
from airflow_provider_xethub.xet.publish import bucket as bucket_module
from airflow_provider_xethub.xet.publish.card import Card
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.transfer import upload
from support.commit_builders import request, titles, tree
from xethub_local.control.faults import Fault

PATHS = ["b/2.bin", "a.bin", "b/10.bin", "c/d/e.bin", "b-1.bin", "Z ü%?#.bin", "notes.txt", "empty.bin"]


@pytest.fixture
def folder(tmp_path):
    for path in PATHS:
        target = tmp_path / "in" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        is_text = path.endswith(".txt")
        target.write_bytes(b"" if path == "empty.bin" else path.encode() + (b"\n" if is_text else b"\0"))
    return tmp_path / "in"


def test_many_files_are_published_like_few_in_one_commit_with_the_same_key(hook, repo, hub, folder, monkeypatch):
    few = hook.publish(folder, request(repo))
    other = hub.create_repo("many/other", "dataset")
    monkeypatch.setattr(records, "IN_MEMORY", 3)

    many = hook.publish(folder, request(repo))
    assert many["oid"] == few["oid"], "found by its key, which is the same"
    assert not isinstance(many["files"], list)
    assert list(many["files"]) == sorted(few["files"], key=lambda file: file["path"])
    assert len(many["files"]) == len(PATHS)
    assert list(many["unchanged"]) == few["unchanged"] == []

    there = hook.publish(folder, request(other))
    assert len(there["commits"]) == 1
    assert tree(hub, other) == set(PATHS)
    assert there["transfer"]["files"] == few["transfer"]["files"]
    again = hook.publish(folder, request(other, idempotency_key="next day"))
    assert not again["created"]
    assert sorted(again["unchanged"]) == sorted(PATHS)
    assert again["transfer"]["files"] == 0


def test_a_commit_of_the_records_of_many_uploads_deletes_too(hook, repo, hub, folder, three_in_memory):
    hook.publish(folder, request(repo, message="old"), path_in_repo="old", patterns="b/*")
    uploaded = hook.upload(folder, repo)["files"]
    assert not isinstance(uploaded, list)
    assert "sealed_sample" in uploaded[0]
    result = hook.commit(CommitRequest(repo, [*reversed(uploaded)], ["old/"], "records", idempotency_key="k2"))
    assert tree(hub, repo) == set(PATHS)
    assert result["deleted"] == ["old/"]
    with pytest.raises(XetInputError, match=r"a\.bin occurs twice among the files"):
        hook.commit(CommitRequest(repo, [*uploaded, *(f for f in uploaded if f["path"] == "a.bin")]))


def test_the_gitignore_and_the_card_among_many_files_apply_to_all_batches(hook, repo, hub, folder, three_in_memory):
    (folder / ".gitignore").write_text("b/*\n")
    (folder / "README.md").write_text("# Mine\n")
    hook.publish(folder, request(repo, card=Card(facts={"Rows": "7"})))
    assert tree(hub, repo) == {*PATHS, ".gitignore", "README.md"} - {"b/2.bin", "b/10.bin"}
    text = hook.hub.read_inline(repo, "README.md").decode()
    assert text.startswith("# Mine\n")
    assert "9 files" in text


def test_a_retry_sends_nothing_again_that_is_committed(hook, repo, hub, folder, three_in_memory, monkeypatch):
    monkeypatch.setattr(commit, "MAX_CHANGES", 3)
    stop = hub.faults.add(Fault("POST .*/commit/.*", skip=1, status=400))
    with pytest.raises(Exception, match="1 of 3 parts are committed"):
        hook.publish(folder, request(repo))
    hub.faults.remove(stop)
    result = hook.publish(folder, request(repo))
    # Three of the eight were committed by the first attempt.
    assert len(result["commits"]) == 3
    assert result["transfer"]["files"] <= len(PATHS) - 3
    assert result["transfer"]["bytes_sent"] == 0 or result["transfer"]["bytes_deduplicated"] > 0
    assert tree(hub, repo) == set(PATHS)
    assert titles(hub, repo)[0].endswith("(part 3 of 3)")


@pytest.mark.parametrize("options", [{"create_pr": True}, {"atomic": True}, {"parent": True}])
def test_many_files_also_go_to_pull_requests(hook, repo, hub, folder, three_in_memory, monkeypatch, options):
    monkeypatch.setattr(commit, "MAX_CHANGES", 3)
    if options.pop("parent", None):
        options = {"parent_commit": hook.get_latest_commit(repo)["oid"]}
    result = hook.publish(folder, request(repo, **options))
    revision = "refs/pr/1" if options.get("create_pr") else "main"
    assert tree(hub, repo, revision) == set(PATHS)
    assert len(result["files"]) == len(PATHS)
    assert {file["repo"] for file in result["files"]} == {repo.at(revision).uri}


def test_an_error_in_a_later_batch_does_not_say_that_nothing_was_put_into_the_bucket(
    hook, hub, folder, three_in_memory, monkeypatch
):
    monkeypatch.setattr(bucket_module, "BATCH", 2)
    bucket = hub.create_repo("many/partly", "bucket")
    send = bucket_module._send

    def send_and_lose(*args):
        send(*args)
        for path in PATHS[3:]:
            (folder / path).unlink(missing_ok=True)

    monkeypatch.setattr(bucket_module, "_send", send_and_lose)
    with pytest.raises(XetSourceError, match="Nothing more was published"):
        hook.publish(folder, request(bucket))
    assert 0 < len(hook.list_files(bucket)) < len(PATHS)


def test_many_files_go_to_a_bucket(hook, hub, folder, three_in_memory, monkeypatch):
    monkeypatch.setattr(bucket_module, "BATCH", 2)
    monkeypatch.setattr(batches.stop, "sleep", lambda _: None)
    bucket = hub.create_repo("many/bucket", "bucket")
    hub.faults.add(Fault("POST .*/batch", skip=1, times=1, status=429, headers={"Retry-After": "200"}))
    hub.log.clear()
    result = hook.publish(folder, request(bucket))
    assert {file["path"] for file in hook.list_files(bucket)} == set(PATHS)
    assert result["created"]
    assert len([each for each in hub.log.requests() if each.path.endswith("/batch")]) == 5, "one of them twice"
    again = hook.publish(folder, request(bucket))
    assert set(again["unchanged"]) == set(PATHS)
    assert not again["created"]


def test_two_sources_with_one_path_and_a_file_that_is_a_folder_are_refused_across_batches(tmp_path, three_in_memory):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for number in range(4):
            (tmp_path / name / f"{name}{number}").write_bytes(b"x")
    (tmp_path / "one" / "same").write_bytes(b"1")
    (tmp_path / "two" / "same").write_bytes(b"2")
    with pytest.raises(XetInputError, match=r"one/same and .*/two/same would both become same"):
        collect([tmp_path / "one", tmp_path / "two"])
    assert len(collect([tmp_path / "one", tmp_path / "one"])) == 5, "the same file twice is one"
    (tmp_path / "two" / "same").unlink()
    (tmp_path / "two" / "same").mkdir()
    (tmp_path / "two" / "same" / "x").write_bytes(b"3")
    with pytest.raises(XetInputError, match="same would be both a file and the folder of same/x"):
        collect([tmp_path / "one", tmp_path / "two"])


def test_a_file_that_vanishes_after_the_search_is_named(tmp_path, folder, three_in_memory):
    found = collect(folder)
    (folder / "a.bin").unlink()
    with pytest.raises(XetSourceError, match=r"can no longer be read.*a\.bin: no such file"):
        upload.with_samples(upload.source_records(found, "hf://datasets/acme/d@main"), list(found))


def test_a_full_disk_says_where_room_is_needed(folder, three_in_memory, monkeypatch):
    for number in range(200):
        (folder / f"{number}-{'long' * 20}").touch()
    connect = sqlite3.connect

    def small(*args, **kwargs):
        database = connect(*args, **kwargs)
        database.execute("PRAGMA max_page_count = 8")
        return database

    monkeypatch.setattr(path_table.sqlite3, "connect", small)
    with pytest.raises(XetDestinationError, match=r"database or disk is full\. Point TMPDIR"):
        collect(folder)


def test_an_upload_waits_for_the_next_window_of_the_rate_limit(hook, repo, hub, folder, three_in_memory, monkeypatch):
    slept = []
    monkeypatch.setattr(batches.stop, "sleep", slept.append)
    hub.faults.add(Fault("POST .*/preupload/.*", times=1, status=429, headers={"Retry-After": "200"}))
    hook.publish(folder, request(repo))
    assert slept == [200.0]
    assert tree(hub, repo) == set(PATHS)


def test_an_xcom_names_counts_instead_of_many_files(hook, repo, folder, three_in_memory, monkeypatch):
    monkeypatch.setenv("AIRFLOW__XETHUB__MANIFEST_FILES", "3")
    result = hook.xcom_commit(hook.publish(folder, request(repo)), repo)
    assert result["files"]["file_count"] == len(PATHS)
    assert result["unchanged"] == []
    assert len(json.dumps(result)) < 2000
    again = hook.xcom_commit(hook.publish(folder, request(repo, idempotency_key="other")), repo)
    assert again["unchanged"]["file_count"] == len(PATHS)
    known = hook.read_files(result["files"])
    assert {file["path"] for file in known} == set(PATHS)


KILLED = """
import sys
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet import records
from airflow_provider_xethub.xet.publish import commit
from airflow_provider_xethub.xet.publish.request import CommitRequest

records.IN_MEMORY = commit.MAX_CHANGES = 3
hook = XetHubConnection()
hook.publish(sys.argv[1], CommitRequest(hook.repo(sys.argv[2], "dataset"), (), message="many", idempotency_key="k"))
"""


@pytest.mark.parametrize(
    ("route", "before"),
    [("POST .*/preupload/.*", 2), ("POST .*/commit/.*", 0), ("POST .*/commit/.*", 2)],
    ids=["while uploading", "before committing", "between commits"],
)
def test_a_task_that_is_killed_sends_nothing_again(
    hook, repo, hub, folder, three_in_memory, monkeypatch, kill_at, route, before
):
    monkeypatch.setattr(commit, "MAX_CHANGES", 3)
    kill_at(Fault(route, skip=before, delay=4, status=500), KILLED, str(folder), repo.repo_id)
    result = hook.publish(folder, request(repo))
    assert len(result["commits"]) == 3
    assert tree(hub, repo) == set(PATHS)
    committed = 3 * before if "commit" in route else 0
    assert result["transfer"]["files"] <= len(PATHS) - committed


def test_the_manifests_of_several_uploads_are_committed_together(hook, repo, hub, folder, three_in_memory, monkeypatch):
    monkeypatch.setenv("AIRFLOW__XETHUB__MANIFEST_FILES", "3")
    uploads = [hook.upload(folder, repo, path_in_repo=name)["files"] for name in ("x", "y")]
    manifests = [hook.xcom_uploaded(files, repo) for files in uploads]
    assert [each["manifest"] for each in manifests] == ["cas", "cas"]
    result = hook.commit(CommitRequest(repo, hook.read_files(manifests), message="all", idempotency_key="k"))
    assert tree(hub, repo) == {f"{name}/{path}" for name in "xy" for path in PATHS}
    assert len(result["commits"]) == 1
    with pytest.raises(XetInputError, match="occurs twice"):
        hook.commit(CommitRequest(repo, hook.read_files([manifests[0], manifests[0]])))


def test_one_file_more_than_memory_holds_and_none(hook, repo, hub, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "IN_MEMORY", 3)
    (tmp_path / "four").mkdir()
    for number in range(4):
        (tmp_path / "four" / f"{number}.bin").write_bytes(b"\0%d" % number)
    result = hook.publish(tmp_path / "four", request(repo))
    assert len(result["files"]) == 4
    assert result["files"][-1]["path"] == "3.bin"
    assert [file["path"] for file in result["files"][1:3]] == ["1.bin", "2.bin"]
    assert isinstance(hook.publish(tmp_path / "four", request(repo), exclude="3.bin")["files"], list)
    with pytest.raises(XetSourceError, match="no file found"):
        hook.publish(tmp_path / "four", request(repo), patterns="*.txt")
