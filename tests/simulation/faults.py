"""Carries out the faults of a plan: the local Hub those of the wire, and all others when it receives a request."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from simulation.generator import PERMANENT, TRANSIENT
from xethub_local.control.fault import Fault
from xethub_local.server import LocalHub

FaultSpec = Mapping[str, Any]

_MOST_SECONDS = 5.0

REMOVE = -1


def kind(fault: FaultSpec) -> str:
    """Return the kind of a fault, for the closing table."""
    if "event" in fault:
        return str(fault["event"])
    wire = fault["wire"]
    if wire.get("lose_answer"):
        return "lost answer"
    if wire.get("body"):
        return "sign-in page"
    if "status" in wire:
        return f"{wire['status']}"
    if "drop" in wire:
        return "drop" if wire["drop"] is True else "drop in the middle"
    for name in ("endless", "corrupt", "truncate", "bandwidth", "delay", "token_life", "data_url_life", "clock_offset"):
        if name in wire:
            return name.replace("_", " ")
    raise ValueError(f"unknown fault {wire}")


def may_be_final(fault: FaultSpec) -> bool:
    """Return whether a task may conclude from this fault that retrying is useless.

    A status such as 403 says so, and so does a successful response that breaks the protocol. A lost connection, an
    overloaded server and everything that happens to the worker are temporary.
    """
    if "event" in fault:
        return fault["event"] in ("commit", "clock")
    wire = fault["wire"]
    if wire.get("status") in TRANSIENT or wire.get("lose_answer") or "drop" in wire:
        return False
    if wire.get("status") in PERMANENT or wire.get("body"):
        return True
    return any(name in wire for name in ("corrupt", "truncate", "token_life", "clock_offset"))


@dataclass
class Target:
    """What events of a task may touch besides the Hub.

    :param commit: commits as somebody else, given the seed of the content.
    :param change_source: changes a file that the task uploads, given the seed of the content; ``REMOVE`` removes it.
    :param children: contains the process ids of the tasks while they run in processes of their own.
    """

    commit: Callable[[int], None]
    change_source: Callable[[int], None] = lambda _: None
    children: list[int] = field(default_factory=list)


class Saboteur:
    """Carries out faults. It sees each request before the Hub handles it.

    :param hub: it is running.
    """

    def __init__(self, hub: LocalHub) -> None:
        self._hub = hub
        self._take = hub.faults.take
        self._waiting: list[FaultSpec] = []
        self._wire: list[tuple[FaultSpec, Fault]] = []
        self._acted: list[FaultSpec] = []
        self._target: Target | None = None
        self._undo: list[Callable[[], object]] = []
        self._seen = 0
        self._is_restarting = False
        self._due: queue.Queue[tuple[FaultSpec, threading.Event] | None] = queue.Queue()
        # The Hub has no other place at which one sees a request before it has an effect.
        vars(hub.faults)["take"] = self._received
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="simulation-faults", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leave the Hub as it was."""
        self.disarm()
        self._due.put(None)
        self._thread.join()
        del vars(self._hub.faults)["take"]

    def arm(self, faults: Iterable[FaultSpec], target: Target) -> None:
        """Let these faults happen from now on."""
        self.disarm()
        self._target, self._seen, self._acted = target, 0, []
        for fault in faults:
            if "event" in fault:
                self._waiting.append(fault)
            else:
                self._wire.append((fault, self._hub.faults.add(Fault.from_json(fault["wire"]))))

    def acted(self) -> list[FaultSpec]:
        """Return which of the faults have acted since they were armed."""
        return [*self._acted, *(spec for spec, fault in self._wire if self._hub.faults.acted(fault))]

    def disarm(self) -> None:
        """End all faults, and put back what can be put back."""
        self._acted = self.acted()
        self._waiting, self._wire = [], []
        self._hub.faults.clear()
        done = threading.Event()
        self._due.put(({"event": "nothing"}, done))
        done.wait(8 * _MOST_SECONDS)  # events that are due already come first
        self._target, self._is_restarting = None, False
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()
        if self._failure:
            raise RuntimeError("An event of the simulation itself failed.") from self._failure

    def _received(self, method: str, path: str, user_agent: str = "") -> Fault | None:
        self._seen += 1
        for event in [each for each in self._waiting if each["at"] <= self._seen]:
            if event["event"] in ("SIGTERM", "SIGKILL") and not (self._target and self._target.children):
                continue  # the try that could be killed is over
            self._waiting.remove(event)
            self._acted.append(event)
            done = threading.Event()
            self._due.put((event, done))
            # A restart waits for this very request. Everything else must happen before the response arrives.
            self._is_restarting |= event["event"] == "restart"
            if not self._is_restarting:
                done.wait(_MOST_SECONDS)
        return self._take(method, path, user_agent)

    def _work(self) -> None:
        while (item := self._due.get()) is not None:
            event, done = item
            try:
                self._carry_out(event)
            except Exception as error:
                self._failure = error
            finally:
                done.set()

    def _carry_out(self, event: FaultSpec) -> None:
        name, target = event["event"], self._target
        if target is None:
            return
        if name == "restart":
            try:
                self._hub.stop()
            except RuntimeError:  # not within its time; it stops nevertheless
                self._hub.stop()
            self._hub.start()
        elif name == "clock":
            self._hub.clock_offset = event["offset"]
            self._undo.append(lambda: setattr(self._hub, "clock_offset", 0))
        elif name == "commit":
            target.commit(event["seed"])
        elif name in ("SIGTERM", "SIGKILL"):
            for child in target.children[:1]:
                os.kill(child, getattr(signal, name))
        elif name == "change_source":
            target.change_source(event["seed"])
        elif name == "remove_source":
            target.change_source(REMOVE)
