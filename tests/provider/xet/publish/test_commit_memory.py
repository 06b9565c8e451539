"""What a commit keeps in the task state, and what a retry makes of it; with Airflow: ../test_task_state.py."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.exceptions import XetForbiddenError
from airflow_provider_xethub.xet.publish import commit
from airflow_provider_xethub.xet.task_state import TaskState
from support.commit_builders import name_of, publish, titles
from xethub_local.control.fault import Fault

MINE, THEIRS = {"a.txt": b"mine\n"}, {"a.txt": b"theirs\n"}


class Store(dict):
    """The task state store of Airflow, in memory."""

    def set(self, key, value):
        self[key] = value


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def work(hub, repo, store, monkeypatch):
    """Publishes the same work again and again; without its memory, an attempt sees one commit and one pull request."""
    monkeypatch.setattr(commit, "_COMMITS_TO_SEARCH", 1)
    monkeypatch.setattr(commit, "_PULL_REQUESTS_TO_SEARCH", 1)

    def run(files=MINE, **options):
        given = {"message": "mine", "idempotency_key": "k", "task_state": TaskState(store), **options}
        return publish(hub, repo, files, **given)

    return run


def pull_requests(hub, repo):
    return [each.number for each in hub.commits.discussions.find_all(name_of(repo))]


def test_the_newest_commit_is_kept_with_the_key_of_the_work(work, store, repo):
    made = work()
    [key] = [line.removeprefix("Xet-Commit-Key: ") for line in made["description"].splitlines()]
    assert store == {"xethub_commit": {"key": key, "oid": made["oid"], "revision": "main"}}


def test_a_retry_finds_its_commit_behind_others(hub, repo, work):
    made = work()
    for content in (THEIRS, MINE, THEIRS):
        publish(hub, repo, content, message="theirs")
    before = titles(hub, repo)
    found = work()
    assert (found["oid"], found["created"]) == (made["oid"], True)
    assert titles(hub, repo) == before


def test_a_retry_finds_its_pull_request_behind_others(hub, repo, work):
    made = work(create_pr=True)
    for _ in range(2):
        publish(hub, repo, THEIRS, message="theirs", create_pr=True)
    found = work(create_pr=True)
    assert (found["pull_request"], found["repo"]) == (made["pull_request"], made["repo"])
    assert pull_requests(hub, repo) == [1, 2, 3]


@pytest.mark.parametrize("create_pr", [False, True])
def test_a_retry_goes_on_after_the_parts_that_are_kept(hub, repo, work, store, monkeypatch, create_pr):
    monkeypatch.setattr(commit, "MAX_CHANGES", 1)
    monkeypatch.setattr(commit, "_COMMITS_TO_SEARCH", 3)
    three = {f"{letter}.txt": letter.encode() for letter in "abc"}
    down = hub.faults.add(Fault("POST .*/commit/.*", skip=1, status=403))
    with pytest.raises(XetForbiddenError, match=r"1 of 3 parts are committed \([0-9a-f]{40} is the last\); a retry"):
        work(three, create_pr=create_pr)
    hub.faults.remove(down)
    made = work(three, create_pr=create_pr)
    assert [each["title"] for each in made["commits"]] == [f"mine (part {number} of 3)" for number in (1, 2, 3)]
    lines = [each["description"].partition(" ")[2] for each in made["commits"]]
    key = store["xethub_commit"]["key"]
    assert lines == [f"{key} ({number} of 3)" for number in (1, 2, 3)]
    assert {each["repo"] for each in made["commits"]} == {made["repo"]}
    assert pull_requests(hub, repo) == [1] * create_pr


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": "another"},
        {"key": None},
        {"oid": "0" * 40},
        {"oid": "../../x"},
        {"oid": None},
        {"revision": "refs/pr/1"},
        {"revision": "dev"},
        {"revision": None},
    ],
)
@pytest.mark.parametrize("create_pr", [False, True])
def test_what_was_kept_is_checked_before_it_is_believed(hub, repo, work, store, wrong, create_pr):
    made = work(create_pr=create_pr)
    if create_pr and "revision" in wrong:
        wrong = {"revision": {"refs/pr/1": "refs/pr/x", "dev": "main"}.get(wrong["revision"])}
    store["xethub_commit"] |= wrong
    hub.log.clear()
    found = work(create_pr=create_pr)
    assert found["oid"] == made["oid"], "it is the newest, so the search finds it"
    assert not hub.log.requests("POST .*/commit/.*")
    asked = {each.path.rpartition("/commits/")[2] for each in hub.log.requests("GET .*/commits/.*")}
    assert asked <= {"refs%2Fpr%2F1" if create_pr else "main", made["oid"], "0" * 40}
