"""How long a trigger waits between two polls: what a sensor waits in poke mode."""

from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_provider_xethub.sensors.xethub import XetFileSensor
from airflow_provider_xethub.triggers.xethub import XetFileTrigger
from airflow_provider_xethub.xet.wait.pace import Pace
from support.trigger_runs import again


def waits(pace: Pace, count: int) -> list[float]:
    now, found = 0.0, []
    for _ in range(count):
        pace.record_poll(now)
        found.append(pace.seconds)
        now += pace.seconds
    return found


@pytest.mark.parametrize("interval", [1, 7.5, 60])
def test_waits_grow_as_those_of_a_sensor_of_airflow(interval):
    options = {"exponential_backoff": True, "max_wait": 500.0}
    sensor = XetFileSensor(task_id="wait", path="a", poke_interval=interval, timeout=10**9, **options)
    for number, wait in enumerate(waits(Pace(interval, is_exponential=True, max_seconds=500.0), 12), 1):
        # Airflow adds up to as much again by a hash of the poll.
        least = min(max(int(interval * 2 ** (number - 2)), 1), 500)
        assert least <= wait <= min(2 * least, 500)
        assert least <= sensor._get_next_poke_interval(0.0, lambda: 0.0, number) <= min(2 * least, 500)


def test_without_backoff_the_wait_stays_the_same():
    assert waits(Pace(60, max_seconds=5), 3) == [60, 60, 60]
    assert waits(Pace(60, is_exponential=True), 2000)[-1] < float("inf")


def test_polls_that_others_wanted_do_not_make_a_wait_longer():
    pace = Pace(60, is_exponential=True)
    for second in range(30):
        pace.record_poll(float(second))
    assert pace.seconds <= 60


def test_arguments_of_before_make_the_trigger_of_before():
    trigger = XetFileTrigger(repo_id="acme/m", paths=["a"])
    assert not {"exponential_backoff", "max_wait"} & trigger.serialize()[1].keys()
    assert again(trigger).serialize() == trigger.serialize()
    for longest in (None, 300.0):
        trigger = XetFileTrigger(repo_id="acme/m", paths=["a"], exponential_backoff=True, max_wait=longest)
        assert again(trigger).max_wait == longest
        assert again(trigger).serialize() == trigger.serialize()
    assert timedelta(minutes=5).total_seconds() == longest
