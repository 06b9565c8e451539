"""32 processes of the real clients write to one repository and to many at once, while others read: nothing is lost."""

from __future__ import annotations

import json
import os
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

from support.hub_process import HubProcess
from support.uploading_client import Attempt, Task, content, read_journal
from xethub_local.local_store import LocalStore

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

_CLIENTS = 32
_COMMITS = int(os.environ.get("COMMITS", "4"))  # of each client
_FILE_BYTES = 60_000
_MAX_MEMORY = 400 * 1024**2


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    folder = tmp_path / "data"
    store = LocalStore(folder)
    for name in {_name(number) for number in range(_CLIENTS)}:
        store.repositories.create(name)
    store.close()
    with HubProcess(folder) as running:
        yield running


def test_32_client_processes_at_once_lose_nothing_and_meet_no_server_error(hub: HubProcess, tmp_path: Path) -> None:
    journals = [tmp_path / f"client-{number}.journal" for number in range(_CLIENTS)]
    began = time.monotonic()
    clients = [_start(hub, number, journal) for number, journal in enumerate(journals)]
    reads = 0
    while any(client.poll() is None for client in clients):
        reads += _read_something(hub)
    seconds = time.monotonic() - began
    errors = [journal.with_suffix(".errors").read_text()[-1500:] for journal in journals]
    failed = [number for number, client in enumerate(clients) if client.returncode]
    assert not failed, errors[failed[0]]

    served = hub.served()
    statuses = Counter(request.status for request in served)
    refused = sum(request.status == 412 for request in served if "/commit/" in request.route)
    memory = hub.memory("VmHWM")
    print(f"\n{_CLIENTS} processes, {_CLIENTS * _COMMITS} commits in {seconds:.1f} s, {reads} reads meanwhile;")
    print(f"{dict(sorted(statuses.items()))}, {refused} commits refused because another came first;")
    print(f"memory of the server {memory >> 20} MiB at most")
    assert max(statuses) < 500
    assert all(request.status for request in served)
    assert "locked" not in hub.error_text()
    assert "Traceback" not in hub.error_text()
    assert memory < _MAX_MEMORY
    assert refused > 0, "no two commits met: this proves nothing"

    attempts = {attempt.id: attempt for journal in journals for attempt in _acknowledged(journal)}
    assert len(attempts) == _CLIENTS * _COMMITS
    for name in sorted({_name(number) for number in range(_CLIENTS)}):
        mine = [attempt for attempt in attempts.values() if name.endswith(attempt.repository)]
        assert mine
        _expect_everything(hub, name, mine)


def _name(number: int) -> str:
    """Half of the clients share one repository, some share a bucket, each other one has a repository of its own."""
    if number % 2 == 0:
        return "datasets/acme/shared"
    return "buckets/acme/raw" if number % 8 == 1 else f"datasets/acme/own-{number}"


def _start(hub: HubProcess, number: int, journal: Path) -> subprocess.Popen[bytes]:
    kind, _, repository = _name(number).partition("/")
    task = Task(
        url=hub.url,
        token=hub.tokens["write"],
        journal=str(journal),
        repository=repository,
        folder=f"client-{number}",
        kind="bucket" if kind == "buckets" else "commit",
        commits=_COMMITS,
        with_parent=number % 4 == 0,
        file_bytes=_FILE_BYTES,
    )
    environment = {
        **os.environ,
        "HF_HUB_DISABLE_XET": "1" if number % 16 == 2 else "0",
        "HF_XET_CACHE": str(journal.with_suffix(".cache")),
        "HF_HOME": str(journal.with_suffix(".home")),
        "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "5",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_VERBOSITY": "critical",
        "TOKIO_WORKER_THREADS": "2",  # 32 processes on few cores
    }
    script = Path(__file__).parents[1] / "support/uploading_client.py"
    with journal.with_suffix(".errors").open("w") as errors:
        return subprocess.Popen([sys.executable, str(script), json.dumps(asdict(task))], env=environment, stderr=errors)


def _read_something(hub: HubProcess) -> int:
    """List the shared repository and read its newest commit's files: each listed one is whole."""
    commit = _get(hub, "/api/datasets/acme/shared/commits/main?limit=1").json()[0]
    if commit["title"] == "initial commit":
        return 0
    listed = _get(hub, f"/api/datasets/acme/shared/tree/{commit['id']}/{commit['title']}").json()
    for file in listed:
        assert len(_get(hub, f"/datasets/acme/shared/resolve/{commit['id']}/{file['path']}").content) == file["size"]
    assert len(listed) == 3
    return 1


def _acknowledged(journal: Path) -> list[Attempt]:
    attempts, acknowledged = read_journal(journal)
    return [attempt for attempt in attempts if attempt.id in acknowledged]


def _expect_everything(hub: HubProcess, name: str, attempts: list[Attempt]) -> None:
    files = {path: (seed, size) for attempt in attempts for path, seed, size in attempt.files}
    if name.startswith("buckets/"):
        listed, place = _all(hub, f"/api/{name}/tree?recursive=1"), f"/{name}/resolve"
    else:
        listed, place = _all(hub, f"/api/{name}/tree/main?recursive=1"), f"/{name}/resolve/main"
        history = [commit["title"] for commit in _all(hub, f"/api/{name}/commits/main")]
        assert sorted(history) == sorted([*(attempt.id for attempt in attempts), "initial commit"])
    paths = {item["path"] for item in listed if item["type"] == "file"}
    assert paths - {".gitattributes"} == files.keys()
    for path, (seed, size) in files.items():
        assert _get(hub, f"{place}/{path}").content == content(seed, size), f"{name}: {path} has other bytes"


def _all(hub: HubProcess, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while path:
        answer = _get(hub, path)
        found += answer.json()
        path = answer.links.get("next", {}).get("url", "").removeprefix(hub.url)
    return found


def _get(hub: HubProcess, path: str) -> requests.Response:
    answer = requests.get(hub.url + path, timeout=60)
    assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:200]}"
    return answer
