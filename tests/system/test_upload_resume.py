"""A large upload that is broken off goes on where it was: after SIGKILL, and after a token that CAS refuses."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from airflow_provider_xethub.exceptions import XetTokenExpiredError
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import XetUploadOperator
from airflow_provider_xethub.xet.repo import Repo
from support.builders import commits, noise, sealed, write
from xethub_local.control.faults import Fault
from xethub_local.server import LocalHub

pytestmark = pytest.mark.long

MB = 1_000_000
TOTAL = 600 * MB
GRANTS = "POST /cas/.*/v1/xorb-grants/.*"
COMMITS = "POST /cas/.*/v1/xorb-commits/.*"
DATA = "PUT /cas/.*/uploads/.*"
SHAPES = {"one file": 1, "several files": 12, "small files": 3000}


@pytest.fixture
def hub(tmp_path):
    """A local Hub of its own: nothing that is sent here is there already."""
    with LocalHub(tmp_path / "hub") as hub:
        yield hub
    shutil.rmtree(tmp_path / "hub")


@pytest.fixture
def where(connection, repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of its own, as on a worker that has not uploaded this before."""
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Makes folders of random files, each only once."""
    folder = tmp_path_factory.mktemp("sources")
    made = {}

    def make(count, total=TOTAL):
        if (count, total) not in made:
            size = total // count
            data = {f"{number:04d}.bin": noise(size) for number in range(count)}
            made[count, total] = write(folder / f"{count}-{total}", data)
        return made[count, total]

    yield make
    for each in folder.rglob("*.bin"):
        each.unlink()


def stored(hub):
    """Return the bytes of xorbs that arrived."""
    return sum(transfer.xorb_bytes for transfer in hub.log.transfers())


def start(arguments):
    spec = json.dumps({"operator": "XetUploadOperator", "arguments": arguments, "timeout": None})
    return subprocess.Popen(
        [sys.executable, "-m", "support.stopped_task", spec],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def kill_when(process, condition):
    deadline = time.monotonic() + 240
    try:
        while not condition():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()


def is_held(hub, held, xorbs):
    """Whether so many xorbs are in CAS, and another one is on its way; the client gets a second to hear of the last."""
    if not hub.faults.acted(held) or len(hub.log.requests(COMMITS, status=200)) < xorbs:
        return False
    time.sleep(1)
    return True


@pytest.mark.parametrize(
    ("shape", "xorbs"),  # about 20, 50 and 80 % of what there is to send
    [("one file", 2), ("one file", 4), ("one file", 7), ("several files", 5), ("small files", 2), ("small files", 5)],
)
def test_a_killed_upload_sends_again_at_most_a_quarter(hub, where, repo, cache, sources, run_task, shape, xorbs):
    source = sources(SHAPES[shape])
    held = hub.faults.add(Fault(DATA, skip=xorbs, delay=3600))
    kill_when(start({"source": str(source), **where}), lambda: is_held(hub, held, xorbs))
    before = stored(hub)
    assert before > 0.8 * xorbs * 45 * MB
    assert commits(hub, repo) == 1
    hub.faults.clear()

    result = run_task(XetUploadOperator, source=str(source), **where)

    files = XetHubConnection().read_files(result.value["files"])
    assert len(files) == SHAPES[shape]
    again = stored(hub) - TOTAL
    print(f"{shape}, {before / MB:.0f} MB sent: {again / MB:.0f} MB sent again")
    assert again <= before / 4
    name = "0000.bin"
    [file] = [file for file in files if file["path"] == name]
    assert file["sha256"] == hashlib.sha256((source / name).read_bytes()).hexdigest()


def test_a_killed_upload_of_a_stream_sends_again_at_most_a_quarter(hub, where, cache, sources, run_task, monkeypatch):
    """Object storage: Airflow's own, over a local folder."""
    source = f"file://{sources(1)}/0000.bin"
    held = hub.faults.add(Fault(DATA, skip=4, delay=3600))
    kill_when(start({"source": source, **where}), lambda: is_held(hub, held, 4))
    before = stored(hub)
    hub.faults.clear()

    assert run_task(XetUploadOperator, source=source, **where).value["created"]

    assert before > 4 * 45 * MB
    assert stored(hub) - TOTAL <= before / 4


def test_a_killed_upload_does_not_send_committed_files_again(hub, where, cache, sources, run_task, repo):
    """Killed after its commit, before Airflow heard of it."""
    source = sources(12, 60 * MB)
    silent = hub.faults.add(Fault("POST /api/.*/commit/.*", endless="silent"))
    kill_when(start({"source": str(source), **where}), lambda: hub.faults.acted(silent) and commits(hub, repo) == 2)
    before = stored(hub)
    hub.faults.clear()

    result = run_task(XetUploadOperator, source=str(source), **where).value

    assert stored(hub) == before
    assert commits(hub, repo) == 2
    assert len(result["files"]) == 12


def test_a_token_refused_in_the_middle_is_replaced_and_the_upload_goes_on(hub, where, cache, sources, run_task):
    source = sources(1)
    refused = hub.faults.add(Fault(GRANTS, skip=6, times=1, status=401))
    hub.log.clear()

    result = run_task(XetUploadOperator, source=str(source), commit=False, **where)

    assert result.value
    assert hub.faults.acted(refused) == 1
    assert len(hub.log.requests("GET .*/xet-write-token/main", status=200)) == 2
    assert stored(hub) - TOTAL <= 0.25 * TOTAL


def test_an_upload_outlives_several_tokens(hub, where, cache, sources, run_task):
    hub.access.token_life = 33  # the client wants the next one 30 s before the expiry: each is used for 3 s
    hub.faults.add(Fault(DATA, delay=3))
    hub.log.clear()
    started = time.monotonic()

    assert run_task(XetUploadOperator, source=str(sources(1)), commit=False, **where).value

    seconds = time.monotonic() - started
    fetched = len(hub.log.requests("GET .*/xet-write-token/main", status=200))
    print(f"{fetched} tokens in {seconds:.0f} s")
    # One of them is the hook's.
    assert 4 <= fetched <= seconds / 3 + 2


def test_without_a_connection_an_upload_that_takes_longer_fails_for_good(
    hub, where, repo, cache, sources, run_task, disconnect
):
    hub.access.token_life = 36
    hub.faults.add(Fault(DATA, delay=4))
    token = sealed(repo, "write")
    disconnect()

    run = run_task(XetUploadOperator, source=str(sources(1)), commit=False, token=token, xethub_conn_id=None)

    assert isinstance(run.error, XetTokenExpiredError)
    assert run.is_final
    for part in (
        f"It expired during the upload of 1 file to {Repo.from_uri(repo.uri)}",
        "xethub_conn_id",
    ):
        assert part in run.text
    assert commits(hub, repo) == 1
