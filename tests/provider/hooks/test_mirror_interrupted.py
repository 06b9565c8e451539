"""Mirrors that are interrupted at any request, and retried: never a state in between on the branch."""

from __future__ import annotations

import shutil

import pytest

from airflow_provider_xethub.exceptions import XetHubError
from airflow_provider_xethub.xet.hub import client
from airflow_provider_xethub.xet.publish import commit
from airflow_provider_xethub.xet.publish.request import CommitRequest
from support.builders import write
from support.commit_builders import name_of, titles
from support.repository_trees import read_tree, set_tree
from xethub_local.control.fault import Fault


@pytest.fixture
def fresh(tmp_path):
    def make(name, files):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        (tmp_path / name).mkdir()
        return write(tmp_path / name, files)

    return make


BEFORE = {"a.csv": b"1\n", "d/b.bin": b"\0b", "e": b"x\n", "f/g": b"y\n"}
AFTER = {"a.csv": b"2\n", "d/c.bin": b"\0c", "e/h": b"x\n", "f": b"\0f"}
FAULTS = {"refused": {"status": 403}, "unanswered": {"lose_answer": True, "status": 403}}
"""Final for every client, so that an attempt ends at once."""


@pytest.fixture
def impatient(monkeypatch):
    """Each request is sent once, so that a fault ends the attempt."""
    monkeypatch.setattr(client, "MAX_TRIES", 1)


def interrupted(hub, prepare, attempt, fault):
    """Let an attempt fail at its first request, in another one at its second, and so on; yield after each failure."""
    for number in range(200):
        prepare(number)
        added = hub.faults.add(Fault(".*", skip=number, **fault))
        try:
            attempt(number)
        except XetHubError:
            failed = True
        else:
            failed = hub.faults.acted(added) > 0
        hub.faults.remove(added)
        yield number
        if not failed:
            return
    pytest.fail("it never succeeds")


@pytest.mark.parametrize("way", FAULTS)
@pytest.mark.parametrize("at_once", [25_000, 2], ids=["one commit", "a pull request"])
def test_a_mirror_that_is_interrupted_anywhere_changes_the_branch_once(
    hub, hook, make_repo, fresh, impatient, monkeypatch, way, at_once
):
    monkeypatch.setattr(commit, "MAX_CHANGES", at_once)
    source = fresh("source", AFTER)
    made = {}

    def prepare(number):
        made[number] = make_repo("dataset")
        set_tree(hub, made[number], BEFORE)

    def attempt(number, is_first_try=True):
        request = CommitRequest(made[number], (), idempotency_key="dag/run/task", is_first_try=is_first_try)
        return hook.mirror(source, request, max_delete_share=1)

    for number in interrupted(hub, prepare, attempt, FAULTS[way]):
        repo = made[number]
        states = [read_tree(hub, repo, each.id) for each in hub.repositories.commits(name_of(repo), "main")]
        assert states[-2] == BEFORE
        assert states[:-2] in ([], [AFTER]), "there is no state in between"
        result = attempt(number, is_first_try=False)
        assert read_tree(hub, repo) == AFTER
        assert len(titles(hub, repo)) == 2
        assert (result["created"], len(result["files"]), len(result["deleted"])) == (True, 4, 3)
    assert number > 5


@pytest.mark.parametrize("way", FAULTS)
def test_a_bucket_that_is_interrupted_anywhere_loses_nothing_too_early(hub, hook, make_repo, fresh, impatient, way):
    source, made = fresh("source", AFTER), {}
    before = fresh("before", BEFORE)

    def prepare(number):
        made[number] = make_repo("bucket")
        hook.publish(before, CommitRequest(made[number], ()))

    def attempt(number):
        return hook.mirror(source, CommitRequest(made[number], ()), max_delete_share=1)

    for number in interrupted(hub, prepare, attempt, FAULTS[way]):
        now = read_tree(hub, made[number])
        assert now in (BEFORE, {**BEFORE, **AFTER}, AFTER)
        attempt(number)
        assert read_tree(hub, made[number]) == AFTER


@pytest.mark.parametrize("way", FAULTS)
def test_a_download_that_is_interrupted_anywhere_deletes_nothing_too_early(
    hub, hook, make_repo, fresh, impatient, tmp_path, way
):
    repo = make_repo("dataset")
    plain = {path: each for path, each in AFTER.items() if path not in ("e/h", "f")}

    def prepare(number):
        shutil.copytree(tmp_path / "first", tmp_path / f"{number}")

    def attempt(number):
        hook.mirror_download(tmp_path / f"{number}", repo, max_delete_share=1, exclude=".gitattributes")

    set_tree(hub, repo, BEFORE)
    hook.mirror_download(tmp_path / "first", repo, exclude=".gitattributes")
    set_tree(hub, repo, AFTER)
    for number in interrupted(hub, prepare, attempt, FAULTS[way]):
        now = content(tmp_path / f"{number}")
        if gone := BEFORE.keys() - now.keys():
            assert gone == {"d/b.bin", "e", "f/g"}
            assert plain.items() <= now.items(), "everything else is complete"
        attempt(number)
        assert content(tmp_path / f"{number}") == AFTER


def content(folder):
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name != ".xethub-mirror.json"}
