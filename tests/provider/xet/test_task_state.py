"""What a task remembers for its retries, in Airflow 3.3's task state store; and how it does without one."""

from __future__ import annotations

import os

import pytest

from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import XetCommitOperator, XetUploadOperator
from airflow_provider_xethub.xet.publish import commit
from airflow_provider_xethub.xet.publish.commit import STATE, CommitRequest
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.task_state import TaskState
from support.airflow_runs import HAS_STATE_STORE, ExecutionApi, new_dag, run_task
from support.builders import commits, write
from support.commit_builders import name_of, tree
from xethub_local.control.faults import Fault

with_store = pytest.mark.skipif(not HAS_STATE_STORE, reason="this Airflow has no task state store")

COMMITS = "POST /api/.*/commit/.*"
COMMITS_READ = "GET /api/.*/commits/.*"


@pytest.fixture
def where(connection, repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def source(tmp_path):
    return str(write(tmp_path / "in", {f"{number}.bin": os.urandom(2000) for number in range(3)}))


def others_commit(repo, tmp_path, count, **options):
    for number in range(count):
        path = write(tmp_path / "others", {"other.csv": b"a,b\n%d\n" % number})
        XetHubConnection().publish(path, CommitRequest(repo, (), message=f"other {number}", **options))


@pytest.fixture
def few(monkeypatch):
    """As if the Hub's history were longer: only so many commits are looked through."""
    monkeypatch.setattr(commit, "_COMMITS_TO_SEARCH", 3)
    monkeypatch.setattr(commit, "_PULL_REQUESTS_TO_SEARCH", 2)


def pull_requests(hub, repo):
    return len(hub.commits.discussions.find_all(name_of(repo)))


@with_store
def test_a_retry_finds_its_pull_request_however_many_came_since(hub, where, repo, source, few, tmp_path):
    api, arguments = ExecutionApi(), {"source": source, "create_pr": True, **where}
    first = run_task(XetUploadOperator, **arguments, api=api).value  # and then Airflow loses the worker
    others_commit(repo, tmp_path, 3, create_pr=True)
    again = run_task(XetUploadOperator, **arguments, api=api, try_number=2).value
    assert again["pull_request"] == first["pull_request"]
    assert (again["oid"], again["repo"], again["created"]) == (first["oid"], first["repo"], True)
    assert pull_requests(hub, repo) == 4
    # Without what was remembered there is a second one.
    run_task(XetUploadOperator, **arguments, api=ExecutionApi(), try_number=2).value  # noqa: B018
    assert pull_requests(hub, repo) == 5


@with_store
def test_a_retry_does_not_undo_what_came_since_however_much_that_is(hub, where, repo, source, few, tmp_path):
    api, arguments = ExecutionApi(), {"source": source, **where}
    first = run_task(XetUploadOperator, **arguments, api=api).value
    newer = write(tmp_path / "newer", {"0.bin": os.urandom(2000)})
    XetHubConnection().publish(newer, CommitRequest(repo, (), message="newer"))
    others_commit(repo, tmp_path, 3)
    before = commits(hub, repo)
    again = run_task(XetUploadOperator, **arguments, api=api, try_number=2).value
    assert again["oid"] == first["oid"]
    assert commits(hub, repo) == before


@with_store
@pytest.mark.parametrize("create_pr", [False, True])
def test_a_retry_goes_on_behind_the_parts_that_are_there(
    hub, where, repo, source, few, tmp_path, monkeypatch, create_pr
):
    monkeypatch.setattr(commit, "MAX_CHANGES", 1)
    api, arguments = ExecutionApi(), {"source": source, "create_pr": create_pr, **where}
    hub.faults.add(Fault(COMMITS, skip=1, status=403))
    assert "1 of 3 parts are committed" in run_task(XetUploadOperator, **arguments, api=api).text
    hub.faults.clear()
    others_commit(repo, tmp_path, 4, create_pr=create_pr)
    hub.log.clear()
    done = run_task(XetUploadOperator, **arguments, api=api, try_number=2).value
    assert len(hub.log.requests(COMMITS)) == 2
    assert [each["title"][-13:] for each in done["commits"]] == [f"(part {number} of 3)" for number in (1, 2, 3)]
    assert len({each["repo"] for each in done["commits"]}) == 1
    assert {"0.bin", "1.bin", "2.bin"} <= tree(hub, repo, Repo.from_uri(done["repo"]).revision)
    assert pull_requests(hub, repo) == (5 if create_pr else 0)


@with_store
def test_what_is_remembered_is_looked_at_before_it_is_believed(hub, where, repo, source, tmp_path):
    api, arguments = ExecutionApi(), {"source": source, **where}
    assert run_task(XetUploadOperator, **arguments, api=api).value["created"]
    known = api.state[STATE]
    others_commit(repo, tmp_path, 1)
    other = XetHubConnection().get_latest_commit(repo)["oid"]
    for wrong in (
        {"oid": "0" * 40},
        {"oid": other},
        {"oid": "../../x"},
        {"oid": None},
        {"revision": "refs/pr/9"},
        {"revision": "../.."},
        {"key": "another"},
    ):
        api.state[STATE] = {**known, **wrong}
        hub.log.clear()
        again = run_task(XetUploadOperator, **arguments, api=api, try_number=2).value
        assert again["oid"] in (known["oid"], other), wrong
        assert not hub.log.requests(COMMITS), wrong
    for nonsense in ("text", [1], {}):
        api.state[STATE] = nonsense
        assert run_task(XetUploadOperator, **arguments, api=api, try_number=2).state == "success"


@with_store
def test_a_first_try_asks_neither_the_store_nor_the_hub(hub, where, source, monkeypatch):
    asked = []
    monkeypatch.setattr(TaskState, "recall", lambda *_: asked.append(1) or {})
    assert run_task(XetUploadOperator, source=source, **where).value["created"]
    assert not asked
    assert not hub.log.requests(COMMITS_READ)


@with_store
def test_a_real_retry_opens_no_second_pull_request(hub, where, repo, source, few, run_dag, tmp_path):
    """Through ``dag.test()``: the state is in Airflow's database."""
    tries = []

    def lose_the_first(context, _):
        tries.append(context["ti"].try_number)
        if len(tries) == 1:
            others_commit(repo, tmp_path, 3, create_pr=True)
            raise ConnectionResetError("the worker is lost")

    with new_dag() as dag:
        XetUploadOperator(
            task_id="up", source=source, create_pr=True, retries=1, retry_delay=0, post_execute=lose_the_first, **where
        )
    run = run_dag(dag)
    assert tries == [1, 2]
    assert run.states == {"up": "success"}
    [result] = run.xcoms("up")
    assert result["pull_request"].endswith("/discussions/1")
    assert pull_requests(hub, repo) == 4


def test_without_a_store_nothing_is_remembered(hub, where, source):
    state = TaskState()
    state.remember("what", {"a": 1})
    assert (bool(state), state.recall("what")) == (False, {})
    uploaded = run_task(XetUploadOperator, source=source, commit=False, **where).value
    assert run_task(XetCommitOperator, files=uploaded, task_id="commit").value["created"]
