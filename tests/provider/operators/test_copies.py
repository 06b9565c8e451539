"""Copies between repositories and buckets: nothing that is in CAS moves, and everything comes out as it was."""

from __future__ import annotations

import os

import pytest

from airflow_provider_xethub.exceptions import (
    XetInputError,
    XetNotFoundError,
    XetResponseError,
    XetServerError,
    XetSourceError,
)
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import XetCommitOperator, XetCopyOperator, XetDownloadOperator
from airflow_provider_xethub.xet.publish.commit import CommitRequest
from support.airflow_runs import new_dag
from support.builders import TEXT, names, write
from xethub_local.control.faults import Fault
from xethub_local.server import LocalHub

FILES = {"a.bin": os.urandom(70_000), "d/ü b.bin": os.urandom(5000), "d/table.csv": TEXT, "empty": b""}
IN_CAS = sum(len(content) for path, content in FILES.items() if path.endswith(".bin"))
TO_CAS = r"(POST|PUT) /cas/.*"


@pytest.fixture(scope="module")
def running_hub(tmp_path_factory):
    """A Hub of its own: what moves counts here, and clients that other tests stopped may still finish theirs."""
    with LocalHub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture
def ask(connection):
    """Lists and publishes, asked afresh."""
    return XetHubConnection()


@pytest.fixture
def make(make_repo, ask, tmp_path):
    def make(kind, files=None, name="source"):
        repo = make_repo(kind)
        if files:
            ask.publish(write(tmp_path / name, files), CommitRequest(repo, ()))
        return repo

    return make


def held(ask, repo):
    return {file["path"] for file in ask.list_files(repo)} - {".gitattributes"}


def of(repo, prefix=""):
    return {f"{prefix}repo_id": repo.repo_id, f"{prefix}repo_type": repo.repo_type}


def content(run_task, repo, folder):
    run_task(XetDownloadOperator, destination=f"{folder}/", **of(repo)).value  # noqa: B018 - raises what failed
    return {name: (folder / name).read_bytes() for name in names(folder) if name != ".gitattributes"}


@pytest.mark.parametrize("target", ["model", "dataset", "space", "bucket"])
def test_a_whole_repository_is_copied_and_no_byte_of_what_is_in_cas_moves(hub, ask, make, run_task, tmp_path, target):
    source, to = make("dataset", FILES), make(target)
    hub.log.clear()

    result = run_task(XetCopyOperator, **of(to), **of(source, "source_")).value

    moved = [each for each in hub.log.requests() if max(each.bytes_in, each.bytes_out) > 4000]
    assert moved == [], "to a bucket, what is inline; of what is in CAS nothing"
    assert not hub.log.requests(".*/cas/.*/v[12]/reconstructions/.*")
    assert result["created"]
    extra = 0 if target == "bucket" else 1  # .gitattributes, which a bucket has no use for
    assert result["copied"]["files"] == len(FILES) + extra - (result["unchanged"] == [".gitattributes"])
    assert result["copied"]["bytes"] - result["copied"]["inline_bytes"] == IN_CAS
    assert {file["repo"] for file in result["files"]} == {to.uri}
    assert content(run_task, to, tmp_path / "out") == FILES
    listed = {file["path"]: file for file in ask.list_files(to)}
    for file in result["files"]:
        assert listed[file["path"]]["xet_hash"] == file["xet_hash"]


def test_copies_in_cas_are_the_same_file_and_inline_ones_stay_inline(ask, make, run_task):
    source, to = make("dataset", FILES), make("model")
    run_task(XetCopyOperator, patterns="d/*", path_in_repo="mirror", **of(to), **of(source, "source_")).value  # noqa: B018
    before = {file["path"]: file for file in ask.list_files(source)}
    after = {file["path"]: file for file in ask.list_files(to, "mirror")}
    assert set(after) == {"mirror/d/ü b.bin", "mirror/d/table.csv"}
    for path, file in after.items():
        original = before[path.removeprefix("mirror/")]
        assert {**file, "path": "", "repo": ""} == {**original, "path": "", "repo": ""}


