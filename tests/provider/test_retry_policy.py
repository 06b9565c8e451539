"""The retry policy in real tasks."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk import task

from airflow_provider_xethub.exceptions import (
    XetRateLimitError,
)
from airflow_provider_xethub.operators.xethub import XetTokenOperator
from airflow_provider_xethub.xet.repo import Repo
from support.airflow_runs import new_dag
from support.retry_policies import policy, with_policies
from xethub_local.control.faults import Fault

pytestmark = pytest.mark.airflow


@with_policies
def test_a_rate_limited_task_is_retried_when_the_hub_says(hub, connection, repo, run_task):
    hub.faults.add(Fault(route="GET .*/xet-read-token/.*", status=429, headers={"Retry-After": "900"}))
    run = run_task(XetTokenOperator, repo_id=repo.repo_id, repo_type="dataset", retry_policy=policy())
    assert isinstance(run.error, XetRateLimitError)
    assert run.state == "up_for_retry"
    assert 900 <= run.message.retry_delay_seconds <= 1125
    assert run.message.retry_reason == "XetRateLimitError: the Hub asks to wait 900 s."


@with_policies
def test_in_a_dag_the_delay_replaces_that_of_the_task(hub, connection, repo, run_dag):
    """The task alone would wait a day, and the Hub asks for ten minutes; two seconds is what the policy allows."""
    hub.faults.add(Fault(route="GET .*/xet-read-token/.*", times=1, status=429, headers={"Retry-After": "600"}))
    with new_dag("retry_policy") as dag:
        XetTokenOperator(
            task_id="token",
            repo_id=repo.repo_id,
            repo_type="dataset",
            retries=1,
            retry_delay=timedelta(days=1),
            retry_policy=policy(min_delay=timedelta(0), max_delay=timedelta(seconds=2)),
        )
    assert run_dag(dag).states == {"token": "success"}


@with_policies
def test_in_a_dag_what_is_final_fails_at_its_first_try(run_dag):
    """Raised in code of the task's own: no hook is there that makes it an ``AirflowFailException``."""
    tries = []

    with new_dag("retry_policy") as dag:

        @task(retries=3, retry_delay=timedelta(0), retry_policy=policy())
        def name_it():
            tries.append(1)
            Repo("not a name", "dataset")

        name_it()
    run = run_dag(dag)
    assert run.states == {"name_it": "failed"}
    assert tries == [1]
