"""What a later attempt of the same work finds, and what it does not believe."""

from __future__ import annotations

import logging

import pytest

from airflow_provider_xethub.xet import records
from airflow_provider_xethub.xet.publish import commit
from airflow_provider_xethub.xet.publish.card import Card
from airflow_provider_xethub.xet.publish.card_work import CardWork
from airflow_provider_xethub.xet.task_state import TaskState
from support.memory_hub import REPO, MemoryHub, publish, refused

TEXT, BINARY = b"x,y\n", bytes(range(256))
COMMIT, COMMITS = "POST /commit/main", "GET /commits/main"
PROPOSED = "refs%2Fpr%2F1"


class Store(dict):
    """The task state store of Airflow, in memory."""

    def set(self, key, value):
        self[key] = value


@pytest.fixture
def store():
    return Store()


def again(hub: MemoryHub, files=None, **options):
    """Publish the same work, as each attempt of a task does."""
    return publish(hub, files or {"a.txt": TEXT}, **{"idempotency_key": "k", "description": "more", **options})


def test_a_commit_is_found_and_described_like_one_just_made(hub, caplog):
    caplog.set_level(logging.INFO)
    made = again(hub)
    hub.routes()
    assert again(hub) == made
    found = hub.branches["main"][0].oid
    assert hub.routes() == [COMMITS, f"GET /commits/{found}", f"POST /paths-info/{1:040x}"]
    assert caplog.messages == [f"Found 1 commit of this work in {REPO}."]


def test_a_pull_request_is_found_and_described_like_one_just_opened(hub):
    made = again(hub, create_pr=True)
    hub.routes()
    assert again(hub, create_pr=True) == made
    assert hub.routes()[:2] == ["GET /refs", f"GET /commits/{PROPOSED}"]
    assert hub.statuses == {1: "open"}


def test_the_first_attempt_searches_nothing(hub):
    again(hub, is_first_try=True)
    assert hub.routes() == [COMMIT]


def test_work_without_a_key_is_never_found(hub):
    for _ in range(2):
        again(hub, idempotency_key=None, create_pr=True)
    assert hub.routes() == [COMMIT] * 2


def test_what_others_changed_since_is_not_undone(hub):
    made = again(hub)
    hub.commit({"a.txt": TEXT * 2})
    assert again(hub)["oid"] == made["oid"]
    assert hub.titles() == ["mine", "theirs"]


def test_what_the_commit_changed_is_not_called_unchanged_when_it_is_found(hub):
    hub.commit({"same.txt": TEXT, "same.bin": BINARY, "other.txt": TEXT * 2, "other.bin": BINARY * 2})
    names = ("same.txt", "same.bin", "other.txt", "other.bin", "new.txt", "new.bin")
    files = {name: TEXT if name.endswith("txt") else BINARY for name in names}
    made = again(hub, files)
    found = again(hub, files)
    assert found["unchanged"] == made["unchanged"] == ["same.bin", "same.txt"]
    assert found == made


def test_of_many_files_what_was_unchanged_is_found_in_batches(hub, monkeypatch):
    monkeypatch.setattr(records, "IN_MEMORY", 2)
    hub.commit({"a.txt": TEXT, "c.bin": BINARY})
    files = {"a.txt": TEXT, "b.txt": TEXT, "c.bin": BINARY}
    again(hub, files)
    hub.sent.clear()
    assert list(again(hub, files)["unchanged"]) == ["a.txt", "c.bin"]
    asked = [each.options["json"]["paths"] for each in hub.sent if "/paths-info/" in each.path]
    assert asked == [["a.txt", "b.txt"], ["c.bin"]]


def test_the_first_commit_of_a_repository_changed_everything(hub):
    again(hub)
    del hub.branches["main"][1:]
    assert again(hub)["unchanged"] == []


def test_a_commit_whose_parent_was_squashed_away_changed_everything(hub):
    hub.commit({"same.txt": TEXT})
    files = {"same.txt": TEXT, "new.txt": TEXT}
    again(hub, files)
    hub.on("POST /paths-info/.*", refused(404))
    assert again(hub, files)["unchanged"] == []


def test_a_card_is_found_as_it_was_published(hub):
    def attempt(run):
        card = CardWork(hub, REPO, Card("# A", facts={"Run": run}), None, 1, len(BINARY))
        return again(hub, {"a.bin": BINARY}, card=card)

    names = ("path", "blob_id", "size", "repo")
    made, found = ([[file.get(name) for name in names] for file in attempt(run)["files"]] for run in ("1st", "2nd"))
    assert found == made
    assert found[1][:2] == ["README.md", hub.current("main", "README.md")]
    assert len(hub.posted()) == 1


