"""CAS: reconstructions, data, deduplication, xorbs and shards."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from typing import Any

import pytest
import requests
from awscrt.checksums import crc64nvme

from support.hub_wire import Wire
from support.known_answers import HELLO, HELLO_HASH, HELLO_SHARD, HELLO_XORB
from support.stored_content import Upload
from xethub_local.formats import hashing, shard, xorb
from xethub_local.formats.hashing import to_hex

MIB = 1024 * 1024
MALFORMED = ("nohash", "1" * 63, "G" * 64)
REPORT = {
    "time": "2026-07-28T12:00:00.000Z",
    "event": "xet_upload_summary",
    "session_id": "019813f1-0000-7000-8000-000000000000",
    "user_agent": "hf_xet/1.8.0",
    "metrics": {"direction": "upload", "duration_ms": 4210},
}


def rebuild(wire: Wire, made: Upload, version: int = 2, **headers: str) -> dict[str, Any]:
    answer = wire.cas("GET", f"/v{version}/reconstructions/{made.xet_hash}", headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def data_url(wire: Wire, made: Upload) -> tuple[str, dict[str, int]]:
    """Return the URL of the file's only xorb, and the bytes that it is for."""
    ((entry,),) = rebuild(wire, made)["xorbs"].values()
    return entry["url"], entry["ranges"][0]["bytes"]


def fetch(wire: Wire, url: str, **headers: str) -> requests.Response:
    return wire("GET", url, token=None, headers=headers)


# --- reconstruction ---------------------------------------------------------------------------------------------------


def test_a_reconstruction_lists_terms_and_xorbs(wire: Wire, stored: Upload) -> None:
    found = rebuild(wire, stored)
    assert found.keys() == {"offset_into_first_range", "terms", "xorbs"}
    assert found["offset_into_first_range"] == 0
    assert found["terms"] == [
        {"hash": stored.xorb_hash, "unpacked_length": len(stored.raw), "range": {"start": 0, "end": 3}}
    ]
    ((entry,),) = found["xorbs"].values()
    assert entry.keys() == {"url", "ranges"}
    assert entry["ranges"] == [{"chunks": {"start": 0, "end": 3}, "bytes": {"start": 0, "end": len(stored.body) - 1}}]


def test_the_first_version_has_fetch_info_instead(wire: Wire, stored: Upload) -> None:
    found = rebuild(wire, stored, 1)
    assert found.keys() == {"offset_into_first_range", "terms", "fetch_info"}
    ((entry,),) = found["fetch_info"].values()
    assert entry.keys() == {"url", "url_range", "range"}
    assert (entry["range"], entry["url_range"]) == (
        {"start": 0, "end": 3},
        {"start": 0, "end": len(stored.body) - 1},
    )


@pytest.mark.parametrize("version", [1, 2])
def test_a_range_lists_only_its_chunks(wire: Wire, stored: Upload, version: int) -> None:
    found = rebuild(wire, stored, version, Range="bytes=2500-2600")  # chunks have 2000, 2001 and 2002 bytes
    (term,) = found["terms"]
    assert (term["range"], term["unpacked_length"]) == ({"start": 1, "end": 2}, 2001)
    assert found["offset_into_first_range"] == 500


def test_a_range_that_ends_past_the_file_is_cut(wire: Wire, stored: Upload) -> None:
    assert rebuild(wire, stored, Range="bytes=0-999999999")["terms"] == rebuild(wire, stored)["terms"]


@pytest.mark.parametrize("version", [1, 2])
def test_a_range_that_starts_past_the_file_is_416(wire: Wire, stored: Upload, version: int) -> None:
    path = f"/v{version}/reconstructions/{stored.xet_hash}"
    for start in (len(stored.raw), len(stored.raw) + 1):
        assert wire.cas("GET", path, headers={"Range": f"bytes={start}-{start + 5}"}).status_code == 416


@pytest.mark.parametrize("version", [1, 2])
def test_an_unknown_file_is_404(wire: Wire, version: int) -> None:
    assert wire.cas("GET", f"/v{version}/reconstructions/{'1' * 64}").status_code == 404


