"""What tasks do that find nothing to commit, and what their outlets hear of it."""

from __future__ import annotations

import pytest
from airflow.exceptions import AirflowSkipException
from airflow.sdk import Asset, task

from airflow_provider_xethub import files_of
from airflow_provider_xethub.operators.xethub import XetCommitOperator, XetCopyOperator, XetUploadOperator
from support.airflow_runs import new_dag
from support.builders import TEXT, binary, commits, write
from support.decorated import run as run_decorated

pytestmark = pytest.mark.airflow


@pytest.fixture
def where(repo, connection):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def source(tmp_path):
    return str(write(tmp_path / "in", {"d/a.bin": binary(), "d/b.csv": TEXT}))


def publishers(run_task, where, source):
    """Each publishes the same files every time."""
    uploaded = run_task(XetUploadOperator, source=source, commit=False, **where).value
    return [
        (XetUploadOperator, {"source": source}),
        (XetCommitOperator, {"files": uploaded}),
        (XetCopyOperator, {"path": "d", "path_in_repo": "copy"}),
    ]


def test_a_task_that_finds_nothing_to_commit_is_skipped_and_makes_no_event(hub, repo, where, source, run_task):
    asset = Asset(f"hf://datasets/{repo.repo_id}")
    for operator, arguments in publishers(run_task, where, source):
        options = {**arguments, **where, "outlets": [asset]}
        first = run_task(operator, task_id="first", on_unchanged="skip", **options)
        if operator is not XetCommitOperator:  # the upload has just committed the same
            assert (first.state, first.value["created"]) == ("success", True)
        before = commits(hub, repo)
        second = run_task(operator, task_id="second", on_unchanged="skip", **options)
        assert second.state == "skipped"
        assert "return_value" not in second.xcoms
        third = run_task(operator, task_id="third", **options)
        assert (third.state, third.value["created"]) == ("success", False)
        (sent,) = third.message.outlet_events
        assert files_of(sent["extra"], xethub_conn_id=None) == []
        assert commits(hub, repo) == before


def test_the_log_and_the_link_of_a_skipped_task_say_what_is_there(repo, where, source, run_task, hook, capfd):
    done = run_task(XetUploadOperator, source=source, **where)
    run = run_task(XetUploadOperator, source=source, on_unchanged="skip", task_id="again", **where)
    assert run.state == "skipped"
    assert run.xcoms["_link_XetHubLink"] == done.value["url"]
    assert f"Skipped, because {repo.uri} already has this content." in "".join(capfd.readouterr())


def test_a_retry_that_finds_the_commit_of_a_killed_attempt_is_not_skipped(repo, where, source, run_task):
    asset = Asset(f"hf://datasets/{repo.repo_id}")
    options = {"source": source, "on_unchanged": "skip", "outlets": [asset], **where}
    first = run_task(XetUploadOperator, **options)
    again = run_task(XetUploadOperator, try_number=2, **options)
    assert again.state == "success"
    assert again.message.outlet_events == first.message.outlet_events
    other = run_task(XetUploadOperator, try_number=2, task_id="other", **options)
    assert other.state == "skipped"


def test_a_retry_of_a_bucket_task_counts_all_as_changed(make_repo, connection, source, run_task):
    """The first attempt may have put the files, and then nothing in the bucket says so."""
    bucket = make_repo("bucket")
    where = {"repo_id": bucket.repo_id, "repo_type": "bucket", "on_unchanged": "skip"}
    options = {"source": source, "outlets": [Asset(f"hf://buckets/{bucket.repo_id}")], **where}
    run_task(XetUploadOperator, **options)
    again = run_task(XetUploadOperator, try_number=2, **options)
    (sent,) = again.message.outlet_events
    assert [file["path"] for file in files_of(sent["extra"])] == ["d/a.bin", "d/b.csv"]
    assert sent["extra"]["created"] is True
    assert again.value["created"] is False
    assert run_task(XetUploadOperator, **options).state == "skipped"


def test_a_pull_request_without_changes_is_not_opened(hub, repo, where, source, run_task):
    run_task(XetUploadOperator, source=source, **where)
    again = run_task(XetUploadOperator, source=source, create_pr=True, on_unchanged="skip", task_id="again", **where)
    assert again.state == "skipped"
    assert hub.commits.discussions.find_all(f"datasets/{repo.repo_id}") == []


def test_a_decorated_function_that_makes_the_same_again_is_skipped(where):
    def make(output):
        (output / "a.csv").write_bytes(TEXT)

    assert run_decorated(make, on_unchanged="skip", **where).value["created"]
    assert isinstance(run_decorated(make, on_unchanged="skip", **where).error, (AirflowSkipException, type(None)))
    assert run_decorated(make, on_unchanged="skip", **where).state == "skipped"
    assert run_decorated(make, **where).value["created"] is False


def test_only_tasks_with_a_suitable_trigger_rule_run_after_a_skipped_one(repo, where, source, run_dag, run_task):
    run_task(XetUploadOperator, source=source, **where)
    with new_dag() as dag:
        publish = XetUploadOperator(task_id="publish", source=source, on_unchanged="skip", **where)

        @task
        def after(): ...

        @task(trigger_rule="none_failed")
        def always(): ...

        publish >> [after(), always()]
    assert run_dag(dag).states == {"publish": "skipped", "after": "skipped", "always": "success"}


def test_without_a_commit_nothing_is_skipped(where, source, run_task):
    for _ in range(2):
        run = run_task(XetUploadOperator, source=source, commit=False, on_unchanged="skip", **where)
        assert len(run.value) == 2
