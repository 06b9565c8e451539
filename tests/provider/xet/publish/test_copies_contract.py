"""What is sent to copy, compared with what ``huggingface_hub`` sends for the same."""

from __future__ import annotations

import hashlib

import pytest
from huggingface_hub import CommitOperationCopy, HfApi

from airflow_provider_xethub.exceptions import XetProtocolError, XetResponseError
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.publish.commit import CommitRequest
from airflow_provider_xethub.xet.records import XetFile
from airflow_provider_xethub.xet.repo import Repo
from support.small_server import Answer, SmallServer

OID = "1" * 40
SOURCE = Repo("acme/source", "dataset", "v1")
COUNT = 501


def entry(number: int) -> dict:
    return {
        "type": "file",
        "path": f"d/{number:03}.bin",
        "oid": OID,
        "size": 1000 + number,
        "lfs": {"oid": f"{number:064x}", "size": 1000 + number, "pointerSize": 130},
        "xetHash": f"{number + 5000:064x}",
    }


ENTRIES = [entry(number) for number in range(COUNT)]


def record(each: dict, repo: Repo = SOURCE) -> XetFile:
    return {
        "path": each["path"],
        "size": each["size"],
        "sha256": each["lfs"]["oid"],
        "xet_hash": each["xetHash"],
        "repo": repo.uri,
    }


@pytest.fixture
def server(connection):
    def answer(asked):
        if "/paths-info" in asked.path:
            return Answer(ENTRIES if "/source/" in asked.path and asked.method == "POST" else [])
        if "/commit/" in asked.path:
            return Answer({"commitOid": OID, "commitUrl": f"{server.url}/acme/target/commit/{OID}"})
        if asked.path.endswith("/batch"):
            return Answer({"success": True, "processed": 1, "succeeded": 1, "failed": []})
        return Answer({"failed": []} if asked.path.endswith("/duplicate") else {"id": "x", "sha": OID, "siblings": []})

    with SmallServer(answer) as server:
        connection(host=server.url, password="hf_x")
        yield server


def sent(server: SmallServer, what: str) -> list[tuple]:
    """The requests to a route: method, target, content type, and the lines or objects of the body."""
    return [
        (asked.method, asked.target, asked.headers["content-type"], asked.headers["authorization"], asked.lines)
        for asked in server.asked
        if asked.path.endswith(what) or f"/{what}/" in asked.path
    ]


@pytest.mark.parametrize("source", [SOURCE, SOURCE.at("main"), Repo("acme/source", "model", "main")])
def test_copies_to_a_repository_are_asked_for_as_huggingface_hub_does(server, source):
    HfApi(server.url, token="hf_x").create_commit(
        "acme/target",
        [
            CommitOperationCopy(each["path"], f"new/{each['path']}", source.revision, source.repo_id, source.repo_type)
            for each in ENTRIES
        ],
        commit_message="the title",
        repo_type="model",
    )
    theirs, their_commit = sent(server, "duplicate"), sent(server, "commit")
    server.asked.clear()
    request = CommitRequest(Repo("acme/target"), (), message="the title")
    XetHubConnection().copy([record(each, source) for each in ENTRIES], request, path_in_repo="new")
    assert sent(server, "duplicate") == theirs
    assert len(theirs) == 2
    ((*ours, our_lines),), ((*their, their_lines),) = sent(server, "commit"), their_commit
    assert ours == their
    for line in our_lines[1:]:
        del line["value"]["size"]  # they do not say it of copies, which the Hub takes as well
    assert our_lines[1:] == their_lines[1:]


@pytest.mark.parametrize("source", [SOURCE, Repo("acme/source", "bucket")])
def test_copies_to_a_bucket_are_asked_for_as_huggingface_hub_does(server, source):
    some = ENTRIES[:3]
    HfApi(server.url, token="hf_x").batch_bucket_files(
        "acme/target",
        copy=[(source.repo_type, source.repo_id, each["xetHash"], each["path"]) for each in some],
    )
    ((*theirs, their_lines),) = sent(server, "batch")
    server.asked.clear()
    request = CommitRequest(Repo("acme/target", "bucket"), ())
    XetHubConnection().copy([record(each, source) for each in some], request)
    ((*ours, our_lines),) = sent(server, "batch")
    assert ours == theirs
    for line in our_lines + their_lines:
        assert isinstance(line.pop("mtime"), int)
    assert our_lines == their_lines


@pytest.mark.parametrize("repo_type", ["model", "bucket"])
def test_what_the_hub_says_about_a_file_is_shown_without_the_credential(connection, repo_type):
    def answer(asked):
        if "/paths-info" in asked.path:
            return Answer([])
        error = f"no right\nfor {asked.headers['authorization']}"
        return Answer({"failed": [{"path": "d/000.bin", "sha256": ENTRIES[0]["lfs"]["oid"], "error": error}]})

    with SmallServer(answer) as server:
        connection(host=server.url, password="hf_secret")
        with pytest.raises(XetResponseError, match=r"d/000.bin \(no right for Bearer \*\*\*\)") as caught:
            XetHubConnection().copy([record(ENTRIES[0])], CommitRequest(Repo("acme/target", repo_type), ()))
    assert "hf_secret" not in str(caught.value)


@pytest.mark.parametrize("wrong", [[], "x", {"failed": 5}, {"failed": [5]}, {"failed": [{"sha256": "unknown"}]}])
def test_a_wrong_answer_to_the_request_to_duplicate_is_a_protocol_error(connection, wrong):
    with SmallServer(lambda asked: Answer([] if "/paths-info" in asked.path else wrong)) as server:
        connection(host=server.url)
        with pytest.raises(XetProtocolError, match="the request to copy 1 file"):
            XetHubConnection().copy([record(ENTRIES[0])], CommitRequest(Repo("acme/target"), ()))


def test_an_empty_file_is_committed_and_not_asked_for(server):
    """It has no content that could be in CAS, though the record of an upload says sha256 and a hash of zeros."""
    known = {"sha256": hashlib.sha256(b"").hexdigest(), "xet_hash": "0" * 64}
    empty = {"path": "empty", "size": 0, **known, "repo": SOURCE.uri}
    XetHubConnection().copy([empty], CommitRequest(Repo("acme/target"), ()))
    assert sent(server, "duplicate") == []
    ((*_, lines),) = sent(server, "commit")
    assert lines[1] == {"key": "file", "value": {"content": "", "path": "empty", "encoding": "base64"}}
