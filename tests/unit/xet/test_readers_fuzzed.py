"""Whatever the Hub, an XCom or a webhook says is read or refused: no exception but ours, no unstorable text."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from requests.adapters import BaseAdapter

from airflow_provider_xethub.exceptions import XetHubError, XetResponseError
from airflow_provider_xethub.hooks import events
from airflow_provider_xethub.xet.answers import is_storable
from airflow_provider_xethub.xet.hub import errors as hub_errors
from airflow_provider_xethub.xet.hub import history, tree, webhooks
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.hub.preupload import UploadMode, upload_modes
from airflow_provider_xethub.xet.manifests.files import read as read_files
from airflow_provider_xethub.xet.publish import bucket, commit, copies
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.redaction import Secrets
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.token import SealedToken
from support.examples import examples

REPO = Repo("acme/corpus", "dataset")
BUCKET = Repo("acme/corpus", "bucket")
OTHER = Repo("acme/other", "dataset")
FILE = {"path": "a.bin", "size": 5, "sha256": "2" * 64, "xet_hash": "1" * 64, "repo": REPO.uri}
COUNTED = {"repo": REPO.uri, "file_count": 2000, "bytes": 5, "sha256": "2" * 64, "size": 5, "digest": "3" * 64}
MANIFESTS = [
    {**COUNTED, "manifest": "listing", "repo": REPO.at("4" * 40).uri, "path": None, "patterns": ["a*"]},
    {**COUNTED, "manifest": "listing", "repo": REPO.at("4" * 40).uri, "folders": ["a", "b/"]},
    {**COUNTED, "manifest": "cas", "xet_hash": "1" * 64, "destination": "/data"},
    {**COUNTED, "manifest": "storage", "uri": "s3://aws@b/x"},
]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ODD = JSON | st.sampled_from(
    [
        "",
        "\ud800",
        "a\0",
        "x" * 5000,
        -1,
        2**63,
        10**400,
        1e308,
        float("nan"),
        float("inf"),
        True,
        "../x",
        "1" * 64,
        "1" * 40,
    ]
)
TREE = [
    {"type": "file", "path": "a.bin", "size": 5, "xetHash": "1" * 64, "lfs": {"oid": "2" * 64}},
    {"type": "file", "path": "b.txt", "size": 5, "oid": "3" * 40, "mtime": "2026-11-29T05:00:00Z"},
    {"type": "directory", "path": "d", "lastCommit": {"id": "4" * 40, "date": "2026-11-29T05:00:00Z"}},
]
COMMITS = [{"id": "4" * 40, "title": "t", "message": "m"}, {"id": "5" * 40, "title": "t", "message": "m"}]
MADE = {"commitOid": "4" * 40, "pullRequestUrl": "http://127.0.0.1:1/datasets/acme/corpus/discussions/7"}
FAILED = {"failed": [{"path": "a.bin", "sha256": "2" * 64, "error": "why"}]}
ANSWERS = {
    "token": {"accessToken": "x" * 40, "exp": 2_000_000_000, "casUrl": "http://127.0.0.1:1/cas"},
    **dict.fromkeys(("list_files", "bucket folder", "get_files", "existing_paths", "look", "folder"), TREE),
    **dict.fromkeys(("latest_commits", "history"), COMMITS),
    "preupload": {"files": [{"path": "a.bin", "uploadMode": "lfs", "oid": "2" * 64, "shouldIgnore": False}]},
    **dict.fromkeys(("duplicate", "batch"), FAILED),
    **dict.fromkeys(("commit", "pull request"), MADE),
}
"""What the Hub says where all is well, by the reader."""

REFUSALS = {"error": "why", "errors": [{"message": "why"}, "why"]}
WEBHOOK = {
    "event": {"scope": "repo.content"},
    "repo": {"type": "dataset", "name": "acme/corpus", "url": {"web": "https://x/datasets/acme/corpus"}},
    "updatedRefs": [{"ref": "refs/heads/main", "oldSha": "3" * 40, "newSha": "4" * 40}],
}
SEALED = {
    "xet_token": 1,
    "scope": "read",
    "repo": REPO.uri,
    "cas_url": "https://x",
    "conn_id": None,
    "sealed": None,
    "expires_at": "2026-11-29T05:00:00Z",
}
EVENTS = [
    {"status": "failed", "error": "XetRateLimitError", "message": "m", "retry_after": 5.0},
    {"status": "found", "value": 5},
]


def paths_of(value: object, before: tuple = ()) -> list[tuple]:
    """Every place in a value that something else can be put at."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [before, *(path for key, each in inner for path in paths_of(each, (*before, key)))]


def replaced(value, path, odd):
    if not path:
        return odd
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], odd)
    return copy


