"""An Airflow for the tests of each file, as ``airflow standalone`` runs it; a Hub of its own; somebody at a browser."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo import services
from support.celery_airflow import until
from support.connection_form import open_form, save
from support.standalone import PATIENCE, Run, standalone
from support.visitor import HEIGHT, WIDTH, Visitor, visitor
from xethub_local.control.fault import Fault
from xethub_local.server import LocalHub

DAG = "xethub_quickstart"
WATCHING_DAG = "xethub_watch"
FAILING_DAG = "xethub_failing"
WRONG_TOKEN = "hf_" + "w" * 34
PENGUINS = "species,island,bill_length_mm\nAdelie,Torgersen,39.1\nGentoo,Biscoe,46.1\n"
BINARY = 3_000_000
_ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("ui-hub")) as running:
        running.create_repo("local/penguins", "dataset", private=True)
        running.create_repo("local/corpus", "dataset")
        yield running


@pytest.fixture(scope="module")
def airflow(hub: LocalHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[services.Airflow]:
    known = {
        "PROD": (hub.url, hub.token()),
        "READONLY": (hub.url, hub.token("read")),
        "DOWN": (f"http://127.0.0.1:{services.free_port()}", hub.token()),
    }
    variables = {
        f"AIRFLOW_CONN_XETHUB_{name}": json.dumps({"conn_type": "xethub", "host": host, "password": token})
        for name, (host, token) in known.items()
    }
    folders = _ROOT / "dags_example", _ROOT / "tests/support/failing_dags"
    with standalone(tmp_path_factory.mktemp("ui-airflow"), *folders, variables=variables) as running:
        yield running


@pytest.fixture(scope="module")
def somebody(airflow: services.Airflow, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    with visitor(airflow.url, tmp_path_factory.getbasetemp() / "pictures") as person:
        yield person


@pytest.fixture(autouse=True)
def nothing_is_wrong(somebody: Visitor, hub: LocalHub) -> Iterator[None]:
    """After each test: no page showed a secret, and none had an error."""
    yield
    somebody.read()
    # The browser remembers how a run was last looked at.
    somebody.page.evaluate("localStorage.clear()")
    somebody.page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    assert len(somebody.seen) > 3
    secrets = {hub.token("write"), hub.token("read"), WRONG_TOKEN, *hub.access.issued_xet_tokens()}
    # Not in two halves or as a prefix either.
    parts = {secret[: len(secret) // 2 + 4] for secret in secrets}
    showing = [place for place, text in somebody.seen.items() if any(part in text for part in parts)]
    problems = list(somebody.problems)
    somebody.seen.clear()
    somebody.problems.clear()
    assert showing == []
    assert problems == []


@pytest.fixture(scope="module")
def connection(somebody: Visitor, airflow: services.Airflow, hub: LocalHub) -> str:
    """The connection, made in the form as the documentation says."""
    form = open_form(somebody)
    host, _, port = hub.url.rpartition(":")
    form.get_by_label("Hub endpoint").fill(host)
    form.get_by_label("Port").fill(port)
    form.get_by_label("Hub token").fill(hub.token())
    somebody.picture("airflow-connection", height=880)
    save(form)
    somebody.shows("xethub_default")
    return "xethub_default"


@pytest.fixture(scope="module")
def watching(connection: str, airflow: services.Airflow, hub: LocalHub) -> str:
    """The DAG that waits for commits, switched on; begun early, as it looks twice a minute."""
    until(lambda: airflow.get(f"/dags/{WATCHING_DAG}"), PATIENCE, WATCHING_DAG)
    airflow.patch(f"/dags/{WATCHING_DAG}", {"is_paused": False})
    return WATCHING_DAG


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the quick start publishes."""
    # It is in the pictures.
    place = tmp_path_factory.mktemp("penguins", numbered=False)
    (place / "penguins.csv").write_text(PENGUINS)
    (place / "summary.csv").write_text("species,count\nAdelie,1\nGentoo,1\n")
    (place / "photos.bin").write_bytes(os.urandom(BINARY))
    return place


