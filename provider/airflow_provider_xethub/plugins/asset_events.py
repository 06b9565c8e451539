"""Create asset events in Airflow's metadata database for webhooks: in the API server, never in a task.

The only public way to create asset events is Airflow's REST API, whose handler does the same. The models are those of
Airflow 3.0 to 3.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow.assets.manager import asset_manager
from airflow.models.asset import AssetEvent, AssetModel
from airflow.utils.session import create_session
from sqlalchemy import Text, cast, select, update
from sqlalchemy.orm import Session

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.repo import URI_SCHEME, Repo

_STEPS = 100
"""Commits that :func:`is_recorded` follows back."""


def find_assets(repo_id: str) -> dict[Repo, list[int]]:
    """Return the IDs of the active assets for a repository, by repository and revision."""
    with create_session() as session:
        rows = session.execute(
            select(AssetModel.id, AssetModel.uri)
            .where(
                AssetModel.active.has(),
                AssetModel.uri.startswith(URI_SCHEME),
                AssetModel.uri.contains(repo_id, autoescape=True),
            )
            .order_by(AssetModel.id)
        ).all()
    found: dict[Repo, list[int]] = {}
    for asset_id, uri in rows:
        try:
            found.setdefault(Repo.from_uri(uri), []).append(asset_id)
        except XetInputError:
            continue  # a file in a repository, for example
    return found


def is_recorded(asset_id: int, oid: str, before: str) -> bool:
    """Return whether the asset already has the events that lead from commit ``before`` to commit ``oid``.

    A cheap check that saves a request to the Hub: it follows at most ``_STEPS`` commits. :func:`record_events` decides.
    """
    with create_session() as session:
        pending, seen = [oid], set[str]()
        while pending and len(seen) < _STEPS:
            seen.add(step := pending.pop())
            previous = _predecessors(session, asset_id, step)
            if before in previous:
                return True
            pending += previous - seen
    return False


def record_events(asset_id: int, payloads: Iterable[Mapping[str, Any]], before: str) -> int:
    """Create the events that an asset does not have yet, oldest first.

    All in one transaction, and serialised for each asset across all processes: a body that arrives twice at the same
    time creates one event.

    :param payloads: commits with ``previous``, as a watcher reports them.
    :param before: ID of the commit where the branch was before the first of them.
    :returns: the number of events created.
    """
    with create_session() as session:
        # Locks the row (SQLite: the database) first, so that the following queries see all earlier events.
        locked = update(AssetModel).where(AssetModel.id == asset_id).values(updated_at=AssetModel.updated_at)
        session.execute(locked, execution_options={"synchronize_session": False})
        asset = session.scalar(select(AssetModel).where(AssetModel.id == asset_id))
        if asset is None:
            return 0
        events: list[AssetEvent] = []
        for payload in payloads:
            if _predecessors(session, asset_id, payload["oid"]) & {payload["previous"], before}:
                continue
            # The same extra that Airflow stores for the event of a trigger, so that DAGs need not distinguish the two.
            extra = {"from_trigger": True, "payload": dict(payload)}
            event = asset_manager.register_asset_change(asset=asset, extra=extra, session=session)
            if event is None:
                continue
            events.append(event)
            # A DAG run consumes the events up to the time of the first event that triggered it; later ones would wait
            # for the next run. Events with equal times are ordered by ID.
            event.timestamp = events[0].timestamp
        return len(events)


def _predecessors(session: Session, asset_id: int, oid: str) -> set[str]:
    """Return the preceding commit of each event that the asset has for this commit."""
    # Searched as text and compared below: on Airflow 3.0, not every database can query the column as JSON.
    extras = session.scalars(
        select(AssetEvent.extra).where(AssetEvent.asset_id == asset_id, cast(AssetEvent.extra, Text).contains(oid))
    )
    payloads = [extra.get("payload") for extra in extras if isinstance(extra, dict)]
    return {
        str(payload.get("previous")) for payload in payloads if isinstance(payload, dict) and payload.get("oid") == oid
    }
