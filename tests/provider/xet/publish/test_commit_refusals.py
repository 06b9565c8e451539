"""What a commit refuses before anything is sent, and answers of the Hub that are none."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.exceptions import XetProtocolError, XetResponseError
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.publish import commit
from airflow_provider_xethub.xet.publish.bucket import Changes
from airflow_provider_xethub.xet.publish.commit import CommitRequest, UploadMode
from airflow_provider_xethub.xet.repo import Repo
from support.commit_builders import ANYWHERE, FILE, THROUGH_CAS, client, record, titles
from support.small_server import Answer, Asked, SmallServer

# --- what is refused before anything is sent


def test_what_was_never_uploaded_cannot_be_committed(hub, repo):
    request = CommitRequest(repo, [record(repo, "a.bin", b"never uploaded")])
    with pytest.raises(XetResponseError, match="The Hub says: LFS pointer pointed to a file that does not exist"):
        commit.publish(client(hub), request, THROUGH_CAS, lambda _: {})
    assert titles(hub, repo) == []


# --- answers of the wrong shape


@pytest.mark.parametrize("wrong", [[], {}, {"files": 5}, *({"files": [each]} for each in ({}, 5, {"path": "a.bin"}))])
def test_a_wrong_preupload_answer_is_a_protocol_error(wrong):
    with SmallServer(Answer(wrong)) as server, pytest.raises(XetProtocolError, match="the preupload request for hf://"):
        commit.upload_modes(Hub(server.url), ANYWHERE, [FILE])


def test_a_preupload_answer_without_a_file_names_it():
    with SmallServer(Answer({"files": []})) as server, pytest.raises(XetProtocolError, match=r"for a\.bin"):
        commit.upload_modes(Hub(server.url), ANYWHERE, [FILE])


@pytest.mark.parametrize("wrong", [[], {}, "x", {"commitOid": 5}])
def test_a_wrong_commit_answer_is_a_protocol_error(wrong):
    with (
        SmallServer(Answer(wrong)) as server,
        pytest.raises(XetProtocolError, match=r"to hf:.* Whether the commit was made is unknown"),
    ):
        commit.publish(Hub(server.url), CommitRequest(ANYWHERE, [FILE]), THROUGH_CAS, lambda _: {})


@pytest.mark.parametrize(
    "url", ["https://evil.example/acme/corpus/discussions/7/", "//evil/discussions/7", "javascript:x()/discussions/7"]
)
def test_of_the_address_of_a_pull_request_only_the_number_is_taken(url):
    request = CommitRequest(ANYWHERE, [FILE], create_pr=True)
    with SmallServer(Answer({"commitOid": "0" * 40, "pullRequestUrl": url})) as server:
        made = commit.publish(Hub(server.url), request, THROUGH_CAS, lambda _: {})
    assert made["repo"] == "hf://datasets/acme/corpus@refs%2Fpr%2F7"
    assert made["pull_request"] == f"{server.url}/datasets/acme/corpus/discussions/7"


@pytest.mark.parametrize("wrong", [[], "x", *({"pullRequests": each} for each in (5, [5], [{"ref": "x"}]))])
def test_a_wrong_list_of_branches_is_a_protocol_error(wrong):
    request = CommitRequest(ANYWHERE, [FILE], create_pr=True, idempotency_key="k")
    with SmallServer(Answer(wrong)) as server, pytest.raises(XetProtocolError, match="the branches of hf://datasets"):
        commit.publish(Hub(server.url), request, THROUGH_CAS, lambda _: {})


def test_a_branch_without_a_commit_that_has_all_files_is_a_protocol_error():
    modes = {"a.bin": UploadMode(False, FILE["sha256"], False)}
    with SmallServer(Answer([])) as server, pytest.raises(XetProtocolError, match=r"has no commit of hf://datasets/"):
        commit.publish(Hub(server.url), CommitRequest(ANYWHERE, [FILE]), modes, lambda _: {})


def test_a_batch_that_a_bucket_rejects_as_a_whole_says_why():
    def answer(asked: Asked) -> Answer:
        return Answer({"error": "Too deep."}, 422) if asked.path.endswith("/batch") else Answer([])

    with SmallServer(answer) as server:
        changes = Changes(Hub(server.url), CommitRequest(Repo("acme/store", "bucket"), [FILE]))
        changes.put([FILE])
        with pytest.raises(
            XetResponseError, match=r"rejected a request for hf://buckets/acme/store.*Too deep\."
        ) as caught:
            changes.complete()
    assert caught.value.status == 422
