"""Transfers from and to S3 and SFTP, through the Amazon and SFTP providers of Airflow; real servers on loopback."""

from __future__ import annotations

import gc
import re
import urllib.request
from collections import Counter

import pytest

pytest.importorskip("moto", reason="needs the dependency group long")
pytest.importorskip("s3fs", reason="needs the dependency group long")

from airflow.sdk import ObjectStoragePath

from airflow_provider_xethub import exceptions
from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetUploadOperator
from airflow_provider_xethub.xet.files import object_storage
from support.builders import TEXT, binary, commits, content, names, publish, write
from support.object_stores import KEY, SECRET, forget_filesystems, sftp_server
from xethub_local.control.faults import Fault

pytestmark = pytest.mark.long

NAMES = ["a b/c d.bin", "ünïcödé/日本語 🎉.bin", "d/#1?x=%20&y.bin", "d/[1]*.bin", "d/+=@:.bin"]


@pytest.fixture
def where(connection, repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


def test_a_folder_in_s3_is_uploaded_as_it_is(hub, s3, bucket, where, repo, run_task, tmp_path):
    files = {"a.bin": binary(9_000_000, 1), "sub/b.bin": binary(5000, 2), "c.csv": TEXT, "empty": b""}
    files |= {name: binary(100, name) for name in NAMES}
    s3.put(bucket, {f"data/{name}": value for name, value in files.items()} | {"data/": b"", "data/sub/": b""})
    run = run_task(XetUploadOperator, source=f"s3://aws@{bucket}/data/", **where)
    assert sorted(file["path"] for file in run.value["files"]) == sorted(files)
    for name, value in files.items():
        assert content(hub, repo, name, tmp_path) == value, name


def unaltered(hub, repo, files, folder):
    for name, value in files.items():
        assert content(hub, repo, name, folder) == value, name


# --- S3


def test_a_glob_of_one_level_does_not_list_everything(s3, bucket, where, run_task):
    s3.put(bucket, {"d/a.bin": b"a", "d/b.csv": b"b", "d/deep/c.bin": b"c", "e.bin": b"e"})
    run = run_task(XetUploadOperator, source=f"s3://aws@{bucket}/d/*.bin", commit=False, **where)
    assert [file["path"] for file in run.value] == ["a.bin"]
    run = run_task(XetUploadOperator, source=f"s3://aws@{bucket}/**/*.bin", commit=False, **where)
    assert [file["path"] for file in run.value] == ["d/a.bin", "d/deep/c.bin", "e.bin"]
    run = run_task(XetUploadOperator, source=f"s3://aws@{bucket}", commit=False, **where)
    assert len(run.value) == 4


def test_a_key_and_a_prefix_of_the_same_name_are_told_apart_by_the_slash(s3, bucket, where, run_task):
    s3.put(bucket, {"data": b"the object", "data/a": b"below", "database": b"not meant"})
    one = run_task(XetUploadOperator, source=f"s3://aws@{bucket}/data", commit=False, **where).value
    below = run_task(XetUploadOperator, source=f"s3://aws@{bucket}/data/", commit=False, **where).value
    assert [file["path"] for file in one] == ["data"]
    assert [file["path"] for file in below] == ["a"]


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"d/x/": b"content of a key that ends in a slash"}, r"d/x/ \(its key ends in '/'\)"),
        ({"d//b.bin": b"two slashes"}, r"d//b.bin \(its key contains '//'\)"),
        ({"d/a.bin/b": b"below a file"}, "a.bin would be both a file and the folder of a.bin/b"),
    ],
)
def test_no_object_is_left_out_for_the_look_of_its_key(hub, s3, bucket, where, repo, run_task, files, text):
    s3.put(bucket, {"d/": b"", "d/a.bin": b"a", "d/marker/": b"", "d//": b"", **files})
    run = run_task(XetUploadOperator, source=f"s3://aws@{bucket}/d/", **where)
    assert isinstance(run.error, exceptions.XetInputError), repr(run.error)
    assert run.is_final
    assert re.search(text, run.text)
    assert not hub.log.requests()
    [odd] = [key.removeprefix("d/") for key in files]
    run = run_task(XetUploadOperator, source=f"s3://aws@{bucket}/d/", exclude=odd, commit=False, **where)
    assert [file["path"] for file in run.value] == ["a.bin"]


def test_empty_objects_that_stand_for_folders_are_left_out_and_named(s3, bucket, where, run_task, caplog):
    s3.put(bucket, {"d/": b"", "d/a.bin": b"a", "d/marker/": b"", "d/x/": b"", "d/x/b.bin": b"b"})
    run = run_task(XetUploadOperator, source=f"s3://aws@{bucket}/d/", commit=False, **where)
    assert [file["path"] for file in run.value] == ["a.bin", "x/b.bin"]
    assert "empty objects that stand for folders (2): marker/, x/" in caplog.text


