"""Several processes commit to one repository at the same time: all of it is there, and nobody undoes another's work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from support.commit_builders import client, in_cas, publish, titles, tree
from xethub_local.control.faults import Fault

PROCESSES = 8
ROUNDS = 4

COMMITTER = """
import json, os, sys, traceback
import requests
from airflow_provider_xethub.xet.publish import commit
from airflow_provider_xethub.xet.publish.commit import CommitRequest
from airflow_provider_xethub.exceptions import XetConflictError, XetNotFoundError
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.repo import Repo

def outcomes(given):
    hub, repo = Hub(given["endpoint"], given["token"]), Repo.from_uri(given["repo"])
    commit.MAX_CHANGES = given["at_once"]
    for number, work in enumerate(given["rounds"]):
        request = CommitRequest(repo, work["files"], work["delete"], f"{given['name']}.{number}", "", given["parent"],
                                idempotency_key=f"{given['name']}.{number}")
        modes = commit.upload_modes(hub, repo, request.files)
        try:
            contents = {path: text.encode() for path, text in given["contents"].items()}
            made = commit.publish(hub, request, modes, lambda _: contents)
            yield len(made["commits"])
        except (XetConflictError, XetNotFoundError) as error:
            yield str(error)

begin, wait = os.pipe()
answers = []
for given in json.load(sys.stdin):
    answer, mine = os.pipe()
    if not os.fork():
        try:
            os.close(wait)
            os.read(begin, 1)  # until nobody can write into it
            os.write(mine, json.dumps([*outcomes(given)]).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(mine)
    answers.append(answer)
os.close(wait)
print(json.dumps([json.load(open(answer)) for answer in answers]))
"""
"""Forks a process for each work: only one has to import the provider."""


def all_at_once(hub, repo, parent, works, *, at_once=25_000):
    """Let each process commit its rounds of work, all of them beginning together; return what became of each round.

    :param works: for each process, for each round, the contents by path, and the paths to delete.
    """
    return json.loads(start(hub, repo, parent, works, at_once).communicate()[0])


def start(hub, repo, parent, works, at_once):
    given = [given_to(hub, repo, parent, name, rounds, at_once) for name, rounds in enumerate(works)]
    process = subprocess.Popen(
        [sys.executable, "-c", COMMITTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    process.stdin.write(json.dumps(given))
    process.stdin.close()
    process.stdin = None
    return process


def given_to(hub, repo, parent, name, rounds, at_once):
    contents = {path: text for files, _ in rounds for path, text in files.items()}
    records = in_cas(hub, repo, {path: text.encode() for path, text in contents.items()})
    stored = {record["path"]: record for record in records}
    return {
        "name": f"p{name}",
        "endpoint": hub.url,
        "token": hub.token(),
        "repo": repo.uri,
        "parent": parent,
        "contents": contents,
        "at_once": at_once,
        "rounds": [{"files": [stored[path] for path in files], "delete": delete} for files, delete in rounds],
    }


@pytest.mark.parametrize("follows", [False, True])
def test_disjoint_work_of_many_processes_is_all_there(hub, repo, follows):
    old = {f"old/{name}.{number}.txt": b"old" for name in range(PROCESSES) for number in range(ROUNDS)}
    head = publish(hub, repo, old | {f"folder{name}/x.txt": b"x" for name in range(PROCESSES)})["oid"]
    works = [
        [
            (
                {f"new/{name}.{number}.{each}.txt": f"{name}.{number}.{each}" for each in range(3)},
                [f"old/{name}.{number}.txt"] + ([f"folder{name}/"] if number == 1 else []),
            )
            for number in range(ROUNDS)
        ]
        for name in range(PROCESSES)
    ]

    outcomes = all_at_once(hub, repo, head if follows else None, works, at_once=2)

    assert outcomes == [[3 if number == 1 else 2 for number in range(ROUNDS)]] * PROCESSES, (
        "three or four files, by two"
    )
    assert tree(hub, repo) == {path for rounds in works for files, _ in rounds for path in files}
    made = titles(hub, repo)
    assert len(made) == len(set(made)), "nothing was committed twice"
    if follows:
        assert hub.log.requests("POST .*/commit/.*", status=412), "they did get into each other's way"


def test_of_overlapping_work_upon_one_parent_exactly_one_is_made(hub, repo):
    head = publish(hub, repo, {"shared.txt": b"old", "gone/a.txt": b"old"})["oid"]
    works = [
        [({"shared.txt": f"by {name}", f"own/{name}.txt": f"{name}"}, [])]
        if name % 2
        else [({f"own/{name}.txt": f"{name}"}, ["shared.txt", "gone/"])]
        for name in range(PROCESSES)
    ]

    outcomes = [each for (each,) in all_at_once(hub, repo, head, works)]

    (winner,) = [name for name, outcome in enumerate(outcomes) if outcome == 1]
    for outcome in outcomes[:winner] + outcomes[winner + 1 :]:
        assert "someone else committed." in outcome or "Cannot delete" in outcome
        assert "Nothing was committed." in outcome
    assert titles(hub, repo) == [f"p{winner}.0", "a commit"]
    assert {path for path in tree(hub, repo) if path.startswith("own/")} == {f"own/{winner}.txt"}
    if winner % 2:
        assert client(hub).read_inline(repo, "shared.txt") == f"by {winner}".encode()
    else:
        assert tree(hub, repo) == {f"own/{winner}.txt"}


def test_writers_of_one_folder_and_its_deletion_never_meet_unseen(hub, repo):
    head = publish(hub, repo, {"folder/old.txt": b"old"})["oid"]
    works = [[({f"folder/{name}.txt": f"{name}"}, [])] for name in range(PROCESSES - 1)] + [[({}, ["folder/"])]]

    *writers, deleter = [each for (each,) in all_at_once(hub, repo, head, works)]

    assert writers == [1] * len(writers), "what they write is their own, and no folder"
    there = tree(hub, repo)
    if deleter == 1:
        order = titles(hub, repo)[::-1]
        assert order[1] == f"p{PROCESSES - 1}.0", "it may only be the first: later there were files it did not know"
        assert "folder/old.txt" not in there
    else:
        assert "folder/old.txt" in there
    assert {f"folder/{name}.txt" for name in range(PROCESSES - 1)} <= there


@pytest.mark.parametrize("made", [0, 1, 2])
def test_a_retry_after_a_kill_between_two_parts_makes_the_rest_and_nothing_twice(hub, repo, made):
    work = [({f"{number}.txt": str(number) for number in range(5)}, [])]
    hub.faults.add(Fault("POST .*/commit/.*", skip=made, times=1, delay=60, drop="before"))
    killed = start(hub, repo, None, [work], 2)
    deadline = time.monotonic() + 60
    while len(titles(hub, repo)) < made or not hub.log.requests("POST .*/preupload/.*"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    hub.faults.clear()

    assert all_at_once(hub, repo, None, [work], at_once=2) == [[3]]

    assert titles(hub, repo) == ["p0.0 (part 3 of 3)", "p0.0 (part 2 of 3)", "p0.0 (part 1 of 3)"]
    assert tree(hub, repo) == set(work[0][0])
