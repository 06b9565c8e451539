"""A DAG run in a real Airflow that stores no Hub token of any life: its connection names an identity file only."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.repo import Repo
from demo import left_behind, services
from support.builders import binary, write
from support.identities import SUBJECT
from support.waiting import until
from xethub_local.store.exchanged_tokens import ExchangedTokens

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

DAGS = Path(__file__).parents[1] / "support" / "keyless_dags"
DAG = "xethub_keyless_walk"
REPO = Repo("local/keyless", "dataset")
LIFETIME = 5
"""Seconds that an exchanged token is valid: the triggerer needs several of them while it waits."""


@pytest.fixture
def exchanged(hub, monkeypatch):
    """All tokens that the local Hub issues in exchange for ID tokens; they expire soon."""
    issued, issue = [], ExchangedTokens.issue

    def record(*args, **kwargs):
        token, lifetime = issue(*args, **kwargs)
        issued.append(token)
        return token, lifetime

    monkeypatch.setattr(ExchangedTokens, "issue", record)
    hub.exchanged_token_lifetime = LIFETIME
    yield issued
    hub.exchanged_token_lifetime = 3600


def test_no_token_is_left_behind(hub, connection, exchanged, tmp_path):
    hub.create_repo(REPO.repo_id, "dataset", private=True)
    hub.publisher(REPO, sub=SUBJECT)
    folder = write(tmp_path / "in", {"a.bin": binary(), "b.csv": b"species,mass\nAdelie,3700\n"})
    identity = tmp_path / "identity" / "token"
    identity.parent.mkdir()
    id_tokens = []

    def rotate():
        id_tokens.append(hub.identity(SUBJECT, lifetime=600))
        identity.write_text(id_tokens[-1])

    rotate()
    env = services.environment(tmp_path) | {
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
        "AIRFLOW__XETHUB__IDENTITY_FILES": str(identity),
        "KEYLESS_FOLDER": str(tmp_path),
    }
    extra = json.dumps({"identity": "file", "identity_file": str(identity)})
    services.prepare_airflow(env, hub.url, None, extra)
    logs = tmp_path / "logs"
    all_logs = [logs / f"{name}.log" for name in ("triggerer", "scheduler", "dag-processor")]
    command = [str(services.BIN / "airflow"), "triggerer", "--skip-serve-logs"]
    database = tmp_path / "airflow" / "airflow.db"
    with (
        services.airflow(tmp_path, env) as airflow,
        services.running("The triggerer", command, env, logs / "triggerer.log"),
    ):
        until(lambda: airflow.get(f"/dags/{DAG}"), *all_logs)
        run_id = airflow.start_run(DAG, {})

        def states():
            found = airflow.get(f"/dags/{DAG}/dagRuns/{run_id}/taskInstances")["task_instances"]
            now = {each["task_id"]: each["state"] for each in found}
            assert not {"failed", "upstream_failed"} & set(now.values()), now
            return now

        until(lambda: states()["wait"] == "deferred", *all_logs)
        triggers = stored_triggers(database)
        # The file is rotated, and the exchanged token expires, while the triggerer waits.
        before = len(exchanged)
        rotate()
        until(lambda: len(exchanged) >= before + 2, *all_logs)
        request = CommitRequest(REPO, (), message="From another worker")
        XetHubConnection().publish_contents({"from-another-worker.bin": binary(5000)}, request)
        until(lambda: set(states().values()) == {"success"}, *all_logs)
        commit = airflow.xcom(DAG, run_id, "commit")
    for path in ("a.bin", "b.csv"):
        assert (tmp_path / "out" / path).read_bytes() == (folder / path).read_bytes()
    assert (tmp_path / "out" / "from-another-worker.bin").stat().st_size == 5000
    assert SUBJECT in str(
        XetHubConnection().api.list_repo_commits(REPO.repo_id, repo_type="dataset", revision=commit["oid"])
    )
    assert not hub.log.requests(status=401)

    parts = [part for token in id_tokens for part in (token, token.split(".")[1], token.split(".")[2])]
    secrets = [*parts, *exchanged, *hub.access.issued_xet_tokens(), hub.token("write"), hub.token("read"), "hf_jwt_"]
    assert len(id_tokens) >= 2
    assert len(exchanged) >= 6
    named = {str(number): secret for number, secret in enumerate(secrets)}
    places = [tmp_path / "airflow", tmp_path / "home", logs]
    assert "from-another-worker.bin" in triggers
    assert not [secret for secret in secrets if secret in triggers]
    for probe in (f"Exchanged the ID token of file {identity}", "Fetched a write token"):
        assert left_behind.find({"probe": probe}, database, places)
    assert not left_behind.find(named, database, places)


def stored_triggers(database):
    """The rows of triggers, which are gone at the end."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return str(connection.execute("SELECT * FROM trigger").fetchall())
