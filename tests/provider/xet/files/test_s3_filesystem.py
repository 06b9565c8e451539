"""S3 with an Airflow connection but without ``s3fs``: what is listed, who opens it, and what the client was told."""

from __future__ import annotations

import json
import sys

import pytest

pytest.importorskip("moto", reason="needs the dependency group long")
pytest.importorskip("s3fs", reason="needs the dependency group long")

import s3fs
from airflow.sdk import ObjectStoragePath
from airflow.sdk.io import attach
from botocore import UNSIGNED
from fsspec import config as fsspec_config

from airflow_provider_xethub.hooks.storage import open_storage
from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetUploadOperator
from airflow_provider_xethub.xet.files.object_storage import DIGEST, location
from airflow_provider_xethub.xet.files.s3.filesystem import S3FileSystem
from support.builders import TEXT, binary
from support.object_stores import SECRET, forget_filesystems

pytestmark = pytest.mark.long


@pytest.fixture
def extra(s3, bucket, monkeypatch):
    """Changes the extra fields of the connection."""

    def change(**fields):
        given = {"endpoint_url": s3.url, "region_name": "us-east-1", **fields}
        value = {"conn_type": "aws", "login": "AKIAEXAMPLE", "password": SECRET, "extra": given}
        monkeypatch.setenv("AIRFLOW_CONN_AWS", json.dumps(value))
        forget_filesystems()

    return change


def opened(bucket):
    return open_storage(location(f"s3://aws@{bucket}/"))


def client(bucket):
    fs = opened(bucket)._fs
    assert isinstance(fs, S3FileSystem)
    return fs.client


def listed(storage, folder, depth=None):
    return [(entry.path.removeprefix(f"{folder}/"), entry.size, entry.kind) for entry in storage.find(folder, depth)]


def test_transfers_from_and_to_s3_do_without_s3fs(hub, connection, repo, s3, bucket, run_task, monkeypatch):
    for name in ("s3fs", "aiobotocore"):
        monkeypatch.setitem(sys.modules, name, None)
    files = {"a.bin": binary(9_000_000, 1), "d/b.csv": TEXT}
    s3.put(bucket, {f"in/{name}": value for name, value in files.items()})
    where = {"repo_id": repo.repo_id, "repo_type": "dataset"}
    run_task(XetUploadOperator, source=ObjectStoragePath(f"s3://aws@{bucket}/in/"), **where).value  # noqa: B018
    run_task(XetDownloadOperator, destination=f"s3://aws@{bucket}/out/", **where).value  # noqa: B018
    arrived = s3.content(bucket)
    assert {name: arrived[f"out/{name}"] for name in files} == files


@pytest.mark.parametrize("page", [1000, 2])
@pytest.mark.parametrize("depth", [None, 1, 2])
def test_the_listing_is_that_of_s3fs(s3, bucket, monkeypatch, page, depth):
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", str(page))
    s3.put(
        bucket, {"d/": b"", "d/a": b"a", "d/é #?%20+": b"bc", "d/x/": b"", "d/x/b": b"", "d/x/y/c": b"d", "da": b"e"}
    )
    ours = opened(bucket)
    attach("s3", "aws").fs  # noqa: B018 - from now on this is used
    theirs = opened(bucket)
    assert isinstance(theirs._fs, s3fs.S3FileSystem)
    for folder in (bucket, f"{bucket}/d", f"{bucket}/nothing"):
        assert ours.find(folder, depth) == theirs.find(folder, depth)
    for path in (bucket, f"{bucket}/d", f"{bucket}/d/a", f"{bucket}/d/x", f"{bucket}/nothing", "no-such-bucket"):
        assert ours.stat(path) == theirs.stat(path), path
        assert ours.is_folder(path) == theirs.is_folder(path), path


def test_a_key_is_taken_as_it_is(s3, bucket):
    keys = {"d/a?versionId=1": b"a", "d/a": b"bc", "d//b": b"c", "d": b"the object", "e": b"no folder"}
    s3.put(bucket, keys)
    storage = opened(bucket)
    assert listed(storage, f"{bucket}/d") == [("/b", 1, "file"), ("a", 2, "file"), ("a?versionId=1", 1, "file")]
    assert listed(storage, f"{bucket}/d", 1) == [("a", 2, "file"), ("a?versionId=1", 1, "file")]
    entry = storage.stat(f"{bucket}/d/a?versionId=1")
    assert b"".join(storage.blocks(entry)) == b"a"
    assert listed(storage, f"{bucket}/e") == []
    assert storage.plain(f"/{bucket}/d/") == f"{bucket}/d"


