"""A model on the Hub, and a Hugging Face cache to download it to."""

from __future__ import annotations

import pytest

from support.builders import publish


@pytest.fixture
def model(request, make_repo, connection, tmp_path):
    """A model with the module's FILES."""
    repo = make_repo("model")
    publish(repo, tmp_path, request.module.FILES)
    return repo


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"
