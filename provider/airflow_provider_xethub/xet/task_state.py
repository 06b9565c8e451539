"""Values that a task keeps for its retries, on whatever worker they run: in the task state store of Airflow 3.3.

Before 3.3 there is no store, and nothing is stored. The UI and the API show its content, so it never holds a token, a
signed URL or another credential. It is only a hint: each value is checked before it is used, and a store that does not
respond only causes a warning.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from airflow_provider_xethub.xet.process import threads

T = TypeVar("T")

MOST_BYTES = 48 << 10
"""Largest value, as JSON; Airflow's own limit (``[state_store] max_value_storage_bytes``) is 64 KiB."""

log = logging.getLogger(__name__)


class TaskState:
    """The task state store of one task instance, shared by its attempts.

    :param store: ``context["task_state_store"]``; ``None`` where there is none.
    """

    def __init__(self, store: Any | None = None) -> None:
        self._store = store

    def __bool__(self) -> bool:
        """Return whether there is a store."""
        return self._store is not None

    def recall(self, key: str) -> dict[str, Any]:
        """Return the value stored under ``key``; an empty dict where there is none."""
        value = self._ask("read", lambda: self._store.get(key)) if self else None  # type: ignore[union-attr]
        return value if isinstance(value, dict) else {}

    def remember(self, key: str, value: dict[str, Any]) -> None:
        """Store ``value`` for the retries, unless it is too large."""
        if not self:
            return
        if len(json.dumps(value)) > MOST_BYTES:
            log.warning("%s is too large for the task state store; a retry starts without it.", key)
            return
        self._ask("written", lambda: self._store.set(key, value))  # type: ignore[union-attr]

    def _ask(self, verb: str, work: Callable[[], T]) -> T | None:
        try:
            # Not in the main thread: a signal during a request would leave its response to the next request.
            return threads.interruptible(work)
        except Exception as error:
            log.warning(
                "The task state store could not be %s (%s); a retry starts without it.", verb, type(error).__name__
            )
            return None
