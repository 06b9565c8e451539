"""A running CAS, and the clients that speak to it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import hf_xet
import pytest

from support.javascript_client import JavaScript
from support.running_cas import RunningCas, running_cas
from xethub_local.server import LocalHub


@pytest.fixture(scope="module")
def cas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCas]:
    """One CAS for all tests of a module; tests use data of their own."""
    with running_cas(tmp_path_factory.mktemp("cas")) as running:
        yield running


@pytest.fixture(scope="module")
def session() -> hf_xet.XetSession:
    """The transfer client with its default settings."""
    return hf_xet.XetSession()


@pytest.fixture
def start_cas() -> Callable[[Path], contextlib.AbstractContextManager[RunningCas]]:
    """Start a further CAS, on a folder of its own."""
    return running_cas


@pytest.fixture(scope="module")
def javascript_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    """A whole local Hub for the tests of the JavaScript client in one module."""
    with LocalHub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture(scope="module")
def javascript(javascript_hub: LocalHub) -> Iterator[JavaScript]:
    """The JavaScript client at that Hub, with a Hub token that may write everywhere."""
    with JavaScript(javascript_hub.url, javascript_hub.token()) as client:
        yield client


@pytest.fixture
def javascript_repo(javascript_hub: LocalHub, request: pytest.FixtureRequest) -> str:
    """A new empty dataset repository, named as the JavaScript client names it: ``datasets/acme/…``."""
    repo_id = f"acme/{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}"
    javascript_hub.create_repo(repo_id, "dataset")
    javascript_hub.log.clear()
    return f"datasets/{repo_id}"
