""" "Open on the Hub": what each task leaves for the UI, and that it is never an error and never a secret."""

from __future__ import annotations

import json

import pytest
import requests

from airflow_provider_xethub.links.xethub import XetHubLink
from airflow_provider_xethub.operators import refs, repositories
from airflow_provider_xethub.operators import xethub as operators
from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetCopyOperator,
    XetDownloadOperator,
    XetListOperator,
    XetTokenOperator,
    XetUploadOperator,
)
from airflow_provider_xethub.sensors import xethub as sensors
from airflow_provider_xethub.sensors.xethub import XetFileSensor, XetRevisionSensor
from support.airflow_runs import new_dag
from support.builders import TEXT, binary, publish, sealed, write
from xethub_local.control.faults import Fault

pytestmark = pytest.mark.airflow

KEY = "_link_XetHubLink"


@pytest.fixture
def where(repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def files(hub, connection, repo, tmp_path):
    return publish(repo, tmp_path, {"photos/a.bin": binary(), "photos/b.bin": binary(seed=1), "notes.csv": TEXT})


@pytest.fixture
def opens(hub, repo):
    """Returns what the link of a task opens, beneath the repository; a browser finds a page there."""

    def opened(run):
        url = run.xcoms[KEY]
        assert requests.get(url, headers={"Accept": "text/html"}, timeout=30).status_code == 200, url
        begin = f"{hub.url}{repo.web_path}/"
        assert url.startswith(begin)
        return url.removeprefix(begin)

    return opened


def test_every_operator_and_sensor_has_the_link():
    for module in (operators, repositories, refs, sensors):
        for name in vars(module):
            kind = getattr(module, name)
            if name.startswith("Xet") and isinstance(kind, type) and hasattr(kind, "hook"):
                assert [type(link) for link in kind.operator_extra_links] == [XetHubLink], name


def test_commits_open_their_page(where, files, run_task, tmp_path, opens):
    source = str(write(tmp_path / "new", {"c.csv": TEXT}))
    uploaded = run_task(XetUploadOperator, source=source, **where)
    assert opens(uploaded) == f"commit/{uploaded.value['oid']}"
    again = run_task(XetUploadOperator, source=source, task_id="again", **where)
    assert opens(again) == f"commit/{uploaded.value['oid']}"
    deleted = run_task(XetCommitOperator, delete="c.csv", **where)
    assert opens(deleted) == f"commit/{deleted.value['oid']}"
    copied = run_task(XetCopyOperator, path="notes.csv", path_in_repo="copies/", **where)
    assert opens(copied) == f"commit/{copied.value['oid']}"


def test_pull_requests_open_their_discussion(hub, where, files, run_task, tmp_path, opens):
    source = str(write(tmp_path / "new", {"c.csv": TEXT}))
    run = run_task(XetUploadOperator, source=source, create_pr=True, **where)
    assert opens(run) == "discussions/1"
    assert run.xcoms[KEY] == run.value["pull_request"]


def test_files_open_their_page_or_folder(where, files, run_task, tmp_path, opens):
    assert opens(run_task(XetListOperator, **where)) == "tree/main"
    assert opens(run_task(XetListOperator, patterns="photos/*", **where)) == "tree/main/photos"
    assert opens(run_task(XetListOperator, path="photos/a.bin", **where)) == "blob/main/photos/a.bin"
    download = run_task(XetDownloadOperator, path="photos", destination=str(tmp_path / "out"), **where)
    assert opens(download) == "tree/main/photos"
    download = run_task(XetDownloadOperator, files=files[:1], destination=str(tmp_path / "out"))
    assert opens(download) == "blob/main/notes.csv"


def test_tokens_and_uploads_without_a_commit_open_the_repository(hub, where, files, run_task, tmp_path, opens):
    assert opens(run_task(XetTokenOperator, **where)) == "tree/main"
    hub.repositories.create_branch(f"datasets/{where['repo_id']}", "feature/new")
    assert opens(run_task(XetTokenOperator, revision="feature/new", **where)) == "tree/feature%2Fnew"
    source = str(write(tmp_path / "new", {"c.bin": binary(seed="new")}))
    assert opens(run_task(XetUploadOperator, source=source, commit=False, **where)) == "tree/main"


def test_a_bucket_opens_what_was_put_there(hub, connection, make_repo, run_task, tmp_path):
    bucket = make_repo("bucket")
    source = str(write(tmp_path / "new", {"x/a.bin": binary(), "x/b.bin": binary(seed=1)}))
    run = run_task(XetUploadOperator, source=source, repo_id=bucket.repo_id, repo_type="bucket")
    assert run.xcoms[KEY] == f"{hub.url}/buckets/{bucket.repo_id}/tree/x"
    run = run_task(XetFileSensor, path="x/a.bin", repo_id=bucket.repo_id, repo_type="bucket")
    assert run.xcoms[KEY] == f"{hub.url}/buckets/{bucket.repo_id}/tree/x/a.bin"


def test_sensors_open_what_they_wait_for_and_what_they_found(where, files, run_task, opens, repo):
    assert opens(run_task(XetFileSensor, path="new.bin", deferrable=True, **where)) == "tree/main"
    assert opens(run_task(XetFileSensor, path="photos/a.bin", **where)) == "blob/main/photos/a.bin"
    assert opens(run_task(XetFileSensor, patterns="photos/*", **where)) == "tree/main/photos"
    commit = run_task(XetRevisionSensor, newer_than="0" * 40, **where)
    assert opens(commit) == f"commit/{commit.value['oid']}"


def test_a_sensor_that_was_deferred_opens_what_its_trigger_found(files, where, run_task):
    sensor = XetFileSensor(task_id="wait", path="photos/a.bin", **where)
    (record,) = [file for file in files if file["path"] == "photos/a.bin"]
    assert sensor.execute_complete({}, {"status": "found", "value": [record]}) == record
    assert XetHubLink().get_link(sensor, ti_key=None).endswith("/blob/main/photos/a.bin")


def test_a_task_that_fails_opens_the_repository(hub, where, files, run_task, tmp_path, opens):
    hub.faults.add(Fault(".*/tree/.*", status=403))
    run = run_task(XetListOperator, **where)
    assert run.is_final
    hub.faults.clear()
    assert opens(run) == "tree/main"


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "https://anna:hf_secret@hub.example"},
        {"host": "https://hf_secret@hub.example"},
        {"host": "https://hub.example/?token=hf_secret"},
        {"host": "ftp://hf_secret"},
    ],
)
def test_a_credential_in_the_host_is_in_no_link(fields, connection, repo, run_task):
    connection(**fields)
    run = run_task(XetListOperator, repo_id=repo.repo_id, repo_type="dataset")
    assert run.error is not None
    assert run.xcoms[KEY] == ""
    assert "hf_secret" not in json.dumps(run.xcoms)