def test_a_bucket_is_copied_to_a_bucket(hub, ask, make, run_task, tmp_path):
    source, to = make("bucket", FILES), make("bucket")
    hub.log.clear()
    result = run_task(XetCopyOperator, path="d", path_in_repo="more/", **of(to), **of(source, "source_")).value
    assert not hub.log.requests(f"{TO_CAS}")
    assert held(ask, to) == {"more/d/ü b.bin", "more/d/table.csv"}
    assert result["copied"] == {"files": 2, "bytes": 5000 + len(TEXT), "inline_files": 0, "inline_bytes": 0}
    again = run_task(XetCopyOperator, path="d", path_in_repo="more/", **of(to), **of(source, "source_")).value
    assert (again["created"], again["copied"]["files"], len(again["unchanged"])) == (False, 0, 2)


def test_the_hub_is_not_asked_again_for_what_is_there(hub, make, run_task):
    source, to = make("dataset", FILES), make("model")
    arguments = {"path": "d", **of(to), **of(source, "source_")}
    run_task(XetCopyOperator, **arguments).value  # noqa: B018
    assert len(hub.log.requests(".*/lfs-files/duplicate")) == 1
    hub.log.clear()
    again = run_task(XetCopyOperator, **arguments).value
    assert (again["copied"]["files"], len(again["unchanged"])) == (0, 2)
    assert not hub.log.requests(".*/(lfs-files|commit)/.*")


def test_an_empty_file_alone_is_copied_to_a_bucket(ask, make, run_task):
    for kind in ("dataset", "bucket"):
        source, to = make(kind, {"empty": b""}, kind), make("bucket")
        run_task(XetCopyOperator, path="empty", **of(to), **of(source, "source_")).value  # noqa: B018
        assert held(ask, to) == {"empty"}


@pytest.mark.parametrize(
    ("path_in_repo", "expected"), [("new.bin", "new.bin"), ("new/", "new/a.bin"), (None, "a.bin"), ("x/y", "x/y")]
)
def test_a_single_file_may_get_another_path(ask, make, run_task, path_in_repo, expected):
    source, to = make("dataset", FILES), make("dataset")
    run_task(XetCopyOperator, path="a.bin", path_in_repo=path_in_repo, **of(to), **of(source, "source_")).value  # noqa: B018
    assert held(ask, to) == {expected}


def test_a_folder_with_one_file_is_still_a_folder(ask, make, run_task):
    source, to = make("dataset", {"d/one.bin": FILES["a.bin"]}), make("dataset")
    run_task(XetCopyOperator, path="d", path_in_repo="x", **of(to), **of(source, "source_")).value  # noqa: B018
    assert held(ask, to) == {"x/d/one.bin"}


def test_an_older_revision_comes_back_within_one_repository(hub, ask, make, run_task, tmp_path):
    repo = make("dataset", FILES)
    old = ask.get_latest_commit(repo)["oid"]
    ask.publish(write(tmp_path / "newer", {"a.bin": os.urandom(100), "d/table.csv": b"new\n"}), CommitRequest(repo, ()))
    hub.log.clear()
    result = run_task(XetCopyOperator, source_revision=old, paths=["a.bin", "d/table.csv", "empty"], **of(repo)).value
    assert not hub.log.requests(".*/duplicate")
    assert result["unchanged"] == ["empty"]
    assert content(run_task, repo, tmp_path / "out") == FILES


def test_records_of_a_list_task_are_copied_in_a_pull_request(hub, ask, make, run_task):
    source, to = make("dataset", FILES), make("dataset")
    files = [ask.list_files(source, "d"), ask.list_files(source, "a.bin")]
    result = run_task(XetCopyOperator, files=files, create_pr=True, commit_message="theirs", **of(to)).value
    assert result["pull_request"].endswith("/discussions/1")
    assert result["title"] == "theirs"
    assert held(ask, to) == set()
    assert held(ask, to.at("refs/pr/1")) == {"a.bin", "d/ü b.bin", "d/table.csv"}


def test_what_is_copied_can_be_committed_further(ask, make, run_task):
    source, to = make("dataset", FILES), make("dataset")
    copied = run_task(XetCopyOperator, path="a.bin", **of(to), **of(source, "source_")).value
    again = run_task(XetCommitOperator, files=copied, **of(to)).value
    assert (again["created"], again["unchanged"]) == (False, ["a.bin"])


