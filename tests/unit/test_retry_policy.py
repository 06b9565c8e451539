"""The retry policy in real tasks; on an Airflow that has none, what its import says."""

from __future__ import annotations

import importlib
import json
from datetime import timedelta

import pytest

from airflow_provider_xethub import exceptions
from airflow_provider_xethub.exceptions import (
    XetAirflowConnectionError,
    XetCommitQuotaError,
    XetConnectionError,
    XetDestinationError,
    XetHubError,
    XetIdentityUnavailableError,
    XetInputError,
    XetRateLimitError,
    XetServerError,
    XetStalledError,
    XetTimeoutError,
    XetTooSlowError,
)
from support.retry_policies import CAN_RESCHEDULE, HAS_POLICIES, MODULE, policy, with_policies

pytestmark = pytest.mark.airflow


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
    waits_without_retry = kind is XetCommitQuotaError and CAN_RESCHEDULE
    assert (action, 600 <= delay <= 750) == ("reschedule" if waits_without_retry else "retry", True)
    assert reason == f"{kind.__name__}: the Hub asks to wait 600 s."
    assert decide(kind("slowly", retry_after=1e6))[1] == 7200
    assert decide(kind("slowly", retry_after=600.0), max_delay=timedelta(minutes=1))[1] == 60


@with_policies
def test_a_commit_quota_is_waited_for_without_a_retry_for_a_limited_time():
    error = XetCommitQuotaError("used up", retry_after=3600.0)
    if CAN_RESCHEDULE:
        assert policy().evaluate(error, 1, 3).reschedule_timeout == timedelta(days=1)
        assert policy(max_quota_wait=timedelta(hours=2)).evaluate(error, 1, 3).reschedule_timeout == timedelta(hours=2)
    assert decide(error, max_quota_wait=timedelta(0))[0] == "retry"


@with_policies
@pytest.mark.parametrize(
    "kind",
    [
        XetAirflowConnectionError,
        XetIdentityUnavailableError,
        XetConnectionError,
        XetTimeoutError,
        XetServerError,
        XetStalledError,
        XetTooSlowError,
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
    with pytest.raises(XetInputError, match=r"min_delay is .*, max_delay is "):
        policy(**arguments)
    with pytest.raises(XetInputError, match="max_quota_wait is "):
        policy(max_quota_wait=timedelta(-1))


@with_policies
def test_it_goes_through_json_and_comes_back():
    before = policy(min_delay=timedelta(seconds=1.5), max_delay=timedelta(days=2), max_quota_wait=timedelta(hours=3))
    after = type(before).deserialize(json.loads(json.dumps(before.serialize())))
    assert vars(after) == vars(before)
    # What version 0.1.0 stored.
    assert type(before).deserialize({"min_delay": 30.0, "max_delay": 7200.0}).max_quota_wait == timedelta(days=1)
