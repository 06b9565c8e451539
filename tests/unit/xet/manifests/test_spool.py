"""Records on disk: read as they were written, and a file from elsewhere only within bounds."""

from __future__ import annotations

import gzip
import json
import resource
import zlib

import pytest

from airflow_provider_xethub.exceptions import XetInputError, XetIntegrityError
from airflow_provider_xethub.xet.manifests.spool import Spool, spooled
from airflow_provider_xethub.xet.records import xet_file_record

REPO = "hf://datasets/acme/corpus@main"


def records(count, start=0):
    return [xet_file_record(f"földer/{n}\n", n, REPO, sha256=f"{n:064x}") for n in range(start, start + count)]


def stored(content):
    spool = Spool()
    spool.write(content)
    spool.complete()
    return spool


def packed(*lines):
    return gzip.compress("".join(f"{json.dumps(line)}\n" for line in lines).encode(), mtime=0)


def test_records_are_read_as_they_were_added_any_number_of_times_and_at_the_same_time():
    spool = spooled([records(3), [], records(2, 3)])
    first = iter(spool)
    assert next(first) == records(1)[0]
    assert list(spool) == list(spool) == records(5)
    assert list(first) == records(4, 1)
    assert (spool.totals.file_count, spool.totals.bytes, list(spool.totals.uris)) == (5, 10, [REPO])
    assert (spool.totals.first, spool.totals.last) == ("földer/0\n", "földer/4\n")


def test_the_same_records_are_the_same_file():
    one, other = spooled([records(100)]), spooled([records(50), records(50, 50)])
    assert one.sha256 == other.sha256
    assert b"".join(one.blocks())[:2] == b"\x1f\x8b"
    assert gzip.decompress(b"".join(one.blocks())).count(b"\n") == 100


def test_no_record_is_an_empty_file_that_can_be_read():
    spool = spooled([])
    assert list(spool) == []
    assert stored(b"".join(spool.blocks())).verify(0).file_count == 0


def test_a_stored_file_is_verified():
    spool = stored(b"".join(spooled([records(7)]).blocks()))
    assert spool.verify(7).bytes == 21
    assert list(spool) == records(7)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "it is truncated"),
        (b"not gzip", "incorrect header check"),
        (packed(*records(3))[:-4], "it is truncated"),
        (packed(*records(3)) + packed(*records(1)), "more follows after its end"),
        (packed(*records(3)) + b"x", "more follows after its end"),
        (gzip.compress(json.dumps(records(1)[0]).encode(), mtime=0), "it is truncated"),
        (packed(*records(4)), "it has more than 3 records"),
        (gzip.compress(b"[1,\n", mtime=0), "not JSON"),
        (gzip.compress(b"[" * 100_000 + b"\n", mtime=0), "nested too deeply|not JSON"),
    ],
)
def test_another_content_is_refused(content, part):
    with pytest.raises(XetIntegrityError, match=part):
        stored(content).verify(3)


@pytest.mark.parametrize("line", [[], 1, {"path": "a"}, {**records(1)[0], "size": -1}, {**records(1)[0], "sha256": 5}])
def test_a_line_that_is_no_record_is_refused(line):
    with pytest.raises(XetInputError, match="files has a record with"):
        stored(packed(line)).verify(3)


def test_a_bomb_of_one_line_is_refused_before_it_takes_memory():
    compressor = zlib.compressobj(1, zlib.DEFLATED, 31)
    zeros = b"0" * (1 << 20)
    bomb = b"".join(compressor.compress(zeros) for _ in range(120)) + compressor.flush()
    spool = stored(bomb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(XetIntegrityError, match="a line is too long"):
        spool.verify(10**7)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 110_000


def test_a_bomb_of_lines_ends_at_the_count():
    spool = stored(gzip.compress(f"{json.dumps(records(1)[0])}\n".encode() * 200_000))
    with pytest.raises(XetIntegrityError, match="it has more than 10 records"):
        spool.verify(10)


def test_records_of_too_many_revisions_are_refused():
    files = [xet_file_record("a", 1, f"hf://acme/m@{n:040x}") for n in range(1001)]
    with pytest.raises(XetInputError, match="more than 1000 revisions"):
        spooled([files])


def test_a_full_disk_is_an_error_that_says_where(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(OSError, match=r"cannot be kept on this worker: .*TMPDIR"):
        Spool()