@pytest.mark.parametrize("version", [1, 2])
def test_a_malformed_file_hash_is_400(wire: Wire, version: int) -> None:
    for name in MALFORMED:
        assert wire.cas("GET", f"/v{version}/reconstructions/{name}").status_code == 400


def test_every_term_lies_within_one_listed_range(wire: Wire, made: Upload) -> None:
    wire.upload(made)
    first, last = (shard.Segment(made.parsed.xorb_hash, n, n + 1, 2000 + n) for n in (0, 2))
    hashes = [made.parsed.chunk_hashes[32 * n : 32 * n + 32] for n in (0, 2)]
    leaves = [(hashes[0], 2000), (hashes[1], 2002)]
    file = replace(
        made.file,
        file_hash=hashing.file_hash(leaves),
        segments=(first, last),
        range_hashes=tuple(hashing.range_hash(one) for one in hashes),
        sha256=None,
    )
    body = shard.build(shard.Shard((file,), ()))
    assert wire.cas("POST", "/v1/shards", scope="write", data=body).status_code == 200
    found = wire.cas("GET", f"/v2/reconstructions/{to_hex(file.file_hash)}").json()
    listed = [one["chunks"] for entry in found["xorbs"][made.xorb_hash] for one in entry["ranges"]]
    for term in found["terms"]:
        assert any(one["start"] <= term["range"]["start"] and term["range"]["end"] <= one["end"] for one in listed)


def test_many_files_are_reconstructed_at_once(wire: Wire, stored: Upload) -> None:
    body = [{"prefix": "default", "hash": stored.xet_hash}]
    found = wire.cas("POST", "/v1/reconstructions", json=body).json()
    one = rebuild(wire, stored, 1)
    assert found["files"] == {stored.xet_hash: one["terms"]}
    assert found["fetch_info"].keys() == one["fetch_info"].keys()


def test_a_malformed_batch_is_400(wire: Wire) -> None:
    for body in (b"", b"{}", b"[1]", b'[{"prefix": "default"}]'):
        assert wire.cas("POST", "/v1/reconstructions", data=body).status_code == 400


def test_chunk_hashes_of_a_change_summarise_the_file(wire: Wire, stored: Upload) -> None:
    path = f"/v2/file-chunk-hashes/{stored.xet_hash}"
    found = wire.cas("GET", path, headers={"X-Range-Dirty": "bytes=2100-2200"}).json()
    assert (found["totalChunks"], found["fileSize"]) == (3, len(stored.raw))
    ((start, end),) = (window["dirtyByteRange"] for window in found["windows"])
    assert start in (0, 2000)
    assert end in (4001, 6003)
    assert len(found["hashRanges"]) == 2
    assert "gapVerification" in found


def test_chunk_hashes_take_the_changed_bytes(wire: Wire, stored: Upload) -> None:
    path = f"/v2/file-chunk-hashes/{stored.xet_hash}"
    assert wire.cas("GET", path).status_code == 400
    assert wire.cas("GET", path, headers={"X-Range-Dirty": "nonsense"}).status_code == 400
    dirty = {"X-Range-Dirty": "bytes=0-1"}
    assert wire.cas("GET", f"/v2/file-chunk-hashes/{'1' * 64}", headers=dirty).status_code == 404


# --- data -------------------------------------------------------------------------------------------------------------


def test_a_data_url_needs_no_token(wire: Wire, stored: Upload) -> None:
    url, bounds = data_url(wire, stored)
    answer = fetch(wire, url, Range=f"bytes={bounds['start']}-{bounds['end']}")
    assert (answer.status_code, answer.content) == (206, stored.body)


def test_a_data_url_needs_its_range(wire: Wire, stored: Upload) -> None:
    url, bounds = data_url(wire, stored)
    assert fetch(wire, url).status_code == 403
    assert fetch(wire, url, Range=f"bytes=0-{bounds['end'] + 100}").status_code == 206  # the xorb ends there
    ((entry,),) = rebuild(wire, stored, Range="bytes=0-1999")["xorbs"].values()
    assert fetch(wire, entry["url"], Range=f"bytes=0-{bounds['end']}").status_code == 403


