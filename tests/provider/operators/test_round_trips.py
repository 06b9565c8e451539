"""What a task asks the Hub, and in which order: each request is a wait, and counts against the user's quota."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.exceptions import XetForbiddenError, XetNotFoundError
from airflow_provider_xethub.operators.xethub import XetCommitOperator, XetUploadOperator
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.publish.request import CommitRequest
from support.builders import TEXT, binary, commits, publish, write
from xethub_local.control.faults import Fault

TOKEN, PREUPLOAD, COMMIT, COMMITS, PATHS_INFO = "xet-write-token", "preupload", "commit", "commits", "paths-info"


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
    first, second, last = asked()
    assert {first, second} == {PREUPLOAD, TOKEN}
    assert last == COMMIT


def test_a_small_upload_waits_for_both_answers_at_the_same_time(upload, hub, monkeypatch):
    answered = []
    fetch = Hub.xet_token

    def look_and_fetch(self, *of, **options):
        answered.append(len(hub.log.requests("POST .*/preupload/.*")))
        return fetch(self, *of, **options)

    monkeypatch.setattr(Hub, "xet_token", look_and_fetch)
    hub.faults.add(Fault("POST .*/preupload/.*", times=1, delay=0.5))
    assert upload({"a.bin": b"\0" + binary()}).value["created"]
    assert answered == [0], "the token is asked for before the Hub has said how it wants to store the file"


def test_a_token_that_is_refused_is_told_once(upload, hub, asked):
    hub.faults.add(Fault("GET .*/xet-write-token/.*", status=403))
    failed = upload({"a.bin": b"\0" + binary()})
    with pytest.raises(XetForbiddenError, match="the write token request"):
        failed.value  # noqa: B018
    assert sorted(asked()) == [PREUPLOAD, TOKEN]


def test_the_refusal_of_a_token_that_nobody_came_to_use_is_forgotten(hub, hook, repo, tmp_path):
    source = write(tmp_path / "in", {"a.bin": b"\0" + binary()})
    hub.faults.add(Fault("GET .*/xet-write-token/.*", times=1, status=403))
    hub.faults.add(Fault("POST .*/preupload/.*", times=1, delay=0.5, status=404))
    with pytest.raises(XetNotFoundError):
        hook.publish(source, CommitRequest(repo, "upload"))
    assert hook.get_token(repo, "write").scope == "write"


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
    # The first request finds the commit, the others what it changed: its asset event must say so.
    assert asked() == [PREUPLOAD, COMMITS, COMMITS, PATHS_INFO]


def test_a_retried_upload_whose_answer_was_lost_is_not_committed_again(upload, repo, hub, asked, run_task):
    first = upload({"a.bin": binary()}).value
    run_task(XetCommitOperator, delete="a.bin", task_id="other", repo_id=repo.repo_id, repo_type="dataset")
    before = commits(hub, repo)
    assert upload({"a.bin": binary()}, try_number=2).value["oid"] == first["oid"]
    assert commits(hub, repo) == before


def test_a_text_that_goes_inline_fetches_no_token(upload, asked):
    assert upload({"a.csv": TEXT}).value["created"]
    assert asked() == [PREUPLOAD, COMMIT]


@pytest.mark.parametrize(("size", "tokens"), [(5_000, 1), (33 << 20, 1)])
def test_what_is_there_already_needs_no_token(upload, hub, repo, tmp_path, size, tokens):
    """A small upload and a single file fetch one anyway, while the Hub says what it has."""
    content = {"a.bin": b"\0" * size}
    publish(repo, tmp_path, content)
    hub.log.clear()
    hub.faults.add(Fault("GET .*/xet-write-token/.*", status=403))
    assert upload(content).value["unchanged"] == ["a.bin"]
    assert len(hub.log.requests("GET .*/xet-write-token/.*")) == tokens
