"""Any request of the life cycle may fail, with or without effect: the retry ends where one undisturbed run does."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest

from airflow_provider_xethub import Repo
from airflow_provider_xethub.operators.refs import (
    XetCreateBranchOperator,
    XetCreateTagOperator,
    XetDeleteBranchOperator,
    XetDeleteTagOperator,
    XetSquashHistoryOperator,
)
from airflow_provider_xethub.operators.repositories import (
    XetCreateRepoOperator,
    XetDeleteRepoOperator,
    XetDeleteUnreferencedFilesOperator,
    XetUpdateRepoOperator,
)
from airflow_provider_xethub.operators.xethub import XetUploadOperator
from airflow_provider_xethub.xet.hub import client
from support.airflow_runs import ExecutionApi
from support.builders import TEXT, binary, write
from support.commit_builders import publish
from xethub_local.control.faults import Fault

pytestmark = [pytest.mark.airflow, pytest.mark.airflow_unchanged]

MOST_REQUESTS = 40

WORK = {
    "create": (XetCreateRepoOperator, {"license": "mit", "exist_ok": False}),
    "publish": (XetUploadOperator, {"create_repo": True}),
    "update": (XetUpdateRepoOperator, {"visibility": "private", "gated": "auto"}),
    "branch": (XetCreateBranchOperator, {"branch": "dev"}),
    "tag": (XetCreateTagOperator, {"tag": "v2", "tag_message": "second"}),
    "delete branch": (XetDeleteBranchOperator, {"branch": "old"}),
    "delete tag": (XetDeleteTagOperator, {"tag": "v1"}),
    "squash": (XetSquashHistoryOperator, {"commit_message": "one"}),
    "free": (XetDeleteUnreferencedFilesOperator, {"dry_run": False, "min_age": 0}),
    "delete": (XetDeleteRepoOperator, {}),
}


@pytest.fixture
def prepare(hub, hook):
    """Returns what makes the repository that one kind of work begins with."""

    def make(name):
        repo = Repo(f"local/n{uuid.uuid4().hex[:12]}", "dataset")
        if name in ("create", "publish"):
            return repo
        hub.create_repo(repo.repo_id, "dataset")
        for seed in (1, 2):
            publish(hub, repo, {"a.bin": binary(seed=seed), "b.csv": TEXT}, message=f"{seed}")
        if name == "free":
            hook.squash_history(repo)
        else:
            hook.create_branch(repo, "old")
            hook.create_tag(repo, "v1")
        return repo

    return make


def state(hub, hook, repo):
    """Return everything about a repository that does not differ from run to run."""
    if not hook.repo_exists(repo):
        return None
    name = f"datasets/{repo.repo_id}"
    settings = hub.repositories.get(name).private, hub.repositories.gates.mode(name)
    refs = {
        (ref["kind"], ref["name"]): (
            [(commit["title"]) for commit in hook.hub.latest_commits(repo.at(ref["name"]), 20)],
            sorted(file["path"] for file in hook.list_files(repo.at(ref["name"]))),
        )
        for ref in hook.list_refs(repo)
    }
    freed = hook.delete_unreferenced_files(repo, min_age=timedelta(0))
    return settings, refs, freed["file_count"], freed["kept"]


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"status": 503}, marks=pytest.mark.long, id="refused"),
        pytest.param({"lose_answer": True}, id="lost"),
    ],
)
@pytest.mark.parametrize("name", WORK)
def test_every_request_may_fail(hub, hook, prepare, run_task, tmp_path, monkeypatch, name, fault):
    operator, arguments = WORK[name]
    source = str(write(tmp_path / "upload", {"c.csv": TEXT, "d.bin": binary(seed=4)}))

    def run(repo, **options):
        more = {"source": source} if name == "publish" else {"confirm": repo.repo_id} if name == "delete" else {}
        return run_task(operator, repo_id=repo.repo_id, repo_type="dataset", **arguments, **more, **options)

    undisturbed = prepare(name)
    assert run(undisturbed).error is None
    wanted = state(hub, hook, undisturbed)
    monkeypatch.setattr(client, "MAX_TRIES", 1)
    for number in range(MOST_REQUESTS):
        repo, api = prepare(name), ExecutionApi()
        added = hub.faults.add(Fault("[A-Z]+ /api/.*", skip=number, times=1, **fault))
        first = run(repo, api=api)
        # The log may still lack a request that another thread had in flight when the task failed.
        has_acted = hub.faults.acted(added)
        hub.faults.clear()
        if not has_acted:
            assert first.error is None
            break
        if first.error is not None:
            assert not first.is_final, (number, first.text)
            assert run(repo, api=api, try_number=2).error is None, number
        assert state(hub, hook, repo) == wanted, number
    else:
        pytest.fail(f"more than {MOST_REQUESTS} requests")
    assert number > 1