def test_a_data_url_expires_with_403(wire: Wire, stored: Upload) -> None:
    url, bounds = data_url(wire, stored)
    wire.hub.clock_offset = wire.hub.data_url_life + 5
    try:
        assert fetch(wire, url, Range=f"bytes=0-{bounds['end']}").status_code == 403
    finally:
        wire.hub.clock_offset = 0


def test_a_data_url_that_was_changed_is_403(wire: Wire, stored: Upload) -> None:
    url, bounds = data_url(wire, stored)
    changed = url.replace(stored.xorb_hash, "1" * 64)
    assert changed != url
    assert fetch(wire, changed, Range=f"bytes=0-{bounds['end']}").status_code == 403


def test_several_ranges_come_as_multipart(wire: Wire, stored: Upload) -> None:
    url, _ = data_url(wire, stored)
    answer = fetch(wire, url, Range="bytes=0-9,20-29")
    assert answer.status_code == 206
    assert answer.headers["Content-Type"].startswith("multipart/byteranges; boundary=")


def test_entries_of_a_xorb_have_urls_of_their_own(wire: Wire, made: Upload) -> None:
    wire.upload(made)
    urls = [
        rebuild(wire, made, Range=f"bytes={start}-{start}")["xorbs"][made.xorb_hash][0]["url"] for start in (0, 5000)
    ]
    assert len(set(urls)) == 2


# --- deduplication ----------------------------------------------------------------------------------------------------


def test_an_unknown_chunk_is_404(wire: Wire) -> None:
    assert wire.cas("GET", f"/v1/chunks/default-merkledb/{'1' * 64}").status_code == 404


def test_a_malformed_chunk_hash_is_400(wire: Wire) -> None:
    for name in MALFORMED:
        assert wire.cas("GET", f"/v1/chunks/default-merkledb/{name}").status_code == 400


def test_a_known_chunk_is_answered_with_a_shard(wire: Wire, stored: Upload) -> None:
    chunk = to_hex(stored.parsed.chunk_hashes[:32])
    answer = wire.cas("GET", f"/v1/chunks/default-merkledb/{chunk}")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/octet-stream")
    assert answer.content[:14] == b"HFRepoMetaData"
    assert answer.content[48:80] == b"\xff" * 32  # no files
    assert answer.content[96:128] == stored.parsed.xorb_hash


def test_clients_may_say_default_for_chunks(wire: Wire, stored: Upload) -> None:
    chunk = to_hex(stored.parsed.chunk_hashes[:32])
    assert wire.cas("GET", f"/v1/chunks/default/{chunk}").status_code == 200


def test_raw_chunk_hashes_of_others_are_not_sent(wire: Wire, stored: Upload) -> None:
    chunk = stored.parsed.chunk_hashes[:32]
    answer = wire.cas("GET", f"/v1/chunks/default-merkledb/{to_hex(chunk)}")
    assert any(answer.content[-128:-96])  # the key in the footer
    assert chunk not in answer.content
    assert stored.parsed.chunk_hashes[32:64] not in answer.content


def test_a_deduplication_shard_expires(wire: Wire, stored: Upload) -> None:
    chunk = to_hex(stored.parsed.chunk_hashes[:32])
    content = wire.cas("GET", f"/v1/chunks/default-merkledb/{chunk}").content
    expiry = int.from_bytes(content[-88:-80], "little")
    assert expiry > time.time()


# --- xorbs ------------------------------------------------------------------------------------------------------------


def test_a_xorb_is_inserted_once(wire: Wire, made: Upload) -> None:
    path = f"/v1/xorbs/default/{made.xorb_hash}"
    for was_inserted in (True, False):
        answer = wire.cas("POST", path, scope="write", data=made.body)
        assert (answer.status_code, answer.json()) == (200, {"was_inserted": was_inserted})


