"""Reconstructions followed by hand, and the data URLs in them."""

from __future__ import annotations

import email
import email.policy
import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import hf_xet
import pytest
import requests

from support.xet_client import MIB, bearer, session_with, upload
from xethub_local.formats import xorb

if TYPE_CHECKING:
    from support.running_cas import RunningCas


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
    size = cas.content.xorbs.path(name).stat().st_size
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
    whole = requests.get(url, headers={"Range": f"bytes={first}-{last}"}, timeout=10)
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
    url, first, last = data_url(cas, stored[0], "bytes=0-1000")
    headers = {"Range": f"bytes={first}-{last}"}
    assert requests.get(url, headers=headers, timeout=10).status_code == 206
    monkeypatch.setattr(cas.access, "clock", lambda: time.time() + 901)
    answer = requests.get(url, headers=headers, timeout=10)
    assert (answer.status_code, "expired" in answer.json()["error"]) == (403, True)


def test_a_deleted_xorb_file_is_404(cas: RunningCas, session: hf_xet.XetSession) -> None:
    (info,) = upload(session, cas.operation(), os.urandom(1000))
    url, _, _ = data_url(cas, info.hash, "bytes=0-10")
    name = url.split("/data/")[1][:64]
    cas.content.xorbs.path(name).unlink()
    answer = requests.get(url, timeout=10)
    assert (answer.status_code, answer.json()) == (404, {"error": f"Xorb {name} is not stored here."})


# -- several ranges


@pytest.fixture(scope="module")
def scattered(cas: RunningCas) -> tuple[str, bytes, list[tuple[str, dict[str, Any]]]]:
    """A file of more than 64 pieces of one xorb: its hash, its bytes, and the xorb of each entry with the entry."""
    session = session_with(
        deduplication__min_n_chunks_per_range=0.0, deduplication__min_n_chunks_per_range_hysteresis_factor=0.0
    )
    old = os.urandom(30 * MIB)
    upload(session, cas.operation(), old)
    raw = b"".join(old[start : start + 300_000] for start in range(0, len(old), 400_000))
    (info,) = upload(session, cas.operation(), raw)
    body = reconstruction(cas, info.hash).json()
    entries = [(name, entry) for name, entries in body["xorbs"].items() for entry in entries]
    return info.hash, raw, entries


def ranges_of(entry: dict[str, Any]) -> list[str]:
    return [f"{piece['bytes']['start']}-{piece['bytes']['end']}" for piece in entry["ranges"]]


def parts(answer: requests.Response) -> list[tuple[str, bytes]]:
    """Read a multipart body with the standard library's parser."""
    head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + answer.content, policy=email.policy.HTTP)
    pieces: Iterable[Any] = message.iter_parts()
    return [(part["Content-Range"], part.get_payload(decode=True)) for part in pieces]


def test_all_ranges_of_an_entry_come_in_one_answer(
    cas: RunningCas, scattered: tuple[str, bytes, list[tuple[str, dict[str, Any]]]]
) -> None:
    assert max(len(entry["ranges"]) for _, entry in scattered[2]) == 64
    assert len({entry["url"] for _, entry in scattered[2]}) == len(scattered[2])
    for name, entry in scattered[2]:
        ranges = ranges_of(entry)
        answer = requests.get(entry["url"], headers={"Range": f"bytes={','.join(ranges)}"}, timeout=30)
        assert answer.status_code == 206
        assert int(answer.headers["Content-Length"]) == len(answer.content)
        stored = cas.content.xorbs.path(name).read_bytes()
        edges = [tuple(map(int, text.split("-"))) for text in ranges]
        expected = [
            (f"bytes {text}/{len(stored)}", stored[first : last + 1])
            for text, (first, last) in zip(ranges, edges, strict=True)
        ]
        if len(ranges) == 1:
            assert (answer.headers["Content-Range"], answer.content) == expected[0]
        else:
            assert answer.headers["Content-Type"].startswith("multipart/byteranges; boundary=")
            assert parts(answer) == expected


def test_the_chunks_of_an_entry_decode_to_what_the_terms_say(
    cas: RunningCas, scattered: tuple[str, bytes, list[tuple[str, dict[str, Any]]]]
) -> None:
    """The whole way by hand: fetch every entry at once, decode, and put the terms together."""
    xet_hash, raw, _ = scattered
    body = reconstruction(cas, xet_hash).json()
    chunks: dict[tuple[str, int], bytes] = {}
    for name, entries in body["xorbs"].items():
        for entry in entries:
            header = f"bytes={','.join(ranges_of(entry))}"
            answer = requests.get(entry["url"], headers={"Range": header}, timeout=30)
            bodies = [data for _, data in parts(answer)] if len(entry["ranges"]) > 1 else [answer.content]
            for piece, data in zip(entry["ranges"], bodies, strict=True):
                for number, chunk in enumerate(xorb.decode(data), piece["chunks"]["start"]):
                    chunks[name, number] = bytes(chunk)
    terms = [(term["hash"], number) for term in body["terms"] for number in range(*term["range"].values())]
    assert b"".join([chunks[term] for term in terms]) == raw