# --- the search


def test_the_newest_pull_requests_are_searched(hub, monkeypatch):
    monkeypatch.setattr(commit, "_PULL_REQUESTS_TO_SEARCH", 2)
    made = again(hub, create_pr=True)
    again(hub, create_pr=True, message="other")
    assert again(hub, create_pr=True) == made
    again(hub, create_pr=True, message="another")
    hub.routes()
    again(hub, create_pr=True)
    assert hub.routes() == ["GET /refs", f"GET /commits/{PROPOSED[:-1]}3", f"GET /commits/{PROPOSED[:-1]}2", COMMIT]


def test_so_many_commits_are_searched(hub, monkeypatch):
    monkeypatch.setattr(commit, "_COMMITS_TO_SEARCH", 2)
    made = again(hub)
    hub.commit({"theirs.txt": TEXT})
    assert again(hub)["oid"] == made["oid"]
    hub.commit({"theirs.txt": TEXT * 2})
    assert again(hub)["oid"] != made["oid"]


@pytest.mark.parametrize(
    "change",
    [{"message": "other"}, {"description": "other"}, {"idempotency_key": "other"}, {"files": {"a.txt": TEXT * 2}}],
)
def test_other_work_is_not_found(hub, change):
    again(hub, create_pr=True)
    again(hub, create_pr=True, **change)
    assert len(hub.statuses) == 2


# --- what is kept in the task state


def test_the_newest_commit_is_kept(hub, store, monkeypatch):
    monkeypatch.setattr(commit, "MAX_CHANGES", 1)
    made = again(hub, {"a.txt": TEXT, "b.txt": TEXT}, task_state=TaskState(store))
    key = made["description"].split()[-4]
    assert store == {"xethub_commit": {"key": key, "oid": made["oid"], "revision": "main"}}
    assert made["oid"] == hub.branches["main"][0].oid


@pytest.mark.parametrize("create_pr", [False, True])
def test_what_was_kept_is_found_behind_any_number_of_others(hub, store, monkeypatch, create_pr):
    monkeypatch.setattr(commit, "_COMMITS_TO_SEARCH", 1)
    monkeypatch.setattr(commit, "_PULL_REQUESTS_TO_SEARCH", 1)
    made = again(hub, create_pr=create_pr, task_state=TaskState(store))
    again(hub, create_pr=create_pr, message="other")
    hub.routes()
    assert again(hub, create_pr=create_pr, task_state=TaskState(store)) == made
    assert hub.routes() == [*[f"GET /commits/{made['oid']}"] * 2, f"POST /paths-info/{1:040x}"]


@pytest.mark.parametrize(
    ("wrong", "is_asked"),
    [
        ({"key": "another"}, False),
        ({"key": None}, False),
        ({"oid": "0" * 40}, True),
        ({"oid": "../../x"}, False),
        ({"oid": None}, False),
        ({"revision": "refs/pr/x"}, False),
        ({"revision": "refs/pr/2"}, False),
        ({"revision": "dev"}, False),
        ({"revision": None}, False),
    ],
)
def test_what_was_kept_is_checked_before_it_is_believed(hub, store, wrong, is_asked):
    made = again(hub, task_state=TaskState(store))
    store["xethub_commit"] |= wrong
    hub.routes()
    assert again(hub, task_state=TaskState(store)) == made
    first, second = hub.routes()[:2]
    assert [first, second][: 1 + is_asked] == [*["GET /commits/" + "0" * 40] * is_asked, COMMITS]


@pytest.mark.parametrize(
    ("wrong", "is_asked"),
    [
        ({"key": "another"}, False),
        ({"oid": "0" * 40}, True),
        ({"oid": "../../x"}, False),
        ({"revision": "refs/pr/x"}, False),
        ({"revision": "refs/pr/"}, False),
        ({"revision": "xrefs/pr/1"}, False),
        ({"revision": "main"}, False),
        ({"revision": None}, False),
    ],
)
def test_what_was_kept_of_a_pull_request_is_checked_before_it_is_believed(hub, store, wrong, is_asked):
    made = again(hub, create_pr=True, task_state=TaskState(store))
    store["xethub_commit"] |= wrong
    hub.routes()
    assert again(hub, create_pr=True, task_state=TaskState(store)) == made
    assert hub.routes()[: 1 + is_asked] == [*["GET /commits/" + "0" * 40] * is_asked, "GET /refs"]
