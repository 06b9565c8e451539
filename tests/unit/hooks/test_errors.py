"""What Airflow gets of an error: its message in a line of its own, and a traceback short enough to see both."""

from __future__ import annotations

import logging
import pickle
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_xethub.exceptions import XetInputError, XetNotFoundError, XetServerError
from airflow_provider_xethub.hooks import errors
from airflow_provider_xethub.xet.process import threads
from airflow_provider_xethub.xet.repo import check_repo_id

log = logging.getLogger("task")


def functions(error: BaseException | None) -> list[str]:
    assert error is not None
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def in_a_thread_and_a_future() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: threads.interruptible(lambda: check_repo_id("nobody"))).result()


@errors.fail_without_retry()
def method() -> None:
    in_a_thread_and_a_future()


@contextmanager
def code_of_an_author():
    yield


def test_of_our_frames_only_where_it_left_and_where_it_was_raised_are_shown():
    with pytest.raises(XetInputError) as caught:
        threads.interruptible(lambda: errors.fail_without_retry()(check_repo_id)("nobody"))
    ours = [Path(frame.filename).name for frame in traceback.extract_tb(caught.value.__traceback__)][-2:]
    assert ours == ["errors.py", "repo.py"]
    assert functions(caught.value)[-2:] == ["call", "check_repo_id"]


def test_frames_of_threads_and_futures_are_dropped_but_those_of_the_author_kept():
    with pytest.raises(XetInputError) as caught:
        method()
    # Lambdas and functions of this file are the author's.
    assert functions(caught.value)[1:] == [
        "call",
        "method",
        "in_a_thread_and_a_future",
        "<lambda>",
        "<lambda>",
        "check_repo_id",
    ]


def test_a_block_has_no_frame_of_contextlib():
    with pytest.raises(XetInputError) as caught, errors.fail_task(log), code_of_an_author():
        check_repo_id("nobody")
    modules = {Path(frame.filename).name for frame in traceback.extract_tb(caught.value.__traceback__)}
    assert modules == {"test_errors.py", "errors.py", "repo.py"}


def test_the_message_is_a_line_of_its_own_in_the_log_of_the_task(caplog):
    with pytest.raises(XetInputError) as caught, errors.fail_task(log):
        check_repo_id("nobody")
    assert [(each.levelname, each.message) for each in caplog.records if each.name == "task"] == [
        ("ERROR", str(caught.value))
    ]


def test_what_somebody_may_still_catch_is_not_logged_as_an_error(caplog):
    with pytest.raises(XetInputError):
        method()
    assert [each for each in caplog.records if each.levelno > logging.DEBUG] == []


def test_the_full_traceback_is_logged_at_debug_level(caplog):
    caplog.set_level(logging.DEBUG, errors.log.name)
    with pytest.raises(XetInputError):
        method()
    assert caplog.records[-1].message == "The full traceback of XetInputError:"
    for step in ("in wait", "in interruptible", "concurrent/futures", "in check_repo_id"):
        assert step in caplog.text


def test_a_cause_is_shown_with_the_place_it_came_from():
    @errors.fail_without_retry()
    def fail() -> None:
        try:
            threads.interruptible(lambda: int("no number"))
        except ValueError as error:
            raise XetServerError("The Hub failed.") from error

    with pytest.raises(XetServerError) as caught:
        fail()
    assert isinstance(caught.value.__cause__, ValueError)
    assert len(functions(caught.value.__cause__)) == 1


def test_a_cause_whose_traceback_was_removed_stays_without_one():
    with pytest.raises(XetServerError) as caught, errors.fail_task(log):
        raise XetServerError("The Hub failed.") from ValueError("never raised")
    assert functions(caught.value.__cause__) == []


def test_an_unexpected_error_keeps_its_traceback(caplog):
    def deep() -> None:
        threads.interruptible(lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError) as caught, errors.fail_task(log):
        deep()
    assert "interruptible" in functions(caught.value)
    assert caplog.records == []


@pytest.mark.parametrize("kind", [XetNotFoundError, XetServerError])
def test_class_attributes_and_pickles_are_as_without_it(kind):
    with pytest.raises(kind) as caught, errors.fail_task(log):
        raise kind("The Hub failed.", service="CAS", status=418, retry_after=7.0)
    error = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert (str(error), error.service, error.status, error.retry_after) == ("The Hub failed.", "CAS", 418, 7.0)
    assert isinstance(error, AirflowFailException) is (kind is XetNotFoundError)


def test_an_error_that_passes_two_boundaries_is_logged_once(caplog):
    with pytest.raises(XetInputError) as caught, errors.fail_task(log):
        method()
    assert len([each for each in caplog.records if each.levelno == logging.ERROR]) == 1
    assert "interruptible" not in functions(caught.value)