def test_a_xorb_that_does_not_have_its_hash_is_400(wire: Wire, made: Upload) -> None:
    answer = wire.cas("POST", f"/v1/xorbs/default/{'1' * 64}", scope="write", data=made.body)
    assert answer.status_code == 400


def test_a_malformed_xorb_is_400(wire: Wire, made: Upload) -> None:
    for body in (b"", b"nonsense", made.body[:-1], made.body + b"x"):
        path = f"/v1/xorbs/default/{made.xorb_hash}"
        assert wire.cas("POST", path, scope="write", data=body).status_code == 400
    for name in MALFORMED:
        assert wire.cas("POST", f"/v1/xorbs/default/{name}", scope="write", data=made.body).status_code == 400


def test_chunks_are_stored_plain_or_in_two_compressions(wire: Wire) -> None:
    for scheme in (xorb.STORED, xorb.LZ4, xorb.GROUPED_LZ4):
        one = Upload([os.urandom(8) * 300, os.urandom(5) * 401], scheme)
        wire.upload(one)
        url, bounds = data_url_of(wire, one)
        assert fetch(wire, url, Range=f"bytes=0-{bounds}").content == one.body


def data_url_of(wire: Wire, one: Upload) -> tuple[str, int]:
    url, bounds = data_url(wire, one)
    return url, bounds["end"]


def test_a_xorb_has_any_number_of_chunks(wire: Wire) -> None:
    one = Upload([number.to_bytes(4, "little") for number in range(9000)])
    answer = wire.cas("POST", f"/v1/xorbs/default/{one.xorb_hash}", scope="write", data=one.body)
    assert answer.status_code == 200, answer.text


def test_a_xorb_of_more_than_64_mib_is_refused(wire: Wire) -> None:
    path = f"/v1/xorbs/default/{'1' * 64}"
    answer = wire.cas("POST", path, scope="write", data=b"\0" * 66 * MIB)
    assert answer.status_code == 400


def test_the_same_xorb_in_other_bytes_leaves_the_first(wire: Wire) -> None:
    chunks = [os.urandom(8) * 300]
    first, second = Upload(chunks, xorb.LZ4), Upload(chunks, xorb.STORED)
    assert (first.xorb_hash, first.body) != (second.xorb_hash, second.body)
    wire.upload(first)
    wire.cas("POST", f"/v1/xorbs/default/{second.xorb_hash}", scope="write", data=second.body)
    url, end = data_url_of(wire, first)
    assert fetch(wire, url, Range=f"bytes=0-{end}").content == first.body


def grant_of(wire: Wire, one: Upload) -> requests.Response:
    checksum = {"algo": "crc64nvme", "value": str(crc64nvme(one.body))}
    body = {"length": len(one.body), "checksum": checksum}
    return wire.cas("POST", f"/v1/xorb-grants/default/{one.xorb_hash}", scope="write", json=body)


def test_a_xorb_is_uploaded_with_a_grant(wire: Wire, made: Upload) -> None:
    answer = grant_of(wire, made)
    grant = answer.json()
    assert answer.status_code == 201
    assert grant.keys() == {"id", "method", "url", "headers"}
    put = wire(grant["method"], grant["url"], token=None, headers=grant["headers"], data=made.body)
    assert put.status_code == 200
    commit = f"/v1/xorb-commits/default/{made.xorb_hash}/grant/{grant['id']}"
    assert wire.cas("POST", commit, scope="write").status_code == 200
    assert wire.cas("POST", "/v1/shards", scope="write", data=made.shard()).status_code == 200


def test_a_stored_xorb_needs_no_grant(wire: Wire, stored: Upload) -> None:
    assert grant_of(wire, stored).status_code == 200


def test_a_grant_without_its_upload_is_404(wire: Wire, made: Upload) -> None:
    grant = grant_of(wire, made).json()
    commit = f"/v1/xorb-commits/default/{made.xorb_hash}/grant/{grant['id']}"
    assert wire.cas("POST", commit, scope="write").status_code == 404


def test_an_upload_of_a_stored_xorb_is_412(wire: Wire, made: Upload) -> None:
    grant = grant_of(wire, made).json()
    wire.upload(made)
    put = wire(grant["method"], grant["url"], token=None, data=made.body)
    assert put.status_code == 412