def test_the_digest_of_an_object_takes_one_request(s3, bucket):
    s3.client.put_object(Bucket=bucket, Key="a", Body=b"abc", Metadata={DIGEST: "1f"})
    s3.put(bucket, {"b": b"abc"})
    storage, requests = opened(bucket), []
    storage._fs.client.meta.events.register("before-call.s3", lambda **call: requests.append(call["model"].name))
    assert [storage.recorded(f"{bucket}/{key}") for key in ("a", "b", "c")] == [(3, "1f"), None, None]
    assert requests == ["HeadObject"] * 3


@pytest.mark.parametrize(
    "path",
    [
        "bucket",
        "bucket/a/b",
        "arn:aws:s3:eu-west-3:123456789012:accesspoint/name/a/b",
        "arn:aws:s3:eu-west-3:123456789012:accesspoint:name/a",
        "arn:aws:s3::123456789012:accesspoint/m.mrap/a",
        "arn:aws:s3-outposts:eu-west-3:123456789012:outpost/op-1/accesspoint/name/a",
        "arn:aws:s3-outposts:eu-west-3:123456789012:outpost:op-1:bucket:name/a/b",
        "arn:aws:s3-object-lambda:eu-west-3:123456789012:accesspoint/name/a",
    ],
)
def test_bucket_and_key_are_those_of_s3fs(path):
    assert S3FileSystem.split_path(path) == s3fs.S3FileSystem(anon=True).split_path(path)


# --- who opens it


def test_one_client_is_opened_for_each_connection(bucket, extra):
    first = client(bucket)
    assert client(bucket) is first
    extra()
    assert client(bucket) is not first


def test_a_filesystem_that_was_attached_is_used(bucket):
    own = s3fs.S3FileSystem(anon=True)
    forget_filesystems()
    attach("s3", "aws", fs=own)
    assert opened(bucket)._fs is own


def test_what_fsspec_is_told_about_s3_still_counts(bucket, monkeypatch):
    monkeypatch.setitem(fsspec_config.conf, "s3", {"requester_pays": True})
    fs = opened(bucket)._fs
    assert isinstance(fs, s3fs.S3FileSystem)
    assert fs.requester_pays


def test_a_service_that_signs_the_requests_is_still_asked(bucket, extra):
    signer = {"signer": "S3V4RestSigner", "signer_uri": "http://127.0.0.1:1", "signer_token": "t"}
    extra(service_config={"s3": signer})
    fs = opened(bucket)._fs
    assert isinstance(fs, s3fs.S3FileSystem)
    assert fs.config_kwargs["signature_version"] is UNSIGNED


# --- what the client was told


def test_the_client_has_the_settings_of_the_connection(bucket, extra, tmp_path):
    import certifi

    bundle = tmp_path / "ca.pem"
    with open(certifi.where(), "rb") as known:  # noqa: PTH123
        bundle.write_bytes(known.read())
    extra(
        verify=str(bundle),
        region_name="eu-west-3",
        config_kwargs={"read_timeout": 7, "s3": {"addressing_style": "virtual"}, "retries": {"max_attempts": 2}},
        service_config={"s3": {"endpoint_url": "http://s3.example.invalid", "proxy-uri": "http://proxy.example:3128"}},
    )
    found = client(bucket)
    config = found.meta.config
    assert (config.read_timeout, config.connect_timeout, config.max_pool_connections) == (7, 5, 64)
    assert config.s3["addressing_style"] == "virtual"
    assert config.proxies == dict.fromkeys(("http", "https"), "http://proxy.example:3128")
    assert config.response_checksum_validation == "when_required"
    assert found.meta.region_name == "eu-west-3"
    assert found.meta.endpoint_url == "http://s3.example.invalid"
    assert found._endpoint.http_session._verify == str(bundle)


def test_a_worker_without_credentials_sends_unsigned_requests(s3, bucket, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    value = {"conn_type": "aws", "extra": {"endpoint_url": s3.url, "region_name": "us-east-1"}}
    monkeypatch.setenv("AIRFLOW_CONN_AWS", json.dumps(value))
    forget_filesystems()
    assert client(bucket).meta.config.signature_version is UNSIGNED
    s3.put(bucket, {"a": b"a"})
    assert listed(opened(bucket), bucket) == [("a", 1, "file")]
