"""``transfer_memory``, of the task or the configuration, reaches the transfer; too little is refused first."""

from __future__ import annotations

from pathlib import Path

import pytest
from airflow.sdk import task

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetMirrorOperator, XetUploadOperator
from airflow_provider_xethub.xet import native_client
from airflow_provider_xethub.xet.cas import uploads
from airflow_provider_xethub.xet.cas.limits import DEFAULT_MEMORY, TransferLimits
from airflow_provider_xethub.xet.process import threads
from airflow_provider_xethub.xet.repo import Repo
from support.airflow_runs import new_dag, run_one
from support.builders import binary, write

OPTION = "AIRFLOW__XETHUB__TRANSFER_MEMORY"


@pytest.fixture
def source(tmp_path):
    return write(tmp_path / "source", {"a.bin": binary(200_000)})


@pytest.fixture
def ceilings(monkeypatch):
    """What each upload was given, with what it leaves free."""
    given = []
    pace = uploads.Pace.__init__

    def noting(self, commit, stopped, ahead, ceiling):
        given.append(ceiling + uploads.SLACK)
        pace(self, commit, stopped, ahead, ceiling)

    monkeypatch.setattr(uploads.Pace, "__init__", noting)
    return given


def names(repo):
    return {"repo_id": repo.repo_id, "repo_type": repo.repo_type}


def test_the_argument_precedes_the_configuration_which_precedes_the_default(
    connection, repo, run_task, source, ceilings, monkeypatch
):
    given = {**names(repo), "source": str(source), "commit": False}
    run_task(XetUploadOperator, **given)
    monkeypatch.setenv(OPTION, "3GB")
    run_task(XetUploadOperator, **given)
    run_task(XetUploadOperator, **given, transfer_memory="{{ 5 * 1000 }}MB")
    run_task(XetUploadOperator, **given, transfer_memory="{{ none }}")
    assert ceilings[0] <= DEFAULT_MEMORY
    assert ceilings[1:] == [3_000_000_000, 5_000_000_000, 3_000_000_000]


def test_the_threads_of_a_download_share_their_heaps(connection, repo, run_task, source, tmp_path, monkeypatch):
    events = []
    begin = threads.begin
    monkeypatch.setattr(threads, "begin", lambda thread: events.append("thread") or begin(thread))
    monkeypatch.setattr(native_client, "share_heaps", lambda: events.append("heaps"))
    there = {"destination": str(tmp_path / "out")}
    for operator in (XetUploadOperator, XetMirrorOperator):
        run_task(operator, **names(repo), source=str(source))
    assert set(events) == {"thread"}, "it would take longer"
    for operator in (XetDownloadOperator, XetMirrorOperator):
        events.clear()
        run_task(operator, **names(repo), **there)
        assert events[:2] == ["heaps", "thread"], "a thread that begins before has a heap of its own"


@pytest.mark.parametrize("where", ["argument", "configuration"])
@pytest.mark.parametrize(
    ("operator", "arguments"),
    [
        (XetUploadOperator, {"source": ".", "create_repo": True}),
        (XetUploadOperator, {"source": ".", "create_repo": True, "commit": False}),
        (XetMirrorOperator, {"source": ".", "create_repo": True}),
        (XetMirrorOperator, {"destination": "out"}),
        (XetDownloadOperator, {"destination": "out", "files": ["record"]}),
    ],
)
def test_too_little_is_refused_before_anything_is_changed(
    hub, hook, make_repo, run_task, source, tmp_path, monkeypatch, operator, arguments, where
):
    repo = make_repo()
    record = hook.publish(str(source), _request(repo))["files"][0]
    hub.log.clear()
    target = Repo("acme/new-one", "dataset") if "create_repo" in arguments else repo
    paths = {"source": str(source), "destination": str(tmp_path / "out"), "files": [record]}
    given = {name: paths.get(name, value) for name, value in arguments.items()}
    if where == "configuration":
        monkeypatch.setenv(OPTION, "1MB")
    else:
        given["transfer_memory"] = "1MB"
    run = run_task(operator, **names(target), **given)
    assert isinstance(run.error, XetInputError)
    assert run.is_final
    assert run.text.startswith("transfer_memory is too small: 1.0 MB; this task needs ")
    assert not hub.log.requests("(POST|PUT|DELETE) .*")
    assert not (tmp_path / "out").exists()


def _request(repo):
    from airflow_provider_xethub.xet.publish.request import CommitRequest

    return CommitRequest(repo, (), message="Add")


def test_a_configuration_that_is_no_size_is_refused_by_its_name(connection, repo, run_task, source, monkeypatch):
    monkeypatch.setenv(OPTION, "plenty")
    run = run_task(XetUploadOperator, **names(repo), source=str(source))
    assert run.is_final
    assert "[xethub] transfer_memory must be a number of bytes, or a string such as '500MB'" in run.text


def test_what_an_earlier_transfer_of_the_task_left_in_memory_does_not_stop_the_next(hook, repo, monkeypatch):
    """A function of ``@task.xethub`` may run for hours between its download and its upload."""
    from airflow_provider_xethub.xet.process import memory

    limits = TransferLimits(memory=memory.resident() + 250_000_000)
    hook.cas_access(limits)
    monkeypatch.setattr(memory, "resident", lambda: 2_000_000_000)
    access = hook.cas_access(limits)(hook.get_token(repo))
    assert access.memory_ceiling() == limits.memory


def test_the_decorator_passes_it_to_both_directions(hook, connection, repo, source, ceilings):
    hook.publish(str(source), _request(repo))

    @task.xethub(**names(repo), path="a.bin", path_in_repo="copies", transfer_memory="4GB")
    def copy(file: Path, output: Path) -> None:
        (output / file.name).write_bytes(file.read_bytes() + b"more")

    with new_dag():
        made = copy()
    run = run_one(made.operator)
    assert run.value["created"]
    assert ceilings[-1] == 4_000_000_000
