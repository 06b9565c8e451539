"""What a task remembers for its retries, on whatever worker they run: in the task state store of Airflow 3.3.

Before 3.3 there is none, and nothing is remembered. What is in it can be read in the UI and the API: never a token, a
signed URL, or anything else that opens something. Nothing depends on it: what is remembered is looked at again before
it is believed, and a store that does not answer costs a warning.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from airflow_provider_xethub.xet import threads as workers

T = TypeVar("T")

MOST_BYTES = 48 << 10
"""Of one value, as JSON: Airflow's own limit (``[state_store] max_value_storage_bytes``) is 64 KiB."""

log = logging.getLogger(__name__)


class TaskState:
    """The task state store of one task instance, shared by its tries.

    :param store: ``context["task_state_store"]``; ``None`` where there is none.
    """

    def __init__(self, store: Any | None = None) -> None:
        self._store = store

    def __bool__(self) -> bool:
        """Whether anything can be remembered."""
        return self._store is not None

    def recall(self, key: str) -> dict[str, Any]:
        """Return what was remembered under ``key``; nothing where there is no such thing."""
        value = self._ask("read", lambda: self._store.get(key)) if self else None  # type: ignore[union-attr]
        return value if isinstance(value, dict) else {}

    def remember(self, key: str, value: dict[str, Any]) -> None:
        """Remember ``value`` for the retries; what is too large is not remembered."""
        if not self:
            return
        if len(json.dumps(value)) > MOST_BYTES:
            log.warning("%s is too large for the task state store: a retry does without.", key)
            return
        self._ask("written", lambda: self._store.set(key, value))  # type: ignore[union-attr]

    def _ask(self, verb: str, work: Callable[[], T]) -> T | None:
        try:
            # Not in the main thread: a signal in the middle of a request would leave its answer to the next one.
            return workers.interruptible(work)
        except Exception as error:
            log.warning("The task state store could not be %s (%s): a retry does without.", verb, type(error).__name__)
            return None
