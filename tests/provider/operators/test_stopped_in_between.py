"""SIGTERM that interrupts code which catches every exception: the task still stops, where it waits next."""

from __future__ import annotations

import logging
import os
import signal
import time

import pytest

from airflow_provider_xethub.exceptions import XetCancelledError
from airflow_provider_xethub.operators.xethub import XetListOperator, XetTokenOperator
from airflow_provider_xethub.xet.hub import client
from airflow_provider_xethub.xet.process import stop
from xethub_local.control.faults import Fault


class StopsTheTask(logging.Handler):
    """As the handlers of ``logging``: what is raised while it writes is reported, and gets lost."""

    seen: BaseException | None = None

    def emit(self, record):
        if self.seen is None and "Retrying" in record.getMessage():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.01)
            except Exception as error:
                self.seen = error


@pytest.fixture
def handler(monkeypatch):
    handler = StopsTheTask()
    monkeypatch.setattr(client.log, "handlers", [handler])
    return handler


def test_a_stop_that_logging_caught_ends_the_task_before_it_waits(hub, repo, connection, run_task, handler):
    fault = hub.faults.add(Fault("GET .*-token/.*", status=429, headers={"Retry-After": "2"}))
    run = run_task(XetTokenOperator, scope="read", repo_id=repo.repo_id, repo_type=repo.repo_type)
    assert isinstance(handler.seen, XetCancelledError)
    assert (run.state, type(run.error)) == ("up_for_retry", XetCancelledError)
    assert hub.faults.acted(fault) == 1


def test_the_next_task_of_the_process_runs(hub, repo, connection, run_task, handler):
    fault = hub.faults.add(Fault("GET .*-token/.*", status=503))
    where = {"repo_id": repo.repo_id, "repo_type": repo.repo_type}
    assert isinstance(run_task(XetTokenOperator, scope="read", **where).error, XetCancelledError)
    assert hub.faults.acted(fault) == 1
    hub.faults.clear()
    stop.check()
    assert run_task(XetListOperator, **where).state == "success"