@pytest.fixture(scope="module")
def halted_run(somebody: Visitor, watching: str, airflow: services.Airflow, hub: LocalHub, folder: Path) -> Run:
    """A run of the quick start, started in the UI, and paused when it has its write token."""
    until(lambda: airflow.get(f"/dags/{DAG}"), PATIENCE, DAG)
    page = somebody.page
    somebody.visit(f"/dags/{DAG}")
    page.get_by_role("button", name="Trigger Dag").click()
    form = page.get_by_role("dialog")
    form.locator("[name=element_folder]").fill(str(folder))
    form.locator("[name=element_destination]").fill(f"{folder}-copy")
    form.get_by_role("button", name="Trigger", exact=True).click()
    form.wait_for(state="hidden")
    started = until(lambda: airflow.get(f"/dags/{DAG}/dagRuns")["dag_runs"], PATIENCE, "the run")
    run = Run(airflow, DAG, started[0]["dag_run_id"])
    until(lambda: run.states().get("write_token") == "success", PATIENCE, "the write token")
    airflow.patch(f"/dags/{DAG}", {"is_paused": True})
    return run


@pytest.fixture(scope="module")
def finished_run(halted_run: Run, airflow: services.Airflow) -> Run:
    airflow.patch(f"/dags/{DAG}", {"is_paused": False})
    halted_run.finish()
    return halted_run


@pytest.fixture(scope="module")
def commit_of_another(finished_run: Run, watching: str, hub: LocalHub) -> str:
    """A commit that somebody else makes in the watched repository, after the watcher has had its first look."""
    from huggingface_hub import HfApi

    until(lambda: hub.log.requests("GET .*/local/corpus/commits/.*"), PATIENCE, "the watcher's first look")
    api = HfApi(endpoint=hub.url, token=hub.token())
    made = api.upload_file(
        path_or_fileobj=f"species,ring\nAdelie,{os.urandom(4).hex()}\n".encode(),
        path_in_repo="photos/adelie.csv",
        repo_id="local/corpus",
        repo_type="dataset",
        commit_message="A new photo of an Adelie penguin",
    )
    return str(made.oid)


@pytest.fixture(scope="module")
def started_by_asset(commit_of_another: str, airflow: services.Airflow) -> Run:
    """The run that the commit started."""
    runs = until(lambda: airflow.get(f"/dags/{WATCHING_DAG}/dagRuns")["dag_runs"], PATIENCE, "a run by the asset")
    run = Run(airflow, WATCHING_DAG, runs[0]["dag_run_id"])
    run.finish()
    return run


@pytest.fixture(scope="module")
def failed_run(airflow: services.Airflow, hub: LocalHub, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose tasks all fail: nothing is where it should be, and what arrives from CAS is damaged."""
    from huggingface_hub import HfApi

    until(lambda: airflow.get(f"/dags/{FAILING_DAG}"), PATIENCE, FAILING_DAG)
    hub.create_repo("local/failing", "dataset")
    api = HfApi(endpoint=hub.url, token=hub.token())
    api.upload_file(
        path_or_fileobj=os.urandom(BINARY), path_in_repo="a.bin", repo_id="local/failing", repo_type="dataset"
    )
    damage = hub.faults.add(Fault("GET /cas/.*/data/.*", corrupt=True))
    folder = tmp_path_factory.mktemp("failing", numbered=False)
    run = Run(airflow, FAILING_DAG, airflow.start_run(FAILING_DAG, {"destination": str(folder)}))
    needs_repository = {"damaged", "forbidden"}

    def is_time_to_delete() -> bool:
        states = run.states()
        done = all(states.get(each) == "failed" for each in needs_repository)
        return done and states.get("deferred") == "deferred"

    until(is_time_to_delete, PATIENCE, "the deferred sensor")
    api.delete_repo("local/failing", repo_type="dataset")
    run.finish(fails=True)
    hub.faults.remove(damage)
    return run
