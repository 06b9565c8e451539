"""A real triggerer: its own process, the connection in the metadata database, the state of the asset in there too."""

from __future__ import annotations

import json
import uuid

import pytest
from airflow.sdk import DAG, Asset, AssetWatcher

from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.triggers.xethub import XetRevisionTrigger
from support.builders import TEXT, publish
from support.stored_runs import store
from support.triggerer_process import TriggererProcess, stored_connection
from support.watched import Watched
from xethub_local.control.faults import Fault

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


def told(uri: str) -> list[dict]:
    """The payloads of an asset's events, in the order in which Airflow stored them."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session

    with create_session() as session:
        rows = session.query(AssetEvent).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        return [row.extra["payload"] for row in rows.filter(AssetModel.uri == uri).order_by(AssetEvent.id)]


def test_each_commit_updates_the_asset_once_also_across_a_restart(hub, repo, connection, airflow_db, tmp_path):
    uri = f"hf://datasets/{repo.repo_id}"
    log = tmp_path / "triggerer.log"
    with stored_connection("stored", host=hub.url, password=hub.token()) as conn_id:
        watched = Watched(hub, repo, conn_id, tmp_path)
        with TriggererProcess(log) as triggerer:
            watched.settle(triggerer)  # it begins at the newest commit
            watched.commit()
            watched.settle(triggerer)
        watched.commit(2)
        with TriggererProcess(log) as triggerer:
            triggerer.until(lambda: len(told(uri)) >= 3)
            watched.commit()
            watched.settle(triggerer)
            # It would tell a commit again at a later look.
            seen = watched.looks()
            triggerer.until(lambda: watched.looks() > seen + 2)
    _, *made = watched.made
    assert len(made) == 4
    assert [payload["oid"] for payload in told(uri)] == made
    assert [payload["previous"] for payload in told(uri)][1:] == made[:-1]
    assert hub.token() not in log.read_text()


def test_an_odd_title_stops_neither_its_own_watcher_nor_another(hub, make_repo, connection, airflow_db, tmp_path):
    """Half of a surrogate pair cannot reach the process that stores events; a NUL and infinity cannot be stored."""
    titles = {"surrogate": "cut \ud83d", "nul": "a\0b", "infinity": float("inf"), "plain": "plain"}
    repos = {name: make_repo() for name in titles}
    uris = {name: f"hf://datasets/{repo.repo_id}" for name, repo in repos.items()}
    looks = {name: f"GET .*{repo.repo_id}/commits/.*" for name, repo in repos.items()}
    with stored_connection("odd", host=hub.url, password=hub.token()) as conn_id:
        for name, repo in repos.items():
            trigger = XetRevisionTrigger(
                repo_id=repo.repo_id, repo_type="dataset", xethub_conn_id=conn_id, poke_interval=1
            )
            asset = Asset(uris[name], watchers=[AssetWatcher(name=name, trigger=trigger)])
            store(DAG(f"odd_{uuid.uuid4().hex[:8]}", schedule=[asset], is_paused_upon_creation=False), times=2)
        with TriggererProcess(tmp_path / "triggerer.log") as triggerer:
            triggerer.until(lambda: all(len(hub.log.requests(look)) > 1 for look in looks.values()))
            for name, repo in repos.items():
                known = XetHubConnection().get_latest_commit(repo)["oid"]
                page = json.dumps([{"id": "f" * 40, "title": titles[name]}, {"id": known, "title": "first"}])
                hub.faults.add(Fault(looks[name], status=200, body=page))
            triggerer.until(lambda: all(told(uris[name]) for name in ("surrogate", "nul", "plain")))
            assert not told(uris["infinity"])
            hub.faults.clear()
            publish(repos["infinity"], tmp_path, {"a.txt": TEXT})
            triggerer.until(lambda: told(uris["infinity"]))
    assert [told(uris[name])[0]["title"] for name in titles] == ["cut \ufffd", "a\ufffdb", "before the test", "plain"]
