"""Where the tests of the filesystem look: paths of Airflow, and the filesystem below them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from support.object_stores import forget_filesystems

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

    from airflow_provider_xethub.fs.xethub import XetHubFileSystem
    from airflow_provider_xethub.xet.repo import Repo


def name(repo: Repo, path: str = "") -> str:
    """What the filesystem calls a path of a repository."""
    root = repo.uri.removeprefix("hf://").removesuffix("@main")
    return f"{root}/{path}" if path else root


def at(repo: Repo, path: str = "", scheme: str = "hf") -> ObjectStoragePath:
    """A path as a DAG writes it."""
    from airflow.sdk import ObjectStoragePath

    return ObjectStoragePath(f"{scheme}://xethub_default@{name(repo, path)}")


@pytest.fixture
def fs(connection: object) -> Iterator[XetHubFileSystem]:
    """The filesystem of ``xethub_default``, as Airflow opens it; no other test has used it."""
    from airflow.sdk.io import attach

    from airflow_provider_xethub.fs.xethub import XetHubFileSystem

    XetHubFileSystem.clear_instance_cache()
    forget_filesystems()
    yield attach("hf", "xethub_default").fs
    forget_filesystems()
