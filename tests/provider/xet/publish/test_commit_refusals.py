"""What a commit refuses before anything is sent, and answers of the Hub that are none."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.exceptions import XetInputError, XetProtocolError, XetResponseError
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.publish import commit
from airflow_provider_xethub.xet.publish.commit import CommitRequest, UploadMode
from airflow_provider_xethub.xet.repo import Repo
from support.commit_builders import client, record, titles
from support.small_server import Answer, SmallServer

BINARY = bytes(range(256)) * 8
ANYWHERE = Repo("acme/corpus", "dataset")
FILE = record(ANYWHERE, "a.bin", BINARY)
THROUGH_CAS = {"a.bin": UploadMode(False, None, False)}


# --- what is refused before anything is sent


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"repo": Repo("acme/b", "bucket"), "create_pr": True},
            "hf://buckets/acme/b is a bucket: it has no commits. Leave out parent_commit and create_pr",
        ),
        ({"repo": Repo("acme/b", "bucket"), "parent_commit": "0" * 40}, "it has no commits. Leave out parent_commit"),
        ({"message": ""}, "commit_message for hf://datasets/acme/corpus@main is empty"),
        ({"message": " \n"}, "commit_message for hf://datasets/acme/corpus@main is empty"),
        ({"files": ()}, "nothing to commit to hf://.*: neither files nor paths to delete were given"),
        ({"files": [FILE, FILE]}, "a.bin occurs twice among the files to commit to hf://datasets/acme/corpus@main"),
        (
            {"files": [{**FILE, "repo": "hf://acme/corpus@main"}]},
            "a.bin was uploaded for hf://acme/corpus@main",
        ),
        ({"files": [{**FILE, "repo": "elsewhere"}]}, "is not a repository URI"),
        ({"files": [{**FILE, "path": "../a"}]}, "path '../a' in a repository is not valid"),
        ({"files": ["a.bin"]}, "files must be Xet file records, as XetUploadOperator returns them in 'files'"),
        ({"files": [{"path": "a.bin"}]}, "files must be Xet file records"),
        ({"delete": ["../a"]}, "path '../a' in a repository is not valid"),
        ({"delete": ["/"]}, "path '' in a repository is not valid"),
        ({"delete": ["a.bin"]}, "a.bin is to be both committed to and deleted from hf://"),
        ({"delete": ["a.bin/"]}, "a.bin is to be both committed to and deleted from hf://"),
        (
            {"files": [{**FILE, "path": "d/e/a.bin"}], "delete": ["d/"]},
            "d/e/a.bin is to be both committed",
        ),
        ({"delete": ["b", "b"]}, "b occurs twice among the paths to be deleted in hf://"),
        ({"delete": ["b", "b/"]}, "b/ occurs twice among the paths to be deleted in hf://"),
        ({"delete": "b.txt"}, "delete must be a list of paths"),
    ],
)
def test_what_cannot_be_meant_is_refused(fields, text):
    request = CommitRequest(**{"repo": ANYWHERE, "files": [FILE], **fields})
    with pytest.raises(XetInputError, match=text):
        commit.publish(Hub("http://127.0.0.1:1"), request, {}, lambda _: {})


def test_files_of_another_revision_of_the_repository_may_be_committed():
    CommitRequest(ANYWHERE.at("v2"), [FILE]).check()


def test_a_folder_may_be_deleted_beside_a_file_whose_name_begins_alike():
    CommitRequest(ANYWHERE, [record(ANYWHERE, "data.bin", BINARY)], ["data/"]).check()


def test_a_record_without_a_digest_cannot_be_committed():
    request = CommitRequest(ANYWHERE, [{**FILE, "sha256": None}])
    with pytest.raises(XetInputError, match=r"the record of a.bin has no sha256, which a commit to hf://.* needs"):
        commit.publish(Hub("http://127.0.0.1:1"), request, THROUGH_CAS, lambda _: {})


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