@pytest.mark.parametrize("host", ["https://hub.example", "https://hub.example:8443/hub/", "http://hub.example"])
def test_the_link_leads_to_the_hub_of_the_connection(host, connection):
    connection(host=host)
    operator = XetListOperator(task_id="list", repo_id="acme/m")
    operator.resolve_repo()
    assert XetHubLink().get_link(operator, ti_key=None) == f"{host.rstrip('/')}/acme/m/tree/main"


def test_where_nothing_is_known_there_is_no_link_and_no_error(connection, disconnect, repo, run_task, monkeypatch):
    run = run_task(XetListOperator, repo_id="{{ 'not a repository' }}")
    assert run.xcoms[KEY] == ""
    token = sealed(repo)
    disconnect()
    run = run_task(XetDownloadOperator, files=[], token=token, destination="/nowhere")
    assert run.xcoms[KEY] == ""
    operator = XetListOperator(task_id="list", repo_id="acme/m")
    assert XetHubLink().get_link(operator, ti_key=None) == ""
    operator.resolve_repo(default=repo)
    assert XetHubLink().get_link(operator, ti_key=None) == ""
    assert XetHubLink().get_link(object(), ti_key=None) == ""  # an operator that knows nothing of it

    class Broken:
        @property
        def hub_page(self):
            raise RuntimeError("hf_secret")

    assert XetHubLink().get_link(Broken(), ti_key=None) == ""


def test_a_path_that_no_url_can_have_costs_the_link_only(connection, repo):
    from airflow_provider_xethub.xet.hub.pages import HubPage

    operator = XetListOperator(task_id="list", repo_id="acme/m")
    operator.hub_page = HubPage(repo, "file", "\ud800")
    assert XetHubLink().get_link(operator, ti_key=None) == ""


def test_mapped_tasks_have_a_link_each_and_the_ui_shows_it(hub, files, where, run_dag):
    """The API server reads only the serialised DAG and the XCom."""
    with new_dag() as dag:
        XetListOperator.partial(task_id="look", **where).expand(path=["photos/a.bin", "notes.csv"])
        XetListOperator(task_id="all", **where)
    run = run_dag(dag)
    assert set(run.states.values()) == {"success"}
    begin = f"{hub.url}/datasets/{where['repo_id']}"
    assert run.xcoms("look", KEY) == [f"{begin}/blob/main/photos/a.bin", f"{begin}/blob/main/notes.csv"]
    for task_id, map_index in (("look", 1), ("all", -1)):
        assert shown(run, task_id, map_index) == {"Open on the Hub": run.xcoms(task_id, KEY)[max(map_index, 0)]}


def shown(run, task_id, map_index):
    """What the API server answers when the UI asks for the links of a task instance."""
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        task = SerializedDagModel.get(run.dag_id, session=session).dag.get_task(task_id)
        ti = session.query(TaskInstance).filter_by(
            dag_id=run.dag_id, run_id=run.run_id, task_id=task_id, map_index=map_index
        ).one()  # fmt: skip
        return {name: task.get_extra_links(ti, name) for name in task.extra_links}
