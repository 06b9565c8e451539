"""What webhooks become: asset events in a real metadata database, and DAG runs by Airflow's own scheduler."""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from airflow.sdk import DAG, Asset, AssetWatcher
from airflow.timetables.base import Timetable

from airflow_provider_xethub.plugins import asset_events, webhook_app
from airflow_provider_xethub.plugins.xethub import XetHubPlugin
from airflow_provider_xethub.triggers.xethub import XetRevisionTrigger
from airflow_provider_xethub.xet.answers import is_storable
from airflow_provider_xethub.xet.repo import Repo
from support.airflow_runs import store_dag
from support.builders import TEXT, publish
from support.trigger_runs import Triggerer, until
from support.webhook_bodies import ONE, TWO, pushed
from support.webhook_server import SECRET, endpoint, post
from xethub_local.control.faults import Fault

pytestmark = pytest.mark.airflow

ONE_RUN_PER_EVENT = hasattr(Timetable, "batch_asset_events")
"""Whether Airflow makes a run of each event, where the schedule is one asset: since 3.4."""


@pytest.fixture(scope="module")
def url(airflow_db):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__XETHUB__WEBHOOK_SECRET", SECRET)
        apps = XetHubPlugin().fastapi_apps
    with endpoint(apps) as url:
        yield url


@pytest.fixture
def scheduled(airflow_db):
    """Stores a DAG that assets start, and returns its id."""

    def make(*assets: str | Asset, timetable: object = None) -> str:
        given = timetable or [each if isinstance(each, Asset) else Asset(each) for each in assets]
        dag = DAG(f"hooked_{uuid.uuid4().hex[:8]}", schedule=given, is_paused_upon_creation=False)
        store_dag(dag)
        return dag.dag_id

    return make


@pytest.fixture
def commits(repo, hook, tmp_path):
    """Makes commits, and returns the newest commit before them and the records of all, oldest first."""
    count = iter(range(100))

    def make(number: int = 1):
        before = hook.get_latest_commit(repo)["oid"]
        made = []
        for index in (next(count) for _ in range(number)):
            publish(repo, tmp_path / str(index), {f"{index}.txt": TEXT})
            made.append(hook.get_latest_commit(repo))
        return before, made

    return make


def events_of(uri: str) -> list[dict]:
    """The extras of all events of the assets with this URI, oldest first."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        rows = select(AssetEvent.extra).join(AssetModel, AssetModel.id == AssetEvent.asset_id)
        return list(session.scalars(rows.where(AssetModel.uri == uri).order_by(AssetEvent.timestamp, AssetEvent.id)))


def schedule() -> dict[str, list]:
    """Let Airflow's scheduler make the runs that are due; returns the payloads of all new ones by their DAG."""
    payloads: dict[str, list] = {}
    for dag_id, given in schedule_runs():
        payloads.setdefault(dag_id, []).extend(given)
    return payloads


def schedule_runs() -> list[tuple[str, list]]:
    """Let Airflow's scheduler make the runs that are due; returns the DAG and the payloads of each new one."""
    from airflow.jobs.job import Job
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from airflow.utils.sqlalchemy import prohibit_commit
    from sqlalchemy import select

    with create_session() as session:
        job = Job(job_type="SchedulerJob")
        session.add(job)
        session.flush()
        known = set(session.scalars(select(DagRun.id)))
        runner = SchedulerJobRunner(job=job)
        with prohibit_commit(session) as guard:
            runner._create_dagruns_for_dags(guard, session)
        runs = session.scalars(select(DagRun).where(DagRun.id.not_in(known)).order_by(DagRun.id)).all()
        return [(run.dag_id, [event.extra["payload"] for event in run.consumed_asset_events]) for run in runs]


def uri_of(repo: Repo) -> str:
    return f"hf://datasets/{repo.repo_id}"


def test_a_commit_starts_the_dag_and_looks_as_a_watcher_tells_it(url, scheduled, repo, hook, commits):
    dag_id = scheduled(uri_of(repo))
    before, (made,) = commits()
    assert post(url, pushed(repo, before, made["oid"])).json() == {"events": 1, "detail": "Event recorded."}
    assert events_of(uri_of(repo)) == [{"from_trigger": True, "payload": {**made, "previous": before}}]
    assert schedule()[dag_id] == [{**made, "previous": before}]
    assert not schedule()


@pytest.mark.parametrize(
    ("title", "stored"), [("cut \ud83d", "cut \ufffd"), ("a\0b", "a\ufffdb"), (float("inf"), ""), ({"a": [1]}, "")]
)
def test_an_odd_title_can_be_stored_and_read_again(url, scheduled, repo, hook, hub, title, stored):
    dag_id = scheduled(uri_of(repo))
    before = hook.get_latest_commit(repo)["oid"]
    page = json.dumps([{"id": TWO, "title": title, "message": title}, {"id": before}])
    hub.faults.add(Fault(f"GET .*{repo.repo_id}/commits/.*", status=200, body=page))
    assert post(url, pushed(repo, before, TWO)).json()["events"] == 1
    (extra,) = events_of(uri_of(repo))
    assert (extra["payload"]["title"], extra["payload"]["description"]) == (stored, stored)
    assert is_storable(schedule()[dag_id])


