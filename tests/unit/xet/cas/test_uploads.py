"""How many files are uploaded at a time, and how many bytes are in flight."""

from __future__ import annotations

import threading

import pytest

from airflow_provider_xethub.exceptions import XetHubError
from airflow_provider_xethub.xet.cas import uploads as cas_uploads
from airflow_provider_xethub.xet.cas.limits import LEAST_ROOM
from airflow_provider_xethub.xet.cas.session import XORB
from airflow_provider_xethub.xet.process import memory as process_memory

CEILING = 390_000_000


class Report:
    """What a client says that was handed ``written`` bytes, in xorbs of which ``sent`` bytes are in CAS."""

    def __init__(self, xorbs=0, sent=0):
        self.total_transfer_bytes = xorbs
        self.total_transfer_bytes_completed = self.total_bytes_completed = sent


def written_before_a_wait(monkeypatch, report, *, memory=200_000_000, ahead=cas_uploads.ONE, count=1 << 20):
    """Return how many bytes an upload writes of which the client's report does not change."""
    commit = type("Commit", (), {"progress": lambda self: report})()
    stopped = threading.Event()
    monkeypatch.setattr(cas_uploads, "_STALL_SECONDS", 3600)
    monkeypatch.setattr(process_memory, "resident", lambda: memory)
    pace = cas_uploads.Pace(commit, stopped, ahead, CEILING)
    given = []

    def write_on():
        while not stopped.is_set():
            pace.wait(count)
            given.append(count)

    thread = threading.Thread(target=pytest.raises, args=(XetHubError, write_on), daemon=True)
    thread.start()
    thread.join(0.5)
    stopped.set()
    thread.join(10)
    return sum(given)


SMALL = cas_uploads.ahead_of_files(LEAST_ROOM)


@pytest.mark.parametrize("ahead", [cas_uploads.ONE, cas_uploads.SEVERAL, SMALL])
def test_what_is_in_no_xorb_yet_is_limited(monkeypatch, ahead):
    """With CAS standing still, no more than the allowance is read."""
    written = written_before_a_wait(monkeypatch, Report(), ahead=ahead, count=4 << 20)
    assert max(ahead) - (4 << 20) <= written <= max(ahead) + (4 << 20)


@pytest.mark.parametrize(("ahead", "more"), [(cas_uploads.SEVERAL, 136_000_000), (SMALL, SMALL.always)])
def test_several_files_go_on_without_memory_and_small_ones_no_further_with_it(monkeypatch, ahead, more):
    memory = 4 * CEILING if ahead is cas_uploads.SEVERAL else 0
    written = written_before_a_wait(monkeypatch, Report(XORB), ahead=ahead, memory=memory)
    assert more - (2 << 20) <= written <= more


@pytest.mark.parametrize(
    ("room", "ahead"),
    [(LEAST_ROOM, 80), (323_000_000, 80), (324_000_000, 104), (460_000_000, 120), (2 << 30, 136)],
)
def test_small_files_take_more_where_there_is_more_memory(room, ahead):
    """Never less than a xorb and a little more, or the upload would block."""
    assert cas_uploads.ahead_of_files(room) == (ahead * 1_000_000, 0)
    assert ahead * 1_000_000 > XORB


def test_while_a_xorb_is_on_its_way_the_next_is_filled(monkeypatch):
    """The last bytes of it are sent, but CAS has not answered: its memory is not free yet."""
    xorb = XORB
    written = written_before_a_wait(monkeypatch, Report(xorb, xorb - 1), memory=CEILING - xorb + 1)
    assert 2 * xorb - (3 << 20) <= written < 2 * xorb


def test_a_block_that_would_end_a_xorb_waits_as_well(monkeypatch):
    """Blocks from object storage are larger than those of a local file."""
    xorb, block = XORB, 12 << 20
    room = CEILING - xorb
    written = written_before_a_wait(monkeypatch, Report(xorb), memory=room, count=block)
    assert xorb + 4 * block <= written <= 2 * xorb - block // 2


def test_where_there_is_memory_for_another_xorb_the_next_is_sent_as_well(monkeypatch):
    xorb = XORB
    written = written_before_a_wait(monkeypatch, Report(xorb), memory=CEILING - xorb - (2 << 20))
    assert xorb + cas_uploads.ONE.filling - (2 << 20) <= written <= xorb + cas_uploads.ONE.filling


def test_a_process_that_is_large_already_still_sends_one_xorb_after_the_other(monkeypatch):
    xorb, much = XORB, 4 * CEILING
    assert written_before_a_wait(monkeypatch, Report(xorb), memory=much) == 0
    report = Report(xorb, xorb)
    assert written_before_a_wait(monkeypatch, report, memory=much) > xorb + cas_uploads.ONE.filling - (2 << 20)
