"""The server is killed at random moments while real clients upload and commit; what it acknowledged must be there.

SIGKILL ends the process, not the machine: what it does not test is ``fsync``.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import requests

from support.examples import at_length
from support.hub_process import HubProcess
from support.uploading_client import Attempt, Task, content, read_journal
from xethub_local.content.xorbs import XorbStore
from xethub_local.formats.hashing import from_hex
from xethub_local.local_store import LocalStore

pytestmark = [pytest.mark.long, pytest.mark.exhaustive]

_KILLS = int(os.environ.get("KILLS", at_length(30, 120)))
_MOST_KILLS = 4 * _KILLS
_SEED = int(os.environ.get("KILL_SEED", "1"))
_LONGEST_LIFE = 0.9  # seconds from one start to the next kill, at most; the clients need about 0.1 for a commit
_WORK = 0.02  # seconds, about what a request that writes takes
# Parts of the routes that write.
_WRITING = ("uploads/", "xorb-commits/", "xorbs/", "shards", "lfs-objects/", "/commit/", "raw/batch")
_CLIENTS = [  # repository, kind, whether through hf_xet
    ("acme/shared", "commit", True),
    ("acme/shared", "commit", True),
    ("acme/shared", "commit", False),
    ("acme/own", "commit", True),
    ("acme/own", "commit", False),
    ("acme/raw", "bucket", True),
    ("acme/raw", "bucket", True),
]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    folder = tmp_path / "data"
    store = LocalStore(folder)
    for name in {f"{'buckets' if kind == 'bucket' else 'datasets'}/{repository}" for repository, kind, _ in _CLIENTS}:
        store.repositories.create(name)
    store.close()
    with HubProcess(folder) as running:
        yield running


@pytest.mark.timeout(600)
def test_whatever_was_acknowledged_survives_being_killed_at_any_moment(hub: HubProcess, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    journals = [tmp_path / f"client-{number}.journal" for number in range(len(_CLIENTS))]
    clients = [_start_client(hub, number, journal, stop) for number, journal in enumerate(journals)]
    check = _Check(hub, journals)
    moments: Counter[str] = Counter()
    chance = random.Random(_SEED)
    try:
        _wait_for_commits(check, at_least=len(_CLIENTS))
        kills = 0
        # Clients that wait before they try again are hit by nothing: such kills do not count towards enough.
        while kills < _KILLS or moments["killed during a request"] <= _KILLS // 2:
            assert kills < _MOST_KILLS, f"of {kills} kills only {moments} hit a request"
            kills += 1
            time.sleep(chance.random() * _LONGEST_LIFE)
            if kills % 2:
                _wait_for_request(hub, chance.choice(_WRITING))
                time.sleep(chance.random() * _WORK)
            hub.kill()
            moments.update(_what_it_did(hub))
            hub.start()
            check.database()
            check.acknowledged_ones(newest_only=True)
    finally:
        stop.touch()
        for client in clients:
            client.wait(120)
    check.database()
    check.acknowledged_ones()
    check.each_repository_as_a_whole()
    check.each_xorb()
    print(f"\n{kills} kills, {dict(sorted(moments.items()))}; {check.summary()}; leftovers {len(_leftovers(hub))}")
    assert all(client.returncode == 0 for client in clients)
    assert len(check.acknowledged) > _KILLS
    assert check.unacknowledged > _KILLS // 4
    _assert_leftovers_go(hub, kills)


class _Check:
    """Compares what the clients wrote down with what the server has."""

    def __init__(self, hub: HubProcess, journals: list[Path]) -> None:
        self._hub = hub
        self._journals = journals
        self.acknowledged: dict[str, str] = {}
        self.unacknowledged = 0
        self.complete_though_unacknowledged = 0
        self.bytes_read = 0

    def database(self) -> None:
        with sqlite3.connect(self._hub.folder / "hub.sqlite3") as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        connection.close()

    def acknowledged_ones(self, *, newest_only: bool = False) -> None:
        """Compare, byte for byte, what was acknowledged and was not compared yet; or of that only each client's last.

        Only those while the clients go on, because they are faster than this.
        """
        for journal in self._journals:
            attempts, acknowledged = read_journal(journal)
            kept = [attempt for attempt in attempts if attempt.id in acknowledged]
            for attempt in kept[-1:] if newest_only else kept:
                if attempt.id not in self.acknowledged:
                    commit = self.acknowledged[attempt.id] = acknowledged[attempt.id]
                    for path, seed, size in attempt.files:
                        self._require(attempt, path, commit or "main", content(seed, size))

    def each_repository_as_a_whole(self) -> None:
        """Check that nothing is there but whole commits, in one line of history."""
        finished = [*self._finished()]
        self.unacknowledged = sum(commit is None for _, commit in finished)
        for repository in sorted({attempt.repository for attempt, _ in finished}):
            mine = {attempt.id: attempt for attempt, _ in finished if attempt.repository == repository}
            if next(iter(mine.values())).kind == "bucket":
                self._bucket(repository, mine)
            else:
                self._history(repository, mine)

    def each_xorb(self) -> None:
        """Check that each xorb which the database records lies on disk as long as it says."""
        store = LocalStore(self._hub.folder)
        with store.db.read() as connection:
            hashes = [row[0] for row in connection.execute("SELECT hash FROM cas_xorb")]
        xorbs = XorbStore(self._hub.folder, store.db)
        for xorb_hash in hashes:
            assert xorbs.path(xorb_hash).stat().st_size == xorbs.index(from_hex(xorb_hash)).offsets[-1]
        store.close()

    def summary(self) -> str:
        return (
            f"{len(self.acknowledged)} acknowledged, {self.unacknowledged} not "
            f"({self.complete_though_unacknowledged} of them there), {self.bytes_read >> 20} MiB compared"
        )

    def _finished(self) -> Iterator[tuple[Attempt, str | None]]:
        for journal in self._journals:
            attempts, acknowledged = read_journal(journal)
            for attempt in attempts:
                yield attempt, acknowledged.get(attempt.id)

    def _history(self, repository: str, mine: dict[str, Attempt]) -> None:
        history = _get(self._hub, f"/api/datasets/{repository}/commits/main").json()
        assert history[-1]["title"] == "initial commit"
        ids = {commit["id"] for commit in history}
        with sqlite3.connect(self._hub.folder / "hub.sqlite3") as connection:
            stored = connection.execute(
                "SELECT id FROM hub_commit WHERE repository = ?", (f"datasets/{repository}",)
            ).fetchall()
        connection.close()
        assert {row[0] for row in stored} == ids, "a commit is stored that no branch leads to"
        for attempt in mine.values():
            assert self.acknowledged.get(attempt.id) in (None, *ids)
        for commit in history[:-1]:  # each is whole at its own commit, acknowledged or not
            attempt = mine[commit["title"]]
            self._expect_listed(repository, commit["id"], attempt)
            if attempt.id not in self.acknowledged:
                self.complete_though_unacknowledged += 1
                for path, seed, size in attempt.files:
                    self._require(attempt, path, commit["id"], content(seed, size))
        made = {commit["title"] for commit in history}
        expected = {path for attempt in mine.values() if attempt.id in made for path, _, _ in attempt.files}
        listed = _listed(self._hub, f"/api/datasets/{repository}/tree/main")
        assert {file["path"] for file in listed} == expected | {".gitattributes"}

    def _expect_listed(self, repository: str, commit: str, attempt: Attempt) -> None:
        listed = _listed(self._hub, f"/api/datasets/{repository}/tree/{commit}/{attempt.id}")
        sizes = {file["path"]: file["size"] for file in listed}
        assert sizes == {path: size for path, _, size in attempt.files}
        for file in listed:
            if "lfs" in file:
                seed, size = next((seed, size) for path, seed, size in attempt.files if path == file["path"])
                assert file["lfs"]["oid"] == hashlib.sha256(content(seed, size)).hexdigest()

    def _bucket(self, repository: str, mine: dict[str, Attempt]) -> None:
        made = {path: (attempt, seed, size) for attempt in mine.values() for path, seed, size in attempt.files}
        listed = {file["path"]: file for file in _listed(self._hub, f"/api/buckets/{repository}/tree")}
        acknowledged = {path for path, (attempt, _, _) in made.items() if attempt.id in self.acknowledged}
        assert acknowledged <= listed.keys() <= made.keys()
        for path, file in listed.items():
            attempt, seed, size = made[path]
            assert file["size"] == size
            if path not in acknowledged:
                self.complete_though_unacknowledged += 1
                self._require(attempt, path, "", content(seed, size))

    def _require(self, attempt: Attempt, path: str, commit: str, expected: bytes) -> None:
        place = f"/buckets/{attempt.repository}/resolve/{path}"
        if attempt.kind != "bucket":
            place = f"/datasets/{attempt.repository}/resolve/{commit}/{path}"
        assert _get(self._hub, place).content == expected, f"{place} has other bytes"
        self.bytes_read += len(expected)


def _start_client(hub: HubProcess, number: int, journal: Path, stop: Path) -> subprocess.Popen[bytes]:
    repository, kind, uses_xet = _CLIENTS[number]
    task = Task(
        hub.url,
        hub.tokens["write"],
        str(journal),
        repository,
        f"client-{number}",
        kind,
        stop=str(stop),
        file_bytes=150_000,
    )
    environment = {
        **os.environ,
        "HF_HUB_DISABLE_XET": "0" if uses_xet else "1",
        "HF_XET_CACHE": str(journal.with_suffix(".cache")),
        "HF_HOME": str(journal.with_suffix(".home")),
        "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "4",  # some uploads outlive the server that they began with
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_VERBOSITY": "critical",
    }
    script = Path(__file__).parents[1] / "support/uploading_client.py"
    return subprocess.Popen([sys.executable, str(script), json.dumps(asdict(task))], env=environment)


def _wait_for_commits(check: _Check, *, at_least: int) -> None:
    deadline = time.monotonic() + 60
    while len(check.acknowledged) < at_least:
        assert time.monotonic() < deadline, "the clients do not get started"
        time.sleep(0.1)
        check.acknowledged_ones()


def _wait_for_request(hub: HubProcess, part_of_route: str) -> None:
    """Return as soon as such a request is being carried out, or after two seconds without one."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        if any(part_of_route in request.route and not request.is_complete for request in hub.served()[-50:]):
            return
        time.sleep(0.001)


