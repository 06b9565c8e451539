"""The CAS API, used by the real transfer client and by hand."""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hf_xet
import pytest
import requests

from airflow_provider_xethub.local.cas_api import routes
from airflow_provider_xethub.local.cas_files import MAX_SHARD_BODY
from airflow_provider_xethub.local.cas_xorbs import MAX_XORB_BODY
from airflow_provider_xethub.local.formats import hashing, shard, xorb
from airflow_provider_xethub.local.formats.hashing import to_hex

if TYPE_CHECKING:
    from conftest import RunningCas

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def session() -> hf_xet.XetSession:
    return hf_xet.XetSession()


def upload(
    session: hf_xet.XetSession, operation: dict[str, Any], *contents: bytes, sha256: Any = hf_xet.COMPUTE_SHA256
) -> list[hf_xet.XetFileInfo]:
    with session.new_upload_commit(**operation) as commit:
        handles = [commit.start_upload_bytes(content, sha256=sha256) for content in contents]
    return [handle.result().xet_info for handle in handles]


def download(
    session: hf_xet.XetSession, operation: dict[str, Any], folder: Path, *infos: hf_xet.XetFileInfo
) -> list[bytes]:
    paths = [folder / str(number) for number in range(len(infos))]
    with session.new_file_download_group(**operation) as group:
        for info, path in zip(infos, paths, strict=True):
            group.start_download_file(info, str(path))
    return [path.read_bytes() for path in paths]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# -- what works


@pytest.mark.parametrize("size", [1, 30, 8191, MIB, 5 * MIB + 3])
def test_new_bytes_arrive_and_come_back(session: hf_xet.XetSession, cas: RunningCas, tmp_path: Path, size: int) -> None:
    raw = os.urandom(size)
    (info,) = upload(session, cas.operation(), raw)
    assert (info.file_size, info.sha256) == (size, hashlib.sha256(raw).hexdigest())
    stored = cas.content.file(info.hash)
    assert stored is not None
    assert (stored.size, stored.sha256) == (size, info.sha256)
    assert b"".join(cas.content.read_file(info.hash)) == raw
    assert download(session, cas.operation("read"), tmp_path, info) == [raw]


def test_a_file_of_several_xorbs(session: hf_xet.XetSession, cas: RunningCas, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(150 * MIB))
    before = cas.count("POST", "/v1/xorbs/")
    with session.new_upload_commit(**cas.operation()) as commit:
        handle = commit.start_upload_file(str(source), sha256=hf_xet.COMPUTE_SHA256)
    assert cas.count("POST", "/v1/xorbs/") - before >= 3
    (tmp_path / "out").mkdir()
    assert download(session, cas.operation("read"), tmp_path / "out", handle.result().xet_info) == [source.read_bytes()]


def test_the_same_bytes_again_send_no_xorb(session: hf_xet.XetSession, cas: RunningCas) -> None:
    raw = os.urandom(2 * MIB)
    first = upload(session, cas.operation(), raw)
    before = cas.count("POST", "/v1/xorbs/")
    again = upload(session, cas.operation(), raw)
    assert cas.count("POST", "/v1/xorbs/") == before
    assert again[0].hash == first[0].hash


def test_the_same_bytes_from_a_client_without_a_cache(session: hf_xet.XetSession, cas: RunningCas) -> None:
    raw = os.urandom(2 * MIB)
    first = upload(session, cas.operation(), raw)
    before = cas.count("POST", "/v1/xorbs/")
    # The client keys its cache by the CAS URL.
    again = upload(session, cas.operation(endpoint=f"http://localhost:{cas.port}{cas.base_path}"), raw)
    assert cas.count("POST", "/v1/xorbs/") == before + 1
    assert again[0].hash == first[0].hash


def test_two_versions_share_what_they_have_in_common(
    session: hf_xet.XetSession, cas: RunningCas, tmp_path: Path
) -> None:
    old = os.urandom(4 * MIB)
    new = old[: 2 * MIB] + b"an insertion" + old[2 * MIB :] + os.urandom(1000)
    (old_info,) = upload(session, cas.operation(), old)
    with session.new_upload_commit(**cas.operation()) as commit:
        handle = commit.start_upload_bytes(new, sha256=hf_xet.COMPUTE_SHA256)
    new_info, metrics = handle.result().xet_info, handle.result().dedup_metrics
    assert metrics.new_bytes < MIB
    xorbs = {term.xorb_hash for term in cas.content.reconstruct(new_info.hash).terms}
    assert xorbs > {term.xorb_hash for term in cas.content.reconstruct(old_info.hash).terms}
    assert download(session, cas.operation("read"), tmp_path, old_info, new_info) == [old, new]


