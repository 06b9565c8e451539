"""Asset events in Airflow's metadata database, for the endpoint of webhooks: in the API server, never in a task.

Airflow offers no public way to this but its REST API, whose handler does the same. The models are those of 3.0 to 3.3.
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


def find_assets(repo_id: str) -> dict[Repo, list[int]]:
    """Return the assets in use that can stand for this repository: their ids, by repository and revision."""
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
    """Whether the asset has the events already that lead from commit ``before`` to commit ``oid``.

    A cheap check that saves a request to the Hub: it follows at most ``_STEPS`` commits. :func:`record_events` decides.
    """
    with create_session() as session:
        todo, seen = [oid], set[str]()
        while todo and len(seen) < _STEPS:
            seen.add(step := todo.pop())
            previous = _predecessors(session, asset_id, step)
            if before in previous:
                return True
            todo += previous - seen
    return False


def record_events(asset_id: int, payloads: Iterable[Mapping[str, Any]], before: str) -> int:
    """Create the events of one asset that it does not have yet, oldest first; returns how many these were.

    All in one transaction, and one at a time for each asset, in whatever process: a body that arrives twice at the same
    moment makes one event.

    :param payloads: commits with ``previous``, as a watcher tells them.
    :param before: where the branch was before the first of them.
    """
    with create_session() as session:
        # Takes the row's lock, on SQLite that of the database; first of all, so that what follows reads what is there.
        locked = update(AssetModel).where(AssetModel.id == asset_id).values(updated_at=AssetModel.updated_at)
        session.execute(locked, execution_options={"synchronize_session": False})
        asset = session.scalar(select(AssetModel).where(AssetModel.id == asset_id))
        if asset is None:
            return 0
        events: list[AssetEvent] = []
        for payload in payloads:
            if _predecessors(session, asset_id, payload["oid"]) & {payload["previous"], before}:
                continue
            # What Airflow makes of the event of a trigger, so that a DAG need not know which way it came.
            extra = {"from_trigger": True, "payload": dict(payload)}
            event = asset_manager.register_asset_change(asset=asset, extra=extra, session=session)
            if event is None:
                continue
            events.append(event)
            # A DAG run takes the events until the moment of the first that asked for it: later ones would wait for the
            # next run. The order of equal times is that of the ids.
            event.timestamp = events[0].timestamp
        return len(events)


def _predecessors(session: Session, asset_id: int, oid: str) -> set[str]:
    """Return what came before this commit, for each event of it."""
    # As text, and read again below: on Airflow 3.0 the column is no JSON that every database can look into.
    extras = session.scalars(
        select(AssetEvent.extra).where(AssetEvent.asset_id == asset_id, cast(AssetEvent.extra, Text).contains(oid))
    )
    payloads = [extra.get("payload") for extra in extras if isinstance(extra, dict)]
    return {
        str(payload.get("previous")) for payload in payloads if isinstance(payload, dict) and payload.get("oid") == oid
    }