def test_a_retry_finds_the_commit_whose_answer_was_lost(hub, ask, make, run_task, monkeypatch):
    from airflow_provider_xethub.xet.hub import client as hub_module

    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    source, to = make("dataset", FILES), make("dataset")
    with new_dag():
        copy = XetCopyOperator(task_id="copy", path="a.bin", retries=2, **of(to), **of(source, "source_"))
    hub.faults.add(Fault("POST .*/commit/.*", times=1, lose_answer=True))
    hub.faults.add(Fault("GET .*/commits/.*", times=1, status=500))
    first = run_task(copy)
    assert isinstance(first.error, XetServerError)
    assert not first.is_final
    result = run_task(copy, try_number=2).value
    assert result["created"]
    assert [each["oid"] for each in result["commits"]] == [ask.get_latest_commit(to)["oid"]]


# --- what cannot be copied


def test_from_a_bucket_to_a_repository_nothing_is_copied_and_the_way_is_told(hub, make, run_task):
    source, to = make("bucket", FILES), make("dataset")
    hub.log.clear()
    run = run_task(XetCopyOperator, **of(to), **of(source, "source_"))
    assert isinstance(run.error, XetInputError)
    assert run.is_final
    assert "The Hub cannot copy from a bucket (hf://buckets/" in run.text
    assert "Download with XetDownloadOperator and upload with XetUploadOperator" in run.text
    assert not hub.log.requests("POST .*/(commit|lfs-files)/.*")


def test_what_is_neither_in_cas_nor_inline_is_refused(ask, make, run_task):
    source, to = make("dataset", FILES), make("dataset")
    (file,) = ask.list_files(source, "a.bin")
    run = run_task(XetCopyOperator, files=[{**file, "xet_hash": None}], **of(to))
    assert isinstance(run.error, XetInputError)
    assert f"a.bin of {source} is not in CAS" in run.text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"path": "a", "patterns": "b"}, "give only one of path and patterns"),
        ({"files": []}, "files is empty, so there is nothing to copy"),
        ({"files": [], "source_revision": "v1"}, "the records in files name their repository; leave out source_rev"),
        ({}, "onto itself. Give source_repo_id, source_revision or path_in_repo"),
    ],
)
def test_what_cannot_be_meant_is_refused(make, run_task, arguments, text):
    run = run_task(XetCopyOperator, **of(make("dataset")), **arguments)
    assert isinstance(run.error, XetInputError)
    assert text in run.text


def test_what_is_not_there_is_told(make, run_task):
    source, to = make("dataset", FILES), make("dataset")
    run = run_task(XetCopyOperator, paths=["a.bin", "nowhere"], **of(to), **of(source, "source_"))
    assert isinstance(run.error, XetNotFoundError)
    assert f"1 path not found in {source}. Check paths: nowhere" in run.text


def test_an_inline_file_that_changed_since_it_was_listed_is_not_copied(ask, make, run_task, tmp_path):
    source, to = make("dataset", FILES), make("dataset")
    files = ask.list_files(source, "d/table.csv")
    ask.publish(write(tmp_path / "newer", {"d/table.csv": TEXT[::-1]}), CommitRequest(source, ()))
    run = run_task(XetCopyOperator, files=files, **of(to))
    assert isinstance(run.error, XetSourceError)
    assert "d/table.csv of hf://datasets/" in run.text
    assert held(ask, to) == set()


def test_a_file_that_the_source_does_not_have_any_more_is_named(hub, ask, make, run_task):
    source, to = make("dataset", FILES), make("dataset")
    files = ask.list_files(source, "a.bin") + ask.list_files(source, "d")
    files[0] = {**files[0], "sha256": "12" * 32}
    run = run_task(XetCopyOperator, files=files, **of(to))
    assert isinstance(run.error, XetResponseError)
    assert f"The Hub could not copy 1 of 2 files from {source} to {to}: a.bin (" in run.text
    assert "None of these files was committed." in run.text
    assert held(ask, to) == set()


def test_a_bucket_names_what_it_could_not_copy(ask, make, run_task):
    source, to = make("dataset", FILES), make("bucket")
    files = ask.list_files(source)
    wrong = [{**file, "xet_hash": "12" * 32} if file["path"] == "a.bin" else file for file in files]
    run = run_task(XetCopyOperator, files=wrong, **of(to))
    assert isinstance(run.error, XetResponseError)
    assert "1 of 4 changes in hf://buckets/" in run.text
    assert held(ask, to) == set(FILES) - {"a.bin"}
