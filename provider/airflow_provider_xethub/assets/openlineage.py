"""OpenLineage datasets and facets. Only the OpenLineage provider causes this import, so its packages are present."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_xethub.xet.asset_uri import AssetPlace
from airflow_provider_xethub.xet.hub.pages import HubPage
from airflow_provider_xethub.xet.urls import DEFAULT_ENDPOINT

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import Dataset

    from airflow_provider_xethub.hooks.lineage import Moved
    from airflow_provider_xethub.hooks.xethub import XetHubConnection


def operator_lineage(hook: XetHubConnection) -> OperatorLineage:
    """Return the datasets that an operator read and wrote through its hook."""
    from airflow.providers.openlineage.extractors import OperatorLineage

    inputs = [_dataset(moved, hook) for moved in hook.lineage.moved if moved.direction == "input"]
    outputs = [_dataset(moved, hook) for moved in hook.lineage.moved if moved.direction == "output"]
    return OperatorLineage(
        inputs=[dataset for dataset in inputs if dataset], outputs=[dataset for dataset in outputs if dataset]
    )


def dataset_of_asset(place: AssetPlace, extra: Mapping[str, Any], hook: Any) -> Dataset:
    """Return the dataset of an asset, with the facets that ``extra`` provides.

    :param hook: the hook that reported the asset to lineage. Anything but the hook of this provider, such as ``None``,
        means the public Hub.
    """
    from openlineage.client.event_v2 import Dataset

    version = extra.get("oid")
    endpoint = _endpoint(hook)
    facets = _facets(place, endpoint, version if isinstance(version, str) else None)
    return Dataset(namespace=_namespace(endpoint), name=place.name, facets=facets)


def _dataset(moved: Moved, hook: XetHubConnection) -> Any | None:
    """Return an input or output; ``None`` if no provider knows the scheme of its URI."""
    from openlineage.client import facet_v2
    from openlineage.client.event_v2 import InputDataset, OutputDataset

    if moved.repo is None:
        from airflow.providers.common.compat.sdk import Asset
        from airflow.providers.openlineage.utils.utils import translate_airflow_asset

        return translate_airflow_asset(Asset(uri=moved.uri), None)
    place = AssetPlace(moved.repo)
    endpoint = _endpoint(hook)
    named: dict[str, Any] = {
        "namespace": _namespace(endpoint),
        "name": place.name,
        "facets": _facets(place, endpoint, moved.version),
    }
    # The number of rows is unknown: files are moved as bytes.
    figures: dict[str, Any] = {"rowCount": None, "size": moved.size, "fileCount": moved.files}
    if moved.direction == "input":
        statistics = facet_v2.input_statistics_input_dataset.InputStatisticsInputDatasetFacet(**figures)
        return InputDataset(**named, inputFacets={"inputStatistics": statistics})
    written = facet_v2.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(**figures)
    return OutputDataset(**named, outputFacets={"outputStatistics": written})


def _facets(place: AssetPlace, endpoint: str, version: str | None) -> dict[str, Any]:
    from openlineage.client import facet_v2

    page = HubPage(place.repo, "commit", version) if version else HubPage(place.repo)
    source = facet_v2.datasource_dataset.DatasourceDatasetFacet(name=endpoint, uri=f"{endpoint}{page.path}")
    facets: dict[str, Any] = {"dataSource": source}
    if version:
        facets["version"] = facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=version)
    return facets


def _endpoint(hook: Any) -> str:
    return str(getattr(hook, "endpoint", None) or DEFAULT_ENDPOINT)


def _namespace(endpoint: str) -> str:
    return f"hf://{urlsplit(endpoint).netloc}"
