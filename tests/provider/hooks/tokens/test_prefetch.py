"""A token that is fetched while other work is done."""

from __future__ import annotations

import signal
import threading

import pytest

from airflow_provider_xethub import exceptions
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.process import threads
from support.waiting import until
from xethub_local.control.faults import Fault

TOKENS = "GET .*/xet-write-token/main"


@pytest.fixture
def hook(connection):
    return XetHubConnection()


def ended() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name == threads.REQUEST]


def test_nothing_asks_for_it_any_more_after_the_work_has_failed(hub, hook, repo):
    hub.faults.add(Fault(TOKENS, status=503))
    hub.log.clear()
    with pytest.raises(ZeroDivisionError), hook.prefetch_token(repo, "write"):
        raise ZeroDivisionError
    until(ended)
    assert len(hub.log.requests(TOKENS)) == 1


def test_a_failure_that_may_pass_is_repaired_where_the_token_is_needed(hub, hook, repo):
    hub.faults.add(Fault(TOKENS, status=503, times=1))
    hub.log.clear()
    with hook.prefetch_token(repo, "write"):
        assert hook.get_token(repo, "write").access_token
    assert len(hub.log.requests(TOKENS)) == 2


def test_another_failure_is_raised_where_the_token_is_needed(hub, hook, repo):
    hub.faults.add(Fault(TOKENS, status=403))
    hub.log.clear()
    with hook.prefetch_token(repo, "write"), pytest.raises(exceptions.XetForbiddenError, match="use a Hub token"):
        hook.get_token(repo, "write")
    assert len(hub.log.requests(TOKENS)) == 1


def test_a_stop_while_it_is_waited_for_is_no_reason_to_ask_again(hub, hook, repo):
    def stop(*_: object) -> None:
        raise exceptions.XetCancelledError("Stopped from outside.")

    hub.faults.add(Fault(TOKENS, delay=60))
    hub.log.clear()
    before = signal.signal(signal.SIGALRM, stop)
    try:
        with hook.prefetch_token(repo, "write"):
            signal.setitimer(signal.ITIMER_REAL, 0.5)
            with pytest.raises(exceptions.XetCancelledError):
                hook.get_token(repo, "write")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(hub.log.requests(TOKENS)) <= 1
