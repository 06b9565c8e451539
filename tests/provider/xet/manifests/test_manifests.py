"""Manifests against a real Hub, a real CAS and an object storage: written, read back, edited and lost."""

from __future__ import annotations

import gzip
import json

import pytest

from airflow_provider_xethub.exceptions import (
    XetHubError,
    XetInputError,
    XetIntegrityError,
    XetNotFoundError,
    XetSourceError,
    XetTokenScopeError,
)
from airflow_provider_xethub.hooks.tokens.tokens import TokenUse
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.manifests.spool import spooled
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.records import xet_file_record
from support.builders import publish, sealed

FILES = {f"d{n % 3}/{n:02}.bin": b"\0%d" % n for n in range(9)}
BINARIES = "*.bin"
"""All of them, without the ``.gitattributes`` of the repository."""


@pytest.fixture
def limit(monkeypatch):
    """Results of more than five files become a manifest."""
    monkeypatch.setenv("AIRFLOW__XETHUB__MANIFEST_FILES", "5")


@pytest.fixture
def storage(monkeypatch, tmp_path):
    """An administrator's folder for manifests."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    monkeypatch.setenv("AIRFLOW__XETHUB__MANIFEST_STORAGE", f"file://{folder}")
    return folder


@pytest.fixture
def published(repo, hook, tmp_path):
    publish(repo, tmp_path, FILES)
    return repo


def records(repo, count=8):
    return [xet_file_record(f"{n}", n, repo.uri, sha256=f"{n:064x}") for n in range(count)]


def to_cas(hook, repo, files):
    return hook._manifests.write(spooled([files]), repo, hook._cas.bind(TokenUse("write", repo)))


def same(value):
    """Return a value as it comes out of XCom."""
    return json.loads(json.dumps(value))


# --- listings


def test_few_files_stay_a_list_with_the_branch_that_was_asked_for(published, hook):
    files = hook.find_files(published)
    assert files == hook.list_files(published)
    assert {file["repo"] for file in files} == {published.uri}
    assert hook.xcom_files(files) == files


@pytest.mark.usefixtures("limit")
def test_many_files_become_a_manifest_that_lists_them_again(published, hook, hub):
    files = hook.find_files(published, patterns="d*/*")
    commit = hook.get_latest_commit(published)["oid"]
    manifest = same(hook.xcom_files(files))
    assert manifest == {
        "manifest": "listing",
        "repo": published.at(commit).uri,
        "file_count": 9,
        "bytes": 18,
        "path": None,
        "patterns": ["d*/*"],
        "digest": manifest["digest"],
    }
    hub.log.clear()
    again = hook.read_files(manifest)
    assert len(again) == 9
    assert not hub.log.requests()
    assert sorted(file["path"] for file in again) == sorted(FILES)
    assert list(again) == list(files)
    assert again.uris == [published.at(commit).uri]
    assert again.folder == ""


@pytest.mark.usefixtures("limit")
def test_a_commit_after_the_listing_changes_nothing(published, hook, tmp_path):
    manifest = hook.xcom_files(hook.find_files(published, None, BINARIES))
    before = sorted(FILES)
    publish(published, tmp_path / "later", {"d0/new.bin": b"\0new"})
    assert sorted(file["path"] for file in hook.read_files(manifest)) == before


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"file_count": 8}, "instead of 8 with 18"),
        ({"file_count": 10}, "There are 9 files with 18 bytes instead of 10"),
        ({"bytes": 17}, "instead of 9 with 17"),
        ({"digest": "0" * 64}, "other files of the same number and size"),
        ({"patterns": ["d0/*"]}, "There are 3 files"),
        ({"path": "d0"}, "There are 3 files"),
        ({"folders": ["d1", "d2/"]}, "There are 6 files"),
        ({"folders": ["d1", "d2/"], "patterns": ["*2/*"]}, "There are 3 files"),
    ],
)
def test_an_edited_listing_is_refused_before_any_record_is_used(change, part, published, hook):
    manifest = {**same(hook.xcom_files(hook.find_files(published, None, BINARIES))), **change}
    with pytest.raises(XetSourceError) as caught:
        next(iter(hook.read_files(manifest)))
    assert "lists other files than the manifest: run the task that listed it again" in str(caught.value)
    assert part in str(caught.value)


@pytest.mark.usefixtures("limit")
def test_a_listing_of_another_repository_is_refused(published, make_repo, hook, tmp_path):
    other = make_repo()
    publish(other, tmp_path / "other", {name: content + b"x" for name, content in FILES.items()})
    manifest = same(hook.xcom_files(hook.find_files(published, None, BINARIES)))
    at = other.at(hook.get_latest_commit(other)["oid"]).uri
    with pytest.raises(XetSourceError, match="lists other files than the manifest"):
        list(hook.read_files({**manifest, "repo": at}))
    with pytest.raises(XetNotFoundError):
        list(hook.read_files({**manifest, "repo": published.at("d" * 40).uri}))


@pytest.mark.usefixtures("limit")
def test_without_a_connection_a_listing_names_the_two_ways_out(published, hook):
    manifest = hook.xcom_files(hook.find_files(published, None, BINARIES))
    with pytest.raises(XetInputError) as caught:
        list(XetHubConnection(None).read_files(manifest, token=sealed(published)))
    assert "set xethub_conn_id, or [xethub] manifest_storage" in str(caught.value)[:100]


@pytest.mark.usefixtures("limit")
def test_a_bucket_is_compared_because_it_has_no_commits(make_repo, hook, tmp_path):
    bucket = make_repo("bucket")
    source = tmp_path / "source"
    source.mkdir()
    for n in range(7):
        (source / f"{n}.bin").write_bytes(b"\0%d" % n)
    hook.publish(source, CommitRequest(bucket, ()))
    manifest = same(hook.xcom_files(hook.find_files(bucket)))
    assert manifest["repo"] == bucket.uri
    assert len(list(hook.read_files(manifest))) == 7
    (source / "3.bin").write_bytes(b"\0z")
    hook.publish(source / "3.bin", CommitRequest(bucket, ()))
    with pytest.raises(XetSourceError, match=r"The bucket changed since it was listed.*manifest_storage"):
        list(hook.read_files(manifest))


# --- CAS


def test_records_in_cas_are_read_with_the_token_that_the_task_has(repo, hook, hub):
    files = records(repo)
    manifest = same(to_cas(hook, repo, files))
    assert (manifest["manifest"], manifest["repo"], manifest["file_count"]) == ("cas", repo.uri, 8)
    hub.log.clear()
    assert list(hook.read_files(manifest)) == files
    assert not hub.log.requests("GET .*xet-write-token.*")
    token = sealed(repo)
    hub.log.clear()
    assert list(XetHubConnection(None).read_files(manifest, token=token)) == files
    assert not hub.log.requests(".* /api/.*")


@pytest.mark.parametrize(
    "change",
    [{"sha256": "0" * 64}, {"size": 10}, {"file_count": 7}, {"file_count": 9}, {"bytes": 1}],
)
def test_an_edited_manifest_of_cas_is_refused(change, repo, hook):
    manifest = {**to_cas(hook, repo, records(repo)), **change}
    with pytest.raises(XetHubError) as caught:
        next(iter(hook.read_files(manifest)))
    assert isinstance(caught.value, XetIntegrityError)
    assert "has another content: run the task again that returned it" in str(caught.value)[:180]


def test_the_digest_of_another_file_is_refused(repo, hook, tmp_path):
    [other] = publish(repo, tmp_path, {"a.bin": b"\0" + b"x" * 5000})
    manifest = to_cas(hook, repo, records(repo))
    edited = {name: other[name] for name in ("xet_hash", "sha256", "size")}
    with pytest.raises(XetIntegrityError, match="not gzip-compressed JSON lines"):
        list(hook.read_files({**manifest, **edited}))


def test_records_of_another_repository_are_refused(repo, make_repo, hook):
    manifest = to_cas(hook, repo, records(make_repo()))
    with pytest.raises(XetInputError, match="but has records of"):
        list(hook.read_files(manifest))


def test_a_token_for_another_repository_does_not_read_a_manifest(repo, make_repo, hook):
    manifest = to_cas(hook, repo, records(repo))
    with pytest.raises(XetTokenScopeError):
        list(hook.read_files(manifest, token=sealed(make_repo())))


def test_damaged_bytes_are_not_believed(repo, hook, hub):
    manifest = to_cas(hook, repo, records(repo, 500))
    hub.faults.arm("corrupt-data", times=100)
    with pytest.raises(XetHubError):
        list(hook.read_files(manifest))


# --- storage


@pytest.mark.usefixtures("limit")
def test_a_storage_keeps_the_records_under_the_name_of_their_digest(published, hook, storage):
    manifest = same(hook.xcom_files(hook.find_files(published, None, BINARIES)))
    assert manifest["manifest"] == "storage"
    [kept] = storage.iterdir()
    assert kept.name == f"{manifest['sha256']}.jsonl.gz"
    assert gzip.decompress(kept.read_bytes()).count(b"\n") == 9
    hook.xcom_files(hook.find_files(published, None, BINARIES))
    assert len(list(storage.iterdir())) == 1
    # Neither a connection nor a token is needed.
    files = XetHubConnection(None).read_files(manifest)
    assert sorted(file["path"] for file in files) == sorted(FILES)


@pytest.mark.usefixtures("limit")
def test_a_list_becomes_a_manifest_only_with_a_storage(repo, hook, storage, monkeypatch):
    assert hook.xcom_files(records(repo))["manifest"] == "storage"
    monkeypatch.delenv("AIRFLOW__XETHUB__MANIFEST_STORAGE")
    assert hook.xcom_files(records(repo)) == records(repo)


@pytest.mark.usefixtures("limit")
def test_an_edited_uri_is_compared_and_never_opened(repo, hook, storage, tmp_path):
    manifest = hook.xcom_files(records(repo))
    [kept] = storage.iterdir()
    elsewhere = tmp_path / kept.name
    elsewhere.write_bytes(kept.read_bytes())
    for uri in (f"file://{elsewhere}", "s3://other@bucket/x", f"file://{storage}/../{kept.name}", "", "x"):
        with pytest.raises(XetInputError):
            list(hook.read_files({**manifest, "uri": uri}))


@pytest.mark.usefixtures("limit")
def test_a_lost_or_damaged_object_is_refused(repo, hook, storage):
    manifest = hook.xcom_files(records(repo))
    [kept] = storage.iterdir()
    content = kept.read_bytes()
    kept.write_bytes(content[:-1] + b"x")
    with pytest.raises(XetIntegrityError, match="has another content"):
        list(hook.read_files(manifest))
    kept.unlink()
    with pytest.raises(XetSourceError, match=r"does not exist any more: run the task again"):
        list(hook.read_files(manifest))


@pytest.mark.usefixtures("limit")
def test_a_worker_without_the_storage_says_so(repo, hook, storage, monkeypatch):
    manifest = hook.xcom_files(records(repo))
    monkeypatch.delenv("AIRFLOW__XETHUB__MANIFEST_STORAGE")
    with pytest.raises(XetInputError, match=r"set .xethub. manifest_storage on all workers"):
        list(hook.read_files(manifest))


@pytest.mark.parametrize("value", ["0", "-1", "many", "1e3", "9" * 30])
def test_a_wrong_limit_is_refused(value, hook, repo, monkeypatch):
    monkeypatch.setenv("AIRFLOW__XETHUB__MANIFEST_FILES", value)
    with pytest.raises(XetInputError, match="manifest_files is"):
        hook.xcom_files(records(repo))


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("uri", ["/data/manifests", "hf://xethub_default@datasets/acme/x", "s3://a:b@c/d"])
def test_a_wrong_storage_is_refused(uri, hook, repo, monkeypatch):
    monkeypatch.setenv("AIRFLOW__XETHUB__MANIFEST_STORAGE", uri)
    with pytest.raises(XetInputError, match=r"manifest_storage must be|contains a password"):
        hook.xcom_files(records(repo))
