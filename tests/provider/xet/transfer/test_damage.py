"""Damage on the way: in hundreds of downloads something is wrong, and never is it found under the name of a file.

In each, one file of several is damaged, by one request or by all of them. Damage by one request is mended; lasting
damage fails the download, and leaves what was there before.
"""

from __future__ import annotations

import json
import random

import pytest
import requests

from airflow_provider_xethub.exceptions import XetConnectionError, XetHubError, XetIntegrityError
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.cas import downloads as cas_downloads
from airflow_provider_xethub.xet.cas import session as cas_session
from support.builders import binary, names, publish
from support.masked_secrets import forget_masked_secrets
from xethub_local.control.faults import Fault

pytestmark = pytest.mark.long

OLDER = b"what was there before"

DATA = {
    "one byte is wrong": {"corrupt": True},
    "nothing comes": {"truncate": 0},
    "one byte comes": {"truncate": 1},
    "the end is missing": {"truncate": 700},
    "a chunk header is cut": {"truncate": 5},
    "the connection breaks in the middle": {"drop": "middle"},
    "the connection breaks at once": {"drop": "before"},
    "zeros come": {"status": 206, "body": bytes(6000)},
    "ones come": {"status": 206, "body": b"\xff" * 6000},
    "a page comes": {"status": 200, "body": "<html>log in</html>", "headers": {"Content-Type": "text/html"}},
    "a long body comes": {"status": 206, "body": binary(400_000, "long")},
    "one byte is wrong, and so is the range": {"corrupt": True, "headers": {"Content-Range": "bytes 7-9/10"}},
    "one byte is wrong, and the range is missing": {"corrupt": True, "without_headers": ("content-range",)},
}
"""What happens to the bytes of xorbs."""

PLANS = {
    "no terms": lambda plan, _: {**plan, "terms": []},
    "another offset": lambda plan, _: {**plan, "offset_into_first_range": 1},
    "the last term is missing": lambda plan, _: {**plan, "terms": plan["terms"][:-1]},
    "another file": lambda _, other: other,
}
"""What happens to the plan of a file: CAS points elsewhere."""

SIZES = (1, 5000, 99_999, 1 << 20)
"""Up to a dozen chunks; the fifth file lies in three xorbs, and the sixth is compressed."""

NOT_OF_ONE_BYTE = ("the end is missing", "another offset")

GOOD = 3
"""Files that are downloaded together with the damaged one."""

PLACES = ("{}/", "file://{}/")
"""Local files, and a stream as to any object storage."""


def test_these_are_at_least_200_downloads():
    local = (len(DATA) + len(PLANS)) * (len(SIZES) + 2) * 2 - len(NOT_OF_ONE_BYTE) * 2
    assert local >= 200


@pytest.fixture
def published(hub, repo, connection, tmp_path, monkeypatch):
    """The records and contents of files that each have xorbs of their own."""
    monkeypatch.setattr(cas_session, "RETRY_DELAY", "1ms")
    connection(extra={"stall_timeout": 20})
    contents = {f"d/{size}.bin": binary(size, size) for size in SIZES}
    contents |= {f"good/{number}.bin": binary(20_000, f"good {number}") for number in range(GOOD)}
    contents["d/same size.bin"] = binary(5000, "other")
    for path, content in contents.items():
        publish(repo, tmp_path / path.replace("/", "-"), {path: content})
    whole = contents[f"d/{SIZES[-1]}.bin"]
    parts = binary(300_000, 1) + whole[: 1 << 19] + binary(300_000, 2)
    text = b"".join(b"%d,compressible\n" % number for number in range(20_000))
    for path, content in (("d/three xorbs.bin", parts), ("d/compressed.bin", text)):
        contents[path] = content
        publish(repo, tmp_path / path.replace("/", "-"), {path: content})
    return {file["path"]: file for file in XetHubConnection().list_files(repo)}, contents


def plan_of(repo, file):
    """Return the plan that CAS gives for a file, and the route of it."""
    token = XetHubConnection().get_token(repo)
    url = f"{token.cas_url}/v2/reconstructions/{file['xet_hash']}"
    return requests.get(url, headers={"Authorization": f"Bearer {token.access_token}"}, timeout=30).json()


def xorb_route(plan):
    return f"GET /cas/.*/data/({'|'.join(sorted({term['hash'] for term in plan['terms']}))})"


def download(repo, files, place, out, contents, *, victim, healed):
    """Download all of them, and look at what is there afterwards."""
    older = out / victim["path"]
    older.parent.mkdir(parents=True)
    older.write_bytes(OLDER)
    error = None
    try:
        XetHubConnection().download(place.format(out), files)
    except XetHubError as failure:
        error = failure
    found = {name: (out / name).read_bytes() for name in names(out)}
    paths = {file["path"] for file in files}
    assert set(found) <= paths, "a temporary file is left"
    for name in set(found) - {victim["path"]}:
        assert found[name] == contents[name]
    if healed:
        assert error is None
        assert set(found) == paths
        assert found[victim["path"]] == contents[victim["path"]]
    else:
        assert isinstance(error, (XetIntegrityError, XetConnectionError)), error
        assert victim["path"] in str(error) or place != PLACES[0]
        assert repo.uri in str(error)
        assert found[victim["path"]] == OLDER
        if isinstance(error, XetIntegrityError) and place == PLACES[0]:
            assert set(found) == paths, "a good file is missing"
    return error


def victims(records):
    return [file for path, file in records.items() if path.startswith("d/") and path != "d/same size.bin"]


@pytest.mark.parametrize("shape", [*DATA, *PLANS])
def test_damage_is_noticed_and_mended_where_it_does_not_last(hub, repo, published, tmp_path, monkeypatch, shape):
    records, contents = published
    order = random.Random(shape)
    good = [file for path, file in records.items() if path.startswith("good/")]
    cases = [(place, lasts, victim) for place in PLACES for lasts in (False, True) for victim in victims(records)]
    for number, (place, lasts, victim) in enumerate(cases):
        if (shape in NOT_OF_ONE_BYTE and victim["size"] == 1) or (place != PLACES[0] and order.random() < 0.5):
            continue
        # Half of them are read while they are written.
        monkeypatch.setattr(cas_downloads, "READ_WHILE_WRITTEN", 1 if order.random() < 0.5 else 16 << 20)
        times = None if lasts else 1
        plan = plan_of(repo, victim)
        if shape in DATA:
            fault = Fault(xorb_route(plan), times=times, **DATA[shape])
        else:
            changed = PLANS[shape](plan, plan_of(repo, records["d/same size.bin"]))
            route = f"GET /cas/.*/v./reconstructions/{victim['xet_hash']}"
            fault = Fault(route, times=times, status=200, body=json.dumps(changed))
        armed = hub.faults.add(fault)
        files, out = order.sample([*good, victim], GOOD + 1), tmp_path / f"out-{number}"
        error = download(repo, files, place, out, contents, victim=victim, healed=not lasts)
        assert hub.faults.acted(armed), (shape, victim["path"])
        hub.faults.clear()
        forget_masked_secrets()
        if shape == "one byte is wrong" and lasts and victim["path"] == "d/5000.bin":
            assert "sha256 is " in str(error)
            assert f" instead of {victim['sha256']}" in str(error)