@pytest.mark.parametrize(
    "page", ["https://a\0b{path}", "https://cut\ud83d{path}", "https://a\\b{path}", "https://x/\ud83d{path}"]
)
def test_an_odd_address_is_not_stored(url, scheduled, repo, page):
    scheduled(uri_of(repo))
    body = pushed(repo, ONE, TWO)
    body["repo"]["url"]["web"] = page.format(path=repo.web_path)
    assert post(url, body).json()["events"] == 1
    (extra,) = events_of(uri_of(repo))
    assert is_storable(extra)
    assert extra["payload"]["url"].isascii()
    assert "\\" not in extra["payload"]["url"]


def test_what_cannot_be_stored_is_not_to_be_replayed(url, scheduled, repo, monkeypatch):
    """The door above keeps such values out; this is what happens should one come another way."""
    scheduled(uri_of(repo))
    odd = {"oid": TWO, "url": "", "repo": repo.uri, "title": "a\0b\ud83d", "description": "", "previous": ONE}
    monkeypatch.setattr(webhook_app.webhooks, "event_payloads", lambda *_: [odd])
    answer = post(url, pushed(repo, ONE, TWO))
    assert answer.status_code == 422
    assert answer.json()["detail"] == "Airflow's database cannot store this event. Do not replay it."
    assert not events_of(uri_of(repo))


def test_a_watcher_and_a_webhook_tell_the_same(url, scheduled, repo, commits, monkeypatch):
    """The trigger's own events, stored by Airflow's own code for events of triggers."""
    import asyncio

    from airflow.assets.manager import AssetManager
    from airflow.models.asset import AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    trigger = XetRevisionTrigger(repo_id=repo.repo_id, repo_type="dataset", poke_interval=0.2)
    scheduled(Asset(uri_of(repo), watchers=[AssetWatcher(name=uuid.uuid4().hex, trigger=trigger)]))
    before, made = commits(2)

    async def watch():
        triggerer = Triggerer()
        known = XetRevisionTrigger(**{**trigger.serialize()[1], "newer_than": before})
        triggerer.start({"a": known})
        await until(lambda: len(triggerer.events["a"]) == 2)
        await triggerer.stop()
        return triggerer.events["a"]

    told = asyncio.run(watch())
    post(url, pushed(repo, before, made[-1]["oid"])).raise_for_status()
    by_webhook = events_of(uri_of(repo))
    with create_session() as session:
        asset = session.scalar(select(AssetModel).where(AssetModel.uri == uri_of(repo)))
        for payload in told:
            extra = {"from_trigger": True, "payload": payload}  # Trigger.submit_event of Airflow 3.0 to 3.3
            AssetManager.register_asset_change(asset=asset, extra=extra, session=session)
    assert events_of(uri_of(repo))[2:] == by_webhook


def check_push(scheduled_id: str, before: str, made: list, *, batched: bool) -> None:
    """Check that runs were made for all commits of a push: one run, or one for each."""
    made_now = iter(schedule_runs, [])  # Airflow 3.4 may leave events for the next time
    runs = [payloads for each in made_now for dag_id, payloads in each if dag_id == scheduled_id]
    assert [len(payloads) for payloads in runs] == ([3] if batched else [1, 1, 1])
    payloads = [payload for each in runs for payload in each]
    assert [payload["oid"] for payload in payloads] == [each["oid"] for each in made]
    assert [payload["previous"] for payload in payloads] == [before, made[0]["oid"], made[1]["oid"]]


def test_all_commits_of_a_push_are_told_to_one_run_or_since_airflow_3_4_to_one_each(url, scheduled, repo, commits):
    dag_id = scheduled(uri_of(repo))
    before, made = commits(3)
    assert post(url, pushed(repo, before, made[-1]["oid"])).json()["events"] == 3
    check_push(dag_id, before, made, batched=not ONE_RUN_PER_EVENT)


def test_a_dag_that_batches_events_gets_all_commits_of_a_push_in_one_run(url, scheduled, repo, commits):
    if ONE_RUN_PER_EVENT:
        from airflow.sdk import AssetTriggeredTimetable

        dag_id = scheduled(timetable=AssetTriggeredTimetable(Asset(uri_of(repo)), batch_asset_events=True))
    else:  # Airflow before 3.4 batches those of every DAG
        dag_id = scheduled(uri_of(repo))
    before, made = commits(3)
    assert post(url, pushed(repo, before, made[-1]["oid"])).json()["events"] == 3
    check_push(dag_id, before, made, batched=True)


def test_a_replay_makes_no_second_event_in_this_process_or_another(url, scheduled, repo, commits, hub, fork_server):
    scheduled(uri_of(repo))
    before, made = commits(2)
    body = pushed(repo, before, made[-1]["oid"])
    assert post(url, body).json()["events"] == 2
    hub.log.clear()
    for changed in (body, body, {**body, "webhook": {"id": "other", "version": 3}}):
        assert post(url, changed).json() == {"events": 0, "detail": "Ignored: already recorded."}
    assert not hub.log.requests()
    code = (
        "import json, sys; from airflow_provider_xethub.xet.hub import webhooks; "
        "from airflow_provider_xethub.plugins import webhook_app; "
        "print(webhook_app._record(webhooks.parse_ref_updates(sys.argv[1].encode()), None))"
    )
    status, printed = fork_server.run(code, json.dumps(body))
    assert status == 0, printed
    assert "'events': 0" in printed
    assert len(events_of(uri_of(repo))) == 2


