"""What the hook tells Airflow's lineage, so that code in a task has it without a word."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from airflow.sdk import ObjectStoragePath, task

from airflow_provider_xethub.hooks.lineage import MAX_DATASETS
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.publish.commit import CommitRequest
from support.airflow_runs import new_dag
from support.builders import TEXT, binary, publish, write

pytestmark = pytest.mark.airflow

try:
    from airflow.sdk import lineage
except ImportError:  # Airflow 3.0 and 3.1
    from airflow.lineage import hook as old

    lineage = None


class Collected:
    """What Airflow's own collector has, as where a plugin reads it."""

    def __init__(self, monkeypatch):
        if lineage:
            readers = "airflow.sdk.plugins_manager.get_hook_lineage_readers_plugins"
            monkeypatch.setattr(readers, lambda: [lineage.HookLineageReader])
        else:
            monkeypatch.setattr("airflow.plugins_manager.initialize_hook_lineage_readers_plugins", lambda: None)
            monkeypatch.setattr("airflow.plugins_manager.hook_lineage_reader_classes", [old.HookLineageReader])

    def forget(self):
        if lineage:
            lineage.get_hook_lineage_collector.cache_clear()
        else:
            old._hook_lineage_collector = None

    def all(self):
        found = (lineage or old).get_hook_lineage_collector().collected_assets
        assert all(isinstance(each.context, XetHubConnection) for each in (*found.inputs, *found.outputs))
        return found

    def __call__(self):
        """Return ``uri -> extra`` of inputs and of outputs."""
        return tuple(
            {each.asset.uri: each.asset.extra for each in side} for side in (self.all().inputs, self.all().outputs)
        )


@pytest.fixture
def collected(monkeypatch):
    collected = Collected(monkeypatch)
    collected.forget()
    yield collected
    collected.forget()


@pytest.fixture
def source(tmp_path):
    return write(tmp_path / "in", {"a.bin": binary(), "b.csv": TEXT})


def asset(repo):
    return f"hf://datasets/{repo.repo_id}"


def test_what_is_published_has_its_sources_and_its_commit(hub, repo, hook, source, collected):
    result = hook.publish(source, CommitRequest(repo, ()))
    inputs, outputs = collected()
    assert inputs == {f"file://{source}": {}}
    assert outputs == {asset(repo): {"oid": result["oid"], "file_count": 2, "bytes": 5000 + len(TEXT)}}
    again = hook.publish(source, CommitRequest(repo, ()))
    assert again["oid"] == result["oid"]
    assert hook.lineage.moved[-1].files == 0


def test_an_upload_and_its_commit_are_two_steps_to_the_same_dataset(hub, repo, hook, source, collected):
    files = hook.upload([source / "a.bin", f"file://{source}/*.csv"], repo)["files"]
    inputs, outputs = collected()
    assert inputs == {f"file://{source}/a.bin": {}, f"file://{source}": {}}
    assert outputs == {asset(repo): {"file_count": 2, "bytes": 5000 + len(TEXT)}}
    result = XetHubConnection().commit(CommitRequest(repo, files))
    assert [each.asset.extra.get("oid") for each in collected.all().outputs] == [
        None,
        result["oid"],
    ]


def test_a_download_reads_a_repository_and_writes_its_destination(hub, repo, hook, source, collected, tmp_path):
    files = publish(repo, tmp_path, {"x/a.bin": binary()})
    collected.forget()
    commit = hook.get_latest_commit(repo)
    pinned = [{**file, "repo": repo.at(commit["oid"]).uri} for file in files]
    hook.download(tmp_path / "out", files)
    hook.download(ObjectStoragePath(f"file://{tmp_path}/stored"), pinned)
    inputs, outputs = collected()
    assert inputs == {
        asset(repo): {"file_count": 1, "bytes": 5000},
        f"{asset(repo)}@{commit['oid']}": {"oid": commit["oid"], "file_count": 1, "bytes": 5000},
    }
    assert set(outputs) == {f"file://{tmp_path}/out", f"file://{tmp_path}/stored"}


def test_a_copy_reads_one_repository_and_writes_another(hub, repo, make_repo, hook, collected, tmp_path):
    files = publish(repo, tmp_path, {"a.bin": binary()})
    collected.forget()
    target = make_repo()
    result = hook.copy(files, CommitRequest(target, ()))
    inputs, outputs = collected()
    assert (set(inputs), set(outputs)) == ({asset(repo)}, {asset(target)})
    assert outputs[asset(target)]["oid"] == result["oid"]


def test_what_failed_is_not_told(hub, repo, hook, source, collected):
    with pytest.raises(ValueError, match="empty"):
        hook.publish(source, CommitRequest(repo, (), message=" "))
    assert collected() == ({}, {})
    assert hook.lineage.moved == []


def test_task_code_has_lineage_without_a_word(hub, repo, hook, source, collected, run_dag):
    with new_dag() as dag:

        @task
        def publish_it():
            return XetHubConnection().publish(source, CommitRequest(repo, ()))["oid"]

        publish_it()
    run = run_dag(dag)
    assert collected()[1][asset(repo)]["oid"] == run.xcoms("publish_it")[0]


def test_trouble_with_lineage_does_not_fail_what_is_done(hub, repo, hook, source, monkeypatch, caplog):
    monkeypatch.setattr("airflow_provider_xethub.hooks.lineage._collector", lambda: 1 / 0)
    with caplog.at_level(logging.WARNING):
        assert hook.publish(source, CommitRequest(repo, ()))["created"]
    assert "Airflow's lineage lacks a repository: ZeroDivisionError." in caplog.text


def test_many_sources_are_told_up_to_a_bound(hub, repo, hook, tmp_path):
    hook.lineage.elsewhere("input", [f"/data/{n}" for n in range(MAX_DATASETS * 3)])
    hook.lineage.uploaded([{"path": "a", "size": 1, "sha256": None, "xet_hash": None, "repo": repo.uri}])
    assert len(hook.lineage.moved) == MAX_DATASETS


@pytest.mark.airflow_independent
@pytest.mark.skipif(not lineage, reason="before Airflow 3.2 its collector finds out by itself")
def test_nothing_is_asked_of_other_providers_where_nobody_reads_lineage():
    """The collector that collects nothing would import their asset factories: with Amazon's, a third of a second."""
    code = (
        "import sys; from airflow_provider_xethub.hooks.xethub import XetHubConnection as H;"
        "from airflow_provider_xethub.xet.repo import Repo;"
        "h = H(None); h.lineage.read(Repo('a/b'), []); assert len(h.lineage.moved) == 1;"
        "from airflow.sdk.lineage import get_hook_lineage_collector as g; print(g.cache_info().currsize)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0"
