"""What Airflow's page shows of a message without scrolling: cause and remedy are in its first hundred characters."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from typing import Any

import pytest

from airflow_provider_xethub.exceptions import XetNotFoundError
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetDownloadOperator,
    XetListOperator,
    XetTokenOperator,
    XetUploadOperator,
)
from airflow_provider_xethub.sensors.xethub import XetFileSensor
from airflow_provider_xethub.xet.cas import session as cas_session
from airflow_provider_xethub.xet.hub import client as hub_module
from support.airflow_runs import new_dag, run_one
from support.builders import publish, write
from xethub_local.control.fault import Fault

VISIBLE = 100
"""Characters of a log line that fit on Airflow's page beside the list of tasks, in a window of 1280 pixels."""

OUT = "/nowhere/that/is/written"
NOWHERE = {"repo_id": "local/no-such-data", "repo_type": "dataset"}


@dataclass(frozen=True)
class Case:
    """A task that fails; the words are in the first characters of its message, in this order."""

    cause: str
    remedy: str
    operator: Any
    arguments: dict[str, Any] = field(default_factory=dict)
    fault: Fault | None = None
    connection: dict[str, Any] | None = None


HTML = Fault(".* /api/.*", status=200, headers={"Content-Type": "text/html"}, body="<html>Log in")
DATA = "GET /cas/.*/data/.*"
UPLOAD = {"source": __file__}
DOWNLOAD = {"path": "d/a.bin"}

CASES = {
    "repository": Case("not found (404)", "Check repo_id", XetListOperator, NOWHERE),
    "revision": Case("Revision not found (404)", "Check revision", XetListOperator, {"revision": "v9"}),
    "folder": Case("Path not found (404)", "Check it", XetListOperator, {"path": "nothing/here"}),
    "files": Case("1 path not found", "Check paths", XetDownloadOperator, {"paths": ["nothing"]}),
    "pattern": Case("No file matches ['*.csv']", "Check patterns", XetDownloadOperator, {"patterns": ["*.csv"]}),
    "sensor": Case("not found (404)", "Check repo_id", XetFileSensor, {"path": "a", **NOWHERE}),
    "forbidden": Case(
        "No permission for hf://", "use a Hub token", XetUploadOperator, UPLOAD, connection={"token": "read"}
    ),
    "wrong token": Case(
        "is missing, wrong or expired (401)", "Set a valid", XetTokenOperator, connection={"password": "hf_wrong"}
    ),
    "no connection": Case("no connection 'not_there'", "Create it", XetListOperator, {"xethub_conn_id": "not_there"}),
    "Hub down": Case(
        "could not be reached (connection refused)", "Check", XetListOperator, connection={"host": "http://127.0.0.1:9"}
    ),
    "Hub busy": Case("Too many requests", "Let the task retry", XetListOperator, fault=Fault(".* /api/.*", status=429)),
    "Hub broken": Case("answered 503", "Let the task retry", XetListOperator, fault=Fault(".* /api/.*", status=503)),
    "elsewhere": Case(
        "redirects to", "Check the host", XetListOperator,
        fault=Fault(".* /api/.*", status=302, headers={"Location": "https://a.example"}),
    ),
    "no token": Case(
        "token response lacks the field 'exp'", "Check", XetTokenOperator,
        fault=Fault(".*-token/.*", without_fields=("exp",), without_headers=("X-Xet-Token-Expiration",)),
    ),
    "contradiction": Case(
        "token response contradicts itself", "Check", XetTokenOperator, fault=Fault(".*-token/.*", fields={"exp": 1})
    ),
    "CAS refuses": Case(
        "CAS answered 400", "Report it", XetUploadOperator, {**UPLOAD, "commit": False},
        Fault("(POST|PUT) /cas/.*", status=400),
    ),
    "no Hub": Case("did not answer like a Hub", "Check that the host", XetListOperator, fault=HTML),
    "no commit": Case(
        "did not answer like a Hub", "Check that", XetUploadOperator, UPLOAD,
        Fault("POST .*/commit/.*", status=200, headers={"Content-Type": "application/json"}, body="{}"),
    ),
    "rejected": Case("rejected a request", "Correct what", XetListOperator, fault=Fault(".* /api/.*", status=418)),
    "Hub conflict": Case(
        "is being changed (409)", "Let the task retry", XetUploadOperator, UPLOAD,
        Fault("POST .*/commit/.*", status=409),
    ),
    "conflict in a list": Case(
        "answered 412", "Let the task retry", XetListOperator, fault=Fault(".* /api/.*", status=412)
    ),
    "cut off list": Case(
        "damaged or cut off", "Let the task retry", XetListOperator, fault=Fault("GET .*/tree/.*", truncate=20)
    ),
    "CAS conflict": Case(
        "CAS answered 409", "Let the task retry", XetUploadOperator, {**UPLOAD, "commit": False},
        Fault("(POST|PUT) /cas/.*", status=409),
    ),
    "CAS forbids": Case(
        "CAS answered 403", "Check", XetUploadOperator, {**UPLOAD, "commit": False},
        Fault("(POST|PUT) /cas/.*", status=403),
    ),
    "CAS broken": Case(
        "CAS answered 503", "Let the task retry", XetUploadOperator, {**UPLOAD, "commit": False},
        Fault("(POST|PUT) /cas/.*", status=503),
    ),
    "damaged": Case(
        "arrived damaged", "Let the task retry", XetDownloadOperator, DOWNLOAD, Fault(DATA, corrupt=True)
    ),
    "cut off": Case(
        "arrived damaged", "Let the task retry", XetDownloadOperator, DOWNLOAD,
        Fault(DATA, truncate=100),
    ),
    "destination": Case("cannot be written", "Correct", XetDownloadOperator, {**DOWNLOAD, "destination": "/proc/a"}),
    "empty argument": Case("path is empty", "Give it a value", XetDownloadOperator, {"path": ""}),
    "two arguments": Case("give only one of path and paths", "", XetDownloadOperator, {"path": "a", "paths": ["b"]}),
    "no records": Case("files is empty", "Check the task", XetDownloadOperator, {"files": []}),
    "no consumer": Case("consumers names 'typo'", "Correct the ID", XetTokenOperator, {"consumers": ["typo"]}),
    "no source": Case("1 source cannot be read", "Check source", XetUploadOperator, {"source": "/nowhere/at/all"}),
    "nothing matches": Case(
        "no file found", "Check source and patterns", XetUploadOperator, {"source": __file__, "patterns": "*.csv"}
    ),
    "deletion": Case("Cannot delete old.csv", "Check delete", XetCommitOperator, {"delete": "old.csv"}),
}  # fmt: skip