def test_a_glob_reads_the_object_and_not_the_folder_of_the_same_name(s3, bucket, where, run_task):
    s3.put(bucket, {"d/a": b"the object", "d/a/b": b"below"})
    run = run_task(XetUploadOperator, source=f"s3://aws@{bucket}/d/*", commit=False, **where)
    assert [(file["path"], file["size"]) for file in run.value] == [("a", 10)]


def test_the_connection_decides_which_credential_is_used(s3, bucket, where, run_task, monkeypatch):
    s3.put(bucket, {"a.bin": b"a"})
    path = ObjectStoragePath(f"s3://{bucket}/a.bin", conn_id="aws")
    assert run_task(XetUploadOperator, source=path, commit=False, **where).value[0]["path"] == "a.bin"


def test_an_object_that_is_replaced_while_it_is_read_is_named(hub, s3, bucket, where, repo, run_task, monkeypatch):
    s3.put(bucket, {"a.bin": binary(12_000_000)})
    real = object_storage.Storage.blocks

    def blocks(storage, entry):
        for number, block in enumerate(real(storage, entry)):
            yield block
            if number == 0:
                s3.put(bucket, {"a.bin": binary(12_000_000, 2)})

    monkeypatch.setattr(object_storage.Storage, "blocks", blocks)
    run = run_task(XetUploadOperator, source=f"s3://aws@{bucket}/a.bin", **where)
    assert isinstance(run.error, exceptions.XetSourceError), repr(run.error)
    assert f"s3://aws@{bucket}/a.bin" in run.text
    assert "changed while being uploaded. Nothing was published" in run.text
    assert commits(hub, repo) == 1


@pytest.mark.parametrize("key", ["nothing.bin", "nothing/", "nothing*"])
def test_what_is_not_in_the_bucket_is_named(hub, bucket, where, run_task, key):
    run = run_task(XetUploadOperator, source=f"s3://aws@{bucket}/{key}", **where)
    assert isinstance(run.error, exceptions.XetSourceError)
    assert f"s3://aws@{bucket}/{key}: " in run.text
    assert not hub.log.requests()


@pytest.mark.parametrize(
    "source", ["s3://aws@no-such-bucket/a.bin", "s3://aws@no-such-bucket/d/", "s3://aws@no-such-bucket/*"]
)
def test_a_bucket_that_does_not_exist_is_named(hub, s3, bucket, where, run_task, source):
    run = run_task(XetUploadOperator, source=source, **where)
    assert isinstance(run.error, exceptions.XetSourceError)
    assert f"{source.rstrip('/')}: " in run.text
    assert not hub.log.requests()


def test_a_destination_bucket_that_does_not_exist_is_named(s3, bucket, published, run_task):
    run = run_task(XetDownloadOperator, destination="s3://aws@no-such-bucket/out/", files=[published["d/b.bin"]])
    assert isinstance(run.error, exceptions.XetDestinationError)
    assert "s3://aws@no-such-bucket/out/d/b.bin: " in run.text


@pytest.fixture
def published(hub, connection, repo, tmp_path):
    files = {"a.csv": TEXT, "d/b.bin": binary(7000, 1), "d/large.bin": binary(20_000_000, 2), "empty": b""}
    files |= {name: binary(100, name) for name in NAMES}
    return {file["path"]: file | {"content": files[file["path"]]} for file in publish(repo, tmp_path / "b", files)}


def plain(published):
    return [{key: value for key, value in file.items() if key != "content"} for file in published.values()]


def test_a_download_to_s3_is_complete_and_again_it_is_skipped(hub, s3, bucket, published, run_task):
    destination = f"s3://aws@{bucket}/out/"
    run = run_task(XetDownloadOperator, destination=destination, files=plain(published))
    assert s3.content(bucket) == {f"out/{name}": file["content"] for name, file in published.items()}
    assert {file["storage_uri"] for file in run.value} == {f"{destination}{name}" for name in published}
    hub.log.clear()
    again = run_task(XetDownloadOperator, destination=destination, files=plain(published))
    assert again.xcoms["transfer"]["skipped"] == len(published)
    assert not hub.log.requests("GET /cas/.*")
    s3.put(bucket, {"out/d/b.bin": b"x" * 7000})
    run_task(XetDownloadOperator, destination=destination, files=plain(published)).value  # noqa: B018
    assert s3.content(bucket)["out/d/b.bin"] == published["d/b.bin"]["content"]