# --- shards -----------------------------------------------------------------------------------------------------------


def test_a_shard_is_registered_once(wire: Wire, made: Upload) -> None:
    wire.cas("POST", f"/v1/xorbs/default/{made.xorb_hash}", scope="write", data=made.body)
    results = [wire.cas("POST", "/v1/shards", scope="write", data=made.shard()).json() for _ in range(2)]
    assert results == [{"result": 1}, {"result": 0}]


def test_a_shard_needs_its_xorbs(wire: Wire, made: Upload) -> None:
    assert wire.cas("POST", "/v1/shards", scope="write", data=made.shard()).status_code == 400


def test_a_malformed_shard_is_400(wire: Wire, made: Upload) -> None:
    wire.cas("POST", f"/v1/xorbs/default/{made.xorb_hash}", scope="write", data=made.body)
    good = made.shard()
    other_version = good[:32] + (3).to_bytes(8, "little") + good[40:]
    for body in (b"", b"nonsense", b"x" + good[1:], good[:-1], other_version):
        assert wire.cas("POST", "/v1/shards", scope="write", data=body).status_code == 400


def test_a_shard_needs_verification_hashes(wire: Wire, made: Upload) -> None:
    wire.cas("POST", f"/v1/xorbs/default/{made.xorb_hash}", scope="write", data=made.body)
    for hashes in (None, (b"\1" * 32,)):
        body = made.shard(range_hashes=hashes)
        assert wire.cas("POST", "/v1/shards", scope="write", data=body).status_code == 400


def test_a_shard_with_verification_hashes_for_some_files_is_refused(wire: Wire, made: Upload) -> None:
    wire.cas("POST", f"/v1/xorbs/default/{made.xorb_hash}", scope="write", data=made.body)
    both = shard.Shard((made.file, replace(made.file, range_hashes=None)), (made.listed,))
    assert wire.cas("POST", "/v1/shards", scope="write", data=shard.build(both)).status_code == 400


def test_a_shard_may_omit_the_sha256(bucket: Wire, made: Upload) -> None:
    found = bucket.get("{one}/xet-write-token")
    for path, body in ((f"/v1/xorbs/default/{made.xorb_hash}", made.body), ("/v1/shards", made.shard(sha256=None))):
        assert bucket("POST", found["casUrl"] + path, token=found["accessToken"], data=body).status_code == 200


def test_a_shard_of_more_than_64_mib_is_refused(wire: Wire) -> None:
    answer = wire.cas("POST", "/v1/shards", scope="write", data=b"\0" * (64 * MIB + 1))
    assert answer.status_code == 400


def test_a_shard_reports_progress_as_lines(wire: Wire, made: Upload) -> None:
    wire.cas("POST", f"/v1/xorbs/default/{made.xorb_hash}", scope="write", data=made.body)
    answer = wire.cas("POST", "/v2/shards", scope="write", data=made.shard())
    frames = [json.loads(line) for line in answer.text.splitlines()]
    assert answer.status_code == 200
    assert {frame["type"] for frame in frames} <= {"validating", "committing", "result"}
    assert frames[-1]["type"] == "result"


def test_a_refused_shard_ends_with_an_error(wire: Wire, made: Upload) -> None:
    answer = wire.cas("POST", "/v2/shards", scope="write", data=made.shard())
    last = json.loads(answer.text.splitlines()[-1])
    assert (answer.status_code, last["type"], last.get("retryable", False)) == (200, "error", False)
    assert last["message"]


def test_what_hf_xet_sends_is_registered(wire: Wire) -> None:
    path = f"/v1/xorbs/default/{HELLO_HASH}"
    assert wire.cas("POST", path, scope="write", data=HELLO_XORB).status_code == 200
    assert wire.cas("POST", "/v2/shards", scope="write", data=HELLO_SHARD).status_code == 200
    value = {"path": "hello.bin", "algo": "sha256", "oid": shard.parse(HELLO_SHARD).files[0].sha256, "size": len(HELLO)}
    assert wire.commit({"key": "lfsFile", "value": value}).status_code == 200


