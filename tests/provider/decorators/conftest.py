"""The repository that decorated functions read, and a folder for temporary files that must be empty afterwards."""

from __future__ import annotations

import pytest

from support.builders import binary, publish
from support.decorated import RAW


@pytest.fixture
def where(repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def raw(hub, connection, repo, tmp_path):
    """The records of the repository's files."""
    files = publish(repo, tmp_path / "before", {**RAW, "other.bin": binary()})
    hub.log.clear()
    return files


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files; after a test nothing may be left in it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []
