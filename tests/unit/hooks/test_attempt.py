"""What identifies a task instance, and whether it may have run before."""

from __future__ import annotations

import uuid
from types import SimpleNamespace

import pytest

from airflow_provider_xethub.hooks.attempt import instance_key, is_first_start, loop_index

REGION = uuid.UUID(int=7)


def context(try_number=1, map_index=-1, region_id=None, region_index=None, **more):
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=map_index, try_number=try_number)
    if region_id:  # since Airflow 3.4
        ti.region_id, ti.region_index = region_id, region_index
    return {"ti": ti, **more}


@pytest.mark.parametrize(
    ("given", "key"),
    [
        (context(), "d/r/t/-1"),
        (context(map_index=3, try_number=2), "d/r/t/3"),
        # Airflow 3.4 outside of a loop: a plain task, a mapped one, and a function with an argument of that name.
        (context(region_id=uuid.UUID(int=0), region_index=-1), "d/r/t/-1"),
        (context(map_index=3, region_id=REGION, region_index=3), "d/r/t/3"),
        (context(map_index=3, region_id=REGION, region_index=3, loop=5), "d/r/t/3"),
        (context(map_index=3, region_id=REGION, region_index=3, loop=[1].index), "d/r/t/3"),
        (context(loop=SimpleNamespace(index=5)), "d/r/t/-1"),
    ],
)
def test_outside_of_a_loop_the_key_is_that_of_version_0_1_0(given, key):
    assert instance_key(given) == key
    assert loop_index(given) is None


def test_iterations_of_a_loop_have_keys_of_their_own():
    loop = SimpleNamespace(index=0)
    assert instance_key(context(region_id=REGION, region_index=0, loop=loop)) == f"d/r/t/-1/{REGION}/0"
    assert instance_key(context(region_id=REGION, region_index=1, loop=loop)) == f"d/r/t/-1/{REGION}/1"


@pytest.mark.parametrize(
    ("given", "first"),
    [
        (context(), True),
        (context(task_reschedule_count=0), True),
        (context(try_number=2), False),
        (context(task_reschedule_count=1), False),
    ],
)
def test_a_task_has_run_before_if_it_was_retried_or_rescheduled(given, first):
    assert is_first_start(given) is first
