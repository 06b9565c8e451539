"""A folder of which little changed: only that little is sent, and asked about in CAS."""

from __future__ import annotations

import os
import threading
import time

import pytest

from airflow_provider_xethub.exceptions import XetSourceError
from airflow_provider_xethub.operators.xethub import XetListOperator, XetUploadOperator
from airflow_provider_xethub.xet.transfer import unchanged
from support.builders import TEXT, commits, write
from xethub_local.control.faults import Fault


@pytest.fixture
def where(connection, repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def source(where, tmp_path, run_task):
    folder = write(tmp_path / "in", {"a.bin": os.urandom(90_000), "d/b.bin": os.urandom(5000), "c.csv": TEXT})
    run_task(XetUploadOperator, source=str(folder), **where).value  # noqa: B018 - raises what failed
    return folder


def test_a_folder_that_is_there_already_is_neither_sent_nor_asked_about_in_cas(hub, where, source, run_task):
    hub.log.clear()

    again = run_task(XetUploadOperator, source=str(source), **where).value

    assert again["unchanged"] == ["a.bin", "c.csv", "d/b.bin"]
    assert (again["transfer"]["files"], again["transfer"]["bytes_sent"]) == (0, 0)
    assert not hub.log.requests(".* /cas/.*")
    listed = {file["path"]: file for file in run_task(XetListOperator, **where).value}
    for file in again["files"]:
        if file["path"] != "c.csv":
            assert (file["sha256"], file["xet_hash"]) == (
                listed[file["path"]]["sha256"],
                listed[file["path"]]["xet_hash"],
            )


def test_of_a_changed_folder_only_the_change_is_sent(hub, where, source, run_task):
    changed = os.urandom(5000)
    (source / "d/b.bin").write_bytes(changed)

    again = run_task(XetUploadOperator, source=str(source), **where).value

    assert again["unchanged"] == ["a.bin", "c.csv"]
    assert (again["transfer"]["files"], again["transfer"]["bytes"]) == (1, 5000)


def test_what_another_branch_has_is_not_taken_for_this_one(hub, where, repo, source, run_task):
    hub.repositories.create_branch(f"datasets/{repo.repo_id}", "empty", "main")
    run_task(XetUploadOperator, source=str(source / "c.csv"), **where, revision="empty")
    (source / "a.bin").write_bytes(os.urandom(90_000))
    run_task(XetUploadOperator, source=str(source), **where).value  # noqa: B018

    other = run_task(XetUploadOperator, source=str(source), revision="empty", **where).value

    assert other["unchanged"] == ["c.csv", "d/b.bin"]
    assert other["transfer"]["files"] == 1


def test_a_file_that_changes_after_it_was_compared_is_not_published(hub, where, repo, tmp_path, run_task, monkeypatch):
    """Its digest of before is told to CAS, and would be published with the content of after."""
    source = write(tmp_path / "in", {"a.bin": os.urandom(50_000)})
    run_task(XetUploadOperator, source=str(source), **where).value  # noqa: B018
    before = commits(hub, repo)
    (source / "a.bin").write_bytes(os.urandom(50_000))
    compare = unchanged.in_repository

    def compare_and_change(*of):
        result = compare(*of)
        (source / "a.bin").write_bytes(os.urandom(50_000))
        return result

    monkeypatch.setattr(unchanged, "in_repository", compare_and_change)

    with pytest.raises(XetSourceError, match=r"a\.bin"):
        run_task(XetUploadOperator, source=str(source), **where).value  # noqa: B018
    assert commits(hub, repo) == before


@pytest.mark.parametrize(
    ("kind", "route"), [("dataset", "POST /api/.*/preupload/.*"), ("bucket", "POST .*/paths-info.*")]
)
def test_a_file_that_goes_away_before_it_is_compared_is_named(
    hub, connection, make_repo, tmp_path, run_task, kind, route
):
    repo = make_repo(kind)
    where = {"repo_id": repo.repo_id, "repo_type": kind}
    source = write(tmp_path / "in", {"a.bin": os.urandom(5000), "b.bin": os.urandom(5000)})
    run_task(XetUploadOperator, source=str(source), **where).value  # noqa: B018 - raises what failed
    (source / "a.bin").write_bytes(os.urandom(5000))
    fault = hub.faults.add(Fault(route, delay=1.0, times=1))

    def remove():
        while not hub.faults.acted(fault):
            time.sleep(0.01)
        (source / "a.bin").unlink()

    remover = threading.Thread(target=remove)
    remover.start()
    run = run_task(XetUploadOperator, source=str(source), **where)
    remover.join()

    assert isinstance(run.error, XetSourceError), repr(run.error)
    assert f"{source}/a.bin" in run.text
    assert "b.bin" not in run.text
    assert not run.is_final
