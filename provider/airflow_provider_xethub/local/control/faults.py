"""Faults on purpose: the local Hub misbehaves as told, so that clients can be tested against it.

::

    hub.faults.add(Fault("GET /api/.*/xet-read-token/.*", times=1, status=503, headers={"Retry-After": "1"}))
    hub.faults.add("hub-busy", times=1)
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Any

from airflow_provider_xethub.local.control.fault import Fault
from airflow_provider_xethub.local.control.presets import READY_MADE, ReadyMadeFault, ready_made

__all__ = ["READY_MADE", "ArmedFault", "Fault", "Faults", "ReadyMadeFault", "ready_made"]

MAX_ARMED = 200
_MAX_TARGET = 8_192


@dataclass(frozen=True)
class ArmedFault:
    """A fault that is armed: how many requests it matched, and how often it acted."""

    id: int
    fault: Fault
    seen: int
    acted: int

    def to_json(self) -> dict[str, Any]:
        """Return id, counts and the fault's fields, for JSON."""
        return {"id": self.id, "seen": self.seen, "acted": self.acted, **self.fault.to_json()}


class _Armed:
    def __init__(self, number: int, fault: Fault) -> None:
        self.id = number
        self.fault = fault
        self.route = re.compile(fault.route)
        self.client = re.compile(fault.client) if fault.client is not None else None
        self.seen = 0
        self.acted = 0

    def matches(self, target: str, user_agent: str) -> bool:
        return bool(self.route.fullmatch(target)) and (self.client is None or bool(self.client.search(user_agent)))

    def snapshot(self) -> ArmedFault:
        return ArmedFault(self.id, self.fault, self.seen, self.acted)


class Faults:
    """The faults of one local Hub. All methods may be called from any thread while it runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: list[_Armed] = []
        self._last_id = 0

    def add(self, fault: Fault | str, **changes: Any) -> Fault:
        """Arm a fault, and return it. Where several match a request, the one added first acts.

        :param fault: a fault, or the name of a ready-made one.
        :param changes: fields of the ready-made fault that are to be different, such as ``times=1``.
        :raises ValueError: there is no such ready-made fault, a field makes no sense, or 200 are armed.
        """
        return self.arm(fault, **changes).fault

    def arm(self, fault: Fault | str, **changes: Any) -> ArmedFault:
        """Arm a fault as :meth:`add` does; return it with the id that :meth:`remove` takes."""
        if isinstance(fault, str):
            fault = ready_made(fault, **changes)
        elif changes:
            raise ValueError("changes go with the name of a ready-made fault; give a Fault all of its fields itself.")
        with self._lock:
            if len(self._armed) >= MAX_ARMED:
                raise ValueError(f"{MAX_ARMED} faults are armed, which is the limit; clear them first.")
            self._last_id += 1
            armed = _Armed(self._last_id, fault)
            # A new list each time: take() looks without the lock whether there is any.
            self._armed = [*self._armed, armed]
            return armed.snapshot()

    def armed(self) -> list[ArmedFault]:
        """Return what is armed, in the order in which it acts."""
        with self._lock:
            return [armed.snapshot() for armed in self._armed]

    def remove(self, fault: int | Fault) -> bool:
        """Disarm one fault, given its id or itself; say whether it was armed."""
        with self._lock:
            kept = [armed for armed in self._armed if armed.id != fault and armed.fault is not fault]
            was_armed = len(kept) < len(self._armed)
            self._armed = kept
        return was_armed

    def clear(self) -> None:
        """Disarm all faults."""
        with self._lock:
            self._armed = []

    def acted(self, fault: Fault | int) -> int:
        """How often an armed fault, or the one of this id, has acted, so that a test can tell that it did."""
        with self._lock:
            return sum(armed.acted for armed in self._armed if armed.fault is fault or armed.id == fault)

    def take(self, method: str, path: str, user_agent: str = "") -> Fault | None:
        """Return the fault that acts on this request, and count it."""
        if not self._armed:
            return None
        target = f"{method} {path}"[:_MAX_TARGET]
        with self._lock:
            for armed in self._armed:
                fault = armed.fault
                if not armed.matches(target, user_agent[:_MAX_TARGET]):
                    continue
                armed.seen += 1
                if armed.seen <= fault.skip or (fault.times is not None and armed.acted >= fault.times):
                    continue
                armed.acted += 1
                return fault
        return None
