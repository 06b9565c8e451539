"""Uploads in batches: killed before any request, or with files and answers that change, they publish nothing wrong."""

from __future__ import annotations

import hashlib
import json
import threading
import time

import pytest

from airflow_provider_xethub.exceptions import XetHubError, XetSourceError
from airflow_provider_xethub.xet import records
from support.commit_builders import request, titles, tree
from support.fork_server import ForkServer
from support.waiting import until
from xethub_local.control.faults import Fault

AT_ONCE = 5
THROUGH_CAS = [f"{number // 4}/{number}.bin" for number in range(7)]
INLINE = ["empty.bin", "notes.txt"]
PATHS = sorted(THROUGH_CAS + INLINE)
STALLED_SECONDS = 20.0
MOST_REQUESTS = 60


def fill(folder, text):
    """Write nine files, two batches, with content that no other test has in CAS."""
    for path in PATHS:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        content = f"{text} {path}".encode()
        target.write_bytes(b"" if path == "empty.bin" else content + (b"\n" if path.endswith(".txt") else b"\0"))
    return folder


def digests(folder):
    return {path: hashlib.sha256((folder / path).read_bytes()).hexdigest() for path in THROUGH_CAS}


def published(hook, repo):
    """The digests of the files that the repository has in CAS."""
    return {file["path"]: file["sha256"] for file in hook.list_files(repo) if file["path"] in THROUGH_CAS}


_PRELOAD = """
import hf_xet, requests
from airflow_provider_xethub.xet.publish import publisher
from airflow_provider_xethub.xet.transfer import upload
"""
"""What an upload loads: each fork has it already."""

_UPLOAD = """
import json, sys
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet import records
from airflow_provider_xethub.xet.publish import commit
from airflow_provider_xethub.xet.publish.request import CommitRequest

source, repo, at_once = sys.argv[1:]
records.IN_MEMORY = commit.MAX_CHANGES = int(at_once)
hook = XetHubConnection()
request = CommitRequest(hook.repo(repo, "dataset"), (), message="many", idempotency_key="k")
result = hook.publish(source, request)
said = {"transfer": result["transfer"], "oids": [each["oid"] for each in result["commits"]]}
print(json.dumps({**said, "files": [file["path"] for file in result["files"]]}))
"""


@pytest.fixture
def start_upload(tmp_path, connection):
    """Starts an upload in a process of its own; returns that, and what reads its result."""
    room, cache = tmp_path / "tmp", tmp_path / "cache"
    room.mkdir()
    environment = {"TMPDIR": str(room), "HF_XET_CACHE": str(cache), "XDG_CACHE_HOME": str(cache)}
    server, output = ForkServer(_PRELOAD), tmp_path / "output"

    def start(folder, repo):
        arguments = (str(folder), repo.repo_id, str(AT_ONCE))
        process = server.start(_UPLOAD, *arguments, output=output, environment=environment)

        def result():
            assert process.wait() == 0, output.read_text()
            return json.loads(output.read_text().splitlines()[-1])

        return process, result

    start.room = room
    yield start
    server.close()


@pytest.fixture
def five_in_memory(monkeypatch):
    monkeypatch.setattr(records, "IN_MEMORY", AT_ONCE)


def test_an_upload_in_two_batches_is_killed_before_each_of_its_requests(hook, hub, tmp_path, start_upload):
    for number in range(MOST_REQUESTS):
        repo = hub.create_repo(f"killed/before-{number}", "dataset")
        folder = fill(tmp_path / f"in-{number}", f"attempt {number}")
        stall = hub.faults.add(Fault(".*", skip=number, times=1, delay=STALLED_SECONDS, drop="before"))
        upload, result_of = start_upload(folder, repo)
        until(lambda upload=upload, stall=stall: upload.poll() is not None or hub.faults.acted(stall))
        if not hub.faults.acted(stall):
            result_of()
            break
        upload.kill()
        hub.faults.remove(stall)
        assert list(start_upload.room.iterdir()) == [], f"killed before request {number + 1}"

        committed = tree(hub, repo)
        assert committed in (set(), set(PATHS[:AT_ONCE]), set(PATHS))
        result = start_upload(folder, repo)[1]()
        assert result["files"] == PATHS
        assert result["transfer"]["files"] == len(set(THROUGH_CAS) - committed), "committed files are not sent again"
        assert titles(hub, repo) == ["many (part 2 of 2)", "many (part 1 of 2)"]
        assert tree(hub, repo, result["oids"][0]) == set(PATHS[:AT_ONCE])
        there = {file["path"]: file["sha256"] for file in hook.list_files(repo)}
        assert there.keys() == {*PATHS, ".gitattributes"}
        assert {path: there[path] for path in THROUGH_CAS} == digests(folder)
        assert list(start_upload.room.iterdir()) == []
    assert 8 <= number < MOST_REQUESTS - 1, "two batches: modes, a token, uploads, commits"


@pytest.mark.parametrize("moment", ["before its upload", "between its digest and its upload"])
def test_a_file_of_the_second_batch_that_changes_meanwhile_is_not_published(
    hook, repo, hub, tmp_path, five_in_memory, moment
):
    folder = fill(tmp_path / "in", "first")
    if moment == "before its upload":
        stalled = Fault("POST .*/preupload/.*", skip=1, times=1, delay=2)
    else:
        hook.publish(folder, request(repo))
        # Its digest is another one than in the repository. After all digests, the Hub is asked about equal files.
        (folder / PATHS[-3]).write_bytes(b"second\0")
        stalled = Fault("POST .*/paths-info/.*", skip=1, times=1, delay=2)
    before = hub.repositories.commits(f"datasets/{repo.repo_id}", "main")
    hub.faults.add(stalled)

    def change():
        deadline = time.monotonic() + 60
        while not any(each.acted for each in hub.faults.armed()) and time.monotonic() < deadline:
            time.sleep(0.01)
        (folder / PATHS[-3]).write_bytes((folder / PATHS[-3]).read_bytes()[:-1] + b"!")

    changing = threading.Thread(target=change)
    changing.start()
    with pytest.raises(XetSourceError, match=rf"{PATHS[-3]} changed while being uploaded\. Nothing was published"):
        hook.publish(folder, request(repo, idempotency_key="next"))
    changing.join()
    assert hub.repositories.commits(f"datasets/{repo.repo_id}", "main") == before

    hook.publish(folder, request(repo, idempotency_key="next"))
    assert published(hook, repo) == digests(folder)


@pytest.mark.parametrize(
    ("route", "damage"),
    [
        ("POST /cas/.*/shards", {"corrupt": True}),
        ("POST /cas/.*/shards", {"truncate": 1}),
        ("POST /cas/.*/shards", {"status": 400}),
        ("POST /cas/.*/xorb-commits/.*", {"status": 400}),
    ],
)
def test_a_wrong_answer_of_cas_about_the_second_batch_publishes_nothing(
    hook, repo, hub, tmp_path, five_in_memory, route, damage
):
    folder = fill(tmp_path / "in", f"{route} {damage}")
    fault = hub.faults.add(Fault(route, skip=1, **damage))
    with pytest.raises(XetHubError, match="the upload of 2 files"):
        hook.publish(folder, request(repo))
    assert tree(hub, repo) == set()
    hub.faults.remove(fault)

    result = hook.publish(folder, request(repo))
    assert len(result["commits"]) == 1
    assert published(hook, repo) == digests(folder)
