"""What goes wrong while files are read: never short, never damaged where it can be known, never a missing file."""

from __future__ import annotations

import io
import shutil
import threading

import pytest

from airflow_provider_xethub.exceptions import (
    XetAirflowConnectionError,
    XetHubError,
    XetIntegrityError,
    XetServerError,
    XetStalledError,
    XetUnauthorizedError,
)
from airflow_provider_xethub.fs.xethub import XetHubFileSystem
from airflow_provider_xethub.xet.cas import ranges as cas_ranges
from airflow_provider_xethub.xet.cas import session as cas_session
from airflow_provider_xethub.xet.cas import streams as cas_streams
from support.builders import TEXT, binary, publish, sealed
from support.filesystem_places import name
from xethub_local.control.faults import Fault

PLANS, DATA = "GET /cas/.*/reconstructions/.*", "GET /cas/.*/data/.*"


@pytest.fixture
def filled(repo, fs, tmp_path):
    publish(
        repo, tmp_path, {"a/b.bin": binary(3_000_000), "a/deep/c.bin": binary(20, 1), "a/t.csv": TEXT, "z.bin": b"\0"}
    )
    return repo


def test_a_token_that_is_refused_is_replaced(filled, fs, hub, monkeypatch):
    monkeypatch.setattr(cas_session, "RETRIES", 0)
    issue = hub.access.issue_xet_token

    def issue_one_that_is_accepted(*args, **options):
        hub.faults.clear()
        return issue(*args, **options)

    monkeypatch.setattr(hub.access, "issue_xet_token", issue_one_that_is_accepted)
    with fs.open(name(filled, "a/b.bin"), block_size=1000) as file:
        file.read(10)
        hub.log.clear()
        hub.faults.add(Fault(PLANS, status=401))
        file.seek(1_000_000)
        assert file.read(10) == binary(3_000_000)[1_000_000:1_000_010]
        assert len(hub.log.requests("GET /api/.*/xet-read-token/.*")) == 1
        monkeypatch.setattr(hub.access, "issue_xet_token", issue)
        hub.faults.add(Fault(PLANS, status=401))
        file.seek(2_000_000)
        with pytest.raises(XetUnauthorizedError):
            file.read(10)


def test_a_token_that_expires_while_a_file_is_open_is_replaced(filled, fs, hub, connection):
    hub.access.token_life = 33  # the client wants the next one 30 s before the expiry: each is used for 3 s
    with fs.open(name(filled, "a/b.bin"), block_size=1000) as file:
        file.read(10)
        issued = len(hub.access.issued_xet_tokens())
        hub.access.token_life = 900
        deadline = threading.Event()
        deadline.wait(3.5)
        file.seek(1_000_000)
        assert file.read(10) == binary(3_000_000)[1_000_000:1_000_010]
        assert len(hub.access.issued_xet_tokens()) > issued


@pytest.mark.parametrize("fault", [{"truncate": 100}, {"drop": "middle"}, {"status": 500}])
def test_a_range_that_breaks_off_once_is_read_again(fault, filled, fs, hub):
    hub.faults.add(Fault(DATA, times=1, **fault))
    assert fs.cat_file(name(filled, "a/b.bin"), 100, 2_000_000) == binary(3_000_000)[100:2_000_000]


@pytest.mark.parametrize("fault", [{"truncate": 100}, {"drop": "before"}, {"status": 500}, {"status": 404}])
def test_a_range_that_always_breaks_off_is_an_error_and_never_short(fault, filled, fs, hub, monkeypatch):
    monkeypatch.setattr(cas_session, "RETRIES", 0)
    hub.faults.add(Fault(DATA, **fault))
    for _ in range(5):
        with pytest.raises(XetHubError):
            fs.cat_file(name(filled, "a/b.bin"), 100, 2_000_000)


def test_a_read_that_stands_still_ends_and_is_tried_once_more(filled, fs, hub, connection):
    connection(extra={"stall_timeout": 1})
    hub.faults.add(Fault(DATA, times=1, delay=20))
    assert fs.cat_file(name(filled, "a/b.bin"), 0, 100) == binary(3_000_000)[:100]
    hub.faults.add(Fault(DATA, delay=20))
    with pytest.raises(XetStalledError):
        fs.cat_file(name(filled, "a/b.bin"), 2_500_000, 2_500_100)
    hub.faults.clear()
    assert fs.cat_file(name(filled, "a/b.bin"), 1_500_000, 1_500_100) == binary(3_000_000)[1_500_000:1_500_100]


