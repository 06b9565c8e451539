"""What a transfer buffers, by the memory that it may take."""

from __future__ import annotations

import time

import pytest

from airflow_provider_xethub.xet.cas import session
from airflow_provider_xethub.xet.cas.limits import LEAST_ROOM, LEAST_STORAGE_WINDOW, STORAGE_WINDOW, TransferLimits
from airflow_provider_xethub.xet.process import memory
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.token import XetToken

AIRFLOW = 110_000_000


@pytest.fixture
def access(monkeypatch):
    monkeypatch.setattr(memory, "resident", lambda: AIRFLOW)
    monkeypatch.setattr(memory, "available", lambda: 64 << 30)
    token = XetToken(Repo("acme/m"), "write", "https://cas.example", time.time() + 900, access_token="xet_0")

    def with_room(room):
        limit = None if room is None else AIRFLOW + room
        return session.CasAccess(token, limits=TransferLimits(memory=limit))

    return with_room


def test_a_transfer_with_the_least_memory_has_one_xorb_in_flight(access):
    lean = access(LEAST_ROOM)
    assert (lean.xorbs_at_once(), lean.download_buffer()) == (1, session.LEAST_DOWNLOAD_BUFFER)


def test_a_process_that_grew_since_then_still_has_one(access, monkeypatch):
    lean = access(LEAST_ROOM)
    monkeypatch.setattr(memory, "resident", lambda: 2_000_000_000)
    assert (lean.xorbs_at_once(), lean.download_buffer()) == (1, session.LEAST_DOWNLOAD_BUFFER)


@pytest.mark.parametrize("room", [None, 1_000_000_000])
def test_by_default_and_with_more_memory_nothing_waits_for_it(access, room):
    assert access(room).xorbs_at_once() > 1
    assert access(room).download_buffer() == session.DOWNLOAD_BUFFER


def test_they_reach_the_client(access):
    lean = access(LEAST_ROOM)
    config = session.settings(1, 1 << 30, buffer=lean.download_buffer(), xorbs=lean.xorbs_at_once())
    assert config["client.ac_max_upload_concurrency"] == 1
    assert config["reconstruction.download_buffer_size"] == session.LEAST_DOWNLOAD_BUFFER
    from hf_xet import XetConfig

    assert XetConfig().with_config(config).get("reconstruction.download_buffer_size") == session.LEAST_DOWNLOAD_BUFFER


@pytest.mark.parametrize(
    ("room", "window"),
    [(100_000_000, 25_000_000), (LEAST_ROOM, STORAGE_WINDOW), (None, STORAGE_WINDOW), (1_000_000_000, STORAGE_WINDOW)],
)
def test_objects_in_storage_take_a_quarter_of_it(access, room, window):
    assert access(room).storage_window() == window


def test_a_process_that_grew_since_then_reads_two_ranges_of_an_object(access, monkeypatch):
    lean = access(LEAST_ROOM)
    monkeypatch.setattr(memory, "resident", lambda: 2_000_000_000)
    assert lean.storage_window() == LEAST_STORAGE_WINDOW
