"""What grows: files, the size of one file, mapped tasks, waiting triggers; and what one point of it costs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import sizes
from benchmarks.cases import CASES
from benchmarks.profiles import NEAR
from benchmarks.servers import REPO, HubServer, ObjectStore, repository
from benchmarks.sizes import MIB, QUICK
from benchmarks.tasks import OPERATORS
from benchmarks.turn import FailedError, Measured, Turn, Worker
from benchmarks.worker import LIMIT

SMALL = 1024
"""Bytes in each of many files."""

_FOLDER = 1_000
"""Files in each folder; the Hub asks for fewer than 10,000."""

_MOST_DOWNLOADED = 200_000
"""Files beyond which the bytes are not kept, so that they cannot be downloaded; the upload is killed twice instead."""

_CHANGES = 25_000
"""Changes in one commit."""

_IN_BATCH = 100
"""Files in each batch to map over."""

GIB = 1024 * MIB


@dataclass(frozen=True)
class Point:
    """What one step took with so many of something.

    :ivar peak: resident memory in bytes, of the largest process.
    :ivar xcom: bytes of the largest XCom, as JSON.
    """

    series: str
    step: str
    x: int
    seconds: float
    peak: int
    cpu: float
    hub_requests: int
    cas_requests: int
    commits: int
    xcom: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Place:
    """Where points are measured: the worker, an empty folder, an environment.

    :param watched: seconds for which waiting triggers are watched, after two polls: those of two more.
    """

    worker: Worker
    folder: Path
    environment: Mapping[str, str]
    watched: float


@dataclass(frozen=True)
class Series:
    """One thing that grows.

    :param points: how many of it.
    :param quick: the same where it only has to be shown that this works.
    :param to: what the documentation extrapolates to.
    :param figures: what is in the table, by its heading.
    :param drawn: what of it is drawn.
    """

    title: str
    unit: str
    measure: Callable[[Place, int], list[Point]]
    points: tuple[int, ...]
    quick: tuple[int, ...]
    to: int
    figures: Mapping[str, str]
    drawn: tuple[str, ...]


def _many_files(source: Path, count: int, in_folder: int = _FOLDER) -> None:
    for start in range(0, count, in_folder):
        folder = source / f"{start // in_folder:05}"
        folder.mkdir(parents=True)
        for number in range(start, min(count, start + in_folder)):
            (folder / f"{number:07}.bin").write_bytes(os.urandom(SMALL))


def _files(place: Place, count: int) -> list[Point]:
    """Upload so many files in one task, list them, and download them in another."""
    source, back = place.folder / "source", place.folder / "back"
    _many_files(source, count)
    if count > _MOST_DOWNLOADED:
        return _killed(place, source, count)
    points = []
    with _turn("files", place) as turn:
        value = turn.once("upload", "upload", {"source": str(source)}, count * SMALL)
        points.append(_point(turn, count, value))
        value = turn.once("list", "list", {}, 0)
        points.append(_point(turn, count, value))
        value = turn.once("download", "download", {"destination": str(back)}, count * SMALL)
        points.append(_point(turn, count, value))
    arrived = [path.stat().st_size for path in back.rglob("*.bin")]
    if (len(arrived), sum(arrived)) != (count, count * SMALL):
        raise FailedError(f"{len(arrived)} of {count} files came back.")
    return points


def _killed(place: Place, source: Path, count: int) -> list[Point]:
    """Upload so many files in a task that is killed in the middle of the upload and between commits, and list them."""
    points = []
    commits = -(-count // _CHANGES)
    # A quarter of the upload, with 40 requests for each batch of 10,000 files; then a quarter of the commits.
    moments = {
        "upload, killed": ("/preupload/", count // 1_000),
        "its retry, killed while committing": ("/commit/", max(1, commits // 4)),
        "its second retry": None,
    }
    limit = max(LIMIT, count // 100)
    with _turn("files", place, discards=True) as turn:
        committed = 0
        for number, (step, moment) in enumerate(moments.items(), 1):
            options: dict[str, Any] = {"limit": limit, "try_number": number}
            if moment:
                options["killed_when"] = [turn.hub.url, turn.hub.token, *moment]
            arguments = {"source": str(source)}
            value = turn.once(step, "upload", arguments, count * SMALL, same_cache=number > 1, **options)
            points.append(_point(turn, count, value))
            if (value is None) != bool(moment):
                raise FailedError(f"{step}: the task ended before it was killed.")
            committed += points[-1].commits if moment else 0
        sent = turn.pushed[0]["transfer"]["files"]
        if len(value["commits"]) != commits or sent > count - committed * _CHANGES:
            raise FailedError(f"{len(value['commits'])} of {commits} commits, and {sent} files sent after {committed}.")
        value = turn.once("list", "list", {}, 0, limit=limit)
        points.append(_point(turn, count, value))
        if value["file_count"] != count + 1:  # with the .gitattributes of each repository
            raise FailedError(f"{value['file_count']} instead of {count + 1} files are there.")
    return points


def _batches(place: Place, count: int) -> list[Point]:
    """Divide the files of a repository into so many batches, and download each in a task, 8 at a time."""
    source, back = place.folder / "source", place.folder / "back"
    _many_files(source, count * _IN_BATCH, _IN_BATCH)
    size = count * _IN_BATCH * SMALL
    with _turn("batches", place) as turn:
        turn.once(None, "upload", {"source": str(source)}, size)
        batches = turn.once("list", "list", {"batch_files": _IN_BATCH, "patterns": "*.bin"}, 0)
        points = [_point(turn, count, batches)]
        if len(batches) != count:
            raise FailedError(f"{count * _IN_BATCH} files became {len(batches)} batches instead of {count}.")
        mapped = [("download", {"files": batch, "destination": str(back)}) for batch in batches]
        values = turn.tasks("download each batch", mapped, size)
        points.append(_point(turn, count, max(values, key=lambda value: len(json.dumps(value)))))
    arrived = [path.stat().st_size for path in back.rglob("*.bin")]
    if (len(arrived), sum(arrived)) != (count * _IN_BATCH, size):
        raise FailedError(f"{len(arrived)} of {count * _IN_BATCH} files came back.")
    return points


def _size(place: Place, size: int) -> list[Point]:
    """Upload one file to a Hub that keeps no bytes; up to 4 GiB, download it from one that does."""
    source = place.folder / "source.bin"
    sizes.write(source, size)
    points = []
    arguments = {"source": str(source), "path_in_repo": "data.bin"}
    with _turn("size", place, discards=True) as turn:
        points.append(_point(turn, size, turn.once("upload", "upload", arguments, size)))
    if size <= 4 * GIB:
        with _turn("size", place) as turn:
            turn.once(None, "upload", arguments, size)
            source.unlink()
            (place.folder / "back").mkdir()
            back = {"path": "data.bin", "destination": str(place.folder / "back")}
            points.append(_point(turn, size, turn.once("download", "download", back, size)))
        if (place.folder / "back" / "data.bin").stat().st_size != size:
            raise FailedError("The file did not come back as it was.")
    return points


def _mapped(place: Place, count: int) -> list[Point]:
    """Fetch a token, upload one file of 100 kB in each of so many tasks, 8 at a time, and commit once."""
    wanted = replace(QUICK, mapped=(count,))
    sizes.mapped(place.folder / "source", wanted)
    with _turn("mapped", place) as turn:
        turn.sizes = wanted
        turn.sources = place.folder / "source"
        CASES["mapped"].run(turn)
        return [replace(_point(turn, count, None), step="upload and commit")]


def _waiting(place: Place, count: int) -> list[Point]:
    """Let so many triggers wait in one event loop, for files of one repository or of one each."""
    points = []
    for step, more in (("one repository", 0), ("a repository each", count)):
        if more > _MOST_REPOSITORIES:
            continue
        with HubServer(place.folder / step.replace(" ", "-"), place.environment, NEAR, more=more) as hub:
            names = [repository(number) for number in range(more)] or [REPO]
            points.append(_wait(place, hub, step, count, names))
    return points


_MOST_REPOSITORIES = 1_000


def _wait(place: Place, hub: HubServer, step: str, count: int, names: list[str]) -> Point:
    connection = json.dumps({"conn_type": "xethub", "host": hub.url, "password": hub.token})
    task = {"count": count, "names": names, "seconds": place.watched, "poke_interval": place.watched / 2}
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.scale_waiting"],
        env={**place.environment, "AIRFLOW_CONN_XETHUB_DEFAULT": connection},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(json.dumps(task) + "\n")
    process.stdin.flush()
    if not process.stdout.readline():
        raise FailedError("The triggers did not start.")
    hub.forget()
    line = process.stdout.readline()
    asked = hub.asked()
    process.stdin.close()
    process.wait(60)
    if not line:
        raise FailedError("The triggers ended.")
    found = json.loads(line)
    a_minute = 60 / place.watched
    requests = {"hub_requests": asked.hub_requests, "cas_requests": asked.cas_requests, "commits": asked.commits}
    return Point(
        series="waiting",
        step=step,
        x=count,
        seconds=60.0,
        peak=found["peak"],
        cpu=found["cpu"] * a_minute,
        xcom=0,
        **{name: round(number * a_minute) for name, number in requests.items()},
    )


@contextmanager
def _turn(name: str, place: Place, *, discards: bool = False) -> Any:
    folder = place.folder / f"turn-{'discards' if discards else 'keeps'}"
    folder.mkdir()
    with HubServer(folder / "hub", place.environment, NEAR, discards=discards) as hub:
        yield Turn(name, OPERATORS, NEAR, 0, place.worker, hub, ObjectStore(), folder, place.folder, QUICK)
    shutil.rmtree(folder)


def _point(turn: Turn, x: int, value: object) -> Point:
    found: Measured = turn.measured[-1]
    names = ("seconds", "peak", "cpu", "hub_requests", "cas_requests", "commits")
    figures = {name: getattr(found, name) for name in names}
    xcoms = [value, *(each for pushed in turn.pushed for each in pushed.values())]
    xcom = max(0 if each is None else len(json.dumps(each)) for each in xcoms)
    return Point(turn.case, found.step, x, **figures, xcom=xcom)


_FIGURES = {
    "seconds": "Seconds",
    "cpu": "CPU seconds",
    "peak": "Peak memory",
    "hub_requests": "Requests to the Hub",
    "cas_requests": "Requests to CAS",
}
SERIES: dict[str, Series] = {
    "files": Series(
        "files of 1 KiB in one task",
        "files",
        _files,
        points=(10, 100, 1_000, 10_000, 50_000, 200_000),
        quick=(10, 100),
        to=10_000_000,
        figures={**_FIGURES, "commits": "Commits", "xcom": "XCom"},
        drawn=("seconds", "peak", "xcom", "hub_requests"),
    ),
    "batches": Series(
        f"batches of {_IN_BATCH} files that tasks are mapped over",
        "batches",
        _batches,
        points=(10, 30, 100),
        quick=(2,),
        to=1_000,
        figures={**_FIGURES, "xcom": "XCom"},
        drawn=("hub_requests", "xcom"),
    ),
    "size": Series(
        "one file",
        "bytes",
        _size,
        points=(MIB, 16 * MIB, 256 * MIB, GIB, 4 * GIB, 16 * GIB),
        quick=(MIB,),
        to=100 * 10**12,
        figures=_FIGURES,
        drawn=("seconds", "peak", "cas_requests"),
    ),
    "mapped": Series(
        "mapped tasks",
        "tasks",
        _mapped,
        points=(10, 50, 100, 200, 500),
        quick=(2,),
        to=10_000,
        figures={**_FIGURES, "commits": "Commits"},
        drawn=("seconds", "hub_requests"),
    ),
    "waiting": Series(
        "waiting triggers",
        "triggers",
        _waiting,
        points=(1, 10, 100, 1_000, 10_000),
        quick=(3,),
        to=100_000,
        figures={
            "peak": "Peak memory",
            "cpu": "CPU seconds a minute",
            "hub_requests": "Requests to the Hub a minute",
        },
        drawn=("peak", "cpu", "hub_requests"),
    ),
}
