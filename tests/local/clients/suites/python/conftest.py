"""What the tests of ``huggingface_hub`` take from their ``conftest``, which the source distribution leaves out."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, patch

import pytest
from huggingface_hub import HfApi, RepoUrl, constants

from .testing_constants import ENDPOINT_STAGING, TOKEN
from .testing_utils import repo_name

RepoFactory = Callable[..., RepoUrl]

_MARKERS = ("api", "transfer", "inference", "xet", "no_xet", "production", "deprecated", "git_lfs", "vcr")
_NEEDS = {
    "production": "reads repositories that exist at huggingface.co only",
    "vcr": "replays answers that were recorded at huggingface.co",
    "git_lfs": "pushes with git",
}


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers."""
    for name in _MARKERS:
        config.addinivalue_line("markers", f"{name}: see the tests of huggingface_hub")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what the list of exclusions names, and what is marked as needing more than a Hub."""
    listed = _exclusions(Path(os.environ["CLIENT_TESTS_EXCLUDED"]))
    for item in items:
        name = item.nodeid.rpartition("tests/")[2]
        reason = next((_NEEDS[mark.name] for mark in item.iter_markers() if mark.name in _NEEDS), None)
        reason = reason or next((why for beginning, why in listed if _is_meant(name, beginning)), None)
        if reason:
            item.add_marker(pytest.mark.skip(reason=f"does not apply: {reason}"))


def _exclusions(file: Path) -> list[tuple[str, str]]:
    """Return beginnings of test ids with the reason above them."""
    found, reason = [], ""
    for line in file.read_text().splitlines():
        if line.startswith(" "):
            found.append((line.strip(), reason))
        elif line and not line.startswith("#"):
            reason = line
    return found


def _is_meant(name: str, beginning: str) -> bool:
    return name == beginning or name.startswith((f"{beginning}::", f"{beginning}["))


@pytest.fixture(scope="session")
def api() -> HfApi:
    """The client, with a token that may write."""
    return HfApi(endpoint=ENDPOINT_STAGING, token=TOKEN)


@pytest.fixture
def repo_factory(api: HfApi) -> Iterator[RepoFactory]:
    """Create repositories that are deleted after the test."""
    created: list[tuple[RepoUrl, str | None]] = []

    def create(
        repo_type: str = "model", *, repo_id: str | None = None, token: str | None = None, **options: Any
    ) -> RepoUrl:
        url = api.create_repo(repo_id or repo_name(), repo_type=repo_type, token=token, **options)
        created.append((url, token))
        return url

    yield create
    for url, token in created:
        api.delete_repo(url.repo_id, repo_type=url.repo_type, token=token, missing_ok=True)


@pytest.fixture(autouse=True)
def transfer_client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send files with ``hf_xet``, except in tests that are about doing without."""
    without = request.node.get_closest_marker("no_xet") is not None
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", without)


@pytest.fixture(autouse=True)
def deprecation(request: pytest.FixtureRequest) -> Iterator[None]:
    """Expect the warning of a test that calls something deprecated."""
    marker = request.node.get_closest_marker("deprecated")
    if marker is None:
        yield
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    told = " ".join(str(one.message) for one in caught if issubclass(one.category, FutureWarning))
    assert all(name in told for name in marker.args)


class _Mocker:
    """The part of pytest-mock that the tests use: patches that end with the test."""

    MagicMock = Mock = MagicMock

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self.patch = _Patch(stack)


class _Patch:
    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._stack.enter_context(patch(*args, **options))

    def object(self, *args: Any, **options: Any) -> Any:
        """Replace an attribute of an object."""
        return self._stack.enter_context(patch.object(*args, **options))

    def dict(self, *args: Any, **options: Any) -> Any:
        """Change a mapping."""
        return self._stack.enter_context(patch.dict(*args, **options))


@pytest.fixture
def mocker() -> Generator[_Mocker]:
    """Patches that end with the test."""
    with contextlib.ExitStack() as stack:
        yield _Mocker(stack)