@pytest.mark.parametrize("name", ["d/b.bin", "d/large.bin"])
def test_what_arrives_damaged_never_appears_in_s3(hub, s3, bucket, published, run_task, name):
    s3.put(bucket, {f"out/{name}": b"before"})
    hub.faults.add(Fault("GET /cas/.*/data/.*", corrupt=True))
    [file] = [file for file in plain(published) if file["path"] == name]
    run = run_task(XetDownloadOperator, destination=f"s3://aws@{bucket}/out/", files=[file])
    assert isinstance(run.error, exceptions.XetIntegrityError), repr(run.error)
    gc.collect()
    assert s3.content(bucket) == {f"out/{name}": b"before"}
    assert s3.unfinished(bucket) == []


def test_an_upload_that_cannot_even_be_aborted_does_not_complete_itself(
    hub, s3, bucket, published, run_task, monkeypatch
):
    from botocore.client import BaseClient

    real = BaseClient._make_api_call

    def refuse(client, name, arguments):
        if name == "AbortMultipartUpload":
            raise OSError("gone")
        return real(client, name, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", refuse)
    hub.faults.add(Fault("GET /cas/.*/data/.*", corrupt=True))
    [file] = [file for file in plain(published) if file["path"] == "d/large.bin"]
    run = run_task(XetDownloadOperator, destination=f"s3://aws@{bucket}/out/", files=[file])
    assert isinstance(run.error, exceptions.XetIntegrityError), repr(run.error)
    gc.collect()
    assert s3.content(bucket) == {}


def test_a_task_that_is_stopped_leaves_no_upload_in_s3(hub, s3, bucket, published, run_task):
    [file] = [file for file in plain(published) if file["path"] == "d/large.bin"]
    hub.faults.add(Fault("GET /cas/.*/data/.*", drop="middle"))
    run = run_task(XetDownloadOperator, destination=f"s3://aws@{bucket}/out/", files=[{**file, "size": 19_000_000}])
    assert isinstance(run.error, exceptions.XetHubError)
    assert (s3.content(bucket), s3.unfinished(bucket)) == ({}, [])


@pytest.fixture
def calls(bucket, monkeypatch):
    """Counts what S3 is asked for, by the name of the request."""
    from aiobotocore.client import AioBaseClient
    from botocore.client import BaseClient

    counted = Counter()
    real, real_async = BaseClient._make_api_call, AioBaseClient._make_api_call

    def call(client, name, arguments):
        counted[name] += 1
        return real(client, name, arguments)

    async def call_async(client, name, arguments):
        counted[name] += 1
        return await real_async(client, name, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", call)
    monkeypatch.setattr(AioBaseClient, "_make_api_call", call_async)
    return counted


@pytest.mark.parametrize("ending", ["bin", "csv"])
def test_each_small_object_is_read_once_and_a_folder_is_not_listed_for_each(
    hub, s3, bucket, where, run_task, calls, ending
):
    s3.put(bucket, {f"d/{n}.{ending}": binary(3000, n) if ending == "bin" else TEXT * (n + 1) for n in range(40)})
    run = run_task(XetUploadOperator, source=f"s3://aws@{bucket}/d/", **where)
    assert len(run.value["files"]) == 40
    assert calls["GetObject"] == 40
    assert calls["ListObjectsV2"] < 6


def test_each_small_file_into_a_new_folder_takes_one_request(
    connection, hub, s3, bucket, repo, run_task, calls, tmp_path
):
    files = publish(repo, tmp_path / "many", {f"{n}.bin": binary(3000, n) for n in range(40)})
    hub.log.clear()
    run_task(XetDownloadOperator, destination=f"s3://aws@{bucket}/out/", files=files).value  # noqa: B018
    assert calls["PutObject"] == 40
    assert sum(calls.values()) < 46
    calls.clear()
    again = run_task(XetDownloadOperator, destination=f"s3://aws@{bucket}/out/", files=files)
    assert again.xcoms["transfer"]["skipped"] == 40
    assert calls["PutObject"] == 0


@pytest.fixture
def strict(s3, bucket):
    """The server knows no access key at all."""

    def check_after(requests):
        urllib.request.urlopen(
            urllib.request.Request(
                f"{s3.url}/moto-api/reset-auth", data=requests, headers={"Content-Type": "text/plain"}
            )
        )

    check_after(b"0")
    yield
    check_after(b"inf")


@pytest.mark.parametrize("source", ["a.bin", "", "*.bin"])
def test_a_wrong_credential_for_a_source_is_named_and_not_shown(strict, hub, bucket, where, run_task, source):
    run = run_task(XetUploadOperator, source=f"s3://aws@{bucket}/{source}", **where)
    assert isinstance(run.error, exceptions.XetSourceError), repr(run.error)
    assert "cannot be read: permission denied" in run.text
    assert "Check the credentials: connection 'aws'" in run.text
    assert KEY not in run.text
    assert SECRET not in run.text
    assert not hub.log.requests()


def test_a_wrong_credential_for_a_destination_is_named_and_not_shown(published, strict, hub, bucket, run_task):
    hub.log.clear()
    run = run_task(XetDownloadOperator, destination=f"s3://aws@{bucket}/out/", files=plain(published))
    assert isinstance(run.error, exceptions.XetDestinationError), repr(run.error)
    assert "cannot be written: permission denied" in run.text
    assert "Check the credentials: connection 'aws'" in run.text
    assert SECRET not in run.text
    assert not hub.log.requests("GET /cas/.*")


# --- SFTP


@pytest.fixture
def sftp(tmp_path, monkeypatch):
    (tmp_path / "remote").mkdir()
    with sftp_server(tmp_path / "remote") as server:
        server.connect(monkeypatch)
        yield server
        forget_filesystems()


def test_sftp_is_a_source(hub, sftp, where, repo, run_task, tmp_path):
    files = {"a.bin": binary(9_000_000, 1), "c.csv": TEXT, "empty": b""} | {n: binary(100, n) for n in NAMES}
    write(sftp.folder / "data", files)
    (sftp.folder / "data/link.bin").symlink_to("a.bin")
    (sftp.folder / "data/folder").symlink_to(".")
    run_task(XetUploadOperator, source="sftp://files@/data/", **where).value  # noqa: B018
    unaltered(hub, repo, files | {"link.bin": files["a.bin"]}, tmp_path)


def test_links_that_leave_a_folder_on_sftp_are_refused(hub, sftp, where, run_task):
    write(sftp.folder, {"links/a.bin": b"a", "secret": b"x", "other/b": b"b"})
    (sftp.folder / "links/innocent.bin").symlink_to("../secret")
    (sftp.folder / "links/other").symlink_to("../other")
    (sftp.folder / "links/dangling").symlink_to("nothing")
    source = "sftp://files@/links/"
    run = run_task(XetUploadOperator, source=source, exclude="dangling", **where)
    assert isinstance(run.error, exceptions.XetInputError), repr(run.error)
    assert "2 links in the source lead out of it" in run.text
    assert "links/innocent.bin -> " in run.text
    run = run_task(XetUploadOperator, source=source, exclude=["innocent.bin", "other"], **where)
    assert "links/dangling: is a dangling link" in run.text
    options = {"follow_links": True, "exclude": ["other", "dangling"], "commit": False}
    run = run_task(XetUploadOperator, source=source, **options, **where)
    assert [file["path"] for file in run.value] == ["a.bin", "innocent.bin"]


def test_sftp_is_a_destination(sftp, published, run_task):
    write(sftp.folder, {"out/d/b.bin": b"before"})
    run_task(XetDownloadOperator, destination="sftp://files@/out/", files=plain(published)).value  # noqa: B018
    assert names(sftp.folder / "out") == sorted(published)
    for name, file in published.items():
        assert (sftp.folder / "out" / name).read_bytes() == file["content"]


def test_what_arrives_damaged_never_appears_on_sftp(hub, sftp, published, run_task):
    hub.faults.add(Fault("GET /cas/.*/data/.*", corrupt=True))
    [file] = [file for file in plain(published) if file["path"] == "d/b.bin"]
    run = run_task(XetDownloadOperator, destination="sftp://files@/out/", files=[file])
    assert isinstance(run.error, exceptions.XetIntegrityError), repr(run.error)
    assert names(sftp.folder) == []


def test_a_wrong_password_is_named_and_not_shown(sftp, where, run_task, monkeypatch):
    sftp.connect(monkeypatch, password="wrong-Password-1")
    run = run_task(XetUploadOperator, source="sftp://files@/data/", **where)
    assert run.is_final
    assert "sftp://files@/data/ cannot be reached: PermissionError: Permission denied" in run.text
    assert "wrong-Password-1" not in run.text


def test_a_server_that_is_down_is_tried_again_later(sftp, where, run_task, monkeypatch):
    sftp.connect(monkeypatch, port=1)
    run = run_task(XetUploadOperator, source="sftp://files@/data/", **where)
    assert isinstance(run.error, exceptions.XetConnectionError)
    assert run.state == "up_for_retry"


def test_a_connection_that_does_not_exist_is_named(where, run_task):
    run = run_task(XetUploadOperator, source="sftp://nowhere@/data/", **where)
    assert run.is_final
    assert "sftp://nowhere@/data/ cannot be reached" in run.text
    assert "nowhere" in run.text
