"""What the snippets of the documentation expect to be there."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.publish.commit import CommitRequest
from airflow_provider_xethub.xet.repo import Repo
from xethub_local.store.errors import ConflictError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The folder that stands for ``/data`` of the pages."""
    folder = tmp_path / "data"
    (folder / "photos").mkdir(parents=True)
    (folder / "photos/adelie.bin").write_bytes(bytes(range(256)) * 500)
    (folder / "photos/gentoo.bin").write_bytes(bytes(reversed(range(256))) * 500)
    (folder / "photos/notes.csv").write_text("species\nAdelie\n")
    (folder / "report.txt").write_text("all is well\n")
    return folder


@pytest.fixture
def corpus(hub, connection, data) -> Repo:
    """The repository ``acme/corpus`` of the pages, with what they expect to be in it."""
    repo = Repo("acme/corpus", "dataset")
    try:
        hub.create_repo("acme/corpus", "dataset")
        hub.create_repo("acme/published", "dataset")
    except ConflictError:
        pass
    else:
        XetHubConnection().publish(data, CommitRequest(repo, ()))
        hub.repositories.create_branch("datasets/acme/corpus", "v1")
    XetHubConnection().publish(data, CommitRequest(repo, ()))
    return repo
