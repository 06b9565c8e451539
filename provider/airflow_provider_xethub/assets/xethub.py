"""Assets with ``hf://`` URIs: the functions that Airflow calls for them, and those with which users create them.

Airflow imports this module wherever it reads an asset's URI, so it imports no client library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from airflow_provider_xethub.assets.events import event_extra
from airflow_provider_xethub.xet.asset_uri import AssetPlace, parse, parse_parts
from airflow_provider_xethub.xet.repo import DEFAULT_REVISION, Repo, RepoType

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Asset
    from openlineage.client.event_v2 import Dataset

__all__ = ["convert_asset_to_openlineage", "create_asset", "event_extra", "sanitize_uri"]


def create_asset(
    *,
    repo_id: str,
    repo_type: RepoType = "model",
    revision: str = DEFAULT_REVISION,
    path: str = "",
    extra: dict[str, Any] | None = None,
) -> Asset:
    """Return the asset of a repository, or of a file or folder in it.

    :param repo_id: ``namespace/name``.
    :param repo_type: ``model``, ``dataset``, ``space`` or ``bucket``.
    :param revision: branch, tag, commit or ``refs/pr/N``.
    :param path: a file or folder in it. Default: the whole repository.
    :param extra: the asset's extra.
    :raises XetInputError: a name breaks the Hub's rules. In a DAG file, Airflow shows this as an import error.
    """
    from airflow.providers.common.compat.sdk import Asset

    place = AssetPlace(Repo(repo_id, repo_type, revision), path.strip("/"))
    return Asset(uri=place.uri, extra=extra)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Normalise an ``hf://`` URI.

    :raises XetInputError: it does not name a repository. The error is a ``ValueError``, as Airflow expects.
    """
    return urlsplit(parse_parts(uri).uri)


def convert_asset_to_openlineage(asset: Asset, lineage_context: Any) -> Dataset:
    """Return the OpenLineage dataset of an asset, on the Hub of the hook that reported it, or on the public Hub."""
    from airflow_provider_xethub.assets.openlineage import dataset_of_asset

    return dataset_of_asset(parse(str(asset.uri)), asset.extra, lineage_context)
