"""The retry policy in real tasks."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from airflow.providers.common.compat.sdk import BaseOperator
from airflow.sdk import task

from airflow_provider_xethub.exceptions import (
    XetCommitQuotaError,
    XetRateLimitError,
)
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import XetTokenOperator, XetUploadOperator
from airflow_provider_xethub.xet.repo import Repo
from support.airflow_runs import new_dag
from support.builders import write
from support.retry_policies import policy, rescheduling, with_policies
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


@rescheduling
def test_a_task_that_meets_the_commit_quota_starts_again_later_with_all_its_retries(
    hub, connection, repo, run_task, tmp_path
):
    said = json.dumps({"error": "You have exceeded our limit of 128 commits per hour."})
    hub.faults.add(Fault(route="POST .*/commit/main", status=429, body=said))
    write(tmp_path, {"a.txt": b"content"})
    run = run_task(
        XetUploadOperator,
        source=str(tmp_path),
        repo_id=repo.repo_id,
        repo_type="dataset",
        retries=0,
        retry_policy=policy(),
    )
    assert isinstance(run.error, XetCommitQuotaError)
    assert run.state == "up_for_reschedule"
    wait = run.message.reschedule_date - run.message.end_date
    assert timedelta(hours=1) <= wait <= timedelta(minutes=75)


@rescheduling
@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (XetRateLimitError("slowly", retry_after=900.0), "up_for_retry", "XetRetryPolicy: XetRateLimitError"),
        (KeyError("mine"), "failed", "ExceptionRetryPolicy: not here"),
    ],
)
def test_in_a_chain_the_next_policy_decides_about_what_is_not_of_this_provider(run_task, error, state, reason):
    from airflow.sdk import ChainRetryPolicy, ExceptionRetryPolicy, RetryAction, RetryRule

    class Fail(BaseOperator):
        def execute(self, context):
            raise error

    others = ExceptionRetryPolicy(rules=[RetryRule(KeyError, RetryAction.FAIL, reason="not here")])
    run = run_task(Fail, retry_policy=ChainRetryPolicy([policy(), others]))
    assert run.state == state
    assert run.message.retry_reason.startswith(reason)


@rescheduling
def test_after_it_was_rescheduled_a_task_searches_for_the_commit_it_may_have_made(
    hub, connection, repo, run_dag, tmp_path
):
    """The first commit arrives and its response is lost; Airflow still calls the second start the first attempt."""
    from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

    write(tmp_path, {"a.txt": b"content"})
    lost = RetryRule(RuntimeError, RetryAction.RESCHEDULE, retry_delay=timedelta(0), max_reschedules=1)
    starts = []

    class Upload(XetUploadOperator):
        def execute(self, context):
            starts.append(context["ti"].try_number)
            result = super().execute(context)
            if len(starts) == 1:
                raise RuntimeError("lost")
            return result

    with new_dag("retry_policy") as dag:
        Upload(
            task_id="upload",
            source=str(tmp_path),
            repo_id=repo.repo_id,
            repo_type="dataset",
            retry_policy=ExceptionRetryPolicy(rules=[lost]),
        )
    run = run_dag(dag)
    assert (run.states, starts) == ({"upload": "success"}, [1, 1])
    (result,) = run.xcoms("upload")
    assert result["created"]  # by the first start
    assert result["oid"] == XetHubConnection().get_latest_commit(repo)["oid"]


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
