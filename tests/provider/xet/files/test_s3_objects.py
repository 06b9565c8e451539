"""Large objects in S3, in ranges and in parts, from and to a server whose responses are damaged on their way."""

from __future__ import annotations

import base64
import json
import threading
import uuid
import zlib
from dataclasses import replace

import pytest

pytest.importorskip("moto", reason="needs the dependency group long")
pytest.importorskip("s3fs", reason="needs the dependency group long")

from airflow_provider_xethub import exceptions
from airflow_provider_xethub.hooks.storage import open_storage
from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetUploadOperator
from airflow_provider_xethub.xet.cas import session
from airflow_provider_xethub.xet.files.object_storage import Storage, location
from airflow_provider_xethub.xet.files.s3 import client as s3_client
from airflow_provider_xethub.xet.files.s3 import objects as s3_objects
from airflow_provider_xethub.xet.files.s3 import parts, watch
from airflow_provider_xethub.xet.files.s3.window import Window
from airflow_provider_xethub.xet.process import threads
from support.builders import binary, commits, publish
from support.object_stores import SECRET, forget_filesystems
from support.s3_faults import faulty_s3
from support.waiting import until

pytestmark = pytest.mark.long

RANGE = 1 << 20
LARGE = 6 * RANGE + 1000
IN_PARTS = 11_000_000
TOKEN = "session-token-3f1b"


@pytest.fixture(scope="module")
def proxy(s3):
    with faulty_s3(s3.url) as server:
        yield server


