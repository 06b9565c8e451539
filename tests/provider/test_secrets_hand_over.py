"""A token that was handed over is in its file and nowhere else while the block runs, and nowhere at all afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import redact
from airflow.providers.standard.operators.python import PythonOperator

from airflow_provider_xethub.hooks.tokens import hand_over
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import XetTokenOperator
from airflow_provider_xethub.xet.hub import client as hub_client
from support.airflow_runs import ExecutionApi, new_dag, run_one
from support.secret_values import assert_absent
from xethub_local.control.faults import Fault

_SHOWS_ITSELF = "print(*(open(f'/proc/self/{name}').read() for name in ('environ', 'cmdline')))"


@pytest.fixture
def places(tmp_path, monkeypatch):
    """All that a task may write to: memory, temporary files, Airflow's home and the caches of the clients."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    return [
        Path("/dev/shm"),
        tmp_path,
        *(Path(os.environ[name]) for name in ("AIRFLOW_HOME", "HF_HOME", "HF_XET_CACHE")),
    ]


def files_with(secrets, places):
    wanted = [secret.encode() for secret in secrets]
    found = set()
    for place in places:
        for path in place.rglob("*"):
            try:
                content = path.read_bytes() if path.is_file() else b""
            except OSError:  # another test's, gone meanwhile
                continue
            if any(secret in content for secret in wanted):
                found.add(path)
    return found


def test_the_token_is_in_its_file_and_nowhere_else(hub, secrets, repo, seen, places):
    handed, environments = [], []

    def work(token):
        with XetHubConnection().hand_over(token, scope="write") as path:
            handed.append(path)
            assert files_with(hub.access.issued_xet_tokens(), places) == {path}
            done = subprocess.run(
                [sys.executable, "-c", _SHOWS_ITSELF, path], check=True, capture_output=True, text=True
            )
            # These have the secrets of the connection, which a test sets by an environment variable.
            environments.extend([done.stdout, Path("/proc/self/environ").read_text(), str(dict(os.environ))])
            assert str(path) in done.stdout
            # What the process prints goes into the task's log.
            seen.add(redact(f"printed {json.loads(path.read_text())['access_token']}"))
        return str(path)

    with new_dag() as dag:
        token = XetTokenOperator(task_id="token", scope="write", repo_id=repo.repo_id, repo_type="dataset")
        use = PythonOperator(task_id="use", python_callable=work, op_args=[token.output])
    api = ExecutionApi()
    for each in (token, use):
        run = seen.run(run_one(each, api=api))
        assert run.state == "success", run.error
    seen.add(api.xcoms, api.state, api.rendered, dag, vars(use))
    text = seen.text()
    assert "Handed over the write token" in text
    assert "printed ***" in text
    assert_absent(secrets(), text)
    assert_absent(hub.access.issued_xet_tokens(), "".join(environments))
    assert not handed[0].parent.exists()
    assert files_with(hub.access.issued_xet_tokens(), places) == set()


def test_neither_renewals_nor_errors_show_a_token(hub, secrets, repo, seen, places, monkeypatch):
    monkeypatch.setattr(hand_over, "_SHORTEST_DELAY", 0.1)
    monkeypatch.setattr(hand_over, "_LONGEST_DELAY", 0.1)
    monkeypatch.setattr(hub_client, "MAX_TRIES", 1)
    hook = XetHubConnection()
    hub.access.token_life = 2
    echo = json.dumps({"error": f"Bearer {hub.token()}, {hub.access.issued_xet_tokens()[-1:]} are bad"})
    with hook.hand_over(hook.get_token(repo)) as path:
        first = path.read_text()
        deadline = time.monotonic() + 60
        while path.read_text() == first:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert files_with(hub.access.issued_xet_tokens(), places) == {path}
        hub.faults.add(Fault("GET .*-token/.*", status=401, body=echo))
        while not hub.log.requests("GET .*-token/.*", status=401):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for options in ({"folder": "/proc"}, {"folder": "/nowhere"}, {"scope": "admin"}, {"repo": repo.at("dev")}):
            with (
                pytest.raises(Exception, match=r"\.") as caught,
                hook.hand_over(hook.get_token(repo.at("main")), **options),
            ):
                pytest.fail("the block ran")
            seen.add(caught.value)
    assert files_with(hub.access.issued_xet_tokens(), places) == set()
    hub.faults.clear()
    assert_absent(secrets(), seen.text())
