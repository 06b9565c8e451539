"""A trigger backs off."""

from __future__ import annotations

import asyncio
import time

from airflow_provider_xethub.triggers.xethub import XetFileTrigger
from airflow_provider_xethub.xet.wait import poller
from support.trigger_runs import Triggerer, until


def test_a_trigger_backs_off(hub, repo, connection, monkeypatch):
    monkeypatch.setattr(poller, "MIN_INTERVAL", 0.05)
    where = {"repo_id": repo.repo_id, "repo_type": "dataset", "paths": ["a.bin"]}

    async def seconds_until(polls, **options):
        hub.log.clear()
        triggerer = Triggerer()
        started = time.monotonic()
        triggerer.start({"a": XetFileTrigger(poke_interval=0.1, **options, **where)})
        await until(lambda: len(hub.log.requests("GET .*/commits/.*")) >= polls)
        took = time.monotonic() - started
        await triggerer.stop()
        return took

    asyncio.run(seconds_until(3))
    assert asyncio.run(seconds_until(2, exponential_backoff=True)) >= 1  # at least a second, as in Airflow
    # Without its limit, each of the waits would be at least a second.
    assert asyncio.run(seconds_until(21, exponential_backoff=True, max_wait=0.1)) < 20
