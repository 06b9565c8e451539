"""Xorb grants: asked for, used and committed by the real transfer client and by hand."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import hf_xet
import pytest
import requests
from awscrt.checksums import crc64nvme

from support.hub_process import HubProcess
from support.xet_client import MIB, bearer, download, session_with, upload
from xethub_local.content.xorb_grants import parse_request
from xethub_local.control.fault import Fault
from xethub_local.formats import FormatError, xorb
from xethub_local.formats.hashing import to_hex
from xethub_local.server import LocalHub

if TYPE_CHECKING:
    from support.running_cas import RunningCas

GRANTS, PUTS, COMMITS = "POST /cas/.*/v1/xorb-grants/.*", "PUT /cas/.*", "POST /cas/.*/v1/xorb-commits/.*"
DIRECT = "POST /cas/.*/v1/xorbs/.*"


def new_xorb() -> tuple[str, bytes]:
    """Return the hash and the bytes of a xorb that nobody has seen."""
    body = xorb.serialize([os.urandom(1000), b"text " * 400])
    return to_hex(xorb.parse(body).xorb_hash), body


def asked(body: bytes, **changes: object) -> dict[str, Any]:
    checksum = {"algo": "crc64nvme", "value": str(crc64nvme(body))}
    return {"length": len(body), "checksum": checksum, **changes}


def ask(cas: RunningCas, name: str, question: dict[str, Any], *, token: str | None = None) -> requests.Response:
    headers = bearer(token or cas.token())
    return requests.post(f"{cas.url}/v1/xorb-grants/default/{name}", headers=headers, json=question, timeout=10)


def commit(cas: RunningCas, name: str, grant: dict[str, str], *, token: str | None = None) -> requests.Response:
    url = f"{cas.url}/v1/xorb-commits/default/{name}/grant/{grant['id']}"
    return requests.post(url, headers=bearer(token or cas.token()), timeout=10)


def files_left(cas: RunningCas) -> list[Path]:
    return list((cas.content.xorbs.path("0" * 64).parent.parent / "incoming").iterdir())


# -- by hand


def test_a_xorb_is_stored_when_it_is_committed_and_not_before(cas: RunningCas) -> None:
    name, body = new_xorb()
    answer = ask(cas, name, asked(body))
    grant = answer.json()
    assert (answer.status_code, grant["method"], grant["headers"]) == (201, "PUT", {})
    assert requests.put(grant["url"], data=body, timeout=10).status_code == 200
    assert not cas.content.xorbs.has(name)
    assert commit(cas, name, grant).json() == {"was_inserted": True}
    assert cas.content.xorbs.path(name).read_bytes() == body
    assert files_left(cas) == []


def test_a_xorb_that_is_stored_needs_no_grant_no_bytes_and_no_commit(cas: RunningCas) -> None:
    name, body = new_xorb()
    grant = ask(cas, name, asked(body)).json()
    cas.content.xorbs.add(name, body)
    assert ask(cas, name, asked(body)).status_code == 200
    late = requests.put(grant["url"], data=body, timeout=10)
    assert (late.status_code, late.json()) == (412, {"error": f"Xorb {name} is already stored here."})
    assert commit(cas, name, grant).json() == {"was_inserted": False}


def test_the_checksum_is_the_known_one_of_the_thirty_byte_file() -> None:
    body = bytes.fromhex("001e0000001e0000") + b"hello xet hello xet hello xet "
    known = {"length": 38, "checksum": {"algo": "crc64nvme", "value": "2745546134392194802"}}
    assert asked(body) == known
    assert parse_request(json.dumps(known).encode(), 100) == (38, 2745546134392194802)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda body: body[:500] + bytes([body[500] ^ 1]) + body[501:], "They changed in transit; send them again."),
        (lambda body: body[:-1], "its grant is for 1039 bytes, but the client announced 1038."),
        (lambda body: body + b"x", "its grant is for 1039 bytes, but the client announced 1040."),
        (lambda body: iter([body]), "its grant is for 1039 bytes, but the client announced an unknown number."),
    ],
    ids=["changed", "shorter", "longer", "without a length"],
)
def test_other_bytes_than_were_granted_are_refused_and_leave_nothing(cas: RunningCas, change: Any, reason: str) -> None:
    name, body = new_xorb()
    grant = ask(cas, name, asked(body)).json()
    refused = requests.put(grant["url"], data=change(body), timeout=10)
    assert refused.status_code == 400
    assert refused.json()["error"].startswith(f"Xorb {name} is refused: ")
    assert refused.json()["error"].endswith(
        reason.replace("1039", str(len(body))).replace("1038", str(len(body) - 1)).replace("1040", str(len(body) + 1))
    )
    assert commit(cas, name, grant).status_code == 404
    assert not cas.content.xorbs.has(name)
    assert files_left(cas) == []


def test_a_xorb_of_another_name_is_refused_although_its_checksum_is_right(cas: RunningCas) -> None:
    (name, _), (other, body) = new_xorb(), new_xorb()
    grant = ask(cas, name, asked(body)).json()
    refused = requests.put(grant["url"], data=body, timeout=10)
    assert (refused.status_code, refused.json()["error"]) == (
        400,
        f"Xorb {name} is refused: the hash of its chunks is {other}.",
    )
    assert files_left(cas) == []


def test_an_upload_url_cannot_be_turned_into_another(cas: RunningCas) -> None:
    (name, body), (other, other_body) = new_xorb(), new_xorb()
    url = ask(cas, name, asked(body)).json()["url"]
    for changed in (
        url.replace(name, other),
        url.replace("length=", "length=1"),
        url.replace("crc64nvme=", "crc64nvme=1"),
        url.replace("corpus", "other"),
        url.replace("grant=", "grant=1"),
        url.partition("&expires")[0],
        url.partition("?")[0],
    ):
        assert requests.put(changed, data=other_body, timeout=10).status_code == 403, changed
    assert files_left(cas) == []


def test_an_upload_url_expires(cas: RunningCas) -> None:
    name, body = new_xorb()
    url = ask(cas, name, asked(body)).json()["url"]
    cas.access.clock_offset = cas.access.data_url_life + 1
    try:
        late = requests.put(url, data=body, timeout=10)
    finally:
        cas.access.clock_offset = 0
    assert (late.status_code, "expired" in late.json()["error"]) == (403, True)


def test_a_grant_is_committed_by_its_own_repository_and_xorb_only(cas: RunningCas) -> None:
    name, body = new_xorb()
    grant = ask(cas, name, asked(body)).json()
    requests.put(grant["url"], data=body, timeout=10)
    assert commit(cas, name, grant, token=cas.token(repository=cas.other_repository)).status_code == 404
    assert commit(cas, new_xorb()[0], grant).status_code == 404
    assert commit(cas, name, grant, token=cas.token("read")).status_code == 403
    assert commit(cas, name, {"id": "no-such-grant"}).status_code == 404
    assert commit(cas, name, grant).status_code == 200


def test_an_upload_that_nobody_commits_is_deleted_after_a_while(cas: RunningCas) -> None:
    name, body = new_xorb()
    grant = ask(cas, name, asked(body)).json()
    for _ in range(2):  # the second one replaces the first
        requests.put(grant["url"], data=body, timeout=10)
    assert len(files_left(cas)) == 1
    cas.access.clock_offset = cas.access.data_url_life + 1
    try:
        another, body = new_xorb()
        ask(cas, another, asked(body))
    finally:
        cas.access.clock_offset = 0
    assert files_left(cas) == []
    assert commit(cas, name, grant).status_code == 404


CHECKSUM = {"algo": "crc64nvme", "value": "1"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 4000,
        b"\xff\xfe",
        json.dumps({"length": 38}).encode(),
        json.dumps({"length": 38, "checksum": "1"}).encode(),
        *(
            json.dumps({"length": length, "checksum": CHECKSUM}).encode()
            for length in (-1, 0, 66 * MIB + 1, 10**400, 1.5, True, "38", None)
        ),
        *(
            json.dumps({"length": 38, "checksum": {"algo": algorithm, "value": value}}).encode()
            for algorithm, value in [
                ("crc32", "1"),
                (None, "1"),
                ("crc64nvme", 1),
                ("crc64nvme", "-1"),
                ("crc64nvme", "0x1"),
                ("crc64nvme", ""),
                ("crc64nvme", "\u0661"),
                ("crc64nvme", str(2**64)),
                ("crc64nvme", "1" * 2000),
            ]
        ),
    ],
    ids=range(24),
)
def test_a_grant_asked_for_in_another_way_is_a_bad_request(cas: RunningCas, body: bytes) -> None:
    with pytest.raises(FormatError):
        parse_request(body, 66 * MIB)
    url = f"{cas.url}/v1/xorb-grants/default/{'1' * 64}"
    answer = requests.post(url, headers=bearer(cas.token()), data=body, timeout=10)
    assert (answer.status_code, bool(answer.json()["error"])) == (400, True)


# -- by the real transfer client


@pytest.fixture
def where(hub: LocalHub, make_repo: Any) -> dict[str, Any]:
    """The arguments of an upload to a new repository."""
    repo = make_repo()
    url = f"{hub.url}/api/{repo.repo_type}s/{repo.repo_id}/xet-write-token/main"
    token = requests.get(url, headers=bearer(hub.token()), timeout=10).json()
    return {"endpoint": token["casUrl"], "token": token["accessToken"], "token_expiry_unix_secs": token["exp"]}


def counts(hub: LocalHub) -> tuple[int, int, int, int]:
    """Return how many grants, uploads, commits and direct uploads there were."""
    return tuple(len(hub.log.requests(route)) for route in (GRANTS, PUTS, COMMITS, DIRECT))  # type: ignore[return-value]


def test_hf_xet_uploads_under_grants_and_says_so(hub: LocalHub, where: dict[str, Any], tmp_path: Path) -> None:
    raw = os.urandom(70 * MIB)  # two xorbs
    (info,) = upload(hf_xet.XetSession(), where, raw)
    assert counts(hub) == (2, 2, 2, 0)
    (transfer,) = [one for one in hub.log.transfers() if one.reports]
    metrics = {name: value for report in transfer.reports for name, value in report["metrics"].items()}
    assert (metrics["grant_xorb_upload_count"], metrics["direct_xorb_upload_count"]) == (2, 0)
    assert transfer.xorb_bytes == metrics["xorb_bytes_uploaded"]
    assert download(hf_xet.XetSession(), where, tmp_path, info) == [raw]


def test_hf_xet_sends_no_bytes_of_a_xorb_that_is_stored(hub: LocalHub, where: dict[str, Any]) -> None:
    # Never told of a chunk, it only learns from the grant that the xorb is there.
    session = session_with(deduplication__global_dedup_query_enabled=False)
    raw = os.urandom(MIB)
    upload(session, where, raw)
    # It keys its cache by the CAS URL.
    again = {**where, "endpoint": where["endpoint"].replace("127.0.0.1", "localhost")}
    upload(session, again, raw)
    assert counts(hub) == (2, 1, 1, 0)


def test_hf_xet_without_grants_posts_the_xorb(hub: LocalHub, where: dict[str, Any]) -> None:
    upload(session_with(client__legacy_direct_xorb_upload=True), where, os.urandom(MIB))
    assert counts(hub) == (0, 0, 0, 1)


def test_hf_xet_falls_back_where_grants_are_not_offered(hub: LocalHub, where: dict[str, Any]) -> None:
    hub.faults.add(Fault(GRANTS, status=404))
    upload(hf_xet.XetSession(), where, os.urandom(MIB))
    assert counts(hub) == (1, 0, 0, 1)


@pytest.mark.parametrize("route", [PUTS, COMMITS])
def test_hf_xet_asks_again_after_a_grant_that_came_to_nothing(
    hub: LocalHub, where: dict[str, Any], tmp_path: Path, route: str
) -> None:
    raw = os.urandom(MIB)
    hub.faults.add(Fault(route, status=403 if route == PUTS else 404, times=1))
    (info,) = upload(hf_xet.XetSession(), where, raw)
    assert counts(hub)[0] == 2
    assert counts(hub)[3] == 0
    assert download(hf_xet.XetSession(), where, tmp_path, info) == [raw]


def test_hf_xet_falls_back_when_every_grant_has_expired(hub: LocalHub, where: dict[str, Any]) -> None:
    life, hub.access.data_url_life = hub.access.data_url_life, -5
    try:
        upload(hf_xet.XetSession(), where, os.urandom(MIB))
    finally:
        hub.access.data_url_life = life
    assert counts(hub) == (3, 3, 0, 1)
    assert len(hub.log.requests(PUTS, status=403)) == 3


@pytest.mark.parametrize("route", [GRANTS, PUTS, COMMITS])
def test_hf_xet_gets_over_a_lost_answer(hub: LocalHub, where: dict[str, Any], tmp_path: Path, route: str) -> None:
    raw = os.urandom(MIB)
    fault = hub.faults.add(Fault(route, times=1, lose_answer=True))
    (info,) = upload(hf_xet.XetSession(), where, raw)
    assert hub.faults.acted(fault) == 1
    assert download(hf_xet.XetSession(), where, tmp_path, info) == [raw]


def test_no_signature_of_an_upload_url_is_kept(hub: LocalHub, where: dict[str, Any]) -> None:
    upload(hf_xet.XetSession(), where, os.urandom(MIB))
    (put,) = hub.log.requests(PUTS)
    assert "sig" not in repr(put)
    assert "expires" not in repr(put)


# -- kill -9


def test_an_upload_killed_before_its_commit_is_not_there_and_can_be_done_again(tmp_path: Path) -> None:
    name, body = new_xorb()
    with HubProcess(tmp_path / "hub") as hub:
        headers = bearer(hub.tokens["write"])
        new = {"type": "dataset", "name": "corpus", "organization": "acme"}
        requests.post(f"{hub.url}/api/repos/create", headers=headers, json=new, timeout=10).raise_for_status()
        token = requests.get(f"{hub.url}/api/datasets/acme/corpus/xet-write-token/main", headers=headers, timeout=10)
        cas, bearing = token.json()["casUrl"], bearer(token.json()["accessToken"])

        def ask_again() -> requests.Response:
            url = f"{cas}/v1/xorb-grants/default/{name}"
            return requests.post(url, headers=bearing, json=asked(body), timeout=10)

        def commit_it(grant: dict[str, str]) -> int:
            url = f"{cas}/v1/xorb-commits/default/{name}/grant/{grant['id']}"
            return requests.post(url, headers=bearing, timeout=10).status_code

        grant = ask_again().json()
        assert requests.put(grant["url"], data=body, timeout=10).status_code == 200
        hub.kill()
        old = time.time() - 7200
        for left in (tmp_path / "hub" / "xorbs" / "incoming").iterdir():
            os.utime(left, (old, old))
        hub.start()
        assert list((tmp_path / "hub" / "xorbs" / "incoming").iterdir()) == []
        assert commit_it(grant) == 404
        again = ask_again()
        assert again.status_code == 201
        assert urlsplit(again.json()["url"]).path == urlsplit(grant["url"]).path
        assert requests.put(again.json()["url"], data=body, timeout=10).status_code == 200
        assert commit_it(again.json()) == 200
        hub.kill()
        hub.start()
        assert ask_again().status_code == 200
