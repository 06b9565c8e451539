"""The page of the documentation: the matrix as tables that a user can read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from faults.matrix import OUTCOMES, Matrix

FILE = Path(__file__).parents[2] / "docs" / "faults.md"

WORDS: dict[str, tuple[str, str]] = {
    "success": ("✓ succeeds", "The first try succeeds: the request is repeated, or the fault does no harm."),
    "retried": ("↻ retried", "The first try fails, and one of Airflow's retries succeeds."),
    "waits": ("… waits", "The sensor or trigger goes on polling; a sensor until its `timeout`."),
    "error": ("! fails", "All tries fail: the fault lasts longer than Airflow's retries."),
    "final": ("✗ final", "The task fails at once, without retries, because another try would end the same."),
    "not met": ("- not met", "The task does not get to this request."),
}
"""What an outcome is called, and what it means."""

FAULTS: dict[str, str] = {
    "400 to 504": "the response is this status; 429 with `Retry-After: 0`",
    "redirect": "a redirect to another server, 302",
    "sign-in page": "status 200 with an HTML page, as of a proxy",
    "empty JSON": "status 200 with `{}`",
    "dropped": "the connection closes before the request has an effect",
    "cut": "the connection closes in the middle of the response",
    "lost 500": "the request has its effect, and the response is 500",
    "lost drop": "the request has its effect, and the connection closes",
    "stall": "the headers of the response arrive, and nothing more",
    "drip": "the headers arrive, and then a space every half second",
    "corrupt": "one byte of the response is another one",
    "truncated": "the response ends after 20 bytes, as if it were complete",
    "slow": "the response takes 0.2 seconds longer",
    "slow link": "data passes at 50 kB/s",
    "crowded link": "more than one open request slows the link down",
    "no expiry": "a Xet token without its expiry",
    "wrong expiry": "two expiries that contradict each other",
    "short token": "a Xet token that is valid for 5 seconds",
    "clock ahead": "the server's clock is an hour ahead",
    "no date": "a response without its `Date`",
    "expired data URL": "URLs of data that are expired already",
}

_LOADED = ("error", "final", "retried", "waits", "success", "not met")

_HEAD = """\
# Faults

Every operator, sensor and trigger against every fault of [the local Hub](local-hub.md), at every request that its work
makes. `make faults` runs all of it again and fails if anything ends otherwise than this page says.
`make faults ARGS=--accept` records what comes out and writes this page, so do not edit it. CI runs a sample.

```bash
make faults
make faults ARGS="--rows 'upload*'"
make faults ARGS="--sample 400"
make faults ARGS="--sample 400 --seed another"
```

## How to read it

Each task has two Airflow retries. A fault hits one kind of request. *Once*: the first such request fails; for tasks
that send several, a second run lets the second one fail instead. *As long as it lasts*: all of them fail, in all tries.
A number says at how many kinds of requests that is so.

"""

_CONCLUSIONS = """\
## What to conclude

* **Give tasks retries.** 408, 409, 412, 429, 5xx, lost connections, stalls and responses that are cut off never end a
  task for good, so two retries with a delay of some minutes outlast most of them. A single such fault is mostly
  repaired within the request, and needs no retry at all.
* **A final failure is for you.** 400, 401, 403, 404, 413 and 422 say that the request, the credential or the name of
  the repository is wrong, and a web page that something else than the Hub answers. The message says which, in its
  first 100 characters. Correct it, and clear the task.
* **Nothing pretends to be done.** A change counts once the Hub reports it. A success that something else than the Hub
  reports is none.
* **A lost response is not a lost commit.** The task finds what it had done, and does not do it twice.
* **Clear without fear.** In every cell in which a task failed, it was run once more without the fault. It succeeded,
  and what was then at the Hub and on the worker was the same as after a run without any fault.
* **Nothing half is visible.** No file has its final name before it is complete and verified, no branch is in a state in
  between, and no temporary file is left after the last try.
* **A wrong clock does no harm.** A server whose clock is an hour ahead, and responses without a date, end no task.
"""

_SENSORS = """\
* **Sensors wait, and fail early only at their first poll.** A sensor whose first poll fails reports it, because a wrong
  host looks the same. After that, and in the triggerer, it waits until the Hub is back. A credential or a repository
  that is wrong ends the wait.
"""


def render(matrix: Matrix, missing: Sequence[str] = ()) -> str:
    """Return the page.

    :param missing: rows that were not run yet.
    """
    counts: Counter[str] = Counter(cell.outcome for cell in matrix.cells.values())
    parts = [_HEAD, "| Outcome | Cells | Meaning |\n|---|---|---|\n"]
    parts += [f"| {WORDS[each][0]} | {counts[each]:,} | {WORDS[each][1]} |\n" for each in OUTCOMES if counts[each]]
    parts.append(f"\nThese are {len(matrix.cells):,} cells: {len(matrix.kinds)} tasks, {_steps(matrix)} requests, ")
    parts.append(f"{len({_column(key[2]) for key in matrix.cells})} faults.\n\n")
    if missing:
        parts.append(f"Not run yet: {', '.join(missing)}. `make faults ARGS=--accept` adds them.\n\n")
    parts.append("| Fault | What happens |\n|---|---|\n")
    parts += [f"| {name} | {text} |\n" for name, text in FAULTS.items()]
    parts += ["\n", _CONCLUSIONS]
    parts += [_SENSORS] * ("XetFileSensor" in matrix.kinds.values())
    parts.append("\n")
    for kind in dict.fromkeys(matrix.kinds.values()):
        parts.append(f"## {kind}\n\n")
        for row in (row for row, each in matrix.kinds.items() if each == kind):
            parts.append(_section(matrix, row))
    return "".join(parts).rstrip("\n") + "\n"


def _steps(matrix: Matrix) -> int:
    return len({key[:2] for key in matrix.cells})


def _column(fault: str) -> str:
    return fault.rpartition(" ")[0]


def _section(matrix: Matrix, row: str) -> str:
    cells = {key[1:]: cell for key, cell in matrix.cells.items() if key[0] == row}
    lines = [f"### {row[0].upper()}{row[1:]}\n\n"]
    if not cells:
        return "".join([*lines, "This task sends no request to the Hub.\n\n"])
    routes = dict.fromkeys(step.rpartition(" ")[0] for step, _ in cells)
    lines.append(f"Requests: {', '.join(f'`{_short(route)}`' for route in routes)}.\n\n")
    texts: dict[tuple[str, str], list[str]] = {}
    for column in dict.fromkeys(_column(fault) for _, fault in cells):
        ends: list[Counter[str]] = [
            Counter(cell.outcome for (_, fault), cell in cells.items() if fault == f"{column} {duration}")
            for duration in ("once", "lasting")
        ]
        texts.setdefault((_words(ends[0]), _words(ends[1])), []).append(column)
    lines.append("| Fault | Once | As long as it lasts |\n|---|---|---|\n")
    lines += [f"| {', '.join(columns)} | {once} | {lasting} |\n" for (once, lasting), columns in texts.items()]
    return "".join([*lines, "\n"])


def _words(ends: Counter[str]) -> str:
    found = [each for each in _LOADED if ends[each]]
    if len(found) == 1:
        return WORDS[found[0]][0]
    return ", ".join(f"{WORDS[each][0]} ({ends[each]})" for each in found)


def _short(route: str) -> str:
    for prefix, short in (("/api/{kind}/{namespace}/{name}", "…"), ("/cas/{instance}", "CAS ")):
        route = route.replace(prefix, short)
    return re.sub(r"\{(\w+)\}", r"\1", route)
