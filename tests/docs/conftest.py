"""What the snippets of the documentation expect to be there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from huggingface_hub import constants

from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.publish.commit import CommitRequest
from airflow_provider_xethub.xet.repo import Repo
from support.documentation import BIN
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


@pytest.fixture
def without_the_provider(hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect ``huggingface_hub`` and its program ``hf`` as DAGs do that do not use this provider."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    )
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("AIRFLOW_VAR_HF_TOKEN", hub.token())
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")
