"""The response to ``POST /v2/shards``: one JSON object per line while a shard is checked.

Only its error frame brings a message of CAS to the user: hf-xet discards the body of any other error.

Source: the Xet protocol's API page, version 1.1, and the frames that hf-xet 1.8 accepts.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from starlette.concurrency import run_in_threadpool

from xethub_local.content.store import ShardReceipt
from xethub_local.formats import FormatError

# Well below 300 seconds: hf-xet gives up after that time without a byte.
_FRAME_SECONDS = 1.0
_log = logging.getLogger(__name__)


class RegisterShard(Protocol):
    """Checks and registers a shard, and blocks; calls ``on_progress`` with the files checked and their total."""

    def __call__(self, *, on_progress: Callable[[int, int], None]) -> ShardReceipt: ...  # noqa: D102


async def shard_frames(register: RegisterShard, interval: float = _FRAME_SECONDS) -> AsyncIterator[bytes]:
    """Run ``register`` in a thread and yield frames; the last one is ``result`` or ``error``.

    :param interval: seconds between progress frames.
    """
    progress = (0, 0)

    def on_progress(verified: int, total: int) -> None:
        nonlocal progress
        progress = (verified, total)

    task = asyncio.ensure_future(run_in_threadpool(register, on_progress=on_progress))
    while not (await asyncio.wait({task}, timeout=interval))[0]:
        verified, total = progress
        if total and verified == total:
            yield _frame("committing", stage="syncing")
        else:
            yield _frame("validating", verified=verified, total=total)
    error = task.exception()
    yield _frame("result", result=int(task.result().is_new)) if error is None else _error_frame(error)


def _error_frame(error: BaseException) -> bytes:
    if isinstance(error, FormatError):
        return _frame("error", message=f"The shard is refused: {error}", retryable=False)
    _log.error("Could not register a shard.", exc_info=error)
    return _frame("error", message=f"The local Hub failed to register the shard: {error!r}", retryable=False)


def _frame(kind: str, **fields: object) -> bytes:
    return json.dumps({"type": kind, **fields}).encode() + b"\n"