def almost(*shapes: object) -> st.SearchStrategy:
    """One of these values, with something odd somewhere in it, or instead of it."""
    places = [(shape, path) for shape in shapes for path in paths_of(shape)]
    return st.builds(lambda place, odd: replaced(place[0], place[1], odd), st.sampled_from(places), ODD)


class Says(BaseAdapter):
    """A Hub that answers everything with the same body."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.body = body

    def send(self, request, **_):
        response = requests.Response()
        response.status_code, response.url, response.request = 200, request.url, request
        response.headers["Content-Type"] = "application/json"
        response._content = self.body
        return response

    def close(self) -> None:
        pass


def body_of(value: object) -> bytes:
    return json.dumps(value).encode()


def readers(hub):
    request = CommitRequest(REPO, [FILE])
    modes = {"a.bin": UploadMode(False, None, False)}
    copied = copies.plan_copies(OTHER, [{**FILE, "repo": OTHER.uri}], request, None, single=True)
    return {
        "token": lambda: asdict(hub.xet_token(REPO, "read"))["access_token"],
        "list_files": lambda: hub.list_files(REPO),
        "bucket folder": lambda: hub.list_files(BUCKET, "d"),
        "get_files": lambda: hub.get_files(REPO, ["a.bin"]),
        "existing_paths": lambda: sorted(hub.existing_paths(REPO, ["a.bin"])),
        "latest_commits": lambda: hub.latest_commits(REPO),
        "history": lambda: history.commits_until(hub, REPO, {"4" * 40}),
        "look": lambda: [node.path for node in [tree.get_node(hub, REPO, "a.bin")] if node],
        "folder": lambda: [
            (node.path, node.size, node.commit) for node in tree.list_folder(hub, REPO, "", recursive=True)
        ],
        "preupload": lambda: [asdict(mode) for mode in upload_modes(hub, REPO, [FILE]).values()],
        "duplicate": lambda: copies.duplicate(hub, copied, copied.request.files, modes),
        "commit": lambda: commit.publish(hub, request, modes, lambda _: {}),
        "pull request": lambda: commit.publish(hub, CommitRequest(REPO, [FILE], create_pr=True), modes, lambda _: {}),
        "batch": lambda: bucket.Changes(hub, CommitRequest(BUCKET, [])).put([{**FILE, "repo": BUCKET.uri}]),
    }


def attempt(read) -> tuple[object, XetHubError | None]:
    """What was read, or why it was refused; any other exception ends the test."""
    try:
        return read(), None
    except XetHubError as error:
        return None, error


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch):
    monkeypatch.setattr("airflow_provider_xethub.xet.hub.client.FIRST_DELAY", 0.001)


@pytest.mark.parametrize("name", ANSWERS)
@settings(max_examples=examples(60))
@given(data=st.data())
def test_every_answer_of_the_hub_is_read_or_refused(name, data):
    value = data.draw(almost(ANSWERS[name]))
    hub = Hub("http://127.0.0.1:1", "hf_x")
    hub.retries_enabled = False
    hub.session.mount("http://", Says(body_of(value)))
    found, error = attempt(readers(hub)[name])
    assert is_storable(found)
    assert error is None or ("acme/corpus" in str(error) and is_storable(events.failed(error)))


@settings(max_examples=examples(150))
@given(value=almost(FILE, {"files": [FILE]}, [[FILE]], *MANIFESTS, SEALED, *EVENTS))
def test_every_value_of_an_xcom_is_read_or_refused(value):
    for read in (lambda value: read_files(value, None), SealedToken.from_xcom, events.value_of):
        _, error = attempt(lambda read=read: read(value))
        assert error is None or is_storable(events.failed(error))
    _, error = attempt(lambda: CommitRequest(REPO, [value]).check())
    assert error is None or is_storable(events.failed(error))


@settings(max_examples=examples(150))
@given(value=almost(WEBHOOK))
def test_every_body_of_a_webhook_is_read_or_refused(value):
    moves, error = attempt(lambda: webhooks.parse_ref_updates(body_of(value)))
    assert error is None or is_storable(str(error))
    assert is_storable([webhooks.event_payloads(move, []) for move in moves or []])


@settings(max_examples=examples(150))
@given(value=almost(REFUSALS), status=st.sampled_from([400, 401, 403, 404, 409, 429, 500]))
def test_every_refusal_of_the_hub_is_an_error_of_ours(value, status):
    error = hub_errors.from_response(status, {}, body_of(value).decode(), about="x", credential="y", secrets=Secrets())
    assert isinstance(error, XetResponseError)
    assert is_storable(str(error))
    assert len(str(error)) < 1000


def test_the_reason_may_be_in_a_list_of_errors():
    body = json.dumps({"errors": [{"message": "no dots in names"}, {"message": "too long"}, "plain"], "warnings": []})
    error = hub_errors.from_response(400, {}, body, about="x", credential="y", secrets=Secrets())
    assert str(error).endswith("The Hub says: no dots in names; too long; plain")
