"""While an operator works, the garbage collector looks only at what it makes."""

from __future__ import annotations

import gc

import pytest

from airflow_provider_xethub.operators import base


class Frozen(base.XetOperator):
    def work(self, context):
        return gc.get_freeze_count()


@pytest.fixture(autouse=True)
def _new_process():
    """As in a process in which no task has run."""
    base._has_frozen_objects.cache_clear()
    yield
    gc.freeze()
    base._has_frozen_objects.cache_clear()


def test_what_airflow_has_loaded_is_not_collected(connection, run_task):
    connection()
    gc.unfreeze()  # the tests' own

    assert run_task(Frozen, repo_id="acme/corpus", repo_type="dataset").value > 10_000
    assert gc.get_freeze_count() == 0


def test_what_others_have_frozen_stays_frozen(connection, run_task):
    connection()
    gc.freeze()
    before = gc.get_freeze_count()

    run_task(Frozen, repo_id="acme/corpus", repo_type="dataset").value  # noqa: B018

    assert gc.get_freeze_count() >= before / 2


def test_what_is_frozen_is_counted_for_the_first_task_of_a_process_only(connection, run_task, monkeypatch):
    """With all of Airflow, counting takes as long as a small task."""
    connection()
    counts = []
    count = gc.get_freeze_count
    monkeypatch.setattr(gc, "get_freeze_count", lambda: counts.append(count()) or counts[-1])

    for _ in range(3):
        run_task(base.XetOperator, repo_id="acme/corpus", repo_type="dataset")

    assert len(counts) == 1