# --- telemetry --------------------------------------------------------------------------------------------------------


def test_a_report_is_accepted_at_the_root(wire: Wire) -> None:
    token = wire.xet_token()["accessToken"]
    for name in ("user_agent", "userAgent"):
        report = {**REPORT, name: "hf_xet/1.8.0"}
        if name == "userAgent":
            del report["user_agent"]
        assert wire("POST", "/v1/telemetry", token=token, json=report).status_code == 200


def test_a_malformed_report_is_400(wire: Wire) -> None:
    token = wire.xet_token()["accessToken"]
    without = {name: value for name, value in REPORT.items() if name != "event"}
    for report in (
        without,
        {**REPORT, "time": "yesterday"},
        {**REPORT, "userAgent": "twice"},
        {**REPORT, "metrics": 5},
    ):
        assert wire("POST", "/v1/telemetry", token=token, json=report).status_code == 400
    assert wire("POST", "/v1/telemetry", token=token, data=b"no JSON").status_code == 400


def test_a_report_of_more_than_a_mib_is_413(wire: Wire) -> None:
    token = wire.xet_token()["accessToken"]
    assert wire("POST", "/v1/telemetry", token=token, data=b" " * (MIB + 1)).status_code == 413


# --- hashes -----------------------------------------------------------------------------------------------------------


def test_a_hash_is_written_in_groups_of_eight_bytes() -> None:
    assert to_hex(bytes(range(32))) == "07060504030201000f0e0d0c0b0a090817161514131211101f1e1d1c1b1a1918"


def test_a_chunk_hash_is_keyed_blake3() -> None:
    assert to_hex(hashing.chunk_hash(b"Hello World!")) == (
        "d8d408e608fb9ca213b9909a65d86d725f2de4d8d540324be8a363e7a6e228cb"
    )


def test_a_file_hash_is_keyed_with_zeros() -> None:
    leaves = [(hashing.chunk_hash(b"Hello World!"), 12)]
    assert to_hex(hashing.file_hash(leaves)) == "a9dae0ad88b060bdd7e7c87abdcf95b132c95a0414b06d4f6beb68d287b87165"


def test_a_verification_hash_covers_its_chunks() -> None:
    assert to_hex(hashing.range_hash(hashing.chunk_hash(b"Hello World!"))) == (
        "89cb63458e98cb4c75be6b50a5a7b7234b82f05d5348e6925fb71aaf5dc3862b"
    )


def test_the_empty_file_has_the_hash_zero() -> None:
    assert to_hex(hashing.file_hash([])) == "0" * 64


# --- guesses ----------------------------------------------------------------------------------------------------------


def test_another_form_of_range_is_416(wire: Wire, stored: Upload) -> None:
    for header in ("bytes=5-", "bytes=-5", "bytes=0-1,3-4", "items=0-1"):
        answer = wire.cas("GET", f"/v2/reconstructions/{stored.xet_hash}", headers={"Range": header})
        assert answer.status_code == 416


def test_the_headers_of_chunks_do_not_count_towards_64_mib(wire: Wire) -> None:
    one = Upload([os.urandom(MIB // 8)] * 512, xorb.STORED)
    assert (len(one.raw), len(one.body) > 64 * MIB) == (64 * MIB, True)
    answer = wire.cas("POST", f"/v1/xorbs/default/{one.xorb_hash}", scope="write", data=one.body)
    assert answer.status_code == 200


def test_another_prefix_is_400(wire: Wire, made: Upload) -> None:
    path = f"/v1/xorbs/default-merkledb/{made.xorb_hash}"
    assert wire.cas("POST", path, scope="write", data=made.body).status_code == 400
    assert wire.cas("GET", f"/v1/chunks/other/{'1' * 64}").status_code == 400


def test_an_unknown_file_in_a_batch_is_404(wire: Wire) -> None:
    body = [{"prefix": "default", "hash": "1" * 64}]
    assert wire.cas("POST", "/v1/reconstructions", json=body).status_code == 404
