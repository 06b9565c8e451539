"""Sensors and triggers of a keyless connection: no call blocks the event loop, and they outlive their tokens."""

from __future__ import annotations

import asyncio
import logging

import pytest

from airflow_provider_xethub.exceptions import XetPublisherError
from airflow_provider_xethub.hooks.events import value_of
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.sensors.xethub import XetFileSensor
from airflow_provider_xethub.triggers import xethub as triggers
from airflow_provider_xethub.triggers.xethub import XetFileTrigger
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.wait import poller
from support.identities import SUBJECT
from support.trigger_runs import Triggerer, in_thread, until

EXCHANGE = "POST /oauth/token"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(poller, "MIN_INTERVAL", 0.1)
    monkeypatch.setattr(triggers, "DELIVERY_SECONDS", 0.05)


@pytest.fixture
def private(make_repo, publisher):
    repo = make_repo(private=True)
    publisher(repo)
    return repo


@pytest.fixture
def publish(connection, keyless, private):
    other = XetHubConnection(connection("other"))
    return lambda: other.publish_contents({"a.txt": b"new"}, CommitRequest(private, (), message="Nightly"))


def test_a_sensor_that_finds_its_file_needs_one_exchange(hub, private, publish, run_task):
    publish()
    hub.log.clear()
    run = run_task(XetFileSensor, repo_id=private.repo_id, repo_type=private.repo_type, path="a.txt")
    assert run.value["path"] == "a.txt"
    assert len(hub.log.requests(EXCHANGE)) == 1


def test_a_sensor_without_a_publisher_fails_at_once(hub, make_repo, keyless, run_task):
    private = make_repo(private=True)
    run = run_task(XetFileSensor, repo_id=private.repo_id, repo_type=private.repo_type, path="a.txt")
    assert run.is_final
    assert isinstance(run.error, XetPublisherError)
    assert len(hub.log.requests(EXCHANGE)) == 1


def test_a_trigger_outlives_its_tokens_and_never_blocks_the_loop(hub, private, publish, id_file, caplog):
    caplog.set_level(logging.DEBUG, "airflow_provider_xethub.xet.hub.exchanged_tokens")
    hub.exchanged_token_lifetime = 1

    async def wait():
        triggerer = Triggerer()
        where = {"repo_id": private.repo_id, "repo_type": private.repo_type, "poke_interval": 0.1}
        triggerer.start({"a": XetFileTrigger(paths=["a.txt"], **where)})
        await until(lambda: len(hub.log.requests(EXCHANGE)) >= 2)
        id_file.write_text(hub.identity(SUBJECT, jti="rotated"))
        await until(lambda: len(hub.log.requests(EXCHANGE)) >= 3)
        await in_thread(publish)
        await until(lambda: triggerer.ended)
        return value_of(triggerer.events["a"][0])

    assert [file["path"] for file in asyncio.run(wait())] == ["a.txt"]
    threads = [record.threadName for record in caplog.records if record.message.startswith("Exchanged the ID token")]
    assert len(threads) >= 3
    assert "MainThread" not in threads


def test_the_arguments_of_a_trigger_have_no_identity(keyless, private, id_file):
    trigger = XetFileTrigger(paths=["a"], repo_id=private.repo_id, repo_type=private.repo_type)
    assert str(id_file) not in str(trigger.serialize())
