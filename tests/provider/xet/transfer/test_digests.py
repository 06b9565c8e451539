"""No file is believed: each is verified by its sha256, its git blob id or its Xet hash, wherever it goes."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.exceptions import XetInputError, XetIntegrityError, XetNotFoundError, XetSourceError
from airflow_provider_xethub.fs.xethub import XetHubFileSystem
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.publish import copies
from airflow_provider_xethub.xet.publish.request import CommitRequest
from support.builders import TEXT, binary, names, publish, sealed, write
from xethub_local.control.faults import Fault

DATA = "GET /cas/.*/data/.*"


@pytest.fixture(params=["path", "file://"])
def out(request, tmp_path):
    """A destination on the worker, and the same as object storage."""
    return tmp_path / "out" if request.param == "path" else f"file://{tmp_path}/out/"


@pytest.fixture
def bare(hub, connection, repo, tmp_path):
    """Records that say neither sha256 nor blob id, by path."""
    publish(
        repo, tmp_path / "before", {"a.bin": binary(5000, 1), "b.bin": binary(5000, 2), "c.csv": TEXT, "empty": b""}
    )
    files = [file for file in XetHubConnection().list_files(repo) if not file["path"].startswith(".")]
    hub.log.clear()
    return {file["path"]: {**{k: v for k, v in file.items() if k != "blob_id"}, "sha256": None} for file in files}


def test_what_a_record_does_not_say_is_looked_up(hub, bare, hook, out, tmp_path):
    result = hook.download(out, list(bare.values()))
    assert names(tmp_path / "out") == sorted(bare)
    assert (tmp_path / "out/c.csv").read_bytes() == TEXT
    assert result["transfer"]["files"] == 4
    assert len(hub.log.requests("POST .*/paths-info/.*")) == 1
    assert result["files"][0]["sha256"]


@pytest.mark.parametrize("path", ["a.bin", "c.csv"])
def test_without_a_connection_it_is_refused(bare, repo, out, tmp_path, path):
    token = sealed(repo)
    with pytest.raises(XetInputError, match=f"The record of {path} of .* has no sha256 and no blob_id"):
        XetHubConnection(None).download(out, [bare["empty"], bare[path]], token=token)
    assert not (tmp_path / "out").exists()


def test_a_record_with_the_xet_hash_of_another_file_is_noticed(bare, hook, out, tmp_path):
    """CAS answers the same each time: that says nothing about the path."""
    with pytest.raises(XetSourceError, match=r"a.bin of hf://.* changed since it was listed"):
        hook.download(out, [{**bare["a.bin"], "xet_hash": bare["b.bin"]["xet_hash"]}])
    with pytest.raises(XetNotFoundError, match=r"gone.bin is no longer in hf://"):
        hook.download(out, [{**bare["a.bin"], "path": "gone.bin"}])
    assert not (tmp_path / "out").exists()


def test_an_inline_file_that_changed_since_it_was_listed_is_said_to_have_changed(hub, hook, repo, out, tmp_path):
    publish(repo, tmp_path / "one", {"a.csv": b"one\n", "b.csv": b"same\n"})
    files = [file for file in hook.list_files(repo) if file["path"].endswith(".csv")]
    publish(repo, tmp_path / "two", {"a.csv": b"two\n"})
    with pytest.raises(XetSourceError, match=r"a.csv of hf://.* changed since it was listed.*List it again") as error:
        hook.download(out, files)
    assert "damaged" not in str(error.value)
    assert names(tmp_path / "out") == ["b.csv"]


@pytest.mark.parametrize(
    ("xet_hash", "kind", "text"),
    [
        (
            "12" * 32,
            XetNotFoundError,
            "CAS answered 404 for hf://.* has no such file.* the download of a.bin ",
        ),
        ("00" * 32, XetInputError, "record of a.bin of .* has 5000 bytes and the Xet hash of an empty file"),
    ],
    ids=["unknown", "empty"],
)
def test_a_xet_hash_that_cas_does_not_know_is_said_to_be_unknown(hub, bare, hook, repo, out, xet_hash, kind, text):
    with pytest.raises(kind, match=text):
        hook.download(out, [{**bare["a.bin"], "sha256": "ab" * 32, "xet_hash": xet_hash}])


@pytest.fixture
def in_bucket(hub, hook, make_repo, tmp_path):
    """Forty bucket files, of which one is large, and the folder that they are from."""
    contents = {f"{number:02}.bin": binary(3000, number) for number in range(39)} | {"large.bin": binary(20_000_000)}
    bucket = make_repo("bucket")
    hook.publish(write(tmp_path / "in", contents), CommitRequest(bucket, ()))
    files = hook.list_files(bucket)
    assert {file["sha256"] for file in files} == {None}
    return files, contents


def test_bucket_files_in_object_storage_are_verified_while_they_pass(hub, hook, in_bucket, tmp_path):
    files, contents = in_bucket
    bad = hub.faults.add(Fault(DATA, corrupt=True, times=1))
    hook.download(f"file://{tmp_path}/out/", files)
    assert hub.faults.acted(bad) == 1
    assert names(tmp_path / "out") == sorted(contents)
    assert all((tmp_path / "out" / name).read_bytes() == content for name, content in contents.items())


def test_a_bucket_file_that_stays_damaged_never_appears_in_object_storage(hub, hook, in_bucket, tmp_path):
    files, _ = in_bucket
    wrong = {**files[0], "xet_hash": files[1]["xet_hash"]}  # CAS answers, and with content of that hash
    hook.download(f"file://{tmp_path}/right/", [wrong])
    assert names(tmp_path / "right") == [files[0]["path"]]
    hub.faults.add(Fault(DATA, corrupt=True))
    with pytest.raises(XetIntegrityError, match=r"00.bin of hf://buckets/.* arrived damaged.*: Xet hash is"):
        hook.download(f"file://{tmp_path}/out/", files[:1])
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize("piece", [None, 700])
def test_a_bucket_file_read_from_begin_to_end_is_verified(hub, hook, in_bucket, piece):
    files, contents = in_bucket
    fs = XetHubFileSystem("xethub_default", skip_instance_cache=True)
    root = files[0]["repo"].removeprefix("hf://").partition("@")[0]
    bad = hub.faults.add(Fault(DATA, corrupt=True))

    def read():
        with fs.open(f"{root}/00.bin", block_size=1000, cache_type="none") as file:
            return b"".join(iter(lambda: file.read(piece or -1), b""))

    with pytest.raises(XetIntegrityError, match=r"00.bin arrived damaged\. Let the task retry.*the Xet hash is not"):
        read()
    assert hub.faults.acted(bad)
    hub.faults.clear()
    fs.ranges(fs.hook.repo(*root.removeprefix("buckets/").split("@")[:1], "bucket")).forget()
    assert read() == contents["00.bin"]


def test_a_copy_of_an_inline_file_that_nothing_tells_about_is_refused(bare, hook, repo, make_repo):
    for path, wrong in (("c.csv", XetInputError), ("empty", None)):
        planned = copies.plan_copies(repo, [bare[path]], CommitRequest(make_repo(), ()), None, single=False)
        if wrong:
            with pytest.raises(wrong, match=r"c.csv of hf://.* has no sha256 and no blob_id"):
                copies.read_original(hook.hub, planned, path)
        else:
            assert copies.read_original(hook.hub, planned, path) == b""
