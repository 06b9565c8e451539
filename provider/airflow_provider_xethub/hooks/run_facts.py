"""What a card says about the run that published: the same for all attempts of a task instance, and no secret."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.hooks.attempt import loop_index
from airflow_provider_xethub.xet.publish.card import Card

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def card_of_run(context: Context, card: Any) -> Card:
    """Return a card with DAG, run, task, and inputs: those given, the task's inlets, and the assets of the run.

    :raises XetInputError: it is not a card.
    """
    if not isinstance(card, Card):
        raise XetInputError(f"card must be a Card, not {card!r:.60} ({type(card).__name__}).")
    card.check()
    ti = context["ti"]
    facts = {"DAG": ti.dag_id, "Run": ti.run_id, "Task": ti.task_id}
    if ti.map_index is not None and ti.map_index >= 0:
        facts["Map index"] = str(ti.map_index)
    if (index := loop_index(context)) is not None:
        facts["Iteration"] = str(index)
    if date := context.get("logical_date"):
        facts["Logical date"] = date.isoformat()
    inlets = [uri for each in _inlets(context) if (uri := getattr(each, "uri", None))]
    inputs = [*card.inputs, *inlets, *sorted(_triggering(context))]
    return replace(card, facts={**facts, **card.facts}, inputs=[without_credentials(str(each)) for each in inputs])


def _inlets(context: Context) -> Iterable[Any]:
    return getattr(context.get("task"), "inlets", None) or ()


def _triggering(context: Context) -> set[str]:
    """Return the URIs of the assets that started the run, with the commit where an event names one."""
    found: set[str] = set()
    events = context.get("triggering_asset_events") or {}
    for asset in events:
        uri = str(getattr(asset, "uri", "") or "")
        for event in events[asset]:
            extra = getattr(event, "extra", None)
            oid = extra.get("oid") if isinstance(extra, Mapping) else None
            found |= {f"{uri}#{oid}" if oid and uri else uri} - {""}
    return found


def without_credentials(uri: str) -> str:
    """Return a URI without user, password and query, which may hold credentials."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return "(not a URI)"
    if not parts.scheme:
        return uri.partition("?")[0]
    host = parts.netloc.rpartition("@")[2] if parts.scheme != "hf" else parts.netloc
    return urlunsplit((parts.scheme, host, parts.path, "", parts.fragment))
