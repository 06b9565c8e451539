"""What a task asks the Hub, and in which order: each request is a wait, and counts against the user's quota."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.local.faults import Fault
from airflow_provider_xethub.operators.xethub import XetCommitOperator, XetUploadOperator
from builders import TEXT, binary, commits, publish, write

TOKEN, PREUPLOAD, COMMIT, COMMITS = "xet-write-token", "preupload", "commit", "commits"


@pytest.fixture
def asked(hub, repo):
    """Returns which routes of the Hub were asked since the last call, in the order of the answers."""

    def routes() -> list[str]:
        paths = [request.path for request in hub.log.requests(f"[A-Z]+ /api/datasets/{repo.repo_id}/.*")]
        hub.log.clear()
        return [path.split("/")[5] for path in paths]

    return routes


@pytest.fixture
def upload(connection, repo, run_task, tmp_path):
    def run(files: dict[str, bytes], **options):
        return run_task(XetUploadOperator, source=str(write(tmp_path / "in", files)), repo_id=repo.repo_id, **options)

    return lambda files, **options: run(files, repo_type="dataset", **options)


def test_a_first_upload_asks_the_hub_three_times(upload, asked):
    assert upload({"a.bin": binary()}).value["created"]
    assert asked() == [PREUPLOAD, TOKEN, COMMIT]


def test_a_commit_of_what_was_uploaded_asks_twice_and_its_retry_looks_first(upload, repo, hub, asked, run_task):
    records = upload({"a.bin": binary()}, commit=False).value
    asked()
    first = run_task(XetCommitOperator, files=records).value
    assert asked() == [PREUPLOAD, COMMIT]
    # Since then somebody else changed the file: the retry must not undo that.
    other = run_task(XetCommitOperator, delete="a.bin", task_id="other", repo_id=repo.repo_id, repo_type="dataset")
    assert other.value["created"]
    asked()
    again = run_task(XetCommitOperator, files=records, try_number=2).value
    assert again["oid"] == first["oid"]
    assert asked() == [PREUPLOAD, COMMITS]


def test_a_retried_upload_whose_answer_was_lost_is_not_committed_again(upload, repo, hub, asked, run_task):
    first = upload({"a.bin": binary()}).value
    run_task(XetCommitOperator, delete="a.bin", task_id="other", repo_id=repo.repo_id, repo_type="dataset")
    before = commits(hub, repo)
    assert upload({"a.bin": binary()}, try_number=2).value["oid"] == first["oid"]
    assert commits(hub, repo) == before


def test_a_text_that_goes_inline_fetches_no_token(upload, asked):
    assert upload({"a.csv": TEXT}).value["created"]
    assert asked() == [PREUPLOAD, COMMIT]


def test_what_is_there_already_fetches_no_token(upload, hub, repo, tmp_path):
    publish(repo, tmp_path, {"a.bin": binary()})
    hub.log.clear()
    hub.faults.add(Fault("GET .*/xet-write-token/.*", status=403))
    assert upload({"a.bin": binary()}).value["unchanged"] == ["a.bin"]
    assert not hub.log.requests("GET .*/xet-write-token/.*")
