"""A download into the Hugging Face cache that is interrupted at any request, or killed, and what its retry finds."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time

import pytest

from airflow_provider_xethub import HubCache
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from support.builders import binary, names, publish
from support.cache_trees import MODEL, client_download, offline, tree
from xethub_local.control.faults import Fault

pytestmark = pytest.mark.long

FILES = MODEL | {"model.safetensors": binary(5000), "large.bin": binary(20_000_000, 1)}
KILLS = 8


@pytest.fixture
def model(make_repo, connection, tmp_path):
    repo = make_repo("model")
    publish(repo, tmp_path, FILES)
    return repo


@pytest.fixture
def theirs(hub, model, tmp_path):
    client_download(hub, model, tmp_path / "theirs")
    return tree(tmp_path / "theirs")


def fill(cache, model):
    hook = XetHubConnection()
    commit = hook.get_commit_id(model)
    return hook.download(HubCache(cache), hook.list_files(model.at(commit)), ref="main")


def test_interrupted_at_every_request(hub, model, theirs, tmp_path):
    """The Hub or CAS fails at the first request, at the second, and so on, until one download gets through."""
    for number in range(60):
        cache = tmp_path / f"{number}"
        hub.faults.add(Fault("(GET|POST) .*", skip=number, status=403))
        try:
            fill(cache, model)
            is_complete = True
        except PermissionError:
            is_complete = False
        hub.faults.clear()
        if is_complete:
            break
        assert list(cache.glob("models--*/refs/*")) == []
        fill(cache, model)
        assert tree(cache) == theirs
    assert 10 < number < 59


WORKER = """
import sys
from airflow_provider_xethub import HubCache, Repo
from airflow_provider_xethub.hooks.xethub import XetHubConnection
hook = XetHubConnection()
repo = Repo(sys.argv[1])
commit = hook.get_commit_id(repo)
files = hook.list_files(repo.at(commit))
print("ready", flush=True)
hook.download(HubCache(sys.argv[2]), files, ref="main")
"""


def test_killed_at_any_moment(hub, model, theirs, tmp_path):
    """Each killed process leaves the cache to the next one; at the end, nothing is left of them."""
    hub.faults.add(Fault("GET /cas/.*", delay=0.02))
    chance = random.Random(7)
    cache = tmp_path / "cache"
    done = 0
    for _ in range(KILLS):
        command = [sys.executable, "-c", WORKER, model.repo_id, str(cache)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=dict(os.environ))
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n" or b"ready" in process.stdout.read()
        time.sleep(chance.random() * 0.4)  # any moment will do
        done += process.poll() == 0
        process.kill()
        process.wait()
        process.stdout.close()
        if list(cache.glob("models--*/refs/*")):
            assert tree(offline(cache, model)).keys() == tree(offline(tmp_path / "theirs", model)).keys()
        for path in cache.glob("models--*/snapshots/*/*.*"):
            assert path.read_bytes() == FILES.get(path.name, path.read_bytes()), path
    assert done < KILLS
    hub.faults.clear()
    fill(cache, model)
    assert tree(cache) == theirs
    assert [name for name in names(cache) if name.endswith((".xetpart", ".incomplete", ".tmp"))] == []