def _what_it_did(hub: HubProcess) -> Iterator[str]:
    """Say what the killed server was doing, from its own notes."""
    unfinished = [request for request in hub.served() if not request.is_complete]
    yield "killed during a request" if unfinished else "killed while idle"
    for request in unfinished:
        place = next((part.strip("/") for part in _WRITING if part in request.route), "")
        stage = "answering" if request.status else "working" if request.received else "before the body"
        yield f"in {place or 'another route'}, {stage}"


def _leftovers(hub: HubProcess) -> list[Path]:
    return [path for path in (hub.folder / "xorbs" / "incoming").rglob("*") if path.is_file()]


def _assert_leftovers_go(hub: HubProcess, kills: int) -> None:
    """A start deletes what was left behind and has not been written to for long."""
    left = _leftovers(hub)
    assert len(left) <= kills * len(_CLIENTS) * 8
    for path in left:
        os.utime(path, (0, 0))
    hub.kill()
    hub.start()
    assert _leftovers(hub) == []


def _listed(hub: HubProcess, path: str) -> list[dict[str, Any]]:
    found, url = [], f"{path}?recursive=1"
    while url:
        answer = _get(hub, url)
        found += answer.json()
        url = answer.links.get("next", {}).get("url", "").removeprefix(hub.url)
    return [item for item in found if item["type"] == "file"]


def _get(hub: HubProcess, path: str) -> requests.Response:
    answer = requests.get(hub.url + path, timeout=30)
    assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:200]}"
    return answer