def test_some_of_the_ranges_and_parts_of_them_in_any_order(
    cas: RunningCas, scattered: tuple[str, bytes, list[tuple[str, dict[str, Any]]]]
) -> None:
    name, entry = max(scattered[2], key=lambda pair: len(pair[1]["ranges"]))
    first, second, third = (piece["bytes"] for piece in entry["ranges"][:3])
    stored = cas.content.xorbs.path(name).read_bytes()
    wanted = [
        (third["start"] + 5, third["start"] + 9),
        (first["start"], first["start"]),
        (second["start"], second["end"]),
    ]
    header = "bytes=" + ", ".join(f"{start}-{end}" for start, end in wanted)
    assert parts(requests.get(entry["url"], headers={"Range": header}, timeout=10)) == [
        (f"bytes {start}-{end}/{len(stored)}", stored[start : end + 1]) for start, end in wanted
    ]


def test_ranges_that_a_url_is_not_signed_for_are_403(
    cas: RunningCas, scattered: tuple[str, bytes, list[tuple[str, dict[str, Any]]]]
) -> None:
    _, entry = max(scattered[2], key=lambda pair: len(pair[1]["ranges"]))
    first, second = (piece["bytes"] for piece in entry["ranges"][:2])
    assert first["end"] + 1 < second["start"]
    allowed = f"{first['start']}-{first['end']}"
    for bad in (
        f"{first['end']}-{second['start']}",
        f"{allowed},{first['end'] + 1}-{first['end'] + 1}",
        f"{allowed},{second['start'] - 1}-{second['end']}",
        f"{first['start']}-{second['end']}",
    ):
        answer = requests.get(entry["url"], headers={"Range": f"bytes={bad}"}, timeout=10)
        assert answer.status_code == 403, bad
        assert "This data URL is for bytes" in answer.json()["error"]


def test_ranges_that_make_no_sense(
    cas: RunningCas, scattered: tuple[str, bytes, list[tuple[str, dict[str, Any]]]]
) -> None:
    name, entry = max(scattered[2], key=lambda pair: len(pair[1]["ranges"]))
    size = cas.content.xorbs.path(name).stat().st_size
    start = entry["ranges"][0]["bytes"]["start"]

    def get(header: str | None) -> requests.Response:
        return requests.get(entry["url"], headers={"Range": header} if header else {}, timeout=10)

    # Nonsense is as no header at all.
    for header in (None, "bytes=x-y", f"bytes={start}-{start},9-3", "lines=1-2"):
        answer = get(header)
        assert (answer.status_code, "Range" in answer.json()["error"]) == (403, True)
    behind = get(f"bytes={size}-,{size + 10}-{size + 20}")
    assert (behind.status_code, behind.headers["Content-Range"]) == (416, f"bytes */{size}")
    for header in (f"bytes={start}-{start + 5},{start + 5}-{start + 9}", "bytes=" + ",".join(["0-0"] * 65)):
        answer = get(header)
        assert (answer.status_code, "ranges" in answer.json()["error"]) == (400, True)


# -- several files


def test_a_batch_of_files_by_hand(cas: RunningCas, session: hf_xet.XetSession) -> None:
    contents = [os.urandom(200_000), os.urandom(1000), b""]
    infos = upload(session, cas.operation(), *contents)
    query = "&".join(f"file_id={info.hash}" for info in [*infos, infos[0]])
    answer = requests.get(f"{cas.url}/v1/reconstructions?{query}", headers=bearer(cas.token("read")), timeout=10)
    body = answer.json()
    assert body["files"].keys() == {info.hash for info in infos}
    for info, raw in zip(infos, contents, strict=True):
        found = b""
        for term in body["files"][info.hash]:
            (fetch,) = [
                fetch
                for fetch in body["fetch_info"][term["hash"]]
                if fetch["range"]["start"] <= term["range"]["start"] and term["range"]["end"] <= fetch["range"]["end"]
            ]
            header = f"bytes={fetch['url_range']['start']}-{fetch['url_range']['end']}"
            data = requests.get(fetch["url"], headers={"Range": header}, timeout=10).content
            decoded = list(xorb.decode(data))
            skip = fetch["range"]["start"]
            found += b"".join(decoded[term["range"]["start"] - skip : term["range"]["end"] - skip])
        assert found == raw


@pytest.mark.parametrize(
    ("query", "status"), [("", 400), (f"?file_id={'1' * 64}", 404), ("?file_id=x", 400), ("?file_id=1" * 1001, 400)]
)
def test_a_batch_that_cannot_be_answered(cas: RunningCas, query: str, status: int) -> None:
    query = query.replace("1?", "1&")
    answer = requests.get(f"{cas.url}/v1/reconstructions{query}", headers=bearer(cas.token("read")), timeout=10)
    assert answer.status_code == status
    assert "error" in answer.json()
