"""Events for the assets in a task's outlets that describe the commit of the task."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.assets.events import event_extra
from airflow_provider_xethub.hooks.errors import log_and_continue
from airflow_provider_xethub.xet.asset_uri import AssetPlace, parse
from airflow_provider_xethub.xet.repo import Repo

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_xethub.xet.records import XetCommitResult

log = logging.getLogger(__name__)


def record_events(context: Context, outlets: Iterable[Any], result: XetCommitResult) -> None:
    """Describe a commit in the events of the outlets that it concerns.

    Those are the repository at the revision of the commit, a file or folder in it, and assets that have a name but no
    URI. An ``AssetAlias`` gets an event of the repository's asset. This never raises, because the commit is made.
    """
    for outlet in outlets:
        with log_and_continue(log, f"The event of the outlet {outlet} does not describe the commit"):
            _record_event(context, outlet, result)


def _record_event(context: Context, outlet: Any, result: XetCommitResult) -> None:
    from airflow.providers.common.compat.sdk import Asset, AssetAlias

    committed = Repo.from_uri(result["repo"])
    if isinstance(outlet, AssetAlias):
        asset = Asset(uri=AssetPlace(committed).uri)
        context["outlet_events"][outlet].add(asset, extra=_extra_of_alias(result))
        return
    path, uri = "", getattr(outlet, "uri", "")
    if uri.startswith("hf://"):
        place = parse(uri)
        is_meant = place.repo == committed or (result["pull_request"] and place.repo.is_same_repo(committed))
        if not is_meant:
            log.warning(
                "The event of the outlet %s does not describe the commit, because this task committed to %s.",
                *(uri, result["repo"]),
            )
            return
        path = place.path
    elif "://" in uri:
        return  # not on the Hub: the task updates it by other means
    context["outlet_events"][outlet].extra.update(_extra(result, path))


def _extra(result: XetCommitResult, path: str = "") -> dict[str, Any]:
    return {**event_extra(result, path)}


def _extra_of_alias(result: XetCommitResult) -> dict[str, Any]:
    from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

    extra = _extra(result)
    if AIRFLOW_V_3_1_PLUS:
        return extra
    # Airflow 3.0 hashes the extra of an alias event, and fails the task if it contains a list.
    is_complete = not (extra["file_count"] or extra["deleted_count"])
    return {key: each for key, each in extra.items() if not isinstance(each, list)} | {"complete": is_complete}
