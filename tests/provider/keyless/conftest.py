"""A worker with an identity file, and a connection without a Hub token."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_xethub.hooks.xethub import XetHubConnection
from support.identities import SUBJECT
from xethub_local.server import LocalHub


@pytest.fixture
def id_file(tmp_path: Path, hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ID token of ``SUBJECT``, in a file that the administrator allows."""
    path = tmp_path / "identity" / "token"
    path.parent.mkdir()
    path.write_text(hub.identity(SUBJECT))
    monkeypatch.setenv("AIRFLOW__XETHUB__IDENTITY_FILES", f"/somewhere/else, {path}")
    return path


@pytest.fixture
def keyless(connection: Callable[..., str], id_file: Path) -> Callable[..., str]:
    """Replaces the Hub token in the connection by an identity; called again, with other extras."""

    def connect(conn_id: str = "xethub_default", **extra: Any) -> str:
        return connection(conn_id, password=None, extra={"identity": "file", "identity_file": str(id_file), **extra})

    connect()
    return connect


@pytest.fixture
def publisher(hub: LocalHub) -> Any:
    """Adds a trusted publisher for the worker's identity, and removes it after the test."""
    added: list[str] = []

    def add(repo: Any, read_only: bool = False, **claims: Any) -> Any:
        new = hub.publisher(repo, read_only=read_only, **(claims or {"sub": SUBJECT}))
        added.append(new.id)
        return new

    yield add
    for each in added:
        hub.publishers.remove(each)
    hub.exchanged_token_lifetime = 3600


@pytest.fixture
def hook(keyless: Callable[..., str]) -> XetHubConnection:
    return XetHubConnection()
