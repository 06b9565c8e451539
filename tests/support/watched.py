"""A repository that Airflow watches: commits to it, and what the metadata database has of them. Since Airflow 3.3."""

from __future__ import annotations

import json
from itertools import count

from airflow.sdk import DAG, Asset, AssetWatcher

from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.triggers.xethub import XetRevisionTrigger
from support.builders import TEXT, publish
from support.stored_runs import store
from support.triggerer_process import TriggererProcess


class Watched:
    """A repository that Airflow watches, and the events of its commits in Airflow's database."""

    def __init__(self, hub, repo, conn_id, folder) -> None:
        self._hub, self._repo, self._folder, self._count = hub, repo, folder, count()
        self.made: list[str] = [self._head()]
        trigger = XetRevisionTrigger(repo_id=repo.repo_id, repo_type="dataset", xethub_conn_id=conn_id, poke_interval=1)
        self._uri = f"hf://datasets/{repo.repo_id}"
        asset = Asset(self._uri, watchers=[AssetWatcher(name="commits", trigger=trigger)])
        # Airflow watches only for DAGs that are not paused. The second time they are stored, the asset is active.
        store(DAG(f"watched_{repo.repo_id[-8:]}", schedule=[asset], is_paused_upon_creation=False), times=2)

    def _head(self) -> str:
        return XetHubConnection().get_latest_commit(self._repo)["oid"]

    def commit(self, times: int = 1) -> None:
        for number in [next(self._count) for _ in range(times)]:
            publish(self._repo, self._folder / str(number), {f"{number}.txt": TEXT})
            self.made.append(self._head())

    def looks(self) -> int:
        return len(self._hub.log.requests(f"GET .*{self._repo.repo_id}/commits/.*"))

    def stored(self) -> tuple[list[str], str | None]:
        """The commits of the asset's events, in order, and the one that is remembered: both at one moment."""
        from airflow.models.asset import AssetEvent, AssetModel
        from airflow.models.asset_state_store import AssetStateStoreModel
        from airflow.utils.session import create_session
        from sqlalchemy import select

        # One statement: in SQLite, it alone sees one moment.
        newest = select(AssetStateStoreModel.value).where(AssetStateStoreModel.asset_id == AssetModel.id)
        statement = (
            select(AssetEvent.extra, newest.scalar_subquery())
            .select_from(AssetModel)
            .join(AssetEvent, AssetModel.id == AssetEvent.asset_id, isouter=True)
            .where(AssetModel.uri == self._uri)
            .order_by(AssetEvent.id)
        )
        with create_session() as session:
            rows = session.execute(statement).all()
        remembered = rows[0][1] if rows else None
        told = [extra["payload"]["oid"] for extra, _ in rows if extra]
        return told, json.loads(remembered) if remembered else None

    def told(self) -> list[str]:
        return self.stored()[0]

    def remembered(self) -> str | None:
        return self.stored()[1]

    def is_settled(self) -> bool:
        told, remembered = self.stored()
        return remembered == self.made[-1] and (not told or told[-1] == remembered)

    def settle(self, triggerer: TriggererProcess) -> None:
        """Wait until this triggerer looks, and nothing is left to tell or to remember."""
        seen = self.looks()
        triggerer.until(lambda: self.looks() > seen and self.is_settled())