def test_bodies_that_come_at_the_same_moment_make_one_event(url, scheduled, repo, commits, monkeypatch):
    scheduled(uri_of(repo))
    before, (made,) = commits()
    # Without the look before: what decides is the transaction.
    monkeypatch.setattr(asset_events, "is_recorded", lambda *_: False)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: post(url, pushed(repo, before, made["oid"])), range(6)))
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert sum(answer.json().get("events", 0) for answer in answers) == 1
    assert len(events_of(uri_of(repo))) == 1


def test_a_branch_that_is_set_back_is_told(url, scheduled, repo, commits):
    scheduled(uri_of(repo))
    before, (first, second) = commits(2)
    assert post(url, pushed(repo, before, second["oid"])).json()["events"] == 2
    assert post(url, pushed(repo, second["oid"], first["oid"])).json()["events"] == 1
    assert post(url, pushed(repo, second["oid"], first["oid"])).json()["events"] == 0
    assert events_of(uri_of(repo))[-1]["payload"] == {**first, "previous": second["oid"]}


def test_only_the_asset_of_this_repository_and_revision_is_told(url, scheduled, make_repo, commits, repo):
    name = repo.repo_id
    others = [
        f"hf://datasets/{name}@next",
        f"hf://{name}",
        f"hf://datasets/{name}x",
        f"hf://datasets/x{name}",
        f"hf://datasets/{name}@main/a.csv",
        f"s3://datasets/{name}",
        f"hf://spaces/{name}",
        f"hf://datasets/{name.replace('l', 'L')}",
    ]
    # To Airflow it is the asset of the repository: main is left out of URIs.
    dag_id, other = scheduled(f"hf://datasets/{name}@main"), scheduled(*others)
    before, (made,) = commits()
    assert post(url, pushed(repo, before, made["oid"])).json()["events"] == 1
    assert len(events_of(f"hf://datasets/{name}")) == 1
    assert not any(events_of(Asset(uri).uri) for uri in others)
    assert dag_id in (runs := schedule())
    assert other not in runs


@pytest.mark.parametrize(
    ("revision", "ref"),
    [("refs%2Fpr%2F1", "refs/pr/1"), ("feature%2Fx", "refs/heads/feature/x"), ("v1", "refs/tags/v1")],
)
def test_other_revisions_have_assets_of_their_own(url, scheduled, repo, revision, ref):
    scheduled(f"{uri_of(repo)}@{revision}", uri_of(repo))
    assert post(url, pushed(repo, ONE, TWO, ref=ref)).json()["events"] == 1
    assert events_of(f"{uri_of(repo)}@{revision}")[0]["payload"]["repo"] == f"{uri_of(repo)}@{revision}"
    assert not events_of(uri_of(repo))


def test_a_name_with_wildcards_of_sql_finds_only_itself(url, scheduled):
    suffix = uuid.uuid4().hex[:8]
    scheduled(f"hf://acme/aXb{suffix}")
    assert post(url, pushed(Repo(f"acme/a_b{suffix}"), ONE, TWO)).json()["events"] == 0
    assert not events_of(f"hf://acme/aXb{suffix}")


def test_an_asset_that_no_dag_uses_any_more_is_not_told(url, scheduled, repo, commits):
    from airflow.models.asset import AssetActive
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    scheduled(uri_of(repo))
    with create_session() as session:
        session.execute(delete(AssetActive).where(AssetActive.uri == uri_of(repo)))
    assert (
        post(url, pushed(repo, ONE, TWO)).json()["detail"].startswith("Ignored: no asset of this Airflow matches hf://")
    )
    assert not events_of(uri_of(repo))


@pytest.mark.parametrize("trouble", ["no connection", "hub is down", "no such commit"])
def test_a_webhook_counts_where_the_hub_cannot_be_asked(
    url, scheduled, repo, commits, hub, disconnect, trouble, caplog
):
    scheduled(uri_of(repo))
    before, (made,) = commits()
    after = made["oid"]
    if trouble == "no connection":
        disconnect()
    elif trouble == "hub is down":
        hub.faults.add(Fault("GET /api/.*", status=503))
    else:
        after = TWO
    assert post(url, pushed(repo, before, after)).json()["events"] == 1
    (event,) = events_of(uri_of(repo))
    assert event["payload"] == {
        "oid": after,
        "url": f"https://huggingface.co/datasets/{repo.repo_id}/commit/{after}",
        "repo": repo.uri,
        "title": "",
        "description": "",
        "previous": before,
    }
    hub.faults.clear()
    assert post(url, pushed(repo, before, after)).json()["events"] == 0
    assert "Its events have no titles" in caplog.text
    assert hub.token("write") not in caplog.text
