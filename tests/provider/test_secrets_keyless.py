"""Neither an ID token nor a token exchanged for it is in a log, an XCom, a rendered field, an error or an event."""

from __future__ import annotations

import asyncio
import json
import os
import pickle

import pytest

from airflow_provider_xethub.exceptions import XetHubError
from airflow_provider_xethub.hooks.events import value_of
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetDownloadOperator,
    XetListOperator,
    XetTokenOperator,
    XetUploadOperator,
)
from airflow_provider_xethub.sensors.xethub import XetFileSensor
from airflow_provider_xethub.triggers.xethub import XetFileTrigger, XetRevisionTrigger
from airflow_provider_xethub.xet.hub import client as hub_module
from airflow_provider_xethub.xet.wait import poller
from support.airflow_runs import ExecutionApi, new_dag, run_one
from support.builders import TEXT, write
from support.identities import SUBJECT
from support.secret_values import assert_absent
from support.trigger_runs import Triggerer, until
from xethub_local.control.faults import Fault
from xethub_local.store.exchanged_tokens import ExchangedTokens

EXCHANGE = "POST /oauth/token"


@pytest.fixture
def exchanged(monkeypatch):
    """The tokens that the local Hub issues in exchange for ID tokens."""
    issued = []
    issue = ExchangedTokens.issue

    def record(self, *args, **kwargs):
        token, lifetime = issue(self, *args, **kwargs)
        issued.append(token)
        return token, lifetime

    monkeypatch.setattr(ExchangedTokens, "issue", record)
    return issued


@pytest.fixture
def private(hub, make_repo):
    """A private repository, which trusts the worker."""
    repo = make_repo(private=True)
    publisher = hub.publisher(repo, sub=SUBJECT)
    yield repo
    hub.publishers.remove(publisher.id)


@pytest.fixture
def worker(hub, connection, private, monkeypatch, tmp_path, exchanged):
    """A worker without any Hub token; its identity file is renewed on demand, and ``secrets`` are all so far."""
    file = tmp_path / "identity-token"
    monkeypatch.setenv("AIRFLOW__XETHUB__IDENTITY_FILES", str(file))
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    extra = {"identity": "file", "identity_file": str(file), "repo_id": private.repo_id, "repo_type": "dataset"}
    connection(password=None, extra=json.dumps(extra))
    earlier = set(hub.access.issued_xet_tokens())

    class Worker:
        def __init__(self):
            self.id_tokens = []

        def renew(self, sub=SUBJECT, **claims):
            self.id_tokens.append(hub.identity(sub, **claims))
            file.write_text(self.id_tokens[-1])
            return self.id_tokens[-1]

        def write(self, content):
            file.write_text(content)

        def secrets(self):
            parts = [part for token in self.id_tokens for part in (token, *token.split(".")[1:])]
            return {*parts, *exchanged, *hub.access.issued_xet_tokens()} - earlier

    worker = Worker()
    worker.renew()
    return worker


