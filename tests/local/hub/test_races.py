"""Requests that meet in one server: exactly one of those that exclude each other succeeds, and none meets a 5xx."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from xethub_local.server import LocalHub

_AT_ONCE = 8


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("hub")) as running:
        yield running


def test_of_commits_with_the_same_parent_one_is_made(hub: LocalHub) -> None:
    hub.create_repo("acme/parent", "dataset")
    parent = _ask(hub, "GET", "/api/datasets/acme/parent").json()["sha"]
    statuses = _at_once(lambda number: _commit(hub, "acme/parent", f"{number}.txt", parent).status_code)
    assert Counter(statuses) == {200: 1, 412: _AT_ONCE - 1}
    assert len(_ask(hub, "GET", "/api/datasets/acme/parent/commits/main").json()) == 2
    assert len(_ask(hub, "GET", "/api/datasets/acme/parent/tree/main").json()) == 2


def test_commits_without_a_parent_are_all_made_one_after_the_other(hub: LocalHub) -> None:
    hub.create_repo("acme/queue", "dataset")
    made = _at_once(lambda number: _commit(hub, "acme/queue", f"{number}.txt").json()["commitOid"])
    history = [commit["id"] for commit in _ask(hub, "GET", "/api/datasets/acme/queue/commits/main").json()]
    assert sorted(history[:-1]) == sorted(made)
    assert len(_ask(hub, "GET", "/api/datasets/acme/queue/tree/main").json()) == 1 + _AT_ONCE


def test_a_repository_is_created_once(hub: LocalHub) -> None:
    body = {"name": "acme/once", "type": "dataset"}
    statuses = _at_once(lambda _: _ask(hub, "POST", "/api/repos/create", json=body).status_code)
    assert Counter(statuses) == {200: 1, 409: _AT_ONCE - 1}


def test_pull_requests_get_a_number_each_and_are_merged_once(hub: LocalHub) -> None:
    hub.create_repo("acme/pulls", "dataset")
    body = {"title": "t", "pullRequest": True}
    numbers = _at_once(lambda _: _ask(hub, "POST", "/api/datasets/acme/pulls/discussions", json=body).json()["num"])
    assert sorted(numbers) == list(range(1, _AT_ONCE + 1))
    assert _commit(hub, "acme/pulls", "new.txt", revision="refs%2Fpr%2F1").status_code == 200
    _ask(hub, "POST", "/api/datasets/acme/pulls/discussions/1/status", json={"status": "open"})
    statuses = _at_once(lambda _: _ask(hub, "POST", "/api/datasets/acme/pulls/discussions/1/merge").status_code)
    assert sorted(statuses)[0] == 200
    assert all(400 <= status < 500 for status in sorted(statuses)[1:])
    titles = [commit["title"] for commit in _ask(hub, "GET", "/api/datasets/acme/pulls/commits/main").json()]
    assert len(titles) == 2


@pytest.mark.parametrize("kind", ["dataset", "bucket"])
def test_what_happens_in_a_repository_that_is_being_deleted_is_done_or_refused(hub: LocalHub, kind: str) -> None:
    repo = f"{kind}s/acme/fleeting"
    api = f"/api/{repo}"
    empty = "0" * 64
    asked: list[Callable[[], requests.Response]]
    if kind == "dataset":
        asked = [
            lambda: _commit(hub, "acme/fleeting", "a.txt"),
            lambda: _ask(hub, "POST", f"{api}/discussions", json={"title": "t", "pullRequest": False}),
            lambda: _ask(hub, "POST", f"{api}/discussions", json={"title": "t", "pullRequest": True}),
            lambda: _ask(hub, "POST", f"{api}/branch/b", json={}),
            lambda: _ask(hub, "PUT", f"{api}/settings", json={"private": False}),
            lambda: _ask(hub, "GET", f"{api}?blobs=1"),
            lambda: _ask(hub, "GET", f"{api}/tree/main?expand=1"),
            lambda: _ask(hub, "GET", "/api/datasets?full=1"),
            lambda: _ask(hub, "POST", f"{api}/user-access-request/grant", json={"user": "u"}),
        ]
    else:
        line = {"type": "addFile", "path": "x", "xetHash": empty, "mtime": 1}
        asked = [
            lambda: _ask(hub, "POST", f"{api}/batch", data=json.dumps(line).encode()),
            lambda: _ask(hub, "PUT", f"{api}/settings", json={"private": False}),
            lambda: _ask(hub, "GET", f"{api}/tree"),
            lambda: _ask(hub, "GET", "/api/buckets/acme"),
        ]
    done = threading.Event()

    def come_and_go() -> None:
        for _ in range(60):
            hub.repositories.create(repo)
            hub.repositories.delete(repo)
            hub.content.forget_repository(repo)
        done.set()

    def keep_asking(ask: Callable[[], requests.Response]) -> set[tuple[int, str]]:
        seen = set()
        while not done.is_set():
            answer = ask()
            if answer.status_code >= 500:
                seen.add((answer.status_code, answer.request.url or ""))
        return seen

    with ThreadPoolExecutor(len(asked) + 1) as pool:
        asking = [pool.submit(keep_asking, ask) for ask in asked]
        pool.submit(come_and_go).result()
        assert [future.result() for future in asking] == [set()] * len(asked)


def _at_once(ask: Callable[[int], Any]) -> list[Any]:
    start = threading.Barrier(_AT_ONCE)

    def run(number: int) -> Any:
        start.wait(30)
        return ask(number)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return [*pool.map(run, range(_AT_ONCE))]


def _commit(hub: LocalHub, repo_id: str, path: str, parent: str = "", *, revision: str = "main") -> requests.Response:
    header = {"key": "header", "value": {"summary": path, "parentCommit": parent}}
    file = {"key": "file", "value": {"path": path, "content": path, "encoding": "utf-8"}}
    body = f"{json.dumps(header)}\n{json.dumps(file)}".encode()
    return _ask(hub, "POST", f"/api/datasets/{repo_id}/commit/{revision}", data=body)


def _ask(hub: LocalHub, method: str, path: str, **arguments: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {hub.token('write')}"}
    return requests.request(method, hub.url + path, headers=headers, timeout=60, **arguments)
