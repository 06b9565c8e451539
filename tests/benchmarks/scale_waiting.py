"""A triggerer's event loop with many triggers that wait in vain: what ``scale.py`` starts and watches.

Reads one line of JSON. Writes a line when each trigger's repository was polled twice, and another one with its memory
and the processor time that it took since.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from typing import Any

from benchmarks.servers import REPO_TYPE
from benchmarks.tasks import peak


async def wait(task: dict[str, Any]) -> None:
    """Let the triggers wait, and say what this takes."""
    from airflow_provider_xethub.triggers.xethub import XetFileTrigger
    from support.trigger_runs import Triggerer

    names = task["names"]
    triggerer = Triggerer()
    triggerer.start(
        {
            number: XetFileTrigger(
                repo_id=names[number % len(names)],
                repo_type=REPO_TYPE,
                paths=[f"missing/{number}.bin"],
                poke_interval=task["poke_interval"],
            )
            for number in range(task["count"])
        }
    )
    # Begin and end between two polls, so that every minute has the same number of them.
    await asyncio.sleep(1.5 * task["poke_interval"])
    print(json.dumps({"ready": True}), flush=True)
    busy = time.process_time()
    await asyncio.sleep(task["seconds"])
    busy = time.process_time() - busy
    assert not triggerer.ended, "a trigger ended: its file exists, or its repository does not"
    print(json.dumps({"peak": peak(), "cpu": busy}), flush=True)
    sys.stdin.read()
    await triggerer.stop()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(wait(json.loads(sys.stdin.readline())))
