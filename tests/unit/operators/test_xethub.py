"""What all operators and the sensor have in common, without running them."""

from __future__ import annotations

import inspect
from functools import partial
from types import SimpleNamespace

import pytest
from airflow.sdk import BaseOperator, BaseSensorOperator

from airflow_provider_xethub import CommitRequest, Repo
from airflow_provider_xethub.operators import refs, repositories
from airflow_provider_xethub.operators import xethub as operators
from airflow_provider_xethub.operators.refs import (
    XetCreateBranchOperator,
    XetCreateTagOperator,
    XetDeleteBranchOperator,
    XetDeleteTagOperator,
)
from airflow_provider_xethub.operators.repositories import XetDeleteRepoOperator
from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetCopyOperator,
    XetDownloadOperator,
    XetListOperator,
    XetTokenOperator,
    XetUploadOperator,
)
from airflow_provider_xethub.sensors import xethub as sensors

pytestmark = [pytest.mark.airflow, pytest.mark.smoke]

CLASSES = [
    kind
    for module in (operators, repositories, refs, sensors)
    for kind in vars(module).values()
    if inspect.isclass(kind)
    and issubclass(kind, BaseOperator)
    and kind.__module__.startswith("airflow_provider_xethub.")
]

IN_THE_DAG_FILE = {
    "allow_empty",
    "commit",
    "confirm",
    "create_pr",
    "create_repo",
    "deduplicate",
    "deferrable",
    "dry_run",
    "exist_ok",
    "follow_links",
    "gated",
    "inline_content",
    "may_be_missing",
    "min_age",
    "missing_ok",
    "on_empty",
    "on_unchanged",
    "require_safe",
    "space_sdk",
    "visibility",
}
"""Decisions that shape the DAG itself: written there, not computed."""

REQUIRED = {
    XetUploadOperator: {"source": "x"},
    XetDownloadOperator: {"destination": "x"},
    XetDeleteRepoOperator: {"confirm": "acme/corpus"},
    XetCreateBranchOperator: {"branch": "dev"},
    XetDeleteBranchOperator: {"branch": "dev"},
    XetCreateTagOperator: {"tag": "v1"},
    XetDeleteTagOperator: {"tag": "v1"},
}


def own_arguments(kind) -> set[str]:
    found: set[str] = set()
    for each in kind.__mro__:
        if each in (BaseOperator, BaseSensorOperator):
            break
        found |= {name for name, p in inspect.signature(each.__init__).parameters.items() if p.kind is p.KEYWORD_ONLY}
    return found


@pytest.mark.parametrize("kind", CLASSES)
def test_every_argument_is_a_template_field_but_the_token(kind):
    assert own_arguments(kind) - set(kind.template_fields) <= {"token"} | IN_THE_DAG_FILE
    assert set(kind.template_fields) <= own_arguments(kind)
    assert "token" not in kind.template_fields


@pytest.mark.parametrize("kind", CLASSES)
def test_every_connection_id_is_a_template_field(kind):
    assert {name for name in own_arguments(kind) if name.endswith("conn_id")} <= set(kind.template_fields)


@pytest.mark.parametrize("kind", CLASSES)
def test_only_transfers_take_a_token(kind):
    """Elsewhere it would be ignored without a word."""
    takes_one = kind in (XetUploadOperator, XetDownloadOperator, getattr(operators, "XetTransferOperator", None))
    assert ("token" in own_arguments(kind)) == takes_one


@pytest.mark.parametrize("kind", [each for each in CLASSES if hasattr(each, "on_kill")])
def test_on_kill_does_nothing_while_the_task_is_not_executing(kind):
    arguments = REQUIRED.get(kind, {})
    operator = kind(task_id="t", **arguments)
    operator.on_kill()
    assert operator.task_id == "t"


def test_default_args_reach_every_operator_and_the_sensor():
    from airflow.sdk import DAG

    from airflow_provider_xethub.sensors.xethub import XetFileSensor

    defaults = {"xethub_conn_id": "other", "repo_id": "acme/corpus", "create_pr": True, "commit_description": "more"}
    with DAG("defaults", schedule=None, default_args=defaults):
        tasks = [
            XetTokenOperator(task_id="token"),
            XetListOperator(task_id="list"),
            XetUploadOperator(task_id="upload", source="x"),
            XetCommitOperator(task_id="commit"),
            XetDownloadOperator(task_id="download", destination="x"),
            XetFileSensor(task_id="sensor", path="x"),
        ]
    assert {(task.xethub_conn_id, task.repo_id) for task in tasks} == {("other", "acme/corpus")}
    commits = [task for task in tasks if hasattr(task, "create_pr")]
    assert [(task.task_id, task.create_pr, task.commit_description) for task in commits] == [
        ("upload", True, "more"),
        ("commit", True, "more"),
    ]


@pytest.mark.parametrize(
    "make",
    [
        partial(XetUploadOperator, source="x"),
        XetCommitOperator,
        partial(XetCopyOperator, source_repo_id="acme/source"),
    ],
    ids=["upload", "commit", "copy"],
)
def test_the_arguments_of_a_commit_reach_its_request(make):
    arguments = {"commit_description": "more", "parent_commit": "a" * 40, "create_pr": True}
    task = make(task_id="t", commit_message="title", **arguments)
    instance = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=3, try_number=2)
    repo = Repo("acme/corpus", "dataset")
    assert task.commit_request({"ti": instance}, repo, [], ["old/"]) == CommitRequest(
        repo,
        [],
        delete=["old/"],
        message="title",
        description="more",
        parent_commit="a" * 40,
        create_pr=True,
        idempotency_key="d/r/t/3",
        is_first_try=False,
    )
