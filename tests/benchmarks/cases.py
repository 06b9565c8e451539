"""The cases of the benchmark: which files, which steps, who takes part."""

from __future__ import annotations

import filecmp
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from servers import BUCKET, HubServer, S3Server
from tasks import BARE, HUB, IMPORTED, OPERATORS, TUNED, environment

MIB = 1 << 20
NAME = "data.bin"


@dataclass(frozen=True)
class Sizes:
    """How much is moved."""

    large: int = 1024 * MIB
    medium: tuple[int, int] = (200, MIB)
    small: tuple[int, int] = (5_000, 10_240)
    stored: tuple[int, int] = (16, 16 * MIB)
    mapped: tuple[int, ...] = (1, 8, 200)
    one: int = 100_000
    part: int = 100_000
    starts: int = 5


QUICK = Sizes(3 * MIB, (5, MIB), (40, 10_240), (2, MIB), (1, 3), starts=1)


@dataclass(frozen=True)
class Measured:
    """One task, or one set of mapped tasks, once."""

    case: str
    step: str
    contender: str
    delay: float
    repetition: int
    size: int
    seconds: float
    peak: int
    first_byte: float | None
    hub_requests: int
    cas_requests: int
    commits: int
    bytes_in: int
    bytes_out: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Worker:
    """Starts tasks as an Airflow worker does: forked from a process that has Airflow in it."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py"))],
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    def run(self, tasks: list[dict[str, Any]], at_once: int = 1) -> list[dict[str, Any]]:
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"tasks": tasks, "at_once": at_once}) + "\n")
        self._process.stdin.flush()
        results: list[dict[str, Any]] = self._read()
        for result in results:
            if "error" in result:
                raise SystemExit(f"A task failed:\n{result['error']}")
        return results

    def stop(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(30)

    def _read(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("The worker died.")
        return json.loads(line)


@dataclass
class Turn:
    """One contender's turn in one case: a Hub of its own, and what it measured."""

    case: str
    contender: str
    delay: float
    repetition: int
    worker: Worker
    hub: HubServer
    s3: S3Server
    folder: Path
    sources: Path
    sizes: Sizes
    measured: list[Measured]

    @property
    def is_bare(self) -> bool:
        return self.contender in (BARE, TUNED)

    def upload(self, step: str, source: Path, *, same_cache: bool = False) -> Any:
        """Upload a file as :data:`NAME`, or a folder; return what a later download may need."""
        if self.is_bare:
            arguments = {"source": str(source), "operation": self.hub.operation("write")}
            return self.once(step, "upload", arguments, _size(source), same_cache=same_cache)
        names = {} if source.is_dir() else {"path_in_repo": NAME}
        action = "upload" if self.contender == OPERATORS else "upload_folder" if source.is_dir() else "upload_file"
        return self.once(step, action, {"source": str(source), **names}, _size(source), same_cache=same_cache)

    def download(self, step: str, source: Path, uploaded: Any) -> None:
        """Download what was uploaded from ``source``, and compare it with that."""
        back = self.folder / "back"
        back.mkdir()
        arguments: dict[str, Any] = {"destination": str(back)}
        path = {} if source.is_dir() else {"path": NAME}
        if self.is_bare:
            arguments |= {"files": uploaded, "operation": self.hub.operation("read")}
            action = "download"
        elif self.contender == OPERATORS:
            arguments |= path
            action = "download"
        else:
            arguments |= path
            action = "hf_hub_download" if path else "snapshot_download"
        self.once(step, action, arguments, _size(source))
        if source.is_dir():
            _check_equal(source, back)
        elif not filecmp.cmp(source, next(path for path in back.iterdir() if path.is_file()), shallow=False):
            raise SystemExit(f"{self.contender}: the file did not come back as it was.")
        shutil.rmtree(back)

    def once(self, step: str, action: str, arguments: dict[str, Any], size: int, *, same_cache: bool = False) -> Any:
        """Run one task, measure it, and return its value."""
        return self.tasks(step, [(action, arguments)], size, same_cache=same_cache)[0]

    def tasks(
        self, step: str, described: list[tuple[str, dict[str, Any]]], size: int, *, same_cache: bool = False
    ) -> list[Any]:
        """Run tasks at the same time, and measure them all together."""
        caches = self.folder / "caches"
        if not same_cache:
            shutil.rmtree(caches, ignore_errors=True)
        os.sync()
        self.hub.forget()
        env = environment(self.hub.url, self.hub.token, self.s3.url, caches)
        todo = [
            {"contender": self.contender, "action": action, "arguments": arguments, "environment": env}
            for action, arguments in described
        ]
        began = time.monotonic()
        results = self.worker.run(todo, AT_ONCE)
        together = time.monotonic() - began
        first, asked = self.hub.first_byte(), self.hub.asked()
        self.measured.append(
            Measured(
                self.case,
                step,
                self.contender,
                self.delay,
                self.repetition,
                size,
                results[0]["seconds"] if len(results) == 1 else together,
                max(result["peak"] for result in results),
                first - results[0]["began"] if first is not None else None,
                **asdict(asked),
            )
        )
        return [result["value"] for result in results]


AT_ONCE = 8
"""Mapped tasks that a worker runs at the same time."""


def _large(turn: Turn) -> None:
    source = turn.sources / "large"
    turn.upload("upload, new", source / "new")
    turn.upload("upload, the same again", source / "new", same_cache=True)
    uploaded = turn.upload("upload, 1 % changed", source / "changed", same_cache=True)
    turn.download("download", source / "changed", uploaded)


def _folder(turn: Turn) -> None:
    source = turn.sources / turn.case
    turn.download("download", source, turn.upload("upload", source))


