"""Digests of streams and of several files, and what becomes of one that nobody needs."""

from __future__ import annotations

import threading

import pytest

from airflow_provider_xethub.xet import native_client
from airflow_provider_xethub.xet.transfer import digests
from support.builders import binary


@pytest.mark.parametrize("size", [1, 1000, 8191, 300_000, 3_000_000])
def test_the_hash_of_a_stream_is_that_of_the_file(tmp_path, size):
    content = binary(size)
    (tmp_path / "file").write_bytes(content)
    state = native_client.XetHash()
    for start in range(0, size, 9973):
        state.update(content[start : start + 9973])
    assert state.hexdigest() == native_client.xet_hashes([tmp_path / "file"])[0]


def test_a_hash_that_nobody_wants_any_more_leaves_no_thread():
    state = native_client.XetHash()
    state.update(binary(300_000))
    state.close()
    state._thread.join(10)
    assert not state._thread.is_alive()
    assert not any(thread.name == "xethub-hash" for thread in threading.enumerate())


def test_a_hash_that_cannot_be_computed_says_so_and_waits_for_nothing(monkeypatch):
    import hf_xet

    def fail(_):
        raise RuntimeError("no")

    monkeypatch.setattr(hf_xet, "hash_files", fail)
    state = native_client.XetHash()
    for _ in range(5):
        state.update(bytes(100_000))
    with pytest.raises(native_client.XetTransferError, match="could not be computed on this worker: no"):
        state.hexdigest()


def test_the_work_on_other_files_is_finished_before_an_error_is_raised():
    done = []

    def work(number):
        if number == 0:
            raise OSError("no")
        done.append(number)

    with pytest.raises(OSError, match="no"):
        digests.each(work, range(20))
    assert sorted(done) == list(range(1, 20))
