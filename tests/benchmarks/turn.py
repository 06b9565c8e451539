"""One contender's turn in one case: what it does, and what is measured of it."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.profiles import Profile
from benchmarks.scheduler import WHOLE, Scheduler
from benchmarks.servers import HubServer, ObjectStore
from benchmarks.sizes import Sizes
from benchmarks.tasks import BARE, FORGETFUL, LEAN, OPERATORS, TUNED, environment

NAME = "data.bin"
DAG_RUN = "the run of the DAG"
SOME, ALL = "download of some files", "download of all files"
"""Steps over a link that collapses: of a few files, to the end of a transfer that crawls, and of all."""
AGAIN, FROM_DISK = "second upload", "second upload, from the disk"
"""Steps of a folder that has not changed: all of it is in the page cache, or nothing, as on the next night."""
AT_ONCE = 8
"""Mapped tasks that a worker runs at the same time."""


@dataclass(frozen=True)
class Measured:
    """One task, or one set of mapped tasks, once.

    :param number: which measurement of this step in this turn.
    :param peak: resident memory in bytes, of the largest process.
    :param cpu: seconds of a processor, of all processes together.
    :param read: bytes that all of them read from files and sockets, or that the system read from the disk for them.
    """

    case: str
    step: str
    contender: str
    profile: str
    repetition: int
    number: int
    size: int
    seconds: float
    peak: int
    cpu: float
    read: int
    first_byte: float | None
    hub_requests: int
    cas_requests: int
    commits: int
    bytes_in: int
    bytes_out: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class FailedError(RuntimeError):
    """A task failed, or did the wrong thing. The others go on."""


class Worker:
    """Starts tasks as an Airflow worker does: forked from a process that has Airflow in it."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = dict(env)
        self._process = self._start()

    def run(self, tasks: list[dict[str, Any]], at_once: int = 1) -> list[dict[str, Any]]:
        """Run tasks, so many at the same time.

        :raises FailedError: one of them failed.
        """
        if self._process.poll() is not None:
            self._process = self._start()
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"tasks": tasks, "at_once": at_once}) + "\n")
        self._process.stdin.flush()
        results: list[dict[str, Any]] = self._read(self._process)
        for result in results:
            if "error" in result:
                raise FailedError(f"A task failed:\n{result['error']}")
        return results

    def stop(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(30)

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "benchmarks.worker"]
        process = subprocess.Popen(command, env=self._env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._read(process)
        return process

    @staticmethod
    def _read(process: subprocess.Popen[str]) -> Any:
        assert process.stdout
        line = process.stdout.readline()
        if not line:
            process.wait(30)
            raise FailedError("The worker died.")
        return json.loads(line)


@dataclass
class Turn:
    """A Hub of its own, an empty folder, and what was measured so far."""

    case: str
    contender: str
    profile: Profile
    repetition: int
    worker: Worker
    hub: HubServer
    s3: ObjectStore
    folder: Path
    sources: Path
    sizes: Sizes
    scheduler: Scheduler | None = None
    measured: list[Measured] = field(default_factory=list)
    pushed: list[dict[str, Any]] = field(default_factory=list)
    """What each of the last tasks pushed to XCom besides its value."""

    @property
    def is_ours(self) -> bool:
        return self.contender in (OPERATORS, LEAN, FORGETFUL)

    @property
    def is_bare(self) -> bool:
        return self.contender in (BARE, TUNED)

    def upload(
        self, step: str | None, source: Path, *, path_in_repo: str | None = None, same_cache: bool = False
    ) -> Any:
        """Upload a file as :data:`NAME` or ``path_in_repo``, or a folder; return what a later download may need.

        :param step: ``None``: a step on the way, which is not measured.
        """
        if self.is_bare:
            arguments = {"source": str(source), "operation": self.hub.operation("write")}
            return self.once(step, "upload", arguments, size_of(source), same_cache=same_cache)
        names = {} if source.is_dir() else {"path_in_repo": path_in_repo or NAME}
        action = "upload" if self.is_ours else "upload_folder" if source.is_dir() else "upload_file"
        return self.once(step, action, {"source": str(source), **names}, size_of(source), same_cache=same_cache)

    def download(self, step: str, source: Path, uploaded: Any) -> None:
        """Download what was uploaded from ``source``, and compare it with that."""
        back = self.folder / "back"
        back.mkdir()
        arguments: dict[str, Any] = {"destination": str(back)}
        path = {} if source.is_dir() else {"path": NAME}
        if self.is_bare:
            arguments |= {"files": uploaded, "operation": self.hub.operation("read")}
            action = "download"
        elif self.is_ours:
            arguments |= path
            action = "download"
        else:
            arguments |= path
            action = "hf_hub_download" if path else "snapshot_download"
        self.once(step, action, arguments, size_of(source))
        if source.is_dir():
            check_equal(source, back)
        elif not filecmp.cmp(source, next(path for path in back.iterdir() if path.is_file()), shallow=False):
            raise FailedError(f"{self.contender}: the file did not come back as it was.")
        shutil.rmtree(back)

    def once(
        self,
        step: str | None,
        action: str,
        arguments: dict[str, Any],
        size: int,
        *,
        same_cache: bool = False,
        **options: Any,
    ) -> Any:
        """Run one task, measure it, and return its value."""
        return self.tasks(step, [(action, arguments)], size, same_cache=same_cache, **options)[0]

    def tasks(
        self,
        step: str | None,
        described: list[tuple[str, dict[str, Any]]],
        size: int,
        *,
        same_cache: bool = False,
        **options: Any,
    ) -> list[Any]:
        """Run tasks at the same time, and measure them all together.

        :param options: ``limit``, ``killed_when`` and ``try_number`` of each, see :mod:`worker` and :mod:`tasks`.
        """
        caches = self.folder / "caches"
        if not same_cache:
            shutil.rmtree(caches, ignore_errors=True)
        os.sync()
        self.hub.forget()
        env = environment(self.hub.url, self.hub.token, self.s3.url, caches)
        todo = [
            {"contender": self.contender, "action": action, "arguments": arguments, "environment": env, **options}
            for action, arguments in described
        ]
        began = time.monotonic()
        results = self.worker.run(todo, AT_ONCE)
        together = time.monotonic() - began
        self.pushed = [result["pushed"] for result in results]
        if step is not None:
            self._note(step, size, results, results[0]["seconds"] if len(results) == 1 else together)
        return [result["value"] for result in results]

    def whole(self, source: Path) -> None:
        """Upload and download a file in tasks of a real Airflow; their memory and requests are not measured."""
        assert self.scheduler is not None
        back = self.folder / "back"
        name = f"{self.repetition}/{source.name}"
        conf = {"source": str(source), "name": name, "back": str(back)}
        seconds = self.scheduler.run(WHOLE[self.contender], conf)
        arrived = next(path for path in back.rglob(source.name) if ".cache" not in path.parts)
        if not filecmp.cmp(source, arrived, shallow=False):
            raise FailedError(f"{self.contender}: the file did not come back as it was.")
        shutil.rmtree(back)
        size = source.stat().st_size
        steps = {"upload": "upload, whole task", "download": "download, whole task", "": DAG_RUN}
        for task, step in steps.items():
            place = (self.case, step, self.contender, self.profile.name, self.repetition, 0)
            self.measured.append(Measured(*place, size, seconds[task], 0, 0.0, 0, None, 0, 0, 0, 0, 0))

    def _note(self, step: str, size: int, results: list[dict[str, Any]], seconds: float) -> None:
        first = self.hub.first_byte()
        self.measured.append(
            Measured(
                self.case,
                step,
                self.contender,
                self.profile.name,
                self.repetition,
                sum(each.step == step for each in self.measured),
                size,
                seconds,
                max(result["peak"] for result in results),
                sum(result["cpu"] for result in results),
                sum(result["read"] for result in results),
                first - results[0]["began"] if first is not None else None,
                **asdict(self.hub.asked()),
            )
        )


def together(parts: list[Measured], step: str) -> Measured:
    """Return several steps as one."""
    names = ("size", "seconds", "cpu", "read", "hub_requests", "cas_requests", "commits", "bytes_in", "bytes_out")
    sums = {name: sum(getattr(part, name) for part in parts) for name in names}
    whole = {**parts[0].to_json(), **sums, "step": step, "peak": max(part.peak for part in parts)}
    return Measured(**{**whole, "first_byte": None})


def size_of(path: Path) -> int:
    """Return the bytes in a file, or in all files of a folder."""
    return sum(each.stat().st_size for each in _files(path))


def _files(path: Path) -> Iterator[Path]:
    return (each for each in path.rglob("*") if each.is_file()) if path.is_dir() else iter([path])


def leave_to_disk(folder: Path) -> None:
    """Let the system forget the content of a folder's files, so that whoever reads them waits for the disk."""
    os.sync()
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def check_equal(source: Path, back: Path) -> None:
    """Compare every file of a folder with the one of the same name in another.

    :raises FailedError: some differ or are missing.
    """
    names = [path.name for path in source.iterdir()]
    _, different, missing = filecmp.cmpfiles(source, back, names, shallow=False)
    if different or missing:
        raise FailedError(f"{len(different) + len(missing)} files did not come back as they were.")
