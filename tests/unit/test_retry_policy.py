"""The retry policy in real tasks; on an Airflow that has none, what its import says."""

from __future__ import annotations

import importlib
import json
from datetime import timedelta

import pytest
from airflow.sdk import __version__ as sdk_version
from airflow.sdk import task

from airflow_provider_xethub import exceptions
from airflow_provider_xethub.exceptions import (
    XetAirflowConnectionError,
    XetCommitQuotaError,
    XetConnectionError,
    XetDestinationError,
    XetHubError,
    XetInputError,
    XetRateLimitError,
    XetServerError,
    XetStalledError,
    XetTimeoutError,
)
from airflow_provider_xethub.local.control.faults import Fault
from airflow_provider_xethub.operators.xethub import XetTokenOperator
from airflow_provider_xethub.xet.repo import Repo
from support.airflow_runs import new_dag

pytestmark = pytest.mark.airflow

HAS_POLICIES = tuple(map(int, sdk_version.split(".")[:2])) >= (1, 3)
MODULE = "airflow_provider_xethub.retry_policy"

with_policies = pytest.mark.skipif(not HAS_POLICIES, reason="Airflow has retry policies from 3.3 on")


def policy(**arguments):
    return importlib.import_module(MODULE).XetRetryPolicy(**arguments)


def decide(error, try_number=1, **arguments):
    decision = policy(**arguments).evaluate(error, try_number, 3)
    return decision.action.value, decision.retry_delay and decision.retry_delay.total_seconds(), decision.reason


@pytest.mark.skipif(HAS_POLICIES, reason="this Airflow has retry policies")
def test_an_airflow_without_policies_says_so():
    with pytest.raises(ImportError, match=r"needs Airflow 3\.3 or later\. Leave out retry_policy"):
        importlib.import_module(MODULE)


@with_policies
@pytest.mark.parametrize(
    "kind", [each for each in vars(exceptions).values() if isinstance(each, type) and issubclass(each, XetHubError)]
)
def test_what_is_final_fails_and_nothing_else_does(kind):
    action, delay, reason = decide(kind("of no use"))
    assert (action == "fail") == (not kind.retryable)
    assert action != "fail" or (delay is None and kind.__name__ in reason)
    assert "of no use" not in (reason or "")


@with_policies
@pytest.mark.parametrize("kind", [XetRateLimitError, XetCommitQuotaError])
def test_a_limit_is_waited_for_as_long_as_the_server_asks(kind):
    action, delay, reason = decide(kind("slowly", retry_after=600.0), try_number=4)
    assert (action, 600 <= delay <= 750) == ("retry", True)
    assert reason == f"{kind.__name__}: the Hub asks to wait 600 s."
    assert decide(kind("slowly", retry_after=1e6))[1] == 7200
    assert decide(kind("slowly", retry_after=600.0), max_delay=timedelta(minutes=1))[1] == 60


@with_policies
@pytest.mark.parametrize(
    "kind",
    [
        XetAirflowConnectionError,
        XetConnectionError,
        XetTimeoutError,
        XetServerError,
        XetStalledError,
        XetRateLimitError,
    ],
)
def test_trouble_on_the_way_is_waited_for_longer_each_time(kind):
    for try_number, least in ((1, 30), (2, 60), (3, 120), (4, 240)):
        action, delay, reason = decide(kind("down"), try_number)
        assert (action, least <= delay <= least * 1.25) == ("retry", True)
        assert reason == f"{kind.__name__}: failure {try_number}."
    assert decide(kind("down"), 10_000)[1] == 7200


@with_policies
def test_tasks_that_failed_together_do_not_return_together():
    assert len({decide(XetRateLimitError("slowly", retry_after=600.0))[1] for _ in range(20)}) > 10


@with_policies
@pytest.mark.parametrize("error", [ValueError("mine"), OSError("disk"), XetDestinationError("disk full")])
def test_what_time_does_not_mend_is_left_to_the_task(error):
    assert decide(error) == ("default", None, None)


@with_policies
def test_an_error_that_was_raised_from_one_of_ours_counts_as_it():
    def wrapped(ours):
        try:
            raise RuntimeError("wrapped") from ours
        except RuntimeError as error:
            return error

    assert decide(wrapped(XetInputError("wrong")))[0] == "fail"
    assert decide(wrapped(wrapped(XetServerError("down"))))[0] == "retry"
    assert decide(wrapped(KeyError("mine")))[0] == "default"
    loop = RuntimeError()
    loop.__cause__ = loop
    assert decide(loop)[0] == "default"


@with_policies
def test_an_error_that_was_only_handled_before_does_not_count():
    error = KeyError("another")
    error.__context__ = XetInputError("handled")
    assert decide(error)[0] == "default"


@with_policies
@pytest.mark.parametrize("arguments", [{"min_delay": timedelta(-1)}, {"min_delay": timedelta(hours=3)}])
def test_delays_that_make_no_sense_are_refused(arguments):
    with pytest.raises(XetInputError, match=r"min_delay is .*, max_delay "):
        policy(**arguments)


@with_policies
def test_it_goes_through_json_and_comes_back():
    before = policy(min_delay=timedelta(seconds=1.5), max_delay=timedelta(days=2))
    after = type(before).deserialize(json.loads(json.dumps(before.serialize())))
    assert vars(after) == vars(before)


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
