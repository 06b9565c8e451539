"""What the Hub sends by itself: webhooks; and how it says that there were too many requests."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.hub_wire import Wire
from support.small_server import Answer, SmallServer
from xethub_local.webhooks import WebhookSender

SECRET = "webhook-0123456789"


@pytest.fixture
def sent(wire: Wire) -> Iterator[Callable[[int], list[Any]]]:
    """Returns the webhooks of the repository, when there are so many."""
    with SmallServer(Answer()) as receiver, WebhookSender(wire.hub, receiver.url, SECRET):

        def wait(count: int) -> list[Any]:
            deadline = time.monotonic() + 30
            while len(found := [one for one in receiver.asked if wire.repo.repo_id.encode() in one.body]) < count:
                assert time.monotonic() < deadline, found
                time.sleep(0.02)
            return found

        yield wait


def test_a_webhook_is_a_post_of_json_with_the_secret_in_a_header(wire: Wire, sent: Callable[[int], list[Any]]) -> None:
    wire.put("a.txt")
    (one,) = sent(1)
    assert (one.method, one.headers["content-type"]) == ("POST", "application/json")
    assert one.headers["x-webhook-secret"] == SECRET
    body = json.loads(one.body)
    assert body["event"] == {"action": "update", "scope": "repo.content"}
    assert body["webhook"]["version"] == 3


def test_a_webhook_names_the_repository(wire: Wire, sent: Callable[[int], list[Any]]) -> None:
    head = wire.put("a.txt")
    found = json.loads(sent(1)[0].body)["repo"]
    assert (found["type"], found["name"], found["private"], found["headSha"]) == (
        "dataset",
        wire.repo.repo_id,
        False,
        head,
    )
    assert found["url"] == {"web": wire.hub.url + wire.web, "api": wire.hub.url + wire.one}
    assert re.fullmatch("[0-9a-f]{24}", found["id"])
    assert re.fullmatch("[0-9a-f]{24}", found["owner"]["id"])


def test_a_webhook_lists_the_references_that_moved(wire: Wire, sent: Callable[[int], list[Any]]) -> None:
    before = wire.get("{one}")["sha"]
    head = wire.put("a.txt")
    sent(1)
    wire("POST", "{one}/tag/main", json={"tag": "v1"})
    sent(2)
    wire("DELETE", "{one}/tag/v1")
    updates = [json.loads(one.body)["updatedRefs"] for one in sent(3)]
    assert updates == [
        [{"ref": "refs/heads/main", "oldSha": before, "newSha": head}],
        [{"ref": "refs/tags/v1", "oldSha": None, "newSha": head}],
        [{"ref": "refs/tags/v1", "oldSha": head, "newSha": None}],
    ]


def test_a_webhook_reports_a_pull_request_by_its_reference(wire: Wire, sent: Callable[[int], list[Any]]) -> None:
    wire.put("a.txt", query="?create_pr=1")
    (update,) = json.loads(sent(1)[0].body)["updatedRefs"]
    assert (update["ref"], update["oldSha"]) == ("refs/pr/1", None)


def test_too_many_requests_are_429_with_the_seconds_to_wait(wire: Wire) -> None:
    wire.hub.faults.add("hub-busy")
    answer = wire("GET", "{one}")
    assert answer.status_code == 429
    assert re.fullmatch(r'"(api|pages|resolvers)";r=\d+;t=\d+', answer.headers["RateLimit"])
    policy = answer.headers["RateLimit-Policy"]
    assert re.fullmatch(r'"fixed window";"(api|pages|resolvers)";q=\d+;w=300', policy)


def test_every_response_names_the_remaining_requests(wire: Wire) -> None:
    assert re.fullmatch(r'"api";r=\d+;t=\d+', wire("GET", "{one}").headers["RateLimit"])
