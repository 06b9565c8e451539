"""A commit on the local Hub starts a DAG in a whole Airflow, by a webhook and without a watcher."""

from __future__ import annotations

import json
import stat
import time

import pytest

from airflow_provider_xethub.hooks.xethub import XetHubConnection
from demo import services
from support.builders import TEXT, publish
from support.webhook_bodies import pushed
from support.webhook_server import post
from xethub_local.webhooks import WebhookSender

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

SECRET = "webhook-of-the-whole-airflow-5d2c"
DAG = """
from airflow.sdk import DAG, Asset, task

from airflow_provider_xethub import files_of

with DAG("on_webhook", schedule=[Asset({uri!r})], is_paused_upon_creation=False):

    @task
    def payloads(triggering_asset_events=None):
        return [event.extra["payload"] for events in triggering_asset_events.values() for event in events]

    @task
    def files(triggering_asset_events=None):
        return [file["path"] for file in files_of(triggering_asset_events)]

    payloads() >> files()
"""


def test_a_commit_starts_a_dag(hub, repo, hook, connection, tmp_path):
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "on_webhook.py").write_text(DAG.format(uri=f"hf://datasets/{repo.repo_id}"))
    command = tmp_path / "secret"
    command.write_text(f"#!/bin/sh\necho {SECRET}\n")
    command.chmod(stat.S_IRWXU)
    env = services.environment(tmp_path) | {
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__XETHUB__WEBHOOK_SECRET_CMD": str(command),
    }
    services.prepare_airflow(env, hub.url, hub.token("read"))
    with services.airflow(tmp_path, env) as airflow:
        url = f"{airflow.url}/xethub/webhook"
        until(lambda: airflow.get("/dags/on_webhook"), "the DAG")
        refused = post(url, pushed(repo, "1" * 40, "2" * 40), secret="wrong")
        assert (refused.status_code, "X-Webhook-Secret" in refused.json()["detail"]) == (401, True)
        apps = [app for plugin in airflow.get("/plugins")["plugins"] for app in plugin["fastapi_apps"]]
        assert [app["url_prefix"] for app in apps] == ["/xethub"]

        before = hook.get_latest_commit(repo)["oid"]
        with WebhookSender(hub, url, SECRET):
            publish(repo, tmp_path / "a", {"a.txt": TEXT})
            run = until(lambda: runs(airflow, "success"), "the run")[0]
        made = XetHubConnection().get_latest_commit(repo)
        assert airflow.xcom("on_webhook", run["dag_run_id"], "payloads") == [{**made, "previous": before}]
        assert airflow.xcom("on_webhook", run["dag_run_id"], "files") == ["a.txt"]

        body = pushed(repo, before, made["oid"])
        assert post(url, body, secret=SECRET).json() == {"events": 0, "detail": "Ignored: already recorded."}
        assert len(airflow.get("/assets/events")["asset_events"]) == 1
    assert len(list(tmp_path.rglob("*.log"))) > 3
    for log in tmp_path.rglob("*.log"):
        text = log.read_text(errors="replace")
        assert SECRET not in text, log
        assert hub.token("read") not in text, log


def runs(airflow, state):
    found = airflow.get("/dags/on_webhook/dagRuns")["dag_runs"]
    assert "failed" not in {run["state"] for run in found}, json.dumps(found)
    return [run for run in found if run["state"] == state]


def until(check, what):
    deadline = time.monotonic() + 240
    while not (value := check()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.3)
    return value
