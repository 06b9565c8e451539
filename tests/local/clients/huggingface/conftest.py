"""One running local Hub for each file of tests, and the client that speaks to it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from huggingface_hub import HfApi
from huggingface_hub.utils.tqdm import disable_progress_bars

from xethub_local.server import LocalHub

disable_progress_bars()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture
def hub(server: LocalHub) -> Iterator[LocalHub]:
    server.log.clear()
    yield server
    server.faults.clear()
    server.scans.clear()


@pytest.fixture
def api(hub: LocalHub) -> HfApi:
    return HfApi(endpoint=hub.url, token=hub.token())


@pytest.fixture
def repo(hub: LocalHub, request: pytest.FixtureRequest) -> str:
    """A new empty dataset repository."""
    repo_id = f"acme/{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}"
    return hub.create_repo(repo_id, "dataset").repo_id
