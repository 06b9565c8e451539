"""Xorbs and shards posted by hand: what is accepted, and what is refused with which words."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from typing import TYPE_CHECKING

import pytest
import requests

from support.xet_client import MIB, bearer
from xethub_local.cas.files import MAX_SHARD_BODY
from xethub_local.cas.xorb_body import MAX_XORB_BODY
from xethub_local.formats import hashing, shard, xorb
from xethub_local.formats.hashing import to_hex

if TYPE_CHECKING:
    from support.running_cas import RunningCas


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
    assert answer.json()["error"].startswith(f"Xorb {name} is refused: the hash of its chunks is ")
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
    assert json.loads(answer.text.splitlines()[-1]) == {"type": "result", "result": 0}


def test_a_refused_shard_says_why_in_its_last_frame(cas: RunningCas) -> None:
    name, _, shard_body = hello(os.urandom(200))
    answer = requests.post(f"{cas.url}/v2/shards", headers=bearer(cas.token()), data=shard_body, timeout=10)
    assert answer.status_code == 200
    last = json.loads(answer.text.splitlines()[-1])
    assert (last["type"], last["retryable"]) == ("error", False)
    assert f"xorb {name} is not stored here" in last["message"]


@pytest.mark.parametrize(
    ("path", "limit"), [(f"/v1/xorbs/default/{'1' * 64}", MAX_XORB_BODY), ("/v2/shards", MAX_SHARD_BODY)]
)
def test_a_body_that_announces_too_much_is_refused_unread(cas: RunningCas, path: str, limit: int) -> None:
    with socket.create_connection(("127.0.0.1", cas.port), timeout=10) as connection:
        connection.sendall(
            f"POST {cas.base_path}{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {cas.token()}\r\n"
            f"Content-Length: {limit + 1}\r\n\r\n".encode()
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")


def test_a_body_that_grows_too_large_is_refused(cas: RunningCas) -> None:
    # What follows the chunks is a footer, which is never kept and may still not go on for ever.
    pieces = (piece for piece in [xorb.serialize([b"chunk"]) + b"XETBLOB", *[bytes(MIB)] * 67])
    answer = requests.post(
        f"{cas.url}/v1/xorbs/default/{'1' * 64}", headers=bearer(cas.token()), data=pieces, timeout=30
    )
    assert answer.status_code == 400
    assert answer.json() == {"error": f"Xorb {'1' * 64} is refused: its body exceeds {MAX_XORB_BODY} bytes."}


def test_a_name_that_is_no_hash_is_a_bad_request(cas: RunningCas) -> None:
    headers = bearer(cas.token())
    assert requests.post(f"{cas.url}/v1/xorbs/default/nohash", headers=headers, data=b"", timeout=10).status_code == 400
    assert requests.get(f"{cas.url}/v2/reconstructions/nohash", headers=headers, timeout=10).status_code == 400
