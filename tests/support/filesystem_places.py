"""Where the tests of the filesystem look: paths of Airflow, and the filesystem below them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

    from airflow_provider_xethub.xet.repo import Repo


def name(repo: Repo, path: str = "") -> str:
    """What the filesystem calls a path of a repository."""
    root = repo.uri.removeprefix("hf://").removesuffix("@main")
    return f"{root}/{path}" if path else root


def at(repo: Repo, path: str = "", scheme: str = "hf") -> ObjectStoragePath:
    """A path as a DAG writes it."""
    from airflow.sdk import ObjectStoragePath

    return ObjectStoragePath(f"{scheme}://xethub_default@{name(repo, path)}")
