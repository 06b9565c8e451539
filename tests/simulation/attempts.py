"""One try of one task, in this process or in one of its own, as Airflow runs it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from support.airflow_runs import ExecutionApi, run_one


@dataclass
class Attempt:
    """How a try ended.

    :param state: as Airflow names it; ``killed`` if its process is gone without a word.
    :param error: the name of the error's class, and of its bases.
    :param shown: XComs, rendered fields and the error, as Airflow stores or logs them.
    """

    state: str
    error: Sequence[str]
    message: str
    shown: str


def run(operator: Any, api: ExecutionApi, try_number: int) -> Attempt:
    """Run a try in this process; ``api`` keeps its XComs and its state."""
    ended = run_one(operator, api=api, try_number=try_number)
    error = ended.error
    shown = json.dumps([ended.xcoms, ended.rendered], default=str) + repr(error)
    return Attempt(
        ended.state, [each.__name__ for each in type(error).__mro__] if error else [], str(error or ""), shown
    )


class ForkedAttempt:
    """A try in a process of its own, so that it can be killed. It is a fork, as that of Airflow's supervisor.

    :ivar pid: its process id.
    """

    def __init__(self, operator: Any, api: ExecutionApi, try_number: int) -> None:
        readable, writable = os.pipe()
        sys.stdout.flush()  # or the child would have the same text in its buffer
        self.pid = os.fork()
        if not self.pid:
            try:
                os.close(readable)
                ended = run(operator, api, try_number)
                xcoms = [[*key, value] for key, value in api.xcoms.items()]
                report = json.dumps({"ended": vars(ended), "xcoms": xcoms, "state": api.state})
                with os.fdopen(writable, "w") as pipe:
                    pipe.write(report)
                sys.stdout.flush()
            finally:
                os._exit(0)
        os.close(writable)
        self._readable = readable
        self._api = api
        self._state = api.state
        self._xcoms_before = dict(api.xcoms)

    def wait(self) -> Attempt:
        """Wait until the process is gone; what it has done to XComs and to the state of the task is then in the API."""
        with os.fdopen(self._readable) as pipe:
            report = pipe.read()
        _, status = os.waitpid(self.pid, 0)
        if not report:
            return Attempt("killed", ["Killed"], f"status {status}", "")
        found: Mapping[str, Any] = json.loads(report)
        xcoms = {(task, key, index): value for task, key, index, value in found["xcoms"]}
        for key in self._xcoms_before.keys() - xcoms.keys():
            self._api.xcoms.pop(key, None)
        # Not those that other tasks have pushed meanwhile, which this process does not know.
        changed = {key: value for key, value in xcoms.items() if self._xcoms_before.get(key) != value}
        self._api.xcoms.update(changed)
        self._state.clear()
        self._state.update(found["state"])
        return Attempt(**found["ended"])
