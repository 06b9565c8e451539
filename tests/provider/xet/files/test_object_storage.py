"""Object storage as source and destination; here ``file://``, which Airflow offers without any further package."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from airflow.sdk import ObjectStoragePath

from airflow_provider_xethub import exceptions
from airflow_provider_xethub.hooks.tokens import sealing
from airflow_provider_xethub.operators.xethub import XetCommitOperator, XetDownloadOperator, XetUploadOperator
from airflow_provider_xethub.xet import records, samples
from airflow_provider_xethub.xet.files import object_sources, object_storage
from airflow_provider_xethub.xet.hub import preupload
from support.builders import TEXT, binary, commits, content, names, publish, write
from support.waiting import until
from xethub_local.control.faults import Fault

pytestmark = pytest.mark.airflow

NAMES = ["with space.bin", "ünïcödé/日本語 🎉.bin", "#1?x=%20&y.bin", "[1]*.bin", "-dash", "a'b\"c"]
FILES = {"a.bin": binary(6_000_000, 1), "sub/b.bin": binary(5000, 2), "c.csv": TEXT, "empty": b""}
PUBLISHED = {"a.csv": TEXT, "d/b.bin": binary(7000, 1), "d/e/f.bin": binary(7000, 2), "empty": b""}
DATA = "GET /cas/.*/data/.*"


@pytest.fixture
def where(connection, repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def published(hub, connection, repo, tmp_path):
    files = {file["path"]: file for file in publish(repo, tmp_path / "before", PUBLISHED)}
    hub.log.clear()
    return files


# --- URIs


@pytest.mark.parametrize("kind", [XetUploadOperator, XetDownloadOperator])
def test_a_password_in_a_uri_is_refused_and_never_shown(hub, where, published, run_task, kind):
    uri = "s3://AKIAKEY:wJalrXUtnFEMI@bucket/x"
    arguments = {"source": uri} if kind is XetUploadOperator else {"destination": uri, "files": [published["d/b.bin"]]}
    run = run_task(kind, **arguments, **where)
    assert run.is_final
    assert "contains a password" in run.text
    assert "write s3://<connection id>@…" in run.text
    assert "wJalrXUtnFEMI" not in run.text
    assert "AKIAKEY" not in run.text


@pytest.mark.parametrize("kind", [XetUploadOperator, XetDownloadOperator])
def test_a_scheme_that_no_provider_offers_is_named(where, published, run_task, kind):
    uri = "nosuch://conn@place/x"
    arguments = {"source": uri} if kind is XetUploadOperator else {"destination": uri, "files": [published["d/b.bin"]]}
    run = run_task(kind, **arguments, **where)
    assert run.is_final
    assert "nosuch://conn@place/x: no Airflow provider on this worker supports nosuch://" in run.text


# --- uploads


def test_objects_that_go_through_cas_do_not_wait_for_the_token(hub, where, run_task, tmp_path, monkeypatch):
    """Local files may turn out to be unchanged, so that no token is needed; objects are sent in any case."""
    monkeypatch.setattr(preupload, "SMALL_UPLOAD_BYTES", 1000)
    write(tmp_path / "in", FILES)
    hub.faults.add(Fault("POST .*/preupload/.*", status=403))
    fetched = "GET .*/xet-write-token/.*"
    assert run_task(XetUploadOperator, source=str(tmp_path / "in"), **where).error
    assert not hub.log.requests(fetched)
    assert run_task(XetUploadOperator, source=f"file://{tmp_path}/in", **where).error
    until(lambda: hub.log.requests(fetched))


def test_object_storage_is_uploaded_and_committed_like_local_files(hub, where, repo, run_task, tmp_path):
    files = FILES | {name: binary(300, name) for name in NAMES}
    write(tmp_path / "in", files)
    run = run_task(XetUploadOperator, source=f"file://{tmp_path}/in", path_in_repo="to", **where)
    assert [file["path"] for file in run.value["files"]] == sorted(f"to/{name}" for name in files)
    for name, value in files.items():
        assert content(hub, repo, f"to/{name}", tmp_path) == value, name
    assert run.value["transfer"]["bytes"] == sum(len(value) for name, value in files.items() if name != "c.csv")
    source = ObjectStoragePath(f"file://{tmp_path}/in")
    again = run_task(XetUploadOperator, source=source, path_in_repo="to", task_id="other", **where)
    assert (again.value["created"], commits(hub, repo)) == (False, 2)


def test_a_stream_and_a_file_have_the_same_record(where, run_task, tmp_path):
    write(tmp_path / "in", FILES)
    local = run_task(XetUploadOperator, source=f"{tmp_path}/in", commit=False, **where).value
    stored = run_task(XetUploadOperator, source=f"file://{tmp_path}/in", commit=False, **where).value
    for file in stored:
        assert file.pop("storage_uri") == f"file://{tmp_path}/in/{file['path']}"
    local, stored = (samples.unseal(files, sealing.fernets()) for files in (local, stored))
    assert local == stored
    assert all(file["sample"] for file in local if file["size"])


def test_what_was_only_uploaded_can_be_committed(hub, where, repo, run_task, tmp_path):
    write(tmp_path / "in", FILES)
    files = run_task(XetUploadOperator, source=f"file://{tmp_path}/in", commit=False, **where).value
    run_task(XetCommitOperator, files=files).value  # noqa: B018
    assert content(hub, repo, "c.csv", tmp_path) == TEXT


def test_a_mixed_list_becomes_one_commit(hub, where, repo, run_task, tmp_path):
    write(tmp_path, {"1/a.bin": binary(5000, 1), "2/b.bin": binary(5000, 2), "2/c.csv": TEXT})
    run_task(XetUploadOperator, source=[f"{tmp_path}/1", f"file://{tmp_path}/2"], **where).value  # noqa: B018
    assert commits(hub, repo) == 2
    assert content(hub, repo, "a.bin", tmp_path) == binary(5000, 1)
    assert content(hub, repo, "b.bin", tmp_path) == binary(5000, 2)
    assert content(hub, repo, "c.csv", tmp_path) == TEXT


def test_object_storage_goes_into_a_bucket_without_samples(hub, connection, make_repo, run_task, tmp_path, monkeypatch):
    bucket = make_repo("bucket")
    write(tmp_path / "in", FILES)
    monkeypatch.setattr(object_storage.Storage, "head", None)
    run = run_task(XetUploadOperator, source=f"file://{tmp_path}/in", repo_id=bucket.repo_id, repo_type="bucket")
    assert len(run.value["files"]) == len(FILES)


def test_each_batch_of_many_objects_lists_only_its_own_folder_again(hub, where, repo, run_task, tmp_path, monkeypatch):
    many = {f"{folder}/{n}.bin": f"{folder}{n}".encode() for folder in ("a/x", "b", "c") for n in range(3)}
    write(tmp_path / "in", many)
    monkeypatch.setattr(records, "IN_MEMORY", 3)
    listed, find = [], object_storage.Storage.find

    def noted(storage, folder, depth=None):
        listed.append(folder.removeprefix(f"{tmp_path}/"))
        return find(storage, folder, depth)

    monkeypatch.setattr(object_storage.Storage, "find", noted)
    run = run_task(XetUploadOperator, source=f"file://{tmp_path}/in", **where)
    assert run.value["oid"]
    assert listed[0] == "in"
    assert set(listed[1:]) == {"in/a/x", "in/b", "in/c"}
    assert {path: content(hub, repo, path, tmp_path) for path in many} == many


@pytest.mark.parametrize("kept", [0, 32 << 20])
@pytest.mark.parametrize("name", ["a.bin", "c.csv"])
def test_an_object_that_changes_while_it_is_read_is_not_published(
    hub, where, repo, run_task, tmp_path, monkeypatch, name, kept
):
    write(tmp_path / "in", FILES)
    head, blocks = object_storage.Storage.head, object_storage.Storage.blocks

    def change(entry):
        if entry.path.endswith(name):
            (tmp_path / "in" / name).write_bytes(FILES[name][::-1])

    def read_head(storage, entry, count):
        yielded = head(storage, entry, count)
        if kept:
            change(entry)
        return yielded

    def read_blocks(storage, entry):
        yield from blocks(storage, entry)
        change(entry)

    monkeypatch.setattr(object_sources, "KEPT_BYTES", kept)
    monkeypatch.setattr(object_storage.Storage, "head", read_head)
    monkeypatch.setattr(object_storage.Storage, "blocks", read_blocks)
    run = run_task(XetUploadOperator, source=f"file://{tmp_path}/in", **where)
    assert isinstance(run.error, exceptions.XetSourceError)
    assert f"file://{tmp_path}/in/{name} changed while being uploaded. Nothing was published" in run.text
    assert commits(hub, repo) == 1


def test_an_object_that_goes_away_is_the_error_and_not_what_follows_from_it(
    where, run_task, tmp_path, monkeypatch, hub, repo
):
    write(tmp_path / "in", FILES | {f"{n}.bin": binary(50_000, n) for n in range(20)})
    real = object_storage.Storage._open

    def open_without(storage, entry):
        (tmp_path / "in/7.bin").unlink(missing_ok=True)
        return real(storage, entry)

    monkeypatch.setattr(object_storage.Storage, "_open", open_without)
    run = run_task(XetUploadOperator, source=f"file://{tmp_path}/in", commit=False, **where)
    assert isinstance(run.error, exceptions.XetSourceError), repr(run.error)
    assert f"file://{tmp_path}/in/7.bin" in run.text


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault("POST /cas/.*/v1/xorb(s|-grants)/.*", status=403), exceptions.XetForbiddenError),
        (Fault("POST /cas/.*/v2/shards", status=403), exceptions.XetForbiddenError),
    ],
)
def test_the_first_error_of_a_streamed_upload_is_the_one_reported(hub, where, run_task, tmp_path, fault, kind, repo):
    write(tmp_path / "in", {f"{n}.bin": binary(200_000, n) for n in range(30)})
    hub.faults.add(fault)
    run = run_task(XetUploadOperator, source=f"file://{tmp_path}/in", commit=False, **where)
    assert isinstance(run.error, kind), repr(run.error)
    assert f"the upload of 30 files to {repo}" in run.text


def test_a_streamed_upload_survives_a_dropped_connection(hub, where, run_task, tmp_path):
    write(tmp_path / "in", FILES)
    dropped = hub.faults.add(Fault("POST /cas/.*/v2/shards", times=1, drop=True))
    assert run_task(XetUploadOperator, source=f"file://{tmp_path}/in", **where).value["created"]
    assert hub.faults.acted(dropped) == 1


# --- downloads


@pytest.mark.parametrize("as_object", [True, False])
def test_a_download_goes_into_object_storage(hub, published, where, run_task, tmp_path, as_object):
    uri = f"file://{tmp_path}/out"
    destination = ObjectStoragePath(uri) if as_object else f"{uri}/"
    run = run_task(XetDownloadOperator, destination=destination, **where)
    for file in run.value:
        assert file["storage_uri"] == f"{uri}/{file['path']}"
        assert "local_path" not in file
    for name, value in PUBLISHED.items():
        assert (tmp_path / "out" / name).read_bytes() == value
    assert names(tmp_path / "out") == sorted(file["path"] for file in run.value)


@pytest.mark.parametrize(
    ("destination", "expected"),
    [("new.bin", "new.bin"), ("new/", "new/d/b.bin"), ("folder", "folder/d/b.bin"), ("folder/x", "folder/x")],
)
def test_a_single_file_takes_the_destinations_name_unless_that_is_a_folder(
    published, where, run_task, tmp_path, destination, expected
):
    (tmp_path / "out/folder").mkdir(parents=True)
    run = run_task(XetDownloadOperator, destination=f"file://{tmp_path}/out/{destination}", path="d/b.bin", **where)
    assert run.value[0]["storage_uri"] == f"file://{tmp_path}/out/{expected}"
    assert (tmp_path / "out" / expected).read_bytes() == PUBLISHED["d/b.bin"]


def test_unusual_names_come_back_as_they_went(connection, repo, where, run_task, tmp_path):
    files = {name: binary(300, name) for name in NAMES}
    publish(repo, tmp_path / "before", files)
    run_task(XetDownloadOperator, destination=f"file://{tmp_path}/out/", **where).value  # noqa: B018
    for name, value in files.items():
        assert (tmp_path / "out" / name).read_bytes() == value


def test_what_was_downloaded_can_be_uploaded_from_there(hub, published, where, run_task, tmp_path):
    files = run_task(XetDownloadOperator, destination=f"file://{tmp_path}/out/", path="d", **where).value
    run = run_task(XetUploadOperator, source=[file["storage_uri"] for file in files], path_in_repo="x", **where)
    assert [file["path"] for file in run.value["files"]] == ["x/b.bin", "x/f.bin"]


@pytest.mark.airflow_independent
@pytest.mark.parametrize("fault", [{"corrupt": True}, {"truncate": 1000}, {"drop": "middle"}])
def test_what_arrives_damaged_once_is_fetched_again(hub, published, where, run_task, tmp_path, fault):
    damaged = hub.faults.add(Fault(DATA, times=1, **fault))
    run = run_task(XetDownloadOperator, destination=f"file://{tmp_path}/out/", path="d/b.bin", **where)
    assert run.value
    assert hub.faults.acted(damaged) == 1
    assert (tmp_path / "out/d/b.bin").read_bytes() == PUBLISHED["d/b.bin"]
    assert names(tmp_path / "out") == ["d/b.bin"]


@pytest.mark.airflow_independent
@pytest.mark.parametrize("fault", [{"corrupt": True}, {"truncate": 1000}, {"status": 404}, {"status": 403}])
def test_what_stays_damaged_is_never_seen_and_leaves_what_was_there(hub, published, where, run_task, tmp_path, fault):
    write(tmp_path / "out", {"d/b.bin": b"before"})
    hub.faults.add(Fault(DATA, **fault))
    run = run_task(XetDownloadOperator, destination=f"file://{tmp_path}/out/", path="d/b.bin", **where)
    assert isinstance(run.error, exceptions.XetHubError)
    assert run.state in ("up_for_retry", "failed")
    assert names(tmp_path / "out") == ["d/b.bin"]
    assert (tmp_path / "out/d/b.bin").read_bytes() == b"before"
    if "corrupt" in fault:
        assert isinstance(run.error, exceptions.XetIntegrityError)


def test_a_wrong_digest_is_told_with_both(hub, published, where, run_task, tmp_path):
    file = {**published["d/b.bin"], "sha256": "ab" * 32}
    run = run_task(XetDownloadOperator, destination=f"file://{tmp_path}/out/", files=[file])
    assert isinstance(run.error, exceptions.XetIntegrityError)
    difference = f"sha256 is {published['d/b.bin']['sha256']} instead of {'ab' * 32}"
    assert f"arrived damaged. Let the task retry; what arrived was discarded: {difference}" in run.text
    assert len(hub.log.requests("GET /cas/.*/v./reconstructions/.*")) == 2
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize("size", [1000, 8000])
def test_a_record_of_another_size_is_noticed(published, run_task, tmp_path, size):
    file = {**published["d/b.bin"], "size": size}
    run = run_task(XetDownloadOperator, destination=f"file://{tmp_path}/out/", files=[file])
    assert isinstance(run.error, exceptions.XetIntegrityError), repr(run.error)
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../b", "d\\..\\x", ""])
def test_a_path_that_leaves_the_destination_is_refused(hub, published, run_task, tmp_path, path):
    before = names(tmp_path)
    run = run_task(
        XetDownloadOperator, destination=f"file://{tmp_path}/out/deep", files=[{**published["d/b.bin"], "path": path}]
    )
    assert run.is_final
    assert ("in a repository is not valid" if path else "a path that is empty") in run.text
    assert names(tmp_path) == before
    assert not hub.log.requests()


def test_a_symbolic_link_in_the_destination_does_not_lead_out_of_it(published, run_task, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/d").symlink_to(tmp_path / "elsewhere")
    run = run_task(XetDownloadOperator, destination=f"file://{tmp_path}/out", files=[published["d/b.bin"]])
    assert run.is_final
    assert "would be written outside of" in run.text
    assert names(tmp_path / "elsewhere") == []


@pytest.mark.parametrize("destination", ["file", "/proc/xethub", "taken"])
def test_a_destination_that_cannot_be_written_is_named(published, run_task, tmp_path, destination):
    write(tmp_path, {"file": b"in the way", "taken/d/b.bin/x": b"a folder in the way"})
    before = names(tmp_path)
    uri = f"file://{tmp_path / destination}/"
    run = run_task(XetDownloadOperator, destination=uri, files=[published["d/b.bin"]])
    assert isinstance(run.error, exceptions.XetDestinationError)
    assert f"{uri}d/b.bin" in run.text
    assert run.state == "up_for_retry"
    assert names(tmp_path) == before


def test_a_connection_lost_in_the_middle_of_many_files_fetches_only_what_is_missing(
    hub, connection, published, where, run_task, tmp_path
):
    connection(extra={"stall_timeout": 1})
    silent = hub.faults.add(Fault(DATA, skip=1, times=1, delay=600.0))
    run = run_task(XetDownloadOperator, destination=f"file://{tmp_path}/out/", path="d", **where)
    assert run.value
    assert hub.faults.acted(silent) == 1
    assert names(tmp_path / "out") == ["d/b.bin", "d/e/f.bin"]


# --- how


def test_nothing_touches_a_temporary_folder(hub, where, repo, run_task, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", f"{tmp_path}/no-such-folder")
    write(tmp_path / "in", FILES)
    run_task(XetUploadOperator, source=f"file://{tmp_path}/in", **where).value  # noqa: B018
    run_task(XetDownloadOperator, destination=f"file://{tmp_path}/out/", **where).value  # noqa: B018
    assert (tmp_path / "out/a.bin").read_bytes() == FILES["a.bin"]


def test_the_storage_is_never_asked_on_the_main_thread(hub, where, run_task, tmp_path, monkeypatch):
    asked = set()
    for name in ("stat", "find", "head", "_open", "is_folder", "plain"):
        real = getattr(object_storage.Storage, name)

        def noted(*args, name=name, real=real):
            asked.add((name, threading.current_thread() is threading.main_thread()))
            return real(*args)

        monkeypatch.setattr(object_storage.Storage, name, noted)
    write(tmp_path / "in", FILES)
    run_task(XetUploadOperator, source=f"file://{tmp_path}/in", **where).value  # noqa: B018
    run_task(XetDownloadOperator, destination=f"file://{tmp_path}/out", path="a.bin", **where).value  # noqa: B018
    assert asked == {(name, False) for name in ("stat", "find", "head", "_open", "is_folder", "plain")}


def test_object_storage_is_imported_inside_the_task_only():
    code = (
        "import sys, airflow_provider_xethub.operators.xethub as o; before = set(sys.modules);"
        "print(sorted(m for m in before if m.startswith(('airflow_provider_xethub.hooks.storage',"
        "'airflow_provider_xethub.object', 'airflow_provider_xethub.stored'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