@pytest.fixture(autouse=True)
def once(monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    monkeypatch.setattr(cas_session, "RETRIES", 1)


@pytest.fixture
def corpus(hub, repo, connection, tmp_path):
    publish(repo, write(tmp_path / "before", {}), {"d/a.bin": bytes(range(256)) * 20_000})
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


def assert_visible(error, cause, remedy):
    shown = str(error)[:VISIBLE]
    assert cause in shown
    assert remedy in shown.partition(cause)[2]


def assert_short(error):
    """Of the frames below Airflow's, which are the same for every task, only three are ours."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "airflow_provider_xethub" in frame.filename]
    assert len(ours) <= 3, ours
    assert not [each for each in frames if any(name in each.filename for name in ("tenacity", "threads.py", "futures"))]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_cause_and_remedy_are_visible(hub, corpus, connection, run_task, case, caplog):
    changed = dict(case.connection or {})
    if "token" in changed:
        changed["password"] = hub.token(changed.pop("token"))
    if case.connection:
        connection(**changed)
    if case.fault:
        hub.faults.add(case.fault)
    arguments = {**corpus, **case.arguments}
    if case.operator is XetDownloadOperator:
        arguments = {"destination": OUT, **arguments}
    run = run_task(case.operator, **arguments)
    assert run.error is not None
    assert_visible(run.error, case.cause, case.remedy)
    assert_short(run.error)


def test_an_expired_token_says_so_and_what_to_do(hub, repo, corpus, run_task):
    hub.faults.add(Fault("GET .*/xet-write-token/.*", token_life=1))
    token = run_task(XetTokenOperator, scope="write", **corpus).value
    run = run_task(XetUploadOperator, source=__file__, token=token, commit=False, xethub_conn_id=None)
    assert_visible(run.error, f"The write token for {repo} expires within 30 s", "Set xethub_conn_id=")


def test_a_token_that_is_bound_to_another_dag_says_so_and_what_to_do(corpus, run_task):
    with new_dag():
        token = XetTokenOperator(task_id="token", scope="write", bind="dag", **corpus)
    run = run_task(XetUploadOperator, token=run_one(token).value, **UPLOAD)
    assert_visible(run.error, "this is DAG 'test'", "Fetch a token in this DAG")
    assert_short(run.error)


@pytest.mark.parametrize(
    ("minimum", "cause", "remedy"),
    [
        ("fine_grained", "has a classic write token", "Store a fine-grained one"),
        ("keyless", "has a Hub token (password)", "Remove it"),
    ],
)
def test_a_weak_credential_says_so_and_what_to_do(corpus, run_task, monkeypatch, minimum, cause, remedy):
    monkeypatch.setenv("AIRFLOW__XETHUB__MINIMUM_CREDENTIAL", minimum)
    run = run_task(XetListOperator, **corpus)
    assert_visible(run.error, cause, remedy)
    assert_short(run.error)


def test_a_commit_of_someone_else_says_so_and_what_to_do(hub, repo, corpus, run_task):
    head = XetHubConnection().get_latest_commit(repo)["oid"]
    XetHubConnection().api.upload_file(
        path_or_fileobj=b"new", path_in_repo="old.csv", repo_id=repo.repo_id, repo_type="dataset"
    )
    run = run_task(XetCommitOperator, delete="old.csv", parent_commit=head, **corpus)
    assert_visible(run.error, "someone else committed", "Read its new head")


def test_a_callback_gets_the_error_that_the_log_shows(corpus, run_task, capsys):
    seen = []
    run = run_task(XetListOperator, on_failure_callback=lambda context: seen.append(context["exception"]), **NOWHERE)
    assert seen == [run.error]
    assert isinstance(run.error, XetNotFoundError)
    assert run.error.status == 404
    assert capsys.readouterr().out.count(f"{run.error}") >= 1
