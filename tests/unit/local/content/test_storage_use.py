"""What deduplication saves, compared with counting chunk by chunk."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.examples import examples
from xethub_local.content.storage_use import segments_of, sharing, storage_use
from xethub_local.content.store import ContentStore
from xethub_local.formats.hashing import to_hex
from xethub_local.formats.shard import Segment, pack_segments
from xethub_local.store.database import Database

CHUNKS = 12
RAW = [(number + 1) * 100 for number in range(CHUNKS)]
PACKED = [(number + 1) * 10 + 3 for number in range(CHUNKS)]
XORBS = [bytes([number]) * 32 for number in range(3)]

spans = st.tuples(st.sampled_from(XORBS), st.integers(0, CHUNKS - 1), st.integers(1, CHUNKS)).map(
    lambda each: (each[0], each[1], min(CHUNKS, each[1] + each[2]))
)
files = st.lists(st.lists(spans, max_size=5), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Database:
    folder = tmp_path_factory.mktemp("use")
    db = Database(folder)
    ContentStore(folder, db)
    return db


def fill(db: Database, contents: list[list[tuple[bytes, int, int]]]) -> list[str]:
    """Put files made of these chunk ranges straight into the tables, and return their Xet hashes."""

    def offsets(lengths: list[int]) -> bytes:
        return pack(f"<{CHUNKS + 1}I", *(sum(lengths[:number]) for number in range(CHUNKS + 1)))

    hashes = [f"{number:064x}" for number in range(1, len(contents) + 1)]
    with db.write() as connection:
        for table in ("cas_file", "cas_readable", "cas_xorb"):
            connection.execute(f"DELETE FROM {table}")
        for xorb_hash in XORBS:
            connection.execute(
                "INSERT INTO cas_xorb (hash, offsets, raw_offsets, chunk_hashes) VALUES (?, ?, ?, '')",
                (to_hex(xorb_hash), offsets(PACKED), offsets(RAW)),
            )
        for xet_hash, ranges in zip(hashes, contents, strict=True):
            segments = [Segment(xorb, first, last, sum(RAW[first:last])) for xorb, first, last in ranges]
            connection.execute(
                "INSERT INTO cas_file (xet_hash, size, segments) VALUES (?, ?, ?)",
                (xet_hash, sum(each.raw_bytes for each in segments), pack_segments(segments)),
            )
            connection.execute("INSERT INTO cas_readable (repository, xet_hash) VALUES ('r', ?)", (xet_hash,))
    return hashes


def chunks(ranges: list[tuple[bytes, int, int]]) -> list[tuple[bytes, int]]:
    return [(xorb, number) for xorb, first, last in ranges for number in range(first, last)]


@settings(max_examples=examples(60))
@given(contents=files, data=st.data())
def test_it_is_what_counting_chunks_gives(
    db: Database, contents: list[list[tuple[bytes, int, int]]], data: st.DataObject
) -> None:
    hashes = fill(db, contents)
    asked = data.draw(st.lists(st.sampled_from(range(len(contents))), max_size=8))
    use = storage_use(db, "r", [hashes[number] for number in asked])

    here = [chunk for number in asked for chunk in chunks(contents[number])]
    elsewhere = [chunk for number, ranges in enumerate(contents) if number not in asked for chunk in chunks(ranges)]
    uses = Counter([*here, *elsewhere])
    assert use.size == sum(RAW[number] for _, number in here)
    assert use.distinct == sum(RAW[number] for _, number in set(here))
    assert use.packed == sum(PACKED[number] for _, number in set(here))
    assert use.saved == use.size - use.distinct
    assert use.shared == {
        hashes[number]: sum(RAW[chunk[1]] for chunk in chunks(contents[number]) if uses[chunk] > 1) for number in asked
    }


@settings(max_examples=examples(60))
@given(contents=files)
def test_files_that_share_bytes_are_found(db: Database, contents: list[list[tuple[bytes, int, int]]]) -> None:
    hashes = fill(db, contents)
    own = set(chunks(contents[0]))
    expected = {
        xet_hash: size
        for xet_hash, ranges in zip(hashes[1:], contents[1:], strict=True)
        if (size := sum(RAW[number] for _, number in own & set(chunks(ranges))))
    }
    assert sharing(db, "r", hashes[0]) == expected


def test_a_file_that_is_not_stored_takes_nothing(db: Database) -> None:
    fill(db, [[(XORBS[0], 0, 1)]])
    assert storage_use(db, "r", ["f" * 64]).size == 0
    assert storage_use(db, "another", ["f" * 64]).shared == {"f" * 64: 0}
    assert segments_of(db, "f" * 64) == []


def test_other_repositories_do_not_count(db: Database) -> None:
    (one,) = fill(db, [[(XORBS[0], 0, 2)]])
    with db.write() as connection:
        row = connection.execute("SELECT segments FROM cas_file").fetchone()
        connection.execute("INSERT INTO cas_file (xet_hash, size, segments) VALUES ('other', 1, ?)", (row[0],))
        connection.execute("INSERT INTO cas_readable (repository, xet_hash) VALUES ('s', 'other')")
    assert storage_use(db, "r", [one]).shared == {one: 0}
    assert sharing(db, "r", one) == {}


def test_a_folder_without_xorbs_of_a_file_is_no_error(tmp_path: Path) -> None:
    db = Database(tmp_path)
    ContentStore(tmp_path, db)
    assert storage_use(db, "r", []).size == 0
    db.close()