@pytest.fixture
def bucket(s3, proxy, monkeypatch):
    name = f"b{uuid.uuid4().hex[:12]}"
    s3.client.create_bucket(Bucket=name)
    connect(monkeypatch, s3, endpoint_url=proxy.url)
    monkeypatch.setattr(s3_objects, "_PAUSE", 0.0)
    monkeypatch.setattr(s3_objects, "RANGE", RANGE)
    monkeypatch.setattr(s3_objects, "BLOCK", RANGE // 4)
    monkeypatch.setattr(parts, "PART", 5 << 20)  # S3 takes no smaller ones
    monkeypatch.setattr(parts, "AT_ONCE", 5 << 20)
    monkeypatch.setattr(proxy, "damage", lambda method, path, reply: reply)
    proxy.requests.clear()
    proxy.forget()
    return name


def connect(monkeypatch, s3, **extra):
    value = {
        "conn_type": "aws",
        "login": "AKIAEXAMPLE",
        "password": SECRET,
        "extra": {"region_name": "eu-west-3"} | extra,
    }
    monkeypatch.setenv("AIRFLOW_CONN_AWS", json.dumps(value))
    forget_filesystems()


@pytest.fixture
def large(s3, bucket):
    data = binary(LARGE)
    s3.put(bucket, {"large.bin": data})
    return data


def opened(bucket, key="large.bin"):
    where = location(f"s3://aws@{bucket}/{key}")
    storage = open_storage(where)
    return storage, storage.stat(where.path)


def read(bucket, key="large.bin"):
    storage, entry = opened(bucket, key)
    return b"".join(storage.blocks(entry))


def is_get(method, path, key="large.bin"):
    return method == "GET" and key in path


# --- reading


def test_a_large_object_is_read_in_ranges_several_at_a_time(bucket, large, proxy, monkeypatch):
    together = threading.Barrier(3, timeout=30)
    met = []

    def meet(method, path, reply):
        if is_get(method, path) and len(met) < 3:
            met.append(path)
            together.wait()
        return reply

    monkeypatch.setattr(proxy, "damage", meet)
    storage, entry = opened(bucket)
    storage.window = Window(3 * RANGE)
    assert b"".join(storage.blocks(entry)) == large
    assert proxy.count("GET", "large.bin") == 7


def test_no_more_ranges_than_fit_into_the_window_are_in_memory_ahead_of_a_slow_reader(s3, bucket, proxy):
    data = binary(8 * RANGE)
    s3.put(bucket, {"large.bin": data})
    storage, entry = opened(bucket)
    storage.window = Window(3 * RANGE)
    blocks = storage.blocks(entry)
    first = next(blocks)
    until(lambda: proxy.count("GET", "large.bin") == 3)
    rest = [next(blocks) for _ in range(3)]
    assert proxy.count("GET", "large.bin") == 3
    assert first + b"".join([*rest, *blocks]) == data
    assert proxy.count("GET", "large.bin") == 8


def test_no_more_requests_are_open_than_the_task_may_have(bucket, large, proxy):
    storage, entry = opened(bucket)
    storage.window = Window(8 * RANGE, requests=1)
    proxy.forget()
    others = threads.each(lambda _: b"".join(storage.blocks(entry)), range(3), 3, threading.Event())
    assert others == [large] * 3
    assert proxy.most <= 1 + 3  # each reader also asks for the checksum of the object


def test_the_first_block_is_there_before_its_range_is_complete(bucket, large, proxy, monkeypatch):
    is_read = threading.Event()

    def hold(method, path, reply):
        return replace(reply, drips=RANGE // 2) if is_get(method, path) and not is_read.is_set() else reply

    monkeypatch.setattr(proxy, "damage", hold)
    storage, entry = opened(bucket)
    blocks = storage.blocks(entry)
    assert next(blocks) == large[: RANGE // 4]
    blocks.close()


# --- a storage that crawls


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(watch, "RULES", watch.Rules(window=0.5, least=2_000_000.0, block=RANGE // 4))


def test_a_response_that_crawls_is_ended_and_its_rest_requested_again(
    bucket, large, proxy, monkeypatch, impatient, caplog
):
    crawled = []

    def crawl(method, path, reply):
        if is_get(method, path) and not crawled:
            crawled.append(path)
            return replace(reply, drips=RANGE * 5 // 8)
        return reply

    monkeypatch.setattr(proxy, "damage", crawl)
    assert read(bucket) == large
    again = [headers["Range"] for method, path, headers in proxy.requests if is_get(method, path)]
    assert len(again) == 8
    assert any(int(each.removeprefix("bytes=").partition("-")[0]) % RANGE for each in again)
    assert "arrived in" in caplog.text
    assert "Requesting the rest again." in caplog.text


@pytest.mark.parametrize("key", ["large.bin", "small.bin"])
def test_an_object_whose_responses_all_crawl_is_named(s3, bucket, large, proxy, monkeypatch, impatient, key):
    s3.put(bucket, {"small.bin": binary(RANGE)})
    storage, entry = opened(bucket, key)
    monkeypatch.setattr(
        proxy, "damage", lambda method, path, reply: replace(reply, drips=10) if is_get(method, path, key) else reply
    )
    with pytest.raises(exceptions.XetSourceError, match=rf"s3://aws@.*/{key}: OSError: .* broke off 5 times \(only "):
        b"".join(storage.blocks(entry))
    assert len(proxy.requests) < 60


def test_each_range_has_the_version_that_was_listed_as_its_condition(bucket, large, proxy):
    _, entry = opened(bucket)
    assert read(bucket) == large
    conditions = {headers.get("If-Match") for method, path, headers in proxy.requests if is_get(method, path)}
    assert conditions == {next(each for each in entry.version if each.startswith("ETag=")).removeprefix("ETag=")}


def test_a_response_that_breaks_off_is_continued_where_it_broke_off(bucket, large, proxy, monkeypatch):
    broken = []

    def cut(method, path, reply):
        if is_get(method, path) and len(broken) < 3:
            broken.append(path)
            return type(reply)(reply.status, reply.headers, reply.body, sent=RANGE * 5 // 8)
        return reply

    monkeypatch.setattr(proxy, "damage", cut)
    assert read(bucket) == large
    again = [headers["Range"] for method, path, headers in proxy.requests if is_get(method, path)]
    assert any(int(each.removeprefix("bytes=").partition("-")[0]) % RANGE for each in again)


def test_an_object_whose_responses_always_break_off_is_named(bucket, large, proxy, monkeypatch):
    def cut(method, path, reply):
        return type(reply)(reply.status, reply.headers, reply.body, sent=1000) if is_get(method, path) else reply

    storage, entry = opened(bucket)
    monkeypatch.setattr(proxy, "damage", cut)
    with pytest.raises(exceptions.XetSourceError, match=r"s3://aws@.*/large.bin: OSError: the response broke off 5"):
        b"".join(storage.blocks(entry))


def shorter(reply):
    body = reply.body[:-1]
    return type(reply)(reply.status, reply.headers, body).having(content_length=str(len(body)))


def longer(reply):
    body = reply.body + b"x"
    return type(reply)(reply.status, reply.headers, body).having(content_length=str(len(body)))


def elsewhere(reply):
    return reply.having(content_range=f"bytes 1-{len(reply.body)}/{LARGE}")


def grown(reply):
    return reply.having(content_range=reply.header("Content-Range").partition("/")[0] + f"/{LARGE + 1}")


def other_version(reply):
    return reply.having(etag='"0123456789abcdef0123456789abcdef"')


def without_ranges(reply):
    return type(reply)(200, reply.having(content_range="").headers, reply.body)


OTHER = "OSError: the storage returned other bytes than "
CHANGED = "changed while being uploaded. Nothing was published."


@pytest.mark.parametrize(
    ("lie", "text"),
    [
        (shorter, "OSError: the response broke off 5 times"),
        (longer, "OSError: the storage sent more bytes than it announced"),
        (elsewhere, OTHER),
        (grown, CHANGED),
        (other_version, CHANGED),
        (without_ranges, OTHER),
    ],
)
def test_a_storage_that_returns_something_else_is_not_believed(bucket, large, proxy, monkeypatch, lie, text):
    storage, entry = opened(bucket)
    monkeypatch.setattr(
        proxy,
        "damage",
        lambda method, path, reply: lie(reply) if is_get(method, path) and reply.status == 206 else reply,
    )
    with pytest.raises(exceptions.XetSourceError, match=rf"s3://aws@.*/large.bin: {text}"):
        b"".join(storage.blocks(entry))


def test_content_of_two_versions_is_never_mixed(hub, s3, repo, connection, bucket, large, proxy, monkeypatch, run_task):
    seen = []

    def overwrite(method, path, reply):
        if is_get(method, path):
            seen.append(path)
            if len(seen) == 2:
                s3.put(bucket, {"large.bin": binary(LARGE, 2)})
        return reply

    monkeypatch.setattr(session, "STORAGE_WINDOW", 2 * RANGE)
    monkeypatch.setattr(proxy, "damage", overwrite)
    run = run_task(XetUploadOperator, source=f"s3://aws@{bucket}/large.bin", repo_id=repo.repo_id, repo_type="dataset")
    assert isinstance(run.error, exceptions.XetSourceError), repr(run.error)
    assert f"s3://aws@{bucket}/large.bin: changed while being uploaded. Nothing was published." in run.text
    assert proxy.count("GET", "large.bin") < 9
    assert commits(hub, repo) == 1


def flipped(reply):
    return type(reply)(reply.status, reply.headers, bytes([reply.body[0] ^ 1]) + reply.body[1:])


@pytest.mark.parametrize("checksum", ["CRC32", "SHA256", None])
def test_a_small_object_that_arrives_damaged_is_refused(s3, bucket, proxy, monkeypatch, checksum):
    options = {"ChecksumAlgorithm": checksum} if checksum else {}
    s3.client.put_object(Bucket=bucket, Key="small.bin", Body=binary(5000), **options)
    storage, entry = opened(bucket, "small.bin")
    assert b"".join(storage.blocks(entry)) == binary(5000)
    monkeypatch.setattr(
        proxy, "damage", lambda method, path, reply: flipped(reply) if is_get(method, path, "small.bin") else reply
    )
    with pytest.raises(exceptions.XetSourceError, match=r"small.bin: OSError: (it arrived damaged|the response)"):
        b"".join(storage.blocks(entry))


def test_a_checksum_that_is_of_the_parts_only_is_not_requested(bucket, large, proxy):
    pytest.importorskip("awscrt", reason="computes the checksum")
    storage, entry = opened(bucket)
    for listed, requests in (("COMPOSITE", 0), ("FULL_OBJECT", 1), (None, 1)):
        proxy.requests.clear()
        assert b"".join(storage.blocks(replace(entry, checksum_type=listed))) == large
        assert proxy.count("HEAD", "large.bin") == requests, listed


def test_a_large_object_that_arrives_damaged_is_refused(s3, bucket, proxy, monkeypatch):
    pytest.importorskip("awscrt", reason="computes the checksum")
    s3.client.put_object(Bucket=bucket, Key="large.bin", Body=binary(LARGE), ChecksumAlgorithm="CRC32")
    storage, entry = opened(bucket)
    assert b"".join(storage.blocks(entry)) == binary(LARGE)
    monkeypatch.setattr(proxy, "damage", lambda method, path, reply: flipped(reply) if is_get(method, path) else reply)
    with pytest.raises(exceptions.XetSourceError, match=r"large.bin: OSError: it arrived damaged: its CRC32"):
        b"".join(storage.blocks(entry))


def test_a_reader_that_stops_early_ends_the_requests(bucket, large):
    storage, entry = opened(bucket)
    blocks = storage.blocks(entry)
    next(blocks)
    blocks.close()
    for thread in threading.enumerate():
        if thread.name == "xethub-range":
            thread.join(10)
            assert not thread.is_alive()


# --- writing


@pytest.fixture
def published(connection, repo, tmp_path):
    return publish(repo, tmp_path / "b", {"large.bin": binary(IN_PARTS), "small.bin": binary(100)})


def test_a_part_that_fails_once_is_sent_again(s3, bucket, published, proxy, monkeypatch, run_task):
    failed = []

    def fail(method, path, reply):
        if "partNumber=2" in path and not failed:
            failed.append(path)
            return type(reply)(503, (("Content-Length", "0"),), b"")
        return reply

    monkeypatch.setattr(proxy, "damage", fail)
    run_task(XetDownloadOperator, destination=f"s3://aws@{bucket}/out/", files=published).value  # noqa: B018
    assert failed
    assert s3.content(bucket) == {"out/large.bin": binary(IN_PARTS), "out/small.bin": binary(100)}
    assert s3.unfinished(bucket) == []


@pytest.mark.parametrize("what", ["partNumber=2", "uploadId="])
def test_an_object_that_cannot_be_written_leaves_no_parts(s3, bucket, published, proxy, monkeypatch, run_task, what):
    def refuse(method, path, reply):
        if what in path and (method, what) != ("PUT", "uploadId=") and method != "DELETE":
            error = b"<Error><Code>InvalidRequest</Code><Message>no space</Message></Error>"
            return type(reply)(400, (("Content-Length", str(len(error))),), error)
        return reply

    s3.put(bucket, {"out/large.bin": b"before"})
    monkeypatch.setattr(proxy, "damage", refuse)
    [file] = [file for file in published if file["path"] == "large.bin"]
    run = run_task(XetDownloadOperator, destination=f"s3://aws@{bucket}/out/", files=[file])
    assert isinstance(run.error, exceptions.XetDestinationError), repr(run.error)
    assert f"s3://aws@{bucket}/out/large.bin: OSError: InvalidRequest: no space" in run.text
    if what == "partNumber=2":  # otherwise this server has completed it before its response was damaged
        assert s3.content(bucket) == {"out/large.bin": b"before"}
    assert s3.unfinished(bucket) == []


@pytest.mark.parametrize("lengths", [[5 << 20, 5 << 20, 1000], [3_000_001] * 4, [11_000_000], [5 << 20, 7, 5 << 20]])
def test_an_object_is_the_same_however_its_content_arrives(s3, bucket, lengths):
    data = binary(sum(lengths))
    storage, rest = open_storage(location(f"s3://aws@{bucket}/")), memoryview(data)
    with storage.writing(f"{bucket}/any.bin", len(data), None) as writer:
        for length in lengths:
            writer.write(bytes(rest[:length]))
            rest = rest[length:]
        writer.finish()
    assert s3.content(bucket) == {"any.bin": data}


@pytest.mark.parametrize(("seconds", "most"), [(60.0, 3), (-1.0, 1)])
def test_parts_are_sent_together_once_one_was_quick(s3, bucket, proxy, monkeypatch, seconds, most):
    together = threading.Barrier(most, timeout=30)
    open_now: list[str] = []

    def meet(method, path, reply):
        if "partNumber=" in path and "partNumber=1&" not in path:
            open_now.append(path)
            if len(open_now) <= most:
                together.wait()
        return reply

    monkeypatch.setattr(parts, "_QUICK_SECONDS", seconds)
    monkeypatch.setattr(proxy, "damage", meet)
    storage = open_storage(location(f"s3://aws@{bucket}/"))
    storage.window = Window(4 * parts.PART)
    data = binary(parts.PART)
    proxy.forget()
    with storage.writing(f"{bucket}/any.bin", 4 * parts.PART, None) as writer:
        writer.write(data)
        if most > 1:
            until(lambda: writer._inner._is_quick)
        for _ in range(3):
            writer.write(data)
        writer.finish()
    assert proxy.most == most
    assert s3.content(bucket) == {"any.bin": data * 4}


def test_each_part_has_the_checksum_that_the_storage_compares(s3, bucket, published, proxy, run_task):
    run_task(XetDownloadOperator, destination=f"s3://aws@{bucket}/out/", files=published).value  # noqa: B018
    data, part = binary(IN_PARTS), parts.PART
    sent = {path: headers for method, path, headers in proxy.requests if method == "PUT"}
    for number in range(-(-IN_PARTS // part)):
        crc = zlib.crc32(data[number * part : (number + 1) * part]).to_bytes(4, "big")
        [headers] = [found for path, found in sent.items() if f"partNumber={number + 1}" in path]
        assert headers["x-amz-checksum-crc32"] == base64.b64encode(crc).decode()
    [headers] = [found for path, found in sent.items() if "small.bin" in path]
    assert headers["x-amz-checksum-crc32"] == base64.b64encode(zlib.crc32(binary(100)).to_bytes(4, "big")).decode()


def test_a_connection_that_wants_no_checksums_gets_none(s3, bucket, published, proxy, monkeypatch, run_task):
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    forget_filesystems()
    run_task(XetDownloadOperator, destination=f"s3://aws@{bucket}/out/", files=published).value  # noqa: B018
    assert s3.content(bucket) == {"out/large.bin": binary(IN_PARTS), "out/small.bin": binary(100)}
    assert not any("x-amz-checksum-crc32" in headers for method, _, headers in proxy.requests if method == "PUT")


def test_a_storage_that_stores_nothing_ends_the_download_and_is_named(
    s3, bucket, published, connection, proxy, monkeypatch, run_task
):
    released = threading.Event()

    def never(method, path, reply):
        if "partNumber=" in path:
            released.wait(60)
        return reply

    connection(extra={"stall_timeout": 1})
    monkeypatch.setattr(parts, "_JOIN_SECONDS", 0.2)
    monkeypatch.setattr(proxy, "damage", never)
    [file] = [file for file in published if file["path"] == "large.bin"]
    run = run_task(XetDownloadOperator, destination=f"s3://aws@{bucket}/out/", files=[file])
    released.set()
    assert isinstance(run.error, exceptions.XetDestinationError), repr(run.error)
    assert f"s3://aws@{bucket}/out/large.bin: TimeoutError: the storage has stored nothing of it for" in run.text
    assert s3.content(bucket) == {}


# --- the connection


def test_the_client_has_all_that_the_connection_says(s3, bucket, large, proxy, monkeypatch):
    connect(
        monkeypatch,
        s3,
        endpoint_url="http://objects.example.invalid",
        aws_session_token=TOKEN,
        config_kwargs={"s3": {"addressing_style": "path"}, "proxies": {"http": proxy.url}},
    )
    proxy.requests.clear()
    assert read(bucket) == large
    gets = [(path, headers) for method, path, headers in proxy.requests if is_get(method, path)]
    assert gets
    for path, headers in gets:
        assert path.startswith(f"http://objects.example.invalid/{bucket}/large.bin")
        assert headers["X-Amz-Security-Token"] == TOKEN
        assert "Credential=AKIAEXAMPLE/" in headers["Authorization"]
        assert "/eu-west-3/s3/aws4_request" in headers["Authorization"]


def test_the_client_trusts_the_bundle_of_the_environment(bucket, monkeypatch, tmp_path):
    import certifi

    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(open(certifi.where(), "rb").read())  # noqa: PTH123, SIM115
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    forget_filesystems()
    client = s3_client.of(open_storage(location(f"s3://aws@{bucket}/"))._fs)
    assert client._endpoint.http_session._verify == str(bundle)


def test_another_filesystem_reads_as_before(bucket, large, proxy):
    import s3fs

    client = {"endpoint_url": proxy.url, "region_name": "us-east-1"}
    fs = s3fs.S3FileSystem(key="key", secret=SECRET, client_kwargs=client, requester_pays=True)
    assert s3_client.of(fs) is None
    storage = Storage(fs, "s3", None)
    assert b"".join(storage.blocks(storage.stat(f"{bucket}/large.bin"))) == large
    assert any(headers.get("x-amz-request-payer") for method, path, headers in proxy.requests if is_get(method, path))
