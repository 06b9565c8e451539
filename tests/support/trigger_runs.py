"""Triggers as a triggerer runs them: serialised, made again from that, and run in one event loop."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from airflow.triggers.base import BaseTrigger

from airflow_provider_xethub.triggers.pull_requests import XetPullRequestTrigger
from airflow_provider_xethub.triggers.scans import XetScanTrigger
from airflow_provider_xethub.triggers.xethub import XetFileTrigger, XetRevisionTrigger

PATIENCE = 60.0
"""Seconds until a test gives up; nothing is measured with it."""


def again(trigger: BaseTrigger) -> BaseTrigger:
    """Return the trigger that a triggerer makes from what is in the database."""
    classpath, arguments = trigger.serialize()
    module, _, name = classpath.rpartition(".")
    return getattr(import_module(module), name)(**json.loads(json.dumps(arguments)))


class Triggerer:
    """Runs triggers in the running loop, and keeps what they give.

    ``events`` by the name under which a trigger was started; ``ended`` has those whose ``run()`` came to its end.
    """

    def __init__(self) -> None:
        self.events: dict[Any, list[Any]] = {}
        self.errors: dict[Any, BaseException] = {}
        self.ended: set[Any] = set()
        self._tasks: dict[Any, asyncio.Task[None]] = {}

    def start(self, triggers: dict[Any, BaseTrigger], *, store: Any = None) -> None:
        for name, trigger in triggers.items():
            made: Any = again(trigger)
            if store is not None:
                made.asset_state_store = store
            self.events.setdefault(name, [])
            self._tasks[name] = asyncio.create_task(self._run(name, made))

    async def _run(self, name: Any, trigger: BaseTrigger) -> None:
        try:
            async for event in trigger.run():
                # A triggerer sends it to the process that stores it, and ends where that cannot be done.
                json.dumps(event.payload, allow_nan=False, ensure_ascii=False).encode()
                self.events[name].append(event.payload)
        except Exception as error:
            self.errors[name] = error
        self.ended.add(name)

    async def stop(self, names: Iterable[Any] | None = None) -> None:
        tasks = [self._tasks.pop(name) for name in list(self._tasks if names is None else names)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def fired(self) -> set[Any]:
        return {name for name, events in self.events.items() if events}


async def until(condition: Callable[[], Any]) -> Any:
    """Wait until it is so, and return what it gave."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.02)
    return value


async def in_thread(work: Callable[[], Any]) -> Any:
    """Do something that blocks, while the triggers go on."""
    return await asyncio.to_thread(work)


TRIGGERS = [
    XetFileTrigger(repo_id="acme/corpus", paths=["a.bin", "b.bin"], xethub_conn_id="other", poke_interval=7.5),
    XetFileTrigger(
        repo_id="acme/corpus", repo_type="dataset", revision="refs/pr/1", patterns=["*.bin"], min_files=3,
        known={"a.bin": ["0" * 64]}, newer_than="1" * 40, may_be_missing="revision",
    ),
    XetFileTrigger(repo_id="acme/corpus", repo_type="bucket", paths=["a"]),
    XetRevisionTrigger(repo_id="acme/corpus"),
    XetRevisionTrigger(repo_id="acme/corpus", repo_type="space", newer_than="a" * 40, once=True, may_be_missing="repo"),
    XetPullRequestTrigger(repo_id="acme/corpus", repo_type="dataset", revision="refs/pr/7", xethub_conn_id="other"),
    XetScanTrigger(repo_id="acme/corpus"),
    XetScanTrigger(
        repo_id="acme/corpus", revision="refs/pr/1", patterns=["*.bin"], exclude=["b*"], missing_scan="wait",
    ),
]  # fmt: skip
"""Each trigger, with few and with many arguments."""


class Store:
    """The state of one asset, as Airflow 3.3 keeps it; ``fails`` is raised instead."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}
        self.fails: list[Exception] = []

    async def aget(self, key, default=None):
        if self.fails:
            raise self.fails.pop()
        return self.values.get(key, default)

    async def aset(self, key, value):
        if self.fails:
            raise self.fails.pop()
        self.values[key] = value