def where(repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


def test_a_whole_flow_shows_no_token(worker, exchanged, private, tmp_path, seen):
    source = write(tmp_path / "in", {"a.bin": os.urandom(5000), "b.csv": TEXT})
    with new_dag() as dag:
        token = XetTokenOperator(task_id="token", scope="write", **where(private))
        upload = XetUploadOperator(task_id="upload", source=str(source), commit=False, token=token.output)
        commit = XetCommitOperator(task_id="commit", files=upload.output)
        wait = XetFileSensor(task_id="wait", path="a.bin", **where(private))
        download = XetDownloadOperator(
            task_id="download", destination=str(tmp_path / "out"), files=commit.output, token=token.output
        )
        look = XetListOperator(task_id="look", **where(private))
    api = ExecutionApi()
    for each in (token, upload, commit, wait, download, look):
        worker.renew()
        run = seen.run(run_one(each, api=api))
        assert run.state == "success", run.error
    hook = XetHubConnection()
    hook.list_files(private)
    is_ok, said = hook.test_connection()
    seen.add(api.xcoms, api.state, dag, upload.__dict__, hook, vars(hook), hook.hub, vars(hook.hub), hook.hub.exchanged)
    seen.add(said, vars(hook.hub.exchanged), pickle.dumps(hook))
    text = seen.text()
    assert is_ok, said
    assert "Exchanged the ID token of file" in text
    assert SUBJECT in text
    assert len(exchanged) >= 5
    assert_absent(worker.secrets(), text)


FAULTS = ["400", "403", "429", "500", "login page", "the same", "other type", "redirect", "dropped"]


def wrong(name, token, route=EXCHANGE):
    """The Hub goes wrong, and repeats the ID token while it does."""
    answers = {
        "login page": {"body": f"<html>{token}</html>", "headers": {"Content-Type": "text/html"}},
        "the same": {"body": json.dumps({"access_token": token, "token_type": "bearer"})},
        "other type": {"body": json.dumps({"access_token": "hf_jwt_a", "token_type": token})},
        "redirect": {"status": 302, "headers": {"Location": f"http://127.0.0.2:1/?t={token}"}},
        "dropped": {"drop": "before"},
    }
    if name in answers:
        return Fault(route, **{"status": 200, **answers[name]} if name != "dropped" else answers[name])
    said = {"X-Error-Message": f"bad {token}", "X-Request-Id": token, "Retry-After": "1"}
    return Fault(route, status=int(name), body=json.dumps({"error": token, "error_description": token}), headers=said)


@pytest.mark.parametrize("name", FAULTS)
def test_no_error_of_an_exchange_shows_a_token(hub, worker, private, run_task, tmp_path, seen, name):
    source = str(write(tmp_path / "in", {"a.bin": os.urandom(5000)}) / "a.bin")
    for route in (EXCHANGE, ".* /api/.*"):
        hub.faults.add(fault := wrong(name, worker.renew(), route))
        for run in (
            run_task(XetTokenOperator, scope="write", **where(private)),
            run_task(XetUploadOperator, source=source, **where(private)),
            run_task(XetDownloadOperator, destination=str(tmp_path / "out"), **where(private)),
            run_task(XetFileSensor, path="a.bin", deferrable=True, **where(private)),
        ):
            # A sensor waits while the Hub is busy.
            assert seen.run(run).error or run.state == "deferred"
        seen.add(XetHubConnection().test_connection())
        assert hub.faults.acted(fault)
        hub.faults.clear()
    assert_absent(worker.secrets(), seen.text())


@pytest.mark.parametrize("flaw", ["audience", "expired", "unsigned", "cut", "twice", "huge", "publisher"])
def test_no_error_of_an_id_token_shows_it(hub, worker, private, run_task, seen, flaw):
    wrong = {"audience": {"aud": "https://other.example"}, "expired": {"lifetime": -5}, "publisher": {"sub": "other"}}
    token = worker.renew(**wrong.get(flaw, {}))
    content = {
        "unsigned": token.rpartition(".")[0] + ".",
        "cut": token[:-40].rpartition(".")[0],
        "twice": f"{token}\n{token}",
        "huge": f"{token} " * 100,
    }
    worker.write(content.get(flaw, token))
    assert seen.run(run_task(XetTokenOperator, scope="write", **where(private))).error
    seen.add(XetHubConnection().test_connection())
    assert_absent(worker.secrets(), seen.text())


@pytest.mark.parametrize("name", ["400", "500", "login page", "redirect"])
def test_what_waits_shows_no_token(hub, worker, private, seen, monkeypatch, name):
    monkeypatch.setattr(poller, "MIN_INTERVAL", 0.2)
    hub.exchanged_token_lifetime = 1
    waiting = {
        "file": XetFileTrigger(paths=["a.bin"], poke_interval=0.2, **where(private)),
        "commit": XetRevisionTrigger(once=True, poke_interval=0.2, **where(private)),
    }
    seen.add(*[each.serialize() for each in waiting.values()], *waiting.values())

    async def wait():
        triggerer = Triggerer()
        triggerer.start(waiting)
        await until(lambda: hub.log.requests("GET .*"))
        hub.faults.add(fault := wrong(name, worker.renew()))
        await until(lambda: hub.faults.acted(fault) > 1 or len(triggerer.ended) == len(waiting))
        hub.faults.clear()
        await triggerer.stop()
        seen.add(triggerer.events, triggerer.errors, dict(poller._pollers))
        for events in triggerer.events.values():
            for event in events:
                try:
                    value_of(event)
                except XetHubError as error:
                    seen.add(error)
        assert hub.log.requests(EXCHANGE)

    try:
        asyncio.run(wait())
    finally:
        hub.exchanged_token_lifetime = 3600
    assert_absent(worker.secrets(), seen.text())
