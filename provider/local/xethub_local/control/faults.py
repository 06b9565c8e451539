"""Faults on purpose: the local Hub misbehaves in a defined way, so that clients can be tested against it.

::

    hub.faults.add(Fault("GET /api/.*/xet-read-token/.*", times=1, status=503, headers={"Retry-After": "1"}))
    hub.faults.add("hub-busy", times=1)
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Any

from xethub_local.control.fault import Fault
from xethub_local.control.link import Link
from xethub_local.control.presets import fault_from_preset

__all__ = ["ArmedFault", "Fault", "Faults"]

MAX_ARMED = 200
_MAX_TARGET = 8_192


@dataclass(frozen=True)
class ArmedFault:
    """A fault that is switched on, with how many requests it matched and how often it acted."""

    id: int
    fault: Fault
    seen: int
    acted: int

    def to_json(self) -> dict[str, Any]:
        """Return its id, its counts and the fields of its fault, for JSON."""
        return {"id": self.id, "seen": self.seen, "acted": self.acted, **self.fault.to_json()}


class _Armed:
    def __init__(self, number: int, fault: Fault) -> None:
        self.id = number
        self.fault = fault
        self.route = re.compile(fault.route)
        self.client = re.compile(fault.client) if fault.client is not None else None
        is_link = fault.bandwidth is not None or fault.max_open is not None
        self.link = Link(fault) if is_link else None
        self.seen = 0
        self.acted = 0

    def matches(self, target: str, user_agent: str) -> bool:
        return bool(self.route.fullmatch(target)) and (self.client is None or bool(self.client.search(user_agent)))

    def snapshot(self) -> ArmedFault:
        return ArmedFault(self.id, self.fault, self.seen, self.acted)


class Faults:
    """The faults that are switched on in one local Hub. All methods may be called from any thread while it runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._armed: list[_Armed] = []
        self._last_id = 0

    def add(self, fault: Fault | str, **changes: Any) -> Fault:
        """Switch a fault on, and return it. If several match a request, the one added first acts.

        :param fault: a fault, or the name of a ready-made one.
        :param changes: fields of the ready-made fault to change, such as ``times=1``.
        :raises ValueError: there is no such ready-made fault, a field is not valid, or 200 faults are already on.
        """
        return self.arm(fault, **changes).fault

    def arm(self, fault: Fault | str, **changes: Any) -> ArmedFault:
        """Switch a fault on as :meth:`add` does; return it with the id that :meth:`remove` takes."""
        if isinstance(fault, str):
            fault = fault_from_preset(fault, **changes)
        elif changes:
            raise ValueError("changes apply to ready-made faults only; pass them to Fault(…) instead.")
        with self._lock:
            if len(self._armed) >= MAX_ARMED:
                raise ValueError(f"{MAX_ARMED} faults are switched on, which is the limit; clear some first.")
            self._last_id += 1
            armed = _Armed(self._last_id, fault)
            # A new list each time, because take() checks without the lock whether it is empty.
            self._armed = [*self._armed, armed]
            return armed.snapshot()

    def armed(self) -> list[ArmedFault]:
        """Return the faults that are switched on, in the order in which they are tried."""
        with self._lock:
            return [armed.snapshot() for armed in self._armed]

    def remove(self, fault: int | Fault) -> bool:
        """Switch one fault off, given the fault or its id; return whether it was on."""
        with self._lock:
            kept = [armed for armed in self._armed if armed.id != fault and armed.fault is not fault]
            was_armed = len(kept) < len(self._armed)
            self._armed = kept
        return was_armed

    def clear(self) -> None:
        """Switch all faults off."""
        with self._lock:
            self._armed = []

    def acted(self, fault: Fault | int) -> int:
        """Return how often a fault, given itself or its id, has acted, so that a test can check that it did."""
        with self._lock:
            return sum(armed.acted for armed in self._armed if armed.fault is fault or armed.id == fault)

    def link(self, fault: Fault) -> Link | None:
        """Return what the requests of a fault share, if it is a link. Its counts tell a test what happened."""
        with self._lock:
            return next((armed.link for armed in self._armed if armed.fault is fault), None)

    def take(self, method: str, path: str, user_agent: str = "") -> Fault | None:
        """Return the fault that acts on this request, if any, and count the request."""
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
