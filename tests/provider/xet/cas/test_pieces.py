"""A very large file is fetched in pieces, each with a plan of its own: damage to any of them is noticed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import requests

from airflow_provider_xethub.exceptions import XetTransferError
from airflow_provider_xethub.xet.cas import session as cas_session
from support.builders import binary, names, publish
from xethub_local.control.faults import Fault

PIECE = 1 << 20
PLANS = "GET /cas/.*/v./reconstructions/.*"
DATA = "GET /cas/.*/data/.*"
CHUNK = 128 << 10
OLDER = b"what was there before"


@pytest.fixture
def content():
    """Two million random bytes, the same once more, and a few that can be compressed: its terms are not its pieces."""
    once = binary(2_000_000, "once")
    return once + b"".join(b"%d,compressible\n" % number for number in range(100_000)) + once + binary(3_000_001, "end")


@pytest.fixture
def record(repo, connection, content, tmp_path, monkeypatch):
    monkeypatch.setattr(cas_session, "RETRY_DELAY", "1ms")
    settings = cas_session.settings
    size = {f"reconstruction.{end}_reconstruction_fetch_size": PIECE for end in ("min", "max")}
    monkeypatch.setattr(cas_session, "settings", lambda *shape, **options: {**settings(*shape, **options), **size})
    connection(extra={"stall_timeout": 20})
    return publish(repo, tmp_path / "before", {"large.bin": content})[0]


@pytest.mark.parametrize("place", ["{}/", "file://{}/"])
def test_the_pieces_make_the_file(hub, hook, record, content, tmp_path, place):
    hub.log.clear()

    hook.download(place.format(tmp_path / "out"), [record])

    assert (tmp_path / "out/large.bin").read_bytes() == content
    assert len(hub.log.requests(PLANS)) >= len(content) / PIECE - 2  # the last piece may be as long as two
    sent = [request.bytes_out for request in hub.log.requests(DATA)]
    assert max(sent) < 2 * PIECE + 3 * CHUNK


DAMAGE = {
    "a wrong byte": Fault(DATA, skip=4, times=1, corrupt=True),
    "an early end": Fault(DATA, skip=4, times=1, truncate=1000),
    "a lost connection": Fault(DATA, skip=4, times=1, drop="middle"),
    "a plan without terms": Fault(
        PLANS, skip=3, times=1, status=200, body='{"terms": [], "xorbs": {}, "offset_into_first_range": 0}'
    ),
    "no plan": Fault(PLANS, skip=3, times=1, status=416),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_of_one_piece_is_mended(hub, hook, record, content, tmp_path, what):
    armed = hub.faults.add(DAMAGE[what])

    hook.download(tmp_path / "out", [record])

    assert hub.faults.acted(armed) == 1
    assert names(tmp_path / "out") == ["large.bin"]
    assert (tmp_path / "out/large.bin").read_bytes() == content


def test_the_plan_of_another_piece_is_mended(hub, hook, repo, record, content, tmp_path):
    token = hook.get_token(repo)
    headers = {"Authorization": f"Bearer {token.access_token}", "Range": f"bytes=0-{PIECE - 1}"}
    url = f"{token.cas_url}/v2/reconstructions/{record['xet_hash']}"
    plan = requests.get(url, headers=headers, timeout=30).json()
    armed = hub.faults.add(Fault(PLANS, skip=3, times=1, status=200, body=json.dumps(plan)))

    hook.download(tmp_path / "out", [record])

    assert hub.faults.acted(armed) == 1
    assert (tmp_path / "out/large.bin").read_bytes() == content


@pytest.mark.parametrize("what", ["a wrong byte", "an early end", "a plan without terms", "no plan"])
def test_lasting_damage_of_one_piece_leaves_what_was_there(hub, hook, record, tmp_path, what):
    older = tmp_path / "out/large.bin"
    older.parent.mkdir()
    older.write_bytes(OLDER)
    armed = hub.faults.add(replace(DAMAGE[what], times=None))

    with pytest.raises(XetTransferError):
        hook.download(tmp_path / "out", [record])

    assert hub.faults.acted(armed)
    assert names(tmp_path / "out") == ["large.bin"]
    assert older.read_bytes() == OLDER
