"""Several processes fill one Hugging Face cache at the same time: ours, on one host or two, and ``huggingface_hub``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading

import pytest
from huggingface_hub import hf_hub_download
from huggingface_hub.utils import WeakFileLock

from airflow_provider_xethub import HubCache
from airflow_provider_xethub.xet.files.cache import client_cache
from airflow_provider_xethub.xet.files.cache import locks as cache_locks
from airflow_provider_xethub.xet.transfer import cache as cache_download
from support.builders import binary, names
from support.cache_trees import MODEL, client_download, offline, tree
from xethub_local.control.faults import Fault

FILES = MODEL | {f"part-{number}.bin": binary(20_000, number) for number in range(30)}

WORKER = """
import json, socket, sys
from airflow_provider_xethub import HubCache, Repo
from airflow_provider_xethub.hooks.xethub import XetHubConnection
if sys.argv[3]:
    socket.sethostname(sys.argv[3])
hook = XetHubConnection()
repo = Repo(sys.argv[1])
commit = hook.get_commit_id(repo)
files = hook.list_files(repo.at(commit))
print("ready", flush=True)
sys.stdin.readline()
result = hook.download(HubCache(sys.argv[2]), files, ref="main")
print(json.dumps({"host": socket.gethostname(), **result["transfer"]}))
"""


def can_unshare():
    tried = [shutil.which("unshare") or "false", "--uts", "--user", "--map-root-user", "true"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


def start(model, cache, host=""):
    namespace = ["unshare", "--uts", "--user", "--map-root-user"] if host else []
    return subprocess.Popen(
        [*namespace, sys.executable, "-c", WORKER, model.repo_id, str(cache), host],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )


@pytest.mark.long
@pytest.mark.skipif(not can_unshare(), reason="this kernel lets nobody have a host name of his own")
def test_two_hosts_at_once_download_each_file_once(hub, model, cache, tmp_path):
    hub.faults.add(Fault("GET /cas/.*", delay=0.05))
    workers = [start(model, cache, host) for host in ("worker-1", "worker-2")]
    for worker in workers:
        assert "ready" in iter_until(worker, "ready")
    hub.log.clear()
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    outputs = [worker.communicate(timeout=120) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    done = [json.loads(out.splitlines()[-1]) for out, _ in outputs]
    assert [each["host"] for each in done] == ["worker-1", "worker-2"]
    distinct = len({*FILES.values()}) + 1  # .gitattributes
    assert sum(each["files"] for each in done) == distinct
    assert len(hub.log.requests("GET /cas/.*/reconstructions/.*")) == 30
    hub.faults.clear()
    client_download(hub, model, tmp_path / "theirs")
    assert tree(cache) == tree(tmp_path / "theirs")


def iter_until(worker, text):
    for line in worker.stdout:
        if text in line:
            return line
    return worker.stderr.read()


def fill(hook, model, cache):
    commit = hook.get_commit_id(model)
    return hook.download(HubCache(cache), hook.list_files(model.at(commit)), ref="main")


def test_we_wait_for_a_file_that_the_client_downloads_and_use_it(hub, hook, model, cache, caplog):
    caplog.set_level("INFO")
    [file] = hook.get_files(model, ["part-7.bin"])
    route = f"GET /cas/.*/reconstructions/{file['xet_hash']}"
    name = f"models--{model.repo_id.replace('/', '--')}"
    (cache / ".locks" / name).mkdir(parents=True)
    (cache / name / "blobs").mkdir(parents=True)
    with WeakFileLock(cache / ".locks" / name / f"{file['sha256']}.lock"):
        ours = threading.Thread(target=lambda: fill(hook, model, cache))
        ours.start()
        while "Waiting for another process that downloads part-7.bin" not in caplog.text:
            assert ours.is_alive()
        (cache / name / "blobs" / file["sha256"]).write_bytes(FILES["part-7.bin"])
    ours.join()
    assert hub.log.requests(route) == []
    assert offline(cache, model).is_dir()


def test_the_client_waits_for_a_file_that_we_download(hub, hook, model, cache):
    [file] = hook.get_files(model, ["part-7.bin"])
    route = f"GET /cas/.*/reconstructions/{file['xet_hash']}"
    hub.faults.add(Fault(route, times=1, delay=1.0))
    hub.log.clear()
    ours = threading.Thread(target=lambda: fill(hook, model, cache))
    ours.start()
    lock = cache / ".locks" / f"models--{model.repo_id.replace('/', '--')}" / f"{file['sha256']}.lock"
    while not lock.exists():
        pass
    hf_hub_download(model.repo_id, "part-7.bin", cache_dir=cache, endpoint=hub.url, token=hub.token("read"))
    ours.join()
    assert len(hub.log.requests(route)) == 1


def test_the_rest_is_downloaded_while_one_file_is_locked(hub, hook, model, cache):
    [file] = hook.get_files(model, ["part-7.bin"])
    folder = cache / ".locks" / f"models--{model.repo_id.replace('/', '--')}"
    folder.mkdir(parents=True)
    with WeakFileLock(folder / f"{file['sha256']}.lock"):
        ours = threading.Thread(target=lambda: fill(hook, model, cache))
        ours.start()
        blobs = cache / f"models--{model.repo_id.replace('/', '--')}" / "blobs"
        while not blobs.exists() or len([path for path in blobs.iterdir() if path.exists()]) < len({*FILES.values()}):
            assert ours.is_alive()
        assert not (blobs / file["sha256"]).exists()
        assert list(cache.glob("models--*/refs/*")) == []
    ours.join()
    assert offline(cache, model).is_dir()


def test_a_lock_that_nobody_gives_back_costs_time_only(hook, model, cache, monkeypatch, caplog):
    monkeypatch.setattr(cache_download, "LOCK_SECONDS", 0.1)
    [file] = hook.get_files(model, ["part-7.bin"])
    folder = cache / ".locks" / f"models--{model.repo_id.replace('/', '--')}"
    folder.mkdir(parents=True)
    with WeakFileLock(folder / f"{file['sha256']}.lock"):
        fill(hook, model, cache)
    assert "Downloading without the lock" in caplog.text
    assert offline(cache, model).is_dir()


def test_more_files_than_locks(hub, hook, model, cache, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_locks, "_MOST", 7)
    result = fill(hook, model, cache)
    client_download(hub, model, tmp_path / "theirs")
    assert tree(cache) == tree(tmp_path / "theirs")
    assert result["transfer"]["files"] + result["transfer"]["skipped"] == len(FILES) + 1
    assert [name for name in names(cache) if name.endswith(".xetpart")] == []


def test_threads_that_create_the_store_of_shared_blobs_at_once_all_use_it(tmp_path):
    for number in range(40):
        root = tmp_path / f"{number}"
        blobs = [root / "models--a--b" / "blobs" / f"{each:064x}" for each in range(8)]
        blobs[0].parent.mkdir(parents=True)
        together = threading.Barrier(len(blobs))

        def share(blob, root=root, together=together):
            blob.write_bytes(b"x")
            together.wait()
            client_cache.share(root, blob, blob.name, 1)

        threads = [threading.Thread(target=share, args=[blob]) for blob in blobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [blob.is_symlink() for blob in blobs] == [True] * len(blobs)