def test_the_empty_file(session: hf_xet.XetSession, cas: RunningCas, tmp_path: Path) -> None:
    (info,) = upload(session, cas.operation(), b"")
    assert info.hash == "0" * 64
    assert download(session, cas.operation("read"), tmp_path, info) == [b""]


def test_an_empty_file_on_disk(session: hf_xet.XetSession, cas: RunningCas, tmp_path: Path) -> None:
    empty, full = tmp_path / "empty", tmp_path / "full"
    empty.touch()
    full.write_bytes(b"not empty")
    with session.new_upload_commit(**cas.operation()) as commit:
        handles = [commit.start_upload_file(str(path)) for path in (empty, full)]
    assert handles[0].result().xet_info.hash == "0" * 64
    assert cas.content.file_by_sha256(hashlib.sha256(b"not empty").hexdigest()) is not None


def test_nine_thousand_tiny_files(session: hf_xet.XetSession, cas: RunningCas, tmp_path: Path) -> None:
    contents = [f"file {number} {random.random()}".encode() for number in range(9000)]
    infos = upload(session, cas.operation(), *contents)
    assert len({info.hash for info in infos}) == 9000
    for info, raw in zip(infos, contents, strict=True):
        assert cas.content.file_by_sha256(hashlib.sha256(raw).hexdigest()) == cas.content.file(info.hash)
    some = range(0, 9000, 45)
    downloaded = download(session, cas.operation("read"), tmp_path, *(infos[number] for number in some))
    assert downloaded == [contents[number] for number in some]


def test_an_upload_without_sha256(session: hf_xet.XetSession, cas: RunningCas, tmp_path: Path) -> None:
    raw = os.urandom(100_000)
    (info,) = upload(session, cas.operation(), raw, sha256=hf_xet.SKIP_SHA256)
    stored = cas.content.file(info.hash)
    assert stored is not None
    assert (stored.size, stored.sha256) == (len(raw), None)
    assert download(session, cas.operation("read"), tmp_path, info) == [raw]


def test_streams_and_ranges(session: hf_xet.XetSession, cas: RunningCas) -> None:
    raw = os.urandom(3 * MIB)
    (info,) = upload(session, cas.operation(), raw)
    group = session.new_download_stream_group(**cas.operation("read"))
    assert b"".join(group.download_stream(info)) == raw
    pieces = sorted(group.download_unordered_stream(info))
    assert b"".join(piece for _, piece in pieces) == raw
    source = random.Random(3)
    for _ in range(20):
        start = source.randrange(len(raw))
        end = source.randint(start + 1, len(raw))
        assert b"".join(group.download_stream(info, start=start, end=end)) == raw[start:end]
    assert b"".join(group.download_stream(info, start=len(raw) - 1)) == raw[-1:]


def test_a_download_of_unknown_size(session: hf_xet.XetSession, cas: RunningCas) -> None:
    raw = os.urandom(MIB)
    (info,) = upload(session, cas.operation(), raw)
    group = session.new_download_stream_group(**cas.operation("read"))
    assert b"".join(group.download_stream(hf_xet.XetFileInfo(info.hash))) == raw
    assert any(status == 416 for _, path, status in cas.requests if info.hash in path)


_IN_ANOTHER_PROCESS = """
import hashlib, json, random, struct, sys
import hf_xet
operation, folder = json.loads(sys.argv[1]), sys.argv[2]
source = random.Random(sys.argv[3])
floats = struct.pack("<40000f", *(number / 7 + source.random() for number in range(40000)))
text = b"".join(b"line %d of a text\\n" % source.randrange(10**6) for _ in range(10000))
contents = [(kind + source.randbytes(4))[: len(kind) + rest] for kind in (floats, text) for rest in range(4)]
contents.append(source.randbytes(300000))
session = hf_xet.XetSession()
with session.new_upload_commit(**operation) as commit:
    handles = [commit.start_upload_bytes(content, sha256=hf_xet.COMPUTE_SHA256) for content in contents]
infos = [handle.result().xet_info for handle in handles]
with session.new_file_download_group(**operation) as group:
    for number, info in enumerate(infos):
        group.start_download_file(info, f"{folder}/{number}")
for number, content in enumerate(contents):
    with open(f"{folder}/{number}", "rb") as file:
        assert file.read() == content, number
print(json.dumps([info.hash for info in infos]))
"""


