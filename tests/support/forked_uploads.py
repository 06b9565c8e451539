"""Uploads in forks of one process, as an Airflow worker starts its tasks, for tests that kill them at any moment."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

_SECONDS = 60.0

_WORKER = """
import json, os, sys
import hf_xet, requests
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet import records
from airflow_provider_xethub.xet.publish import commit, publisher  # what a task loads
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.transfer import upload

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # Airflow logs to standard output
records.IN_MEMORY = commit.MAX_CHANGES = int(sys.argv[1])
for line in sys.stdin:
    source, repo, message = json.loads(line)
    pid = os.fork()
    if not pid:
        hook = XetHubConnection()
        request = CommitRequest(hook.repo(repo, "dataset"), (), message=message, idempotency_key="k")
        try:
            result = hook.publish(source, request)
            said = {"transfer": result["transfer"], "oids": [each["oid"] for each in result["commits"]]}
            said["files"] = [file["path"] for file in result["files"]]
        except Exception as error:
            said = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(said), file=answers, flush=True)
        os._exit(0)
    print(pid, file=answers, flush=True)
    os.waitpid(pid, 0)
    print("ended", file=answers, flush=True)
"""


class ForkedUploads:
    """A process that uploads folders, each in a fork of its own.

    :param at_once: files in each batch, and in each commit.
    :param environment: what it has besides this process's.
    """

    def __init__(self, at_once: int, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(at_once)],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert self._process.stdout
        # Not select: the process of the tests may have more than 1,024 files open.
        self._answers = selectors.DefaultSelector()
        self._answers.register(self._process.stdout, selectors.EVENT_READ)

    def run(self, source: Path, repo: str, message: str) -> dict[str, Any]:
        """Upload a folder, and return what became of it."""
        result = self.kill_when(lambda: False, source, repo, message)
        assert result is not None
        return result

    def kill_when(self, condition: Callable[[], bool], source: Path, repo: str, message: str) -> dict[str, Any] | None:
        """Upload a folder, and kill that once the condition holds; if it ends before, return what became of it."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps([str(source), repo, message]).encode() + b"\n")
        pid, result, is_killed = int(self._line()), None, False
        deadline = time.monotonic() + _SECONDS
        while True:
            if not is_killed and condition():
                os.kill(pid, 9)
                is_killed = True
            assert time.monotonic() < deadline
            if self._answers.select(0.01):
                if (line := self._line()) == "ended":
                    return None if is_killed else result
                result = json.loads(line)

    def _line(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline().decode().strip()
        assert line, "the worker died"
        return line

    def __enter__(self) -> ForkedUploads:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._answers.close()
        self._process.stdout.close()