def test_a_read_goes_on_in_a_new_session_if_another_thread_has_aborted_the_present_one(filled, fs, monkeypatch):
    groups, read = [], cas_ranges._read

    def remembered(group, *arguments):
        groups.append(group)
        return read(group, *arguments)

    monkeypatch.setattr(cas_ranges, "_read", remembered)
    fs.cat_file(name(filled, "a/b.bin"), 0, 100)
    groups[0].session.sigint_abort()
    assert fs.cat_file(name(filled, "a/b.bin"), 1_000_000, 1_000_100) == binary(3_000_000)[1_000_000:1_000_100]
    assert len({id(group) for group in groups}) == 2


def test_a_whole_file_is_verified_and_read_once_more(filled, fs, hub, tmp_path, monkeypatch):
    monkeypatch.setattr(cas_session, "RETRIES", 0)
    path = name(filled, "a/b.bin")
    hub.faults.add(Fault(DATA, times=1, corrupt=True))
    assert fs.cat_file(path) == binary(3_000_000)
    hub.faults.add(Fault(DATA, times=1, corrupt=True))
    fs.get_file(path, str(tmp_path / "b.bin"))
    assert (tmp_path / "b.bin").read_bytes() == binary(3_000_000)
    hub.faults.add(Fault(DATA, corrupt=True))
    with pytest.raises(XetIntegrityError):
        fs.cat_file(path)
    with pytest.raises(XetIntegrityError):
        fs.get_file(path, str(tmp_path / "c.bin"))
    assert sorted(each.name for each in tmp_path.iterdir() if each.is_file()) == ["b.bin"]
    hub.faults.clear()
    with fs.open(path, block_size=1 << 20) as file:
        file.read(1000)
        hub.faults.add(Fault(DATA, times=1, corrupt=True))
        with pytest.raises(XetIntegrityError, match="sha256"):
            shutil.copyfileobj(file, io.BytesIO())


def test_what_the_client_ends_silently_is_noticed(filled, fs, hub, monkeypatch):
    """Its streams may end early without an error: then there are too few bytes, and nothing else."""
    real = cas_ranges.cas_session.begin
    asked = []
    cut_to = {0: 9, 1: 0}

    class Silent:
        def __init__(self, streams):
            self._streams = streams

        def download_stream(self, info, start, end):
            asked.append((start, end))
            content = b"".join(self._streams.download_stream(info, start, end))
            return iter([content[: cut_to.get(len(asked) - 1)]])

    monkeypatch.setattr(cas_ranges.cas_session, "begin", lambda access, new: Silent(real(access, new)))
    assert fs.cat_file(name(filled, "a/b.bin"), 0, 100) == binary(3_000_000)[:100]
    assert asked == [(0, 100), (9, 100), (9, 100)]
    asked[:] = []
    cut_to = dict.fromkeys(range(100), 0)
    with pytest.raises(XetIntegrityError, match="ended early, after 0 bytes"):
        fs.cat_file(name(filled, "a/b.bin"), 0, 100)
    assert len(asked) == cas_ranges.TRIES * cas_streams.MAX_ATTEMPTS


def test_a_hub_that_is_down_is_no_missing_file(filled, fs, hub, monkeypatch):
    monkeypatch.setattr("airflow_provider_xethub.xet.hub.client.MAX_TRIES", 1)
    hub.faults.add(Fault(".* /api/.*", status=503))
    for look in (fs.exists, fs.isfile, fs.ls, fs.find, fs.open):
        with pytest.raises(XetServerError):
            look(name(filled, "z.bin"))


def test_a_path_of_another_origin_of_tokens_is_not_needed(filled, fs, disconnect):
    assert sealed(filled)
    disconnect()
    XetHubFileSystem.clear_instance_cache()
    with pytest.raises(XetAirflowConnectionError, match="found no connection 'xethub_default'"):
        XetHubFileSystem("xethub_default").exists(name(filled, "z.bin"))
