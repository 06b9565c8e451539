"""The ``Range`` header, and the body that answers several ranges."""

from __future__ import annotations

import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xethub_local.formats import FormatError
from xethub_local.formats.byte_range import (
    MAX_RANGES,
    UnsatisfiableRangeError,
    content_range,
    parse_range,
    parse_ranges,
)
from xethub_local.formats.multipart_ranges import body_length, multipart_body


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-9", (0, 10)),
        ("bytes=5-5", (5, 6)),
        ("bytes=90-", (90, 100)),
        ("bytes=90-999999", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-999", (0, 100)),
        ("Bytes = 1 - 2", (1, 3)),
        (None, None),
        ("", None),
        ("bytes=-", None),
        ("bytes=9-3", None),
        ("bytes=0-1,5-6", None),
        ("lines=0-1", None),
        ("bytes=a-b", None),
        ("bytes=0-" + "9" * 40, None),
    ],
)
def test_range_header(header: str | None, expected: tuple[int, int] | None) -> None:
    assert parse_range(header, 100) == expected


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=100-", 100), ("bytes=100-200", 100), ("bytes=0-0", 0), ("bytes=-0", 9)]
)
def test_a_range_behind_the_end_cannot_be_satisfied(header: str, size: int) -> None:
    with pytest.raises(UnsatisfiableRangeError) as caught:
        parse_range(header, size)
    assert caught.value.content_range == f"bytes */{size}"


def test_content_range_includes_its_last_byte() -> None:
    assert content_range(0, 10, 100) == "bytes 0-9/100"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-9", [(0, 10)]),
        ("bytes=0-9,20-29", [(0, 10), (20, 30)]),
        ("bytes=20-29, 0-9 ,\t-5", [(20, 30), (0, 10), (95, 100)]),
        ("bytes=0-9,10-19", [(0, 10), (10, 20)]),
        ("BYTES = 0-0,200-300,99-", [(0, 1), (99, 100)]),
        (None, None),
        ("", None),
        ("lines=0-1,2-3", None),
        ("bytes=", None),
        ("bytes=0-1,", None),
        ("bytes=0-1,9-3", None),
        ("bytes=0-1,a-b", None),
        ("bytes=0-1,bytes=2-3", None),
        ("bytes 0-1,2-3", None),
    ],
)
def test_a_header_of_several_ranges(header: str | None, expected: list[tuple[int, int]] | None) -> None:
    assert parse_ranges(header, 100) == expected


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200,300-400", "bytes=-0,100-"])
def test_ranges_that_are_all_behind_the_end_cannot_be_satisfied(header: str) -> None:
    with pytest.raises(UnsatisfiableRangeError) as caught:
        parse_ranges(header, 100)
    assert caught.value.content_range == "bytes */100"


@pytest.mark.parametrize("header", ["bytes=0-9,9-20", "bytes=50-60,0-99", "bytes=0-9,0-9", "bytes=0-,-1"])
def test_ranges_that_overlap_are_refused(header: str) -> None:
    with pytest.raises(FormatError, match="ranges that overlap"):
        parse_ranges(header, 100)


def test_more_than_64_ranges_are_refused() -> None:
    ranges = [f"{start}-{start}" for start in range(0, 2 * MAX_RANGES + 2, 2)]
    assert len(parse_ranges("bytes=" + ",".join(ranges[:MAX_RANGES]), 1000) or ()) == 64
    with pytest.raises(FormatError, match="more than 64 ranges"):
        parse_ranges("bytes=" + ",".join(ranges), 1000)


@given(st.text(st.sampled_from("bytes=0123456789-, "), max_size=40), st.integers(0, 200))
def test_any_header_means_ranges_within_the_file_or_the_whole(header: str, size: int) -> None:
    try:
        ranges = parse_ranges(header, size)
    except (FormatError, UnsatisfiableRangeError):
        return
    assert all(0 <= start < end <= size for start, end in ranges or ())


@given(st.lists(st.integers(0, 500), min_size=4, max_size=12, unique=True))
def test_the_parts_of_a_multipart_body_are_the_ranges(edges: list[int]) -> None:
    edges = sorted(edges[: len(edges) // 2 * 2])
    ranges = list(zip(edges[::2], edges[1::2], strict=True))
    file = bytes(number % 251 for number in range(500))
    pieces = multipart_body(ranges, len(file), "b0undary")
    body = b"".join(piece if isinstance(piece, bytes) else file[slice(*piece)] for piece in pieces)
    assert body_length(pieces) == len(body)
    message = email.message_from_bytes(
        b"Content-Type: multipart/byteranges; boundary=b0undary\r\n\r\n" + body, policy=email.policy.HTTP
    )
    parts = [(part["Content-Range"], part.get_payload(decode=True)) for part in message.iter_parts()]
    assert parts == [(f"bytes {start}-{end - 1}/500", file[start:end]) for start, end in ranges]
