"""The frames that a client reads while its shard is being checked."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from xethub_local.cas.shard_frames import shard_frames
from xethub_local.content.store import ShardReceipt
from xethub_local.formats import FormatError


def frames(
    register: Any, on_frame: Callable[[dict[str, Any]], None] = lambda _: None, interval: float = 60.0
) -> list[Any]:
    async def collect() -> list[Any]:
        seen = []
        async for line in shard_frames(register, interval):
            assert line.endswith(b"\n")
            seen.append(json.loads(line))
            on_frame(seen[-1])
        return seen

    return asyncio.run(collect())


def test_progress_is_repeated_until_the_result() -> None:
    seen_start, seen_middle, seen_end = threading.Event(), threading.Event(), threading.Event()

    def register(*, on_progress: Callable[[int, int], None]) -> ShardReceipt:
        assert seen_start.wait(10)
        on_progress(1, 3)
        assert seen_middle.wait(10)
        on_progress(3, 3)
        assert seen_end.wait(10)
        return ShardReceipt((), is_new=True)

    def on_frame(frame: dict[str, Any]) -> None:
        {0: seen_start, 1: seen_middle, None: seen_end}[frame.get("verified")].set()

    seen = frames(register, on_frame, interval=0.01)
    distinct = [frame for number, frame in enumerate(seen) if frame not in seen[:number]]
    assert distinct == [
        {"type": "validating", "verified": 0, "total": 0},
        {"type": "validating", "verified": 1, "total": 3},
        {"type": "committing", "stage": "syncing"},
        {"type": "result", "result": 1},
    ]
    assert seen.count({"type": "result", "result": 1}) == 1


def test_a_quick_shard_is_one_frame() -> None:
    assert frames(lambda on_progress: ShardReceipt((), is_new=False)) == [{"type": "result", "result": 0}]


def test_a_refusal_is_told_in_its_own_words() -> None:
    def register(*, on_progress: Callable[[int, int], None]) -> None:
        raise FormatError("Xorb 12 is not stored here.")

    assert frames(register)[-1] == {
        "type": "error",
        "message": "The shard is refused: Xorb 12 is not stored here.",
        "retryable": False,
    }


def test_a_failure_of_the_server_is_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    def register(*, on_progress: Callable[[int, int], None]) -> None:
        raise OSError(28, "No space left on device")

    with caplog.at_level(logging.ERROR):
        last = frames(register)[-1]
    assert (last["type"], last["retryable"]) == ("error", False)
    assert "No space left on device" in last["message"]
    assert "No space left on device" in caplog.text
