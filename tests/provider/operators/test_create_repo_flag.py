"""``create_repo=True``: what is published to may be missing, and becomes a private repository, once, and only then."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_xethub import CommitRequest, Repo
from airflow_provider_xethub.exceptions import (
    XetAirflowConnectionError,
    XetEmptySourceError,
    XetForbiddenError,
    XetInputError,
    XetNotFoundError,
)
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.mirror import XetMirrorOperator
from airflow_provider_xethub.operators.xethub import XetCommitOperator, XetCopyOperator, XetUploadOperator
from support.airflow_runs import new_dag
from support.builders import TEXT, binary, publish, sealed, write
from xethub_local.control.faults import Fault

pytestmark = [pytest.mark.airflow, pytest.mark.airflow_unchanged]

CREATE = "POST /api/repos/create|POST /api/buckets/[^/]*/[^/]*"


@pytest.fixture
def new_id(connection):
    return f"local/n{uuid.uuid4().hex[:12]}"


@pytest.fixture
def source(tmp_path):
    return str(write(tmp_path / "in", {"a.bin": binary(), "b.csv": TEXT}))


def stored(hub, repo_id):
    return [each for each in hub.repositories.find_all() if each.repo_id == repo_id]


@pytest.mark.parametrize("repo_type", ["model", "dataset", "bucket"])
def test_an_upload_creates_what_is_missing(hub, new_id, hook, source, run_task, repo_type):
    where = {"repo_id": new_id, "repo_type": repo_type, "source": source, "create_repo": True}
    assert run_task(XetUploadOperator, **where).value["created"]
    assert stored(hub, new_id)[0].private
    listed = [file["path"] for file in hook.list_files(Repo(new_id, repo_type)) if file["path"] != ".gitattributes"]
    assert listed == ["a.bin", "b.csv"]
    assert run_task(XetUploadOperator, **where).value["created"] is False
    assert len(hub.log.requests(CREATE)) == 1


def test_a_mirror_creates_what_is_missing_but_not_in_a_dry_run(hub, new_id, source, run_task):
    where = {"repo_id": new_id, "source": source, "create_repo": True}
    assert isinstance(run_task(XetMirrorOperator, dry_run=True, **where).error, XetNotFoundError)
    assert not stored(hub, new_id)
    assert run_task(XetMirrorOperator, **where).value["created"]
    assert stored(hub, new_id)[0].private
    refused = run_task(XetMirrorOperator, repo_id=new_id, destination=f"{source}-copy", create_repo=True)
    assert "create_repo and parent_commit need a source" in refused.text


def test_without_it_a_typo_creates_nothing(hub, new_id, source, run_task):
    run = run_task(XetUploadOperator, repo_id=new_id, source=source)
    assert isinstance(run.error, XetNotFoundError)
    assert not stored(hub, new_id)


def test_a_copy_creates_what_is_missing(hub, new_id, repo, hook, tmp_path, run_task):
    publish(repo, tmp_path, {"a.bin": binary(), "b.csv": TEXT})
    where = {"repo_id": new_id, "repo_type": "dataset", "source_repo_id": repo.repo_id, "create_repo": True}
    assert run_task(XetCopyOperator, **where).value["copied"]["files"] >= 2
    assert stored(hub, new_id)[0].private


def test_a_commit_and_an_upload_without_one_create_what_is_missing(hub, new_id, source, hook, run_task):
    where = {"repo_id": new_id, "create_repo": True}
    files = run_task(XetUploadOperator, source=source, commit=False, **where).value
    assert stored(hub, new_id)[0].private
    assert run_task(XetCommitOperator, files=files, **where).value["created"]
    other = f"{new_id}-2"
    contents = hook.publish(source, CommitRequest(Repo(other), ()), create_repo=True)
    assert contents["created"]
    assert len(hub.log.requests(CREATE)) == 2


def test_the_decorator_creates_it_after_the_function_ran(hub, new_id, run_task):
    from airflow.sdk import task

    seen = []
    with new_dag():

        @task.xethub(repo_id=new_id, create_repo=True)
        def table(output):
            seen.append(stored(hub, new_id))
            (output / "a.csv").write_bytes(TEXT)

        published = table()
    assert run_task(published.operator).value["created"]
    assert seen == [[]]
    assert stored(hub, new_id)[0].private


def test_many_workers_publish_to_it_at_once(hub, new_id, connection, tmp_path):
    repo = Repo(new_id, "dataset")

    def upload(number):
        folder = write(tmp_path / f"{number}", {f"{number}.csv": TEXT})
        return XetHubConnection().publish(folder, CommitRequest(repo, (), message=f"{number}"), create_repo=True)

    with ThreadPoolExecutor(6) as pool:
        assert all(each["created"] for each in pool.map(upload, range(6)))
    assert len(XetHubConnection().list_files(repo)) == 7  # and .gitattributes
    assert len(hub.log.requests(CREATE, status=200)) == 1


def test_nothing_is_created_for_nothing(hub, new_id, tmp_path, run_task):
    (tmp_path / "empty").mkdir()
    run = run_task(XetUploadOperator, repo_id=new_id, source=str(tmp_path / "empty"), create_repo=True)
    assert isinstance(run.error, XetEmptySourceError)
    run = run_task(XetCommitOperator, repo_id=new_id, files=[], create_repo=True)
    assert isinstance(run.error, XetInputError)
    assert not stored(hub, new_id)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"repo_type": "space"}, "needs an SDK"),
        ({"revision": "dev"}, "creates only main, not dev"),
        ({"repo_type": "bucket", "create_pr": True}, "it has no commits"),
        ({"create_repo": "yes"}, "create_repo must be True or False"),
        ({"commit_message": " "}, "commit_message"),
    ],
)
def test_what_cannot_be_meant_creates_nothing(hub, new_id, source, run_task, options, text):
    run = run_task(XetUploadOperator, **{"repo_id": new_id, "source": source, "create_repo": True, **options})
    assert isinstance(run.error, XetInputError)
    assert text in run.text
    assert not stored(hub, new_id)


def test_a_write_token_that_may_not_create_works_on_what_exists(hub, repo, new_id, connection, source, run_task):
    user = f"u{uuid.uuid4().hex[:8]}"
    token = hub.add_user(user, role="fineGrained", grants={f"datasets/{repo.repo_id}": "write"})
    connection(password=token)
    where = {"repo_type": "dataset", "source": source, "create_repo": True}
    assert run_task(XetUploadOperator, repo_id=repo.repo_id, **where).value["created"]
    run = run_task(XetUploadOperator, repo_id=new_id, **where)
    assert isinstance(run.error, XetForbiddenError)
    assert f"the creation of dataset {new_id}" in run.text
    assert not stored(hub, new_id)


def test_a_worker_with_only_a_token_cannot_create(hub, repo, source, run_task, disconnect):
    token = sealed(repo, "write")
    hub.log.clear()
    disconnect()
    where = {"source": source, "token": token, "commit": False, "create_repo": True}
    run = run_task(XetUploadOperator, xethub_conn_id=None, **where)
    assert isinstance(run.error, XetInputError)
    assert run.is_final
    assert "create_repo needs a connection" in run.text[:100]
    assert "XetCreateRepoOperator" in run.text
    missing = run_task(XetUploadOperator, **where)
    assert isinstance(missing.error, XetAirflowConnectionError)
    assert "create_repo needs a connection" in missing.text[:100]
    assert not hub.log.requests()


def test_an_upload_whose_creation_lost_its_answer_goes_on(hub, new_id, source, run_task):
    hub.faults.add(Fault(CREATE, times=1, lose_answer=True, headers={"Retry-After": "0"}))
    assert run_task(XetUploadOperator, repo_id=new_id, source=source, create_repo=True).value["created"]
