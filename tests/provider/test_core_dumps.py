"""A task that crashes while it has a token leaves no core dump with it."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys

import pytest

from support.builders import sealed

_CRASH = """
import json, os, resource, sys
from airflow_provider_xethub.hooks.xethub import XetHubConnection

def fetch():
    hook = XetHubConnection()
    return hook, hook.get_token(hook.repo(repo_id, "dataset"), "read")

def take():
    hook = XetHubConnection(None)
    return hook, hook.fresh_token(given, "read")

repo_id, given = json.loads(sys.argv[1])
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
for get in (fetch, take):
    pid = os.fork()
    if not pid:
        kept = get()
        os.abort()
    print("\\n", json.dumps(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_CORE)[1] == 0, reason="core dumps are not allowed here")
def test_a_crash_with_a_token_leaves_no_core_dump(hub, connection, repo, tmp_path):
    """Whether the task fetched the token, or was given it without a connection."""
    command = [sys.executable, "-c", _CRASH, json.dumps([repo.repo_id, sealed(repo, "read")])]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True)
    # The flag of core dumps would be 128.
    assert [line for line in done.stdout.splitlines() if line.strip().isdigit()] == [f" {signal.SIGABRT.value}"] * 2
    assert list(tmp_path.iterdir()) == []
