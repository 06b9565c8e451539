"""A repository under its old name, or in other letter case: the Hub redirects, and the provider follows it there."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.exceptions import XetInputError, XetNotFoundError
from airflow_provider_xethub.operators.xethub import (
    XetCopyOperator,
    XetDownloadOperator,
    XetListOperator,
    XetUploadOperator,
)
from support.builders import binary, write
from xethub_local.metadata.commits import PutRegular


@pytest.fixture
def renamed(hub, repo):
    """Return the new name of a repository that was renamed."""
    new_name = f"{repo.repo_id}-renamed"
    with hub.repositories.db.write():
        hub.repositories.move(f"datasets/{repo.repo_id}", f"datasets/{new_name}")
        hub.content.move_repository(f"datasets/{repo.repo_id}", f"datasets/{new_name}")
    return new_name


@pytest.mark.parametrize("spelled", [lambda old, new: old, lambda old, new: new.replace("local/r", "Local/R")])
def test_uploads_and_downloads_follow_a_repository(hub, connection, repo, renamed, run_task, tmp_path, spelled):
    where = {"repo_id": spelled(repo.repo_id, renamed), "repo_type": "dataset"}
    files = {"a.bin": binary(), "b.txt": b"inline"}
    done = run_task(XetUploadOperator, source=str(write(tmp_path / "in", files)), **where).value
    head = hub.repositories.resolve(f"datasets/{renamed}", "main")
    assert done["oid"] == head.id
    listed = run_task(XetListOperator, **where).value
    assert {file["path"] for file in listed} == {*files, ".gitattributes"}
    run_task(XetDownloadOperator, destination=str(tmp_path / "out"), paths=[*files], **where)
    assert {name: (tmp_path / "out" / name).read_bytes() for name in files} == files
    assert {request.status for request in hub.log.requests("POST .*/commit/main")} == {200, 307}


def test_a_copy_follows_a_repository(hub, connection, repo, renamed, make_repo, run_task, tmp_path):
    where = {"repo_id": renamed, "repo_type": "dataset"}
    run_task(XetUploadOperator, source=str(write(tmp_path / "in", {"a.bin": binary(), "b.txt": b"x"})), **where)
    target = make_repo()
    run_task(
        XetCopyOperator,
        source_repo_id=repo.repo_id,
        paths=["a.bin", "b.txt"],
        repo_id=target.repo_id,
        repo_type="dataset",
    )
    head = hub.repositories.resolve(f"datasets/{target.repo_id}", "main")
    assert {"a.bin", "b.txt"} <= {entry.path for entry in hub.repositories.entries(f"datasets/{target.repo_id}", head)}


def test_a_renamed_private_repository_does_not_exist_for_others(hub, connection, repo, renamed, run_task):
    hub.repositories.set_private(f"datasets/{renamed}", True)
    connection(password=hub.add_user("eve", role="write"))
    run = run_task(XetListOperator, repo_id=repo.repo_id, repo_type="dataset")
    assert isinstance(run.error, XetNotFoundError)
    assert "renamed" not in str(run.error)


def test_a_name_with_a_backslash_is_not_written_anywhere(hub, connection, repo, run_task, tmp_path):
    where = {"repo_id": repo.repo_id, "repo_type": "dataset"}
    hub.commits.commit(f"datasets/{repo.repo_id}", "main", [PutRegular("f/..\\..\\x", b"x")], title="odd")
    assert "f/..\\..\\x" in {file["path"] for file in run_task(XetListOperator, **where).value}
    run = run_task(XetDownloadOperator, destination=str(tmp_path / "out"), **where)
    assert isinstance(run.error, XetInputError)
    assert "it contains a backslash" in str(run.error)
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]
