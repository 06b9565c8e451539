"""Tasks in processes of their own, which tests stop, and a browser."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from support import chromium
from support.builders import names, publish
from support.stopping import Stopped


@pytest.fixture
def stopped(tmp_path, fork_server):
    """Starts a task in a fork, or, with ``is_forked=False``, in an interpreter of its own."""
    running = []

    def start(operator, arguments, timeout=None, *, is_forked=True):
        running.append(Stopped(fork_server if is_forked else None, tmp_path, operator, arguments, timeout))
        return running[-1]

    yield start
    for task in running:
        task.process.kill()
        task.process.wait()
        assert names(task.temporary) == []


@pytest.fixture
def where(connection, repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def records(hub, where, repo, tmp_path):
    return publish(repo, tmp_path / "before", {"d/a.bin": os.urandom(3 << 20), "d/b.bin": os.urandom(5000)})


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, for the tests of a file."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium.executable(), args=chromium.FLAGS)
        yield running
        running.close()
