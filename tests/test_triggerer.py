"""A real triggerer: its own process, the connection in the metadata database, the state of the asset in there too."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from airflow.sdk import DAG, Asset, AssetWatcher

from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.triggers.xethub import XetRevisionTrigger
from builders import TEXT, publish

pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.timeout(600)]

BIN = Path(sys.executable).parent
CONN_ID = "xethub_stored"


@pytest.fixture
def stored_connection(hub, airflow_db):
    """A connection that only the metadata database has, so that the triggerer has to ask its supervisor for it."""
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session

    with create_session() as session:
        session.add(Connection(conn_id=CONN_ID, conn_type="xethub", host=hub.url, password=hub.token()))
    yield CONN_ID
    with create_session() as session:
        session.query(Connection).filter_by(conn_id=CONN_ID).delete()


class TriggererProcess:
    def __init__(self, log: Path) -> None:
        self._log = log.open("a")
        environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        self._process = subprocess.Popen(
            [str(BIN / "airflow"), "triggerer", "--skip-serve-logs"],
            env=environment,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, 9)
            raise
        finally:
            self._log.close()


def until(condition, log: Path, seconds: float = 240):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, log.read_text()[-6000:]
        time.sleep(0.2)
    return value


def told(uri: str) -> list[dict]:
    """The payloads of an asset's events, in the order in which Airflow stored them."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session

    with create_session() as session:
        rows = session.query(AssetEvent).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        return [row.extra["payload"] for row in rows.filter(AssetModel.uri == uri).order_by(AssetEvent.id)]


def test_each_commit_updates_the_asset_once_also_across_a_restart(hub, repo, connection, stored_connection, tmp_path):
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    trigger = XetRevisionTrigger(
        repo_id=repo.repo_id, repo_type="dataset", xethub_conn_id=stored_connection, poke_interval=1
    )
    uri = f"hf://datasets/{repo.repo_id}"
    asset = Asset(uri, watchers=[AssetWatcher(name="w", trigger=trigger)])
    # Airflow watches only for DAGs that are not paused.
    dag = DAG(dag_id=f"watch_{repo.repo_id[-8:]}", schedule=[asset], is_paused_upon_creation=False)
    DagBundlesManager().sync_bundles_to_db()
    for _ in range(2):  # the second time, the asset is active
        bag = DagBag(dag_folder="/dev/null", collect_dags=False, bundle_name="dags-folder")
        bag.bag_dag(dag)
        sync_bag_to_db(bag, "dags-folder", None)

    log = tmp_path / "triggerer.log"
    looks = f"GET .*{repo.repo_id}/commits/.*"
    made = []

    def commit() -> None:
        publish(repo, tmp_path / str(len(made)), {f"{len(made)}.txt": TEXT})
        made.append(XetHubConnection().get_latest_commit(repo)["oid"])

    with TriggererProcess(log):
        until(lambda: len(hub.log.requests(looks)) > 1, log)
        commit()
        until(lambda: len(told(uri)) == 1, log)
        # Until it has remembered that commit.
        time.sleep(6)
    commit()
    commit()
    with TriggererProcess(log):
        until(lambda: len(told(uri)) >= 3, log)
        commit()
        until(lambda: len(told(uri)) >= 4, log)
        time.sleep(3)
    assert [payload["oid"] for payload in told(uri)] == made
    assert [payload["previous"] for payload in told(uri)][1:] == made[:-1]
    assert hub.token() not in log.read_text()
