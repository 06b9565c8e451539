"""What the hook moved, for Airflow's lineage: repositories, and the files and object storage on the other side.

The hook reports it to Airflow's collector, so that code in a ``@task`` has lineage without more code; operators build
their OpenLineage facets from the same list, so that the two cannot differ.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from airflow_provider_xethub.hooks.errors import log_and_continue
from airflow_provider_xethub.xet.asset_uri import READABLE, AssetPlace
from airflow_provider_xethub.xet.identifiers import COMMIT_ID
from airflow_provider_xethub.xet.repo import Repo

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.records import XetCommitResult, XetFile

Direction = Literal["input", "output"]

MAX_DATASETS = 100
"""Most datasets that one hook reports; a list of sources can be long."""

log = logging.getLogger(__name__)

_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Moved:
    """One dataset that was read or written.

    :param uri: its asset URI, never with a connection or a credential in it.
    :param repo: the repository, or ``None`` for files and object storage.
    :param version: id of the commit that was read or made, if known.
    :param files: the number of files, like ``size`` in bytes known for repositories only.
    """

    direction: Direction
    uri: str
    repo: Repo | None = None
    version: str | None = None
    files: int | None = None
    size: int | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What is known about it, as the extra of the collector's asset."""
        named = {"oid": self.version, "file_count": self.files, "bytes": self.size}
        return {name: value for name, value in named.items() if value is not None}


class Lineage:
    """What one hook moved so far. No method raises, because the work is done.

    :ivar moved: the datasets, in order.
    """

    def __init__(self, hook: Any) -> None:
        self._hook = hook
        self.moved: list[Moved] = []

    def read(self, repo: Repo, files: Sequence[XetFile]) -> None:
        """Record that files were read from a repository."""
        with log_and_continue(log, "Airflow's lineage lacks a repository"):
            self._add(_of_repo("input", repo, None, files))

    def uploaded(self, files: Sequence[XetFile]) -> None:
        """Record that files were uploaded for a repository, without a commit so far."""
        with log_and_continue(log, "Airflow's lineage lacks a repository"):
            self._add(_of_repo("output", Repo.from_uri(files[0]["repo"]), None, files))

    def committed(self, result: XetCommitResult) -> None:
        """Record what was committed: new and changed files."""
        with log_and_continue(log, "Airflow's lineage lacks a repository"):
            from airflow_provider_xethub.xet.records import changed_files

            count = size = 0
            for file in changed_files(result):
                count, size = count + 1, size + file["size"]
            repo, version = Repo.from_uri(result["repo"]), result["oid"] or None
            self._add(Moved("output", AssetPlace(repo).uri, repo, version, count, size))

    def elsewhere(self, direction: Direction, places: Any) -> None:
        """Record sources or destinations: local paths and object storage."""
        from airflow_provider_xethub.xet.files.sources import each_source

        with log_and_continue(log, "Airflow's lineage lacks files"):
            for place in each_source(places)[:MAX_DATASETS]:
                self._add(Moved(direction, _uri_of(place)))

    def _add(self, moved: Moved) -> None:
        if len(self.moved) >= MAX_DATASETS:
            return
        self.moved.append(moved)
        collector = _collector()
        if collector is None:
            return
        add = collector.add_input_asset if moved.direction == "input" else collector.add_output_asset
        add(self._hook, uri=moved.uri, asset_extra=moved.facts)


def _collector() -> Any | None:
    """Return Airflow's collector, or ``None`` where no plugin reads it.

    Even a collector that collects nothing imports the asset factories of all providers; with Amazon's, that takes
    longer than a small upload.
    """
    try:
        from airflow.sdk.lineage import get_hook_lineage_collector
        from airflow.sdk.plugins_manager import get_hook_lineage_readers_plugins
    except ImportError:  # Airflow 3.0 and 3.1
        from airflow.lineage.hook import get_hook_lineage_collector as get_old_collector

        return get_old_collector()
    return get_hook_lineage_collector() if get_hook_lineage_readers_plugins() else None


def _of_repo(direction: Direction, repo: Repo, version: str | None, files: Sequence[XetFile]) -> Moved:
    if version is None and COMMIT_ID.fullmatch(repo.revision):
        version = repo.revision
    from airflow_provider_xethub.xet.manifests.files import bytes_of

    size = bytes_of(files)
    return Moved(direction, AssetPlace(repo).uri, repo, version, len(files), size)


def _uri_of(place: Any) -> str:
    """Return the asset URI of a place on the worker or in object storage; of a glob, that of its folder."""
    from airflow_provider_xethub.xet.files.object_storage import location

    stored = location(place)
    path = stored.path if stored else os.path.abspath(os.path.expanduser(os.fspath(place)))  # noqa: PTH100, PTH111
    if wildcard := _WILDCARD.search(path):
        path = path[: wildcard.start()].rpartition("/")[0] or "/"
    return f"{stored.scheme if stored else 'file'}://{quote(path.rstrip('/') or '/', safe=READABLE)}"
