"""What a commit refuses before anything is sent."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet import records
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.publish import commit
from airflow_provider_xethub.xet.publish.card import Card
from airflow_provider_xethub.xet.publish.commit import CommitRequest
from airflow_provider_xethub.xet.repo import Repo
from support.commit_builders import ANYWHERE, BINARY, FILE, THROUGH_CAS, record


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
        ({"message": "m" * 10_001}, "commit_message for hf://datasets/acme/corpus@main"),
        ({"description": "d" * 60_001}, "commit_description for hf://datasets/acme/corpus@main"),
        ({"parent_commit": ""}, "parent_commit"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"files": ()}, "Nothing to commit to hf://.*: neither files nor paths to delete were given"),
        ({"files": [FILE, FILE]}, "a.bin occurs twice among the files to commit to hf://datasets/acme/corpus@main"),
        (
            {"files": [{**FILE, "repo": "hf://acme/corpus@main"}]},
            "a.bin was uploaded for hf://acme/corpus@main; it cannot be committed to hf://datasets/acme/corpus@main",
        ),
        ({"files": [{**FILE, "repo": "elsewhere"}]}, "is not a repository URI"),
        ({"files": [{**FILE, "path": "../a"}]}, "path '../a' in a repository is not valid"),
        ({"files": ["a.bin"]}, "files must be Xet file records, as XetUploadOperator returns them in 'files'"),
        ({"files": [{"path": "a.bin"}]}, "files must be Xet file records, .*; 'a.bin' is a record with"),
        ({"delete": ["../a"]}, "path '../a' in a repository is not valid"),
        ({"delete": ["/"]}, "path '' in a repository is not valid"),
        ({"delete": ["a.bin"]}, "a.bin would be both committed to and deleted from hf://"),
        ({"delete": ["a.bin/"]}, "a.bin would be both committed to and deleted from hf://"),
        (
            {"files": [{**FILE, "path": "d/e/a.bin"}], "delete": ["d/"]},
            "d/e/a.bin would be both committed",
        ),
        ({"files": [{**FILE, "path": "data/a.bin"}], "delete": ["data/"]}, "data/a.bin would be both committed"),
        ({"delete": ["b", "b"]}, "b occurs twice among the paths to be deleted in hf://"),
        ({"delete": ["b", "b/"]}, "b/ occurs twice among the paths to be deleted in hf://"),
        ({"delete": "b.txt"}, "delete must be a list of paths"),
        (
            {"repo": Repo("acme/b", "bucket"), "card": Card("# A")},
            r"hf://buckets/acme/b is a bucket: it has no card\. Leave out card\.",
        ),
        (
            {"card": Card("# A"), "delete": ["README.md"]},
            r"README\.md would be both the card of hf://datasets/acme/corpus@main and deleted\.",
        ),
        ({"card": Card("# A"), "delete": ["README.md/"]}, "would be both the card of"),
    ],
)
def test_what_cannot_be_meant_is_refused(fields, text):
    request = CommitRequest(**{"repo": ANYWHERE, "files": [FILE], **fields})
    with pytest.raises(XetInputError, match=text):
        request.check()


def test_texts_may_have_the_longest_length():
    CommitRequest(ANYWHERE, [FILE], message="m" * 10_000, description="d" * 60_000).check()


def test_of_more_files_than_memory_holds_the_publisher_finds_out_which_occur_twice(monkeypatch):
    monkeypatch.setattr(records, "IN_MEMORY", 2)
    with pytest.raises(XetInputError, match=r"a\.bin occurs twice"):
        CommitRequest(ANYWHERE, [FILE, FILE]).check()
    CommitRequest(ANYWHERE, [FILE, FILE, FILE]).check()


def test_files_that_were_checked_when_they_were_found_are_not_read_again():
    class Checked(list):
        are_checked = True

    CommitRequest(ANYWHERE, Checked([{**FILE, "path": "../a"}])).check()


def test_files_of_another_revision_of_the_repository_may_be_committed():
    CommitRequest(ANYWHERE.at("v2"), [FILE]).check()


def test_a_folder_may_be_deleted_beside_a_file_whose_name_begins_alike():
    CommitRequest(ANYWHERE, [record(ANYWHERE, "data.bin", BINARY)], ["data/"]).check()


def test_a_record_without_a_digest_cannot_be_committed():
    request = CommitRequest(ANYWHERE, [{**FILE, "sha256": None}])
    with pytest.raises(XetInputError, match=r"The record of a.bin has no sha256, which a commit to hf://.* needs"):
        commit.publish(Hub("http://127.0.0.1:1"), request, THROUGH_CAS, lambda _: {})
