"""Another implementation of JOSE opens what a task sealed to its key: ``jose``, in Node."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path

import pytest

from airflow_provider_xethub.operators.xethub import XetTokenOperator
from support import node_packages

pytestmark = pytest.mark.long

EXAMPLE = Path(__file__).parents[2] / "docs/examples/recipient"


@pytest.fixture(scope="module", autouse=True)
def _packages():
    node_packages.install(EXAMPLE)


def receive(file, repo, run_task, **where):
    """Run the program of the documentation; a task seals a token to the key that it prints."""
    process = subprocess.Popen(
        ["node", str(EXAMPLE / "open.mjs"), str(file), repo],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdin
        assert process.stdout
        sealed = run_task(XetTokenOperator, recipient=process.stdout.readline(), scope="write", **where).value
        return *process.communicate(f"{sealed}\n", timeout=60), process.returncode
    finally:
        process.kill()
        process.wait()


def test_node_opens_the_token_that_was_sealed_to_its_key(connection, repo, run_task, hub, tmp_path):
    where = {"repo_id": repo.repo_id, "repo_type": "dataset"}
    out, error, code = receive(tmp_path / "token.json", repo.uri, run_task, **where)
    assert (out, error, code) == ("", "", 0)
    token = json.loads((tmp_path / "token.json").read_text())
    assert token["access_token"] == hub.access.issued_xet_tokens()[-1]
    assert stat.S_IMODE((tmp_path / "token.json").stat().st_mode) == 0o600


def test_node_refuses_a_token_for_another_repository(connection, repo, run_task, tmp_path):
    where = {"repo_id": repo.repo_id, "repo_type": "dataset"}
    _, error, code = receive(tmp_path / "token.json", "hf://acme/other@main", run_task, **where)
    assert code
    assert "not a token for hf://acme/other@main" in error
    assert list(tmp_path.iterdir()) == []
