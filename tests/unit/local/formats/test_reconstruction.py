"""Reconstructions: a client that follows one gets the bytes it asked for."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.examples import examples
from xethub_local.formats import reconstruction, shard, xorb
from xethub_local.formats.hashing import from_hex, to_hex


@st.composite
def files_and_ranges(
    draw: st.DrawFn,
) -> tuple[dict[bytes, tuple[list[bytes], bytes]], list[shard.Segment], int, int]:
    """Xorbs, a file made of pieces of them, and a range within it."""
    source = random.Random(draw(st.integers(0, 2**32)))
    stored: dict[bytes, tuple[list[bytes], bytes]] = {}
    for _ in range(draw(st.integers(1, 3))):
        chunks = [source.randbytes(source.randint(1, 40)) for _ in range(source.randint(1, 9))]
        body = xorb.serialize(chunks)
        stored[xorb.parse(body).xorb_hash] = (chunks, body)
    pieces = []
    for _ in range(draw(st.integers(1, 6))):
        name = source.choice(list(stored))
        chunks, _ = stored[name]
        first = source.randrange(len(chunks))
        last = source.randint(first + 1, len(chunks))
        pieces.append(shard.Segment(name, first, last, sum(map(len, chunks[first:last]))))
    size = sum(piece.raw_bytes for piece in pieces)
    start = draw(st.integers(0, size - 1))
    return stored, pieces, start, draw(st.integers(start + 1, size))


@settings(max_examples=examples(300))
@given(files_and_ranges())
def test_a_client_following_the_plan_gets_the_range(
    given_file: tuple[dict[bytes, tuple[list[bytes], bytes]], list[shard.Segment], int, int],
) -> None:
    stored, pieces, start, end = given_file
    whole = b"".join(b"".join(stored[p.xorb_hash][0][p.first : p.last]) for p in pieces)
    plan = reconstruction.plan_reconstruction(pieces, lambda name: xorb.parse(stored[name][1]).index, start, end)
    body = reconstruction.to_json_v2(plan, lambda name, fetches: f"/{name}?{fetches[0].start}")

    urls = [entry["url"] for entries in body["xorbs"].values() for entry in entries]
    assert len(urls) == len(set(urls))
    raw = b""
    for term in body["terms"]:
        first, last = term["range"]["start"], term["range"]["end"]
        (fetched,) = [
            (piece["chunks"], piece["bytes"])
            for entry in body["xorbs"][term["hash"]]
            for piece in entry["ranges"]
            if piece["chunks"]["start"] <= first and last <= piece["chunks"]["end"]
        ]
        chunk_range, byte_range = fetched
        serialized = stored[from_hex(term["hash"])][1][byte_range["start"] : byte_range["end"] + 1]
        decoded = list(xorb.decode(serialized))
        assert len(decoded) == chunk_range["end"] - chunk_range["start"]
        part = b"".join(decoded[first - chunk_range["start"] : last - chunk_range["start"]])
        assert len(part) == term["unpacked_length"]
        raw += part
    skip = body["offset_into_first_range"]
    assert raw[skip : skip + end - start] == whole[start:end]
    assert plan.length == end - start
    # Trimmed: the first and the last chunk both hold bytes of the range.
    first_term, last_term = plan.terms[0], plan.terms[-1]
    assert skip < len(stored[first_term.xorb_hash][0][first_term.first])
    beyond = len(raw) - skip - (end - start)
    assert beyond < len(stored[last_term.xorb_hash][0][last_term.last - 1])


def test_both_versions_of_the_reconstruction_of_two_touching_terms() -> None:
    chunks = [b"a" * 10, b"b" * 20, b"c" * 30, b"d" * 40]
    parsed = xorb.parse(xorb.serialize(chunks, xorb.STORED))
    name = to_hex(parsed.xorb_hash)
    pieces = [shard.Segment(parsed.xorb_hash, 3, 4, 40), shard.Segment(parsed.xorb_hash, 0, 3, 60)]
    plan = reconstruction.plan_reconstruction(pieces, lambda _: parsed.index, 35, 75)
    terms = [
        {"hash": name, "unpacked_length": 40, "range": {"start": 3, "end": 4}},
        {"hash": name, "unpacked_length": 60, "range": {"start": 0, "end": 3}},
    ]
    assert reconstruction.to_json_v2(plan, lambda _, fetches: f"u{fetches[0].first}") == {
        "offset_into_first_range": 35,
        "terms": terms,
        "xorbs": {
            name: [{"url": "u0", "ranges": [{"chunks": {"start": 0, "end": 4}, "bytes": {"start": 0, "end": 131}}]}]
        },
    }
    assert reconstruction.to_json_v1(plan, lambda _, fetches: f"u{fetches[0].first}") == {
        "offset_into_first_range": 35,
        "terms": terms,
        "fetch_info": {name: [{"range": {"start": 0, "end": 4}, "url": "u0", "url_range": {"start": 0, "end": 131}}]},
    }


def test_the_plan_of_no_bytes_is_empty() -> None:
    plan = reconstruction.plan_reconstruction([], lambda _: pytest.fail("no xorb is needed"), 0, 0)
    assert plan == reconstruction.Reconstruction((), 0, 0, {})


def fragments(count: int) -> tuple[str, reconstruction.Reconstruction]:
    """Return a xorb's name and the plan of a file made of every other of its chunks."""
    chunks = [bytes([number]) * 10 for number in range(2 * count)]
    parsed = xorb.parse(xorb.serialize(chunks, xorb.STORED))
    pieces = [shard.Segment(parsed.xorb_hash, 2 * number, 2 * number + 1, 10) for number in range(count)]
    return to_hex(parsed.xorb_hash), reconstruction.plan_reconstruction(pieces, lambda _: parsed.index, 0, 10 * count)


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (64, [64]), (65, [64, 1]), (100, [64, 36])])
def test_an_entry_has_at_most_64_ranges_and_a_url_of_its_own(count: int, sizes: list[int]) -> None:
    name, plan = fragments(count)
    body = reconstruction.to_json_v2(plan, lambda _, fetches: f"u{fetches[0].first}-{fetches[-1].last}")
    entries = body["xorbs"][name]
    assert [len(entry["ranges"]) for entry in entries] == sizes
    assert len({entry["url"] for entry in entries}) == len(sizes)
    listed = [piece["bytes"] for entry in entries for piece in entry["ranges"]]
    assert listed == [{"start": 36 * number, "end": 36 * number + 17} for number in range(count)]
    assert entries[0]["url"] == f"u0-{2 * sizes[0] - 1}"


def test_version_one_has_a_url_for_each_range() -> None:
    name, plan = fragments(65)
    entries = reconstruction.to_json_v1(plan, lambda _, fetches: f"u{len(fetches)}-{fetches[0].first}")["fetch_info"]
    assert [entry["url"] for entry in entries[name]] == [f"u1-{2 * number}" for number in range(65)]


def test_a_batch_lists_shared_fetches_once() -> None:
    name, plan = fragments(2)
    _, other = fragments(2)
    body = reconstruction.to_json_batch({"a": plan, "b": other}, lambda _, fetches: f"u{fetches[0].first}")
    assert body["files"]["a"] == body["files"]["b"] == reconstruction.to_json_v1(plan, lambda *_: "")["terms"]
    assert [entry["url"] for entry in body["fetch_info"][name]] == ["u0", "u2"]