@pytest.mark.parametrize(
    ("policy", "allowed", "needed"),
    [("none", {0}, set()), ("lz4", {0, 1}, {1}), ("bg4-lz4", {0, 2}, {2}), ("auto", {0, 1, 2}, set())],
)
def test_every_compression_policy(
    cas: RunningCas, tmp_path: Path, policy: str, allowed: set[int], needed: set[int]
) -> None:
    # The client reads the policy once per process.
    result = subprocess.run(
        [sys.executable, "-c", _IN_ANOTHER_PROCESS, json.dumps(cas.operation()), str(tmp_path), policy],
        env={**os.environ, "HF_XET_XORB_COMPRESSION_POLICY": policy, "HF_XET_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    schemes = set()
    for xet_hash in json.loads(result.stdout):
        for term in cas.content.reconstruct(xet_hash).terms:
            body = cas.content.xorb_path(to_hex(term.xorb_hash)).read_bytes()
            schemes |= {body[start + 4] for start in xorb.parse(body).index.offsets[:-1]}
    assert needed <= schemes <= allowed


def test_shards_of_version_one(cas: RunningCas, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", _IN_ANOTHER_PROCESS, json.dumps(cas.operation()), str(tmp_path), "version one"],
        env={**os.environ, "HF_XET_CLIENT_SHARD_API_VERSION": "1", "HF_XET_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    assert cas.count("POST", "/v1/shards") == 1


def test_telemetry_is_taken_at_the_origin(session: hf_xet.XetSession, cas: RunningCas) -> None:
    before = len(cas.requests)
    upload(session, cas.operation(), os.urandom(50))
    deadline = time.monotonic() + 10
    while ("POST", "/v1/telemetry", 204) not in cas.requests[before:]:
        assert time.monotonic() < deadline, cas.requests[before:]
        time.sleep(0.01)


# -- tokens


def test_a_read_token_does_not_upload(session: hf_xet.XetSession, cas: RunningCas) -> None:
    with pytest.raises(ConnectionError, match="403 Forbidden"):
        upload(session, cas.operation("read"), os.urandom(20 * MIB))


def test_a_write_token_may_read(session: hf_xet.XetSession, cas: RunningCas, tmp_path: Path) -> None:
    raw = os.urandom(1000)
    (info,) = upload(session, cas.operation(), raw)
    assert download(session, cas.operation("write"), tmp_path, info) == [raw]


def test_a_token_of_another_repository_does_not_read(
    session: hf_xet.XetSession, cas: RunningCas, tmp_path: Path
) -> None:
    raw = os.urandom(1000)
    (info,) = upload(session, cas.operation(), raw)
    with pytest.raises(RuntimeError, match="403 Forbidden"):
        download(session, cas.operation("read", cas.other_repository), tmp_path, info)
    answer = requests.get(
        f"{cas.url}/v2/reconstructions/{info.hash}",
        headers=bearer(cas.token("write", cas.other_repository)),
        timeout=10,
    )
    assert answer.status_code == 403
    assert answer.json() == {
        "error": f"File {info.hash} was never uploaded or committed to models/acme/other, which this token is for."
    }
    cas.content.grant(cas.other_repository, info.hash)
    assert download(session, cas.operation("read", cas.other_repository), tmp_path, info) == [raw]


def test_uploading_known_chunks_gives_the_other_repository_access(
    session: hf_xet.XetSession, cas: RunningCas, tmp_path: Path
) -> None:
    raw = os.urandom(1000)
    upload(session, cas.operation(), raw)
    (info,) = upload(session, cas.operation("write", cas.other_repository), raw)
    assert download(session, cas.operation("read", cas.other_repository), tmp_path, info) == [raw]


def test_an_expired_token_neither_uploads_nor_downloads(
    session: hf_xet.XetSession, cas: RunningCas, tmp_path: Path
) -> None:
    (info,) = upload(session, cas.operation(), os.urandom(1000))
    expired = cas.operation(token=cas.token(age=901))
    with pytest.raises(ConnectionError, match="401 Unauthorized"):
        upload(session, expired, os.urandom(20 * MIB))
    with pytest.raises(RuntimeError, match="401 Unauthorized"):
        download(session, expired, tmp_path, info)


@pytest.mark.parametrize("headers", [{}, bearer(""), bearer("xet_forged"), {"Authorization": "Basic eHg6eHg="}])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/chunks/default/{}"),
        ("POST", "/v1/xorb-grants/default/{}"),
        ("POST", "/v1/xorbs/default/{}"),
        ("HEAD", "/v1/xorbs/default/{}"),
        ("POST", "/v1/shards"),
        ("POST", "/v2/shards"),
        ("GET", "/v1/reconstructions/{}"),
        ("GET", "/v2/reconstructions/{}"),
    ],
)
def test_every_route_wants_a_token(cas: RunningCas, headers: dict[str, str], method: str, path: str) -> None:
    url = cas.url + path.format("1" * 64)
    answer = requests.request(method, url, headers=headers, data=b"{}", timeout=10)
    assert answer.status_code == 401
    if method != "HEAD":
        assert "token" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/v1/xorb-grants/default/{}", "/v1/xorbs/default/{}", "/v1/shards", "/v2/shards"])
def test_writing_wants_a_write_token(cas: RunningCas, path: str) -> None:
    answer = requests.post(cas.url + path.format("1" * 64), headers=bearer(cas.token("read")), data=b"{}", timeout=10)
    assert answer.status_code == 403
    assert answer.json() == {"error": f"Uploading to {cas.repository} needs a write token; this one is for reading."}


# -- what is refused


def test_an_unknown_file(session: hf_xet.XetSession, cas: RunningCas, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="404 Not Found"):
        download(session, cas.operation("read"), tmp_path, hf_xet.XetFileInfo("1" * 64, 10))
    answer = requests.get(f"{cas.url}/v1/reconstructions/{'1' * 64}", headers=bearer(cas.token("read")), timeout=10)
    assert (answer.status_code, answer.json()) == (404, {"error": f"File {'1' * 64} is not stored here."})


def test_what_is_not_offered_is_404(cas: RunningCas) -> None:
    headers = bearer(cas.token())
    chunk = requests.get(f"{cas.url}/v1/chunks/default/{'1' * 64}", headers=headers, timeout=10)
    grant = requests.post(f"{cas.url}/v1/xorb-grants/default/{'1' * 64}", headers=headers, json={}, timeout=10)
    assert (chunk.status_code, grant.status_code) == (404, 404)
    assert "error" in chunk.json()
    assert "error" in grant.json()


def hello(text: bytes) -> tuple[str, bytes, bytes]:
    """Return a xorb hash, the xorb, and a shard, for one small chunk."""
    chunk = hashing.chunk_hash(text)
    file = shard.ShardFile(
        hashing.file_hash([(chunk, len(text))]),
        (shard.Segment(chunk, 0, 1, len(text)),),
        (hashing.range_hash(chunk),),
        hashlib.sha256(text).hexdigest(),
    )
    return to_hex(chunk), xorb.serialize([text]), shard.build(shard.Shard((file,), ()))


def test_xorbs_and_shards_by_hand(cas: RunningCas) -> None:
    name, body, shard_body = hello(os.urandom(200))
    headers = bearer(cas.token())
    url = f"{cas.url}/v1/xorbs/default/{name}"
    assert requests.head(url, headers=headers, timeout=10).status_code == 404

    broken = bytearray(body)
    broken[50] ^= 1
    answer = requests.post(url, headers=headers, data=bytes(broken), timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"Xorb {name} is refused: its chunks make ")
    assert requests.head(url, headers=headers, timeout=10).status_code == 404

    early = requests.post(f"{cas.url}/v1/shards", headers=headers, data=shard_body, timeout=10)
    assert early.status_code == 400
    assert f"xorb {name} is not stored here" in early.json()["error"]

    assert requests.post(url, headers=headers, data=body, timeout=10).json() == {"was_inserted": True}
    assert requests.post(url, headers=headers, data=body, timeout=10).json() == {"was_inserted": False}
    assert requests.head(url, headers=headers, timeout=10).status_code == 200
    for expected in (1, 0):
        answer = requests.post(f"{cas.url}/v1/shards", headers=headers, data=shard_body, timeout=10)
        assert answer.json() == {"result": expected}
    answer = requests.post(f"{cas.url}/v2/shards", headers=headers, data=shard_body, timeout=10)
    assert json.loads(answer.text.splitlines()[-1]) == {"type": "result"}


def test_a_refused_shard_says_why_in_its_last_frame(cas: RunningCas) -> None:
    name, _, shard_body = hello(os.urandom(200))
    answer = requests.post(f"{cas.url}/v2/shards", headers=bearer(cas.token()), data=shard_body, timeout=10)
    assert answer.status_code == 200
    last = json.loads(answer.text.splitlines()[-1])
    assert (last["type"], last["retryable"]) == ("error", False)
    assert f"xorb {name} is not stored here" in last["message"]


def test_the_reason_reaches_the_user_of_the_client(
    session: hf_xet.XetSession,
    tmp_path: Path,
    start_cas: Callable[[Path], AbstractContextManager[RunningCas]],
) -> None:
    """A data folder was wiped and the client still believes that its xorbs are there."""
    raw = os.urandom(MIB)
    with start_cas(tmp_path / "old") as old:
        upload(session, old.operation(), raw)
        with start_cas(tmp_path / "new") as new:
            old.app, old.access = new.app, new.access
            new.app.router.routes[:] = routes(new.content, new.access, base_path=old.base_path)
            with pytest.raises(RuntimeError, match=r"The shard is refused: .* is not stored here; upload it first"):
                upload(session, old.operation(), raw)


@pytest.mark.parametrize(
    ("path", "limit"), [(f"/v1/xorbs/default/{'1' * 64}", MAX_XORB_BODY), ("/v2/shards", MAX_SHARD_BODY)]
)
def test_a_body_that_announces_too_much_is_refused_unread(cas: RunningCas, path: str, limit: int) -> None:
    with socket.create_connection(("127.0.0.1", cas.port), timeout=10) as connection:
        connection.sendall(
            f"POST {cas.base_path}{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {cas.token()}\r\n"
            f"Content-Length: {limit + 1}\r\n\r\n".encode()
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_grows_too_large_is_refused(cas: RunningCas) -> None:
    pieces = (bytes(MIB) for _ in range(67))
    answer = requests.post(
        f"{cas.url}/v1/xorbs/default/{'1' * 64}", headers=bearer(cas.token()), data=pieces, timeout=30
    )
    assert answer.status_code == 413
    assert answer.json() == {"error": f"Xorb {'1' * 64} is refused: a body has at most {MAX_XORB_BODY} bytes."}


def test_a_name_that_is_no_hash_is_a_bad_request(cas: RunningCas) -> None:
    headers = bearer(cas.token())
    assert requests.post(f"{cas.url}/v1/xorbs/default/nohash", headers=headers, data=b"", timeout=10).status_code == 400
    assert requests.get(f"{cas.url}/v2/reconstructions/nohash", headers=headers, timeout=10).status_code == 400


# -- reconstructions and data URLs


@pytest.fixture(scope="module")
def stored(session: hf_xet.XetSession, cas: RunningCas) -> tuple[str, bytes]:
    raw = os.urandom(500_000)
    (info,) = upload(session, cas.operation(), raw)
    return info.hash, raw


def reconstruction(cas: RunningCas, xet_hash: str, version: int = 2, **headers: str) -> requests.Response:
    return requests.get(
        f"{cas.url}/v{version}/reconstructions/{xet_hash}",
        headers={**bearer(cas.token("read")), **headers},
        timeout=10,
    )


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        (None, 0, 500_000),
        ("bytes=0-499999", 0, 500_000),
        ("bytes=100000-999999", 100_000, 500_000),
        ("bytes=499999-499999", 499_999, 500_000),
        ("bytes=77777-300000", 77_777, 300_001),
    ],
)
def test_a_reconstruction_can_be_followed_by_hand(
    cas: RunningCas, stored: tuple[str, bytes], version: int, header: str | None, start: int, end: int
) -> None:
    xet_hash, raw = stored
    body = reconstruction(cas, xet_hash, version, **({"Range": header} if header else {})).json()
    ((name, (entry,)),) = body["fetch_info" if version == 1 else "xorbs"].items()
    byte_range = entry["url_range"] if version == 1 else entry["ranges"][0]["bytes"]
    answer = requests.get(
        entry["url"], headers={"Range": f"bytes={byte_range['start']}-{byte_range['end']}"}, timeout=10
    )
    assert answer.status_code == 206
    size = cas.content.xorb_path(name).stat().st_size
    assert answer.headers["Content-Range"] == f"bytes {byte_range['start']}-{byte_range['end']}/{size}"
    decoded = b"".join(xorb.decode(answer.content))
    skip = body["offset_into_first_range"]
    assert decoded[skip : skip + end - start] == raw[start:end]
    assert sum(term["unpacked_length"] for term in body["terms"]) == len(decoded)


def test_a_range_behind_the_end_is_416(cas: RunningCas, stored: tuple[str, bytes]) -> None:
    for version in (1, 2):
        answer = reconstruction(cas, stored[0], version, Range="bytes=500000-600000")
        assert answer.status_code == 416
        assert answer.headers["Content-Range"] == "bytes */500000"
        assert "500000" in answer.json()["error"]


def test_two_reconstructions_have_the_same_ranges(cas: RunningCas, stored: tuple[str, bytes]) -> None:
    first, second = (reconstruction(cas, stored[0]).json() for _ in range(2))
    for body in (first, second):
        for entries in body["xorbs"].values():
            for entry in entries:
                del entry["url"]
    assert first == second


def data_url(cas: RunningCas, xet_hash: str, header: str) -> tuple[str, int, int]:
    body = reconstruction(cas, xet_hash, Range=header).json()
    ((entry,),) = body["xorbs"].values()
    byte_range = entry["ranges"][0]["bytes"]
    return entry["url"], byte_range["start"], byte_range["end"]


def test_a_data_url_serves_only_its_own_range(cas: RunningCas, stored: tuple[str, bytes]) -> None:
    url, first, last = data_url(cas, stored[0], "bytes=200000-300000")
    assert first > 0
    part = requests.get(url, headers={"Range": f"bytes={first + 5}-{first + 9}"}, timeout=10)
    whole = requests.get(url, timeout=10)
    assert (part.status_code, whole.status_code) == (206, 206)
    assert len(whole.content) == last + 1 - first
    assert part.content == whole.content[5:10]
    for header in (f"bytes={first - 1}-{last}", f"bytes={first}-{last + 1}", "bytes=0-0", "bytes=-1"):
        answer = requests.get(url, headers={"Range": header}, timeout=10)
        assert answer.status_code == 403, header
        assert "error" in answer.json()


def test_a_tampered_data_url_is_403(cas: RunningCas, stored: tuple[str, bytes]) -> None:
    url, first, last = data_url(cas, stored[0], "bytes=200000-300000")
    other_xorb = "1" * 64
    name = url.split("/data/")[1][:64]
    for tampered in (
        url[:-1] + ("A" if url[-1] != "A" else "B"),
        url.replace(f"range={first}", "range=0"),
        url.replace(name, other_xorb),
        url.replace("expires=", "expires=9"),
        url.split("&sig=")[0],
        url.split("?")[0],
        url + "&more=1",
    ):
        assert requests.get(tampered, headers={"Range": f"bytes={first}-{last}"}, timeout=10).status_code == 403


def test_a_data_url_expires(cas: RunningCas, stored: tuple[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    url, _, _ = data_url(cas, stored[0], "bytes=0-1000")
    assert requests.get(url, timeout=10).status_code == 206
    monkeypatch.setattr(cas.access, "clock", lambda: time.time() + 901)
    answer = requests.get(url, timeout=10)
    assert (answer.status_code, "expired" in answer.json()["error"]) == (403, True)


def test_the_client_asks_again_when_data_urls_expire(
    session: hf_xet.XetSession, cas: RunningCas, stored: tuple[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    xet_hash, raw = stored
    verify = cas.access.verify_data_url
    seen: list[str] = []

    def first_one_is_late(path_and_query: str) -> None:
        seen.append(path_and_query)
        if len(seen) == 1:
            with monkeypatch.context() as late:
                late.setattr(cas.access, "clock", lambda: time.time() + 901)
                verify(path_and_query)
        verify(path_and_query)

    monkeypatch.setattr(cas.access, "verify_data_url", first_one_is_late)
    group = session.new_download_stream_group(**cas.operation("read"))
    assert b"".join(group.download_stream(hf_xet.XetFileInfo(xet_hash, len(raw)))) == raw
    assert len(seen) == 2


def test_a_deleted_xorb_file_is_404(cas: RunningCas, session: hf_xet.XetSession) -> None:
    (info,) = upload(session, cas.operation(), os.urandom(1000))
    url, _, _ = data_url(cas, info.hash, "bytes=0-10")
    name = url.split("/data/")[1][:64]
    cas.content.xorb_path(name).unlink()
    answer = requests.get(url, timeout=10)
    assert (answer.status_code, answer.json()) == (404, {"error": f"Xorb {name} is not stored here."})
