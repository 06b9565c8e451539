"""A task state that cannot be stored costs a warning."""

from __future__ import annotations

from airflow_provider_xethub.xet import task_state
from airflow_provider_xethub.xet.task_state import TaskState


class Broken:
    def get(self, key):
        raise OSError(f"no {key}")

    def set(self, key, value):
        raise OSError(f"no {key} {value}")


def test_a_store_that_does_not_answer_costs_a_warning(caplog):
    state = TaskState(Broken())
    state.remember("what", {"a": 1})
    assert state.recall("what") == {}
    assert "could not be written (OSError); a retry starts without it" in caplog.text
    assert "could not be read (OSError); a retry starts without it" in caplog.text


def test_what_is_too_large_is_not_remembered(caplog):
    class Store(dict):
        set = dict.__setitem__

    state = TaskState(Store())
    state.remember("what", {"a": "x" * task_state.MOST_BYTES})
    assert state.recall("what") == {}
    assert "too large for the task state store" in caplog.text
    state.remember("what", {"a": "x" * (task_state.MOST_BYTES - 100)})
    assert state.recall("what")
