"""What an upload in batches reports, and how it waits for the rate limit of the Hub."""

from __future__ import annotations

import logging

import pytest

from airflow_provider_xethub.exceptions import XetCommitQuotaError, XetRateLimitError
from airflow_provider_xethub.xet import native_client, records
from airflow_provider_xethub.xet.files import sources
from airflow_provider_xethub.xet.publish import batches
from airflow_provider_xethub.xet.publish.batches import Batches
from airflow_provider_xethub.xet.publish.records_on_disk import RecordsOnDisk
from airflow_provider_xethub.xet.transfer import upload
from support.builders import write
from support.commit_builders import ANYWHERE, record


@pytest.fixture
def waited(monkeypatch):
    """The seconds that were waited."""
    seconds: list[float] = []
    monkeypatch.setattr(batches.stop, "sleep", seconds.append)
    monkeypatch.setattr(records, "IN_MEMORY", 10)
    return seconds


def limited(*waits, kind=XetRateLimitError):
    """Requests that the Hub refuses with each of these hints, and then answers."""
    left = list(waits)

    def requests():
        if left:
            error = kind("Too many requests.", status=429)
            error.retry_after = left.pop(0)
            raise error
        return "done"

    return requests


def test_an_upload_of_many_files_waits_for_the_next_window(waited, caplog):
    with caplog.at_level(logging.WARNING):
        assert Batches(11).paced(limited(300.0, 0.0)) == "done"
    assert waited == [300.0, 0.0]
    assert caplog.messages == [
        "Waiting 5 min for the rate limit of the Hub. Too many requests.",
        "Waiting 0 s for the rate limit of the Hub. Too many requests.",
    ]


def test_the_longest_wait_is_a_window(waited):
    assert Batches(11).paced(limited(330.0)) == "done"
    assert waited == [330.0]


@pytest.mark.parametrize(
    ("count", "wait", "kind"),
    [
        (10, 300.0, XetRateLimitError),
        (11, None, XetRateLimitError),
        (11, 331.0, XetRateLimitError),
        (11, 300.0, XetCommitQuotaError),
    ],
    ids=["few files", "no hint", "longer than a window", "a quota of commits"],
)
def test_any_other_limit_is_left_to_the_retry_of_the_task(waited, count, wait, kind):
    with pytest.raises(kind):
        Batches(count).paced(limited(wait, kind=kind))
    assert waited == []


def test_waiting_has_an_end(waited, monkeypatch):
    monkeypatch.setattr(batches, "MOST_WAITS", 2)
    assert Batches(11).paced(limited(1.0, 1.0)) == "done"
    with pytest.raises(XetRateLimitError):
        Batches(11).paced(limited(1.0, 1.0, 1.0))
    assert waited == [1.0] * 4


# --- figures


@pytest.fixture
def released(monkeypatch):
    """How often memory was returned to the system."""
    calls: list[None] = []
    monkeypatch.setattr(native_client, "release_memory", lambda: calls.append(None))
    return calls


def figures(number):
    return {"files": number, "bytes": 20, "bytes_sent": 300_000, "bytes_deduplicated": 4, "seconds": 0.1 * number}


def test_the_figures_of_all_batches_are_added():
    it = Batches(3)
    assert it.transfer == records.no_transfer()
    it.add(figures(1))
    it.add(figures(2))
    assert it.transfer == {
        "files": 3,
        "bytes": 40,
        "bytes_sent": 600_000,
        "bytes_deduplicated": 8,
        "seconds": 0.3,
    }
    it.add({**figures(1), "seconds": 0.1234})
    assert it.transfer["seconds"] == 0.423


def test_after_each_batch_but_the_last_the_log_says_how_far_it_is(released, caplog):
    caplog.set_level(logging.INFO)
    it = Batches(5)
    assert it.is_first
    for batch, sent in ((2, 1), (2, 1), (1, 1)):
        it.add(figures(sent))
        it.done([None] * batch)
        assert not it.is_first
    assert caplog.messages == [
        "2 of 5 files are compared and in CAS; sent 300.0 kB so far.",
        "4 of 5 files are compared and in CAS; sent 600.0 kB so far.",
    ]
    assert len(released) == 3


def test_a_single_batch_keeps_its_memory_and_says_nothing(released, caplog):
    caplog.set_level(logging.INFO)
    Batches(5).done([None] * 5)
    assert (released, caplog.messages) == ([], [])


def test_a_batch_without_files_is_done_too(released, caplog):
    caplog.set_level(logging.INFO)
    it = Batches(2)
    it.done([])
    assert not it.is_first
    assert caplog.messages == ["1 of 2 files are compared and in CAS; sent 0 B so far."]


# --- an upload without a commit


def seal(files):
    return [{**file, "sealed_sample": "…"} for file in files]


@pytest.fixture
def sent():
    """The paths that each upload was given."""
    return []


@pytest.fixture
def with_cas_access(sent):
    def run(work):
        assert (work.func, work.keywords["deduplicate"]) == (upload.upload, False)
        files = work.keywords["files"]
        sent.append([file.path_in_repo for file in files])
        uploaded = [record(ANYWHERE, file.path_in_repo, b"x") for file in files]
        for file in uploaded:
            del file["sample"]  # they are read where they are needed
        return {"files": uploaded, "transfer": figures(1)}

    return run


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path, {f"{letter}.bin": b"x" for letter in "cab"})


def test_few_files_are_one_transfer(folder, sent, with_cas_access):
    files = sources.collect(str(folder))
    result = batches.upload_files(files, with_cas_access, False, seal)
    assert sent == [["a.bin", "b.bin", "c.bin"]]
    assert result["files"] == seal([record(ANYWHERE, path, b"x") for path in sent[0]])
    assert result["transfer"] == figures(1)


def test_many_files_are_sent_in_batches_and_their_records_are_on_disk(
    folder, sent, with_cas_access, released, monkeypatch, caplog
):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(records, "IN_MEMORY", 2)
    files = sources.collect(str(folder))
    result = batches.upload_files(files, with_cas_access, False, seal)
    assert sent == [["a.bin", "b.bin"], ["c.bin"]]
    assert isinstance(result["files"], RecordsOnDisk)
    assert list(result["files"]) == seal([record(ANYWHERE, f"{letter}.bin", b"x") for letter in "abc"])
    assert result["transfer"] == {**figures(2), "bytes": 40, "bytes_sent": 600_000, "bytes_deduplicated": 8}
    assert caplog.messages == ["2 of 3 files are compared and in CAS; sent 300.0 kB so far."]
    assert len(released) == 2
