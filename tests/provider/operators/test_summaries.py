"""What the log of a task says that it did."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetUploadOperator
from support.builders import write


@pytest.fixture
def said(capsys):
    return lambda: capsys.readouterr().out


def test_a_folder_of_small_files_and_its_unchanged_night(repo, connection, run_task, tmp_path, said):
    source = write(tmp_path / "in", {f"{number}.json": f"{{{number}}}".encode() for number in range(150)})
    where = {"source": str(source), "repo_id": repo.repo_id, "repo_type": "dataset"}
    url = run_task(XetUploadOperator, **where).value["url"]
    text = said()
    assert "Uploaded 150 files inline with the commit." in text
    assert f"Committed 150 changed, 0 deleted, 0 unchanged files to {repo}: {url}" in text
    run_task(XetUploadOperator, **where)
    text = said()
    assert "Uploaded nothing: the repository has all files already." in text
    assert f"Nothing to commit: all 150 files are unchanged in {repo}: {url}" in text
    (source / "7.json").write_text("[]")
    url = run_task(XetUploadOperator, **where).value["url"]
    text = said()
    assert "Uploaded 1 file inline with the commit." in text
    assert f"Committed 1 changed, 0 deleted, 149 unchanged files to {repo}: {url}" in text


def test_a_pull_request_is_named_with_its_number_and_url(repo, connection, run_task, tmp_path, said):
    source = write(tmp_path / "in", {"a.json": b"{}"})
    run = run_task(XetUploadOperator, source=str(source), repo_id=repo.repo_id, repo_type="dataset", create_pr=True)
    url = run.value["pull_request"]
    assert url.endswith("/discussions/1")
    assert f"Opened pull request 1 of {repo.repo_id} with 1 changed, 0 deleted, 0 unchanged files: {url}" in said()
    assert run.xcoms["_link_XetHubLink"] == url


def test_a_download_says_what_is_new_and_what_was_there(repo, connection, run_task, tmp_path, said):
    source = write(tmp_path / "in", {"a.bin": bytes(range(256)) * 100, "b.bin": b"\0" * 9000})
    where = {"repo_id": repo.repo_id, "repo_type": "dataset"}
    run_task(XetUploadOperator, source=str(source), **where)
    out = {**where, "patterns": "*.bin", "destination": str(tmp_path / "out")}
    run_task(XetDownloadOperator, **{**out, "patterns": "a.bin"})
    said()
    run_task(XetDownloadOperator, **out)
    text = said()
    assert "Downloaded 1 file, 9.0 kB, verified, in " in text
    assert "1 already there, unchanged." in text
    run_task(XetDownloadOperator, **out)
    assert "Downloaded nothing: all 2 files are already there, unchanged." in said()