def _start(turn: Turn) -> None:
    source = turn.sources / "start"
    for each in sorted(source.iterdir()):
        turn.upload("upload", each)


def _s3(turn: Turn) -> None:
    source, client = turn.sources / "s3", turn.s3.client()
    size = _size(source)
    if turn.contender == OPERATORS:
        turn.once("S3 to Hub", "upload", {"source": f"s3://aws_default@{BUCKET}/in/"}, size)
        turn.once("Hub to S3", "download", {"destination": f"s3://aws_default@{BUCKET}/out/"}, size)
    else:
        turn.once("S3 to Hub", "s3_to_hub", {"prefix": "in/"}, size)
        turn.once("Hub to S3", "hub_to_s3", {"prefix": "out/"}, size)
    back = turn.folder / "from-s3"
    for path in source.iterdir():
        back.mkdir(exist_ok=True)
        client.download_file(BUCKET, f"out/{path.name}", str(back / path.name))
        client.delete_object(Bucket=BUCKET, Key=f"out/{path.name}")
    _check_equal(source, back)
    shutil.rmtree(back)


def _mapped(turn: Turn) -> None:
    source = turn.sources / "mapped"
    for number in turn.sizes.mapped:
        files = [source / f"{number:03}" / f"{part:03}" for part in range(number)]
        size, step = _size(source / f"{number:03}"), f"{number} tasks"
        if turn.contender == HUB:
            arguments = [{"source": str(each), "path_in_repo": f"{number}/{each.name}.bin"} for each in files]
            turn.tasks(step, [("upload_file", each) for each in arguments], size)
            continue
        before = len(turn.measured)
        token = turn.once("token", "token", {}, 0)
        options = {"commit": False, "token": token, "xethub_conn_id": None}
        uploads = [{"source": str(each), "path_in_repo": f"{number}/{each.name}.bin", **options} for each in files]
        records = turn.tasks("uploads", [("upload", each) for each in uploads], size)
        turn.once("commit", "commit", {"files": records}, 0)
        turn.measured[before:] = [_together(turn.measured[before:], step)]


def _together(parts: list[Measured], step: str) -> Measured:
    """Several steps as one."""
    sums = {
        name: sum(getattr(part, name) for part in parts)
        for name in ("size", "seconds", "hub_requests", "cas_requests", "commits", "bytes_in", "bytes_out")
    }
    whole = {**parts[0].to_json(), **sums, "step": step, "peak": max(part.peak for part in parts)}
    return Measured(**{**whole, "first_byte": None})


@dataclass(frozen=True)
class Case:
    """One comparison.

    :param contenders: who takes part, this provider first.
    :param most: repetitions beyond this are not worth their time.
    """

    title: str
    run: Callable[[Turn], None]
    contenders: tuple[str, ...]
    most: int = 100


_EVERYBODY = (OPERATORS, HUB, BARE, TUNED)
CASES: dict[str, Case] = {
    "large": Case("one large file", _large, _EVERYBODY),
    "medium": Case("medium files", _folder, _EVERYBODY),
    "small": Case("small files", _folder, _EVERYBODY, most=2),
    "start": Case("what is not transfer: one file of 100 kB", _start, (OPERATORS, HUB, IMPORTED, BARE, TUNED)),
    "s3": Case("object storage", _s3, (OPERATORS, HUB)),
    "mapped": Case("mapped tasks of one file each", _mapped, (OPERATORS, HUB), most=1),
}


def make_sources(folder: Path, case: str, sizes: Sizes, s3: S3Server) -> None:
    """Write the files of a case: random bytes, which no compression makes smaller."""
    target = folder / case
    if case == "large":
        target.mkdir()
        _write(target / "new", sizes.large)
        shutil.copyfile(target / "new", target / "changed")
        with (target / "changed").open("r+b") as file:
            # 1 % of it, in pieces of 256 KiB at most.
            pieces = max(1, sizes.large // (25 * MIB))
            for number in range(pieces):
                file.seek(number * (sizes.large // pieces))
                file.write(os.urandom(sizes.large // pieces // 100))
    elif case == "start":
        for number in range(sizes.starts):
            _write(target / f"{number}", sizes.one)
    elif case == "mapped":
        for number in sizes.mapped:
            for part in range(number):
                _write(target / f"{number:03}" / f"{part:03}", sizes.part)
    else:
        count, size = {"medium": sizes.medium, "small": sizes.small, "s3": sizes.stored}[case]
        for number in range(count):
            _write(target / f"{number:05}.bin", size)
    if case == "s3":
        client = s3.client()
        client.create_bucket(Bucket=BUCKET)
        for path in target.iterdir():
            client.upload_file(str(path), BUCKET, f"in/{path.name}")


def _write(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for start in range(0, size, MIB):
            file.write(os.urandom(min(MIB, size - start)))


def _size(path: Path) -> int:
    return sum(each.stat().st_size for each in _files(path))


def _files(path: Path) -> Iterator[Path]:
    return (each for each in path.rglob("*") if each.is_file()) if path.is_dir() else iter([path])


def _check_equal(source: Path, back: Path) -> None:
    names = [path.name for path in source.iterdir()]
    _, different, missing = filecmp.cmpfiles(source, back, names, shallow=False)
    if different or missing:
        raise SystemExit(f"{len(different) + len(missing)} files did not come back as they were.")


def order(contenders: tuple[str, ...], repetition: int) -> list[str]:
    """Return who is when: shuffled, the same way in every run of the benchmark."""
    shuffled = list(contenders)
    random.Random(repetition).shuffle(shuffled)
    return shuffled
