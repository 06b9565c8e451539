"""The webhooks that the local Hub sends: their bodies are what the provider's endpoint reads."""

from __future__ import annotations

import json
import re
import shlex
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from airflow_provider_xethub.xet.hub import webhooks
from support.serving import serving
from support.small_server import Answer, Asked, SmallServer
from xethub_local.cli.main import main
from xethub_local.server import LocalHub
from xethub_local.webhooks import WebhookSender

SECRET = "webhook-0123456789"


@pytest.fixture
def name(hub: LocalHub) -> str:
    return hub.create_repo(f"acme/r{uuid.uuid4().hex[:12]}", "dataset").repo_id


@pytest.fixture
def where(name: str) -> dict[str, str]:
    return {"repo_id": name, "repo_type": "dataset"}


def soon(check: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (value := check()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return value


def updates(asked: list[Asked]) -> list[dict[str, Any]]:
    return [update for each in asked for update in json.loads(each.body)["updatedRefs"]]


def test_each_ref_that_moves_is_told_with_the_secret_in_the_body_that_the_hub_documents(
    hub: LocalHub, name: str, where: dict[str, Any]
) -> None:
    api = HfApi(endpoint=hub.url, token=hub.token())
    first = api.dataset_info(name).sha
    with SmallServer(Answer()) as receiver, WebhookSender(hub, f"{receiver.url}/hook?a=1", SECRET):
        second = api.upload_file(path_or_fileobj=b"a", path_in_repo="a.txt", **where).oid
        soon(lambda: len(updates(receiver.asked)) == 1)
        api.create_tag(tag="v1", **where)
        soon(lambda: len(updates(receiver.asked)) == 2)
        api.delete_tag(tag="v1", **where)
        soon(lambda: len(updates(receiver.asked)) == 3)
        asked = receiver.asked
    assert updates(asked) == [
        {"ref": "refs/heads/main", "oldSha": first, "newSha": second},
        {"ref": "refs/tags/v1", "oldSha": None, "newSha": second},
        {"ref": "refs/tags/v1", "oldSha": second, "newSha": None},
    ]
    assert {(each.method, each.target) for each in asked} == {("POST", "/hook?a=1")}
    assert {each.headers["x-webhook-secret"] for each in asked} == {SECRET}
    (move,) = webhooks.parse_ref_updates(asked[0].body)
    assert (move.repo.uri, move.before, move.after) == (f"hf://datasets/{name}@main", first, second)
    assert move.commit_url == f"{hub.url}/datasets/{name}/commit/{second}"
    assert webhooks.parse_ref_updates(asked[1].body) == webhooks.parse_ref_updates(asked[2].body) == []


def test_it_reads_as_the_payload_of_huggingface_hub(hub: LocalHub, name: str, where: dict[str, Any]) -> None:
    from huggingface_hub import WebhookPayload

    with SmallServer(Answer()) as receiver, WebhookSender(hub, receiver.url):
        HfApi(endpoint=hub.url, token=hub.token()).upload_file(path_or_fileobj=b"a", path_in_repo="a.txt", **where)
        soon(lambda: receiver.asked)
    payload = WebhookPayload.model_validate_json(receiver.asked[0].body)
    assert (payload.event.scope, payload.repo.type, payload.repo.name) == ("repo.content", "dataset", name)
    assert "x-webhook-secret" not in receiver.asked[0].headers


def test_a_receiver_that_fails_is_told_in_the_log_and_the_next_webhook_is_sent(
    hub: LocalHub, name: str, where: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    api = HfApi(endpoint=hub.url, token=hub.token())
    answers = iter([Answer(b"not today", status=503), Answer(length=99, status=200), Answer()])
    with SmallServer(lambda _: next(answers)) as receiver, WebhookSender(hub, receiver.url, SECRET):
        for number in range(3):
            api.upload_file(path_or_fileobj=b"%d" % number, path_in_repo="a.txt", **where)
            soon(partial(lambda number: len(receiver.asked) == number + 1, number))
    assert f"Could not deliver the webhook for {name}: HTTP status 503: not today" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("url", ["file:///etc/passwd", "example.com", "http://", "ftp://hub/x"])
def test_only_an_http_url_is_told(hub: LocalHub, url: str) -> None:
    with pytest.raises(ValueError, match="http or https"):
        WebhookSender(hub, url)


def test_serve_tells_of_what_another_process_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XETHUB_WEBHOOK_SECRET", SECRET)
    (tmp_path / "a.txt").write_text("a")
    folder = tmp_path / "hub"
    with (
        SmallServer(Answer()) as receiver,
        serving(folder, "--create-repo", "model:acme/m", "--webhook", receiver.url) as (_, printed),
    ):
        assert SECRET not in printed
        found = re.search(r"export AIRFLOW_CONN_XETHUB_DEFAULT=(.*)", printed)
        assert found is not None
        url = json.loads(shlex.split(found[1])[0])["host"]
        assert main(["put", "--folder", str(folder), str(tmp_path / "a.txt"), "model:acme/m"]) == 0
        soon(lambda: receiver.asked)
    (move,) = webhooks.parse_ref_updates(receiver.asked[0].body)
    assert move.repo.uri == "hf://acme/m@main"
    assert move.commit_url.startswith(f"{url}/acme/m/commit/")


def test_serve_refuses_what_is_no_url(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--port", "0", "--folder", str(tmp_path), "--webhook", "here"]) == 2
    assert "--webhook: a webhook needs an http or https URL." in capsys.readouterr().err
