"""Each system call of a task fails in turn: the task succeeds anyway, or it fails clearly and its retry succeeds.

CI lets a sample of the calls of each task fail. ``make system-calls`` lets each of them fail, in three ways.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_xethub import CommitRequest, Repo
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.files.source_rules import MIRROR_RECORD
from simulation.invariants import Facts, RepoFacts, violations
from simulation.model import Change, Tree, difference
from support.builders import TEXT, binary, sealed, write
from support.commit_builders import name_of
from support.failing_calls import ERRORS, OTHER_ERRORS, Call, FailingCalls, can_build
from support.forked_tasks import Forks
from support.repository_trees import read_tree, set_tree
from xethub_local.server import LocalHub

pytestmark = [
    pytest.mark.skipif("XETHUB_CALLS" not in os.environ, reason="make system-calls runs it"),
    pytest.mark.long,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not can_build(), reason="needs Linux and a C compiler"),
]

ALL = os.environ.get("XETHUB_CALLS") == "all"
SAMPLE = 6
"""Calls of each task that fail where not all do. Which ones differs from run to run, as the client's threads do."""

MOST_SECONDS = 120
"""A task that takes longer hangs, also on a busy machine, and is killed."""

TRIES = 3

LIMITS = {"timeout": 5, "stall_timeout": 3}
"""A connection that is lost costs seconds."""


@dataclass(frozen=True)
class Way:
    """How a call fails: with which error, and whether all later ones of that error fail, too, as on a full disk."""

    name: str
    errors: Mapping[str, int]
    and_later: bool = False


WAYS = (Way("once", ERRORS), Way("once, otherwise", OTHER_ERRORS), Way("from then on", ERRORS, and_later=True))


@dataclass
class Work:
    """A task, and what it may do.

    :param operator: as :meth:`Forks.start` takes it.
    :param before: what the repository contains.
    :param change: what the task does to it, in one commit.
    :param folder: where files appear on the worker.
    :param known: what a file below it may contain, at any moment.
    :param wanted: what the folder contains once the task has succeeded.
    :param ignored: files below it that are neither.
    :param check: returns what is wrong with the return value.
    """

    operator: str
    arguments: Mapping[str, Any]
    repo: Repo
    before: Tree = field(default_factory=dict)
    change: Change | None = None
    folder: Path | None = None
    known: Mapping[str, list[bytes]] = field(default_factory=dict)
    wanted: Tree = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()
    check: Callable[[Any], list[str]] = lambda _: []


class World:
    """The folders of one task. Each run of a task has new ones, at the same place.

    :ivar folder: for sources and destinations.
    """

    def __init__(self, hub: LocalHub, root: Path) -> None:
        self.hub = hub
        self.root = root
        self.folder, self.temporary, self.cache = (root / name for name in ("work", "temporary", "cache"))

    def renew(self) -> None:
        for folder in (self.folder, self.temporary, self.cache):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)

    def repo(self, tree: Tree) -> Repo:
        """Make a repository with these files."""
        made = self.hub.create_repo(f"local/s{uuid.uuid4().hex[:12]}", "dataset")
        repo = Repo(made.repo_id, made.repo_type)
        if tree:
            set_tree(self.hub, repo, tree)
        return repo


def at(repo: Repo) -> dict[str, Any]:
    return {"repo_id": repo.repo_id, "repo_type": repo.repo_type}


def new(size: int = 5000) -> bytes:
    """Content that CAS has not got yet."""
    return b"\0" + os.urandom(size)


OLD = {"d/a.bin": b"\0" + binary(4000), "same.csv": TEXT, "old.bin": b"\0" + binary(3000, "old")}
"""What repositories contain before tasks write to them."""


def token(world: World) -> Callable[[], Work]:
    repo = world.repo({})
    return lambda: Work("XetTokenOperator", {"scope": "write", **at(repo)}, repo)


def hand_over(world: World) -> Callable[[], Work]:
    repo = world.repo({})
    given = sealed(repo)

    def work() -> Work:
        arguments = {"token": given, "folder": str(world.folder)}
        return Work("support.failing_tasks:HandOver", arguments, repo, folder=world.folder)

    return work


def upload(world: World) -> Callable[[], Work]:
    def work() -> Work:
        repo = world.repo(OLD)
        files = {"d/a.bin": new(150_000), "d/b.bin": new(), "d/c.csv": TEXT * 3, "same.csv": TEXT}
        source = write(world.folder / "source", files)
        arguments = {"source": str(source), **at(repo)}
        return Work("XetUploadOperator", arguments, repo, OLD, Change(name_of(repo), files))

    return work


def stored_upload(world: World) -> Callable[[], Work]:
    def work() -> Work:
        repo = world.repo(OLD)
        files = {"d/a.bin": new(150_000), "d/c.csv": TEXT * 3}
        source = write(world.folder / "source", files)
        arguments = {"source": f"file://{source}/", **at(repo)}
        return Work("XetUploadOperator", arguments, repo, OLD, Change(name_of(repo), files))

    return work


def upload_with_token(world: World) -> Callable[[], Work]:
    """An upload without a connection. Its records are right if a commit of them makes the files appear."""

    def work() -> Work:
        repo = world.repo({})
        files = {"a.bin": new(150_000), "b.csv": TEXT * 3}
        source = write(world.folder / "source", files)

        def check(records: Any) -> list[str]:
            XetHubConnection().commit(CommitRequest(repo, records, message="check"))
            found = difference(files, read_tree(world.hub, repo))
            return [] if found == "no difference" else [found]

        arguments = {"source": str(source), "commit": False, "token": sealed(repo, "write"), "xethub_conn_id": None}
        return Work("XetUploadOperator", arguments, repo, check=check)

    return work


def commit(world: World) -> Callable[[], Work]:
    def work() -> Work:
        repo = world.repo(OLD)
        files = {"d/a.bin": new(), "c.csv": TEXT * 3}
        source = write(world.folder / "source", files)
        records = XetHubConnection().upload(str(source), repo)["files"]
        arguments = {"files": records, "delete": ["old.bin"], **at(repo)}
        change = Change(name_of(repo), files, frozenset(["old.bin"]))
        return Work("XetCommitOperator", arguments, repo, OLD, change)

    return work


def mirror(world: World) -> Callable[[], Work]:
    def work() -> Work:
        repo = world.repo({f"to/{path}": content for path, content in OLD.items()} | {"own.csv": TEXT})
        files = {"d/a.bin": new(), "d/e/b.bin": new(), "f/c.csv": TEXT * 3, "same.csv": TEXT}
        source = write(world.folder / "source", files)
        arguments = {"source": str(source), "path_in_repo": "to", "max_delete_share": 1.0, **at(repo)}
        puts = {f"to/{path}": content for path, content in files.items()}
        return Work(
            "XetMirrorOperator",
            arguments,
            repo,
            read_tree(world.hub, repo),
            Change(name_of(repo), puts, mirrored="to/"),
        )

    return work


FILES = {
    "d/a.bin": b"\0" + binary(150_000, "new"),
    "d/b.bin": b"\0" + binary(5000, "b"),
    "c.csv": TEXT * 3,
    "same.csv": TEXT,
}
"""What tasks download."""


def download(world: World) -> Callable[[], Work]:
    repo = world.repo(FILES)

    def work() -> Work:
        earlier = {"d/a.bin": new(), "same.csv": TEXT, "own.txt": b"mine"}
        out = write(world.folder / "out", earlier)
        return Work(
            "XetDownloadOperator",
            {"destination": str(out), **at(repo)},
            repo,
            FILES,
            folder=out,
            known=versions(earlier, FILES),
            wanted=earlier | FILES,
            ignored=frozenset([".gitattributes"]),
        )

    return work


def stored_download(world: World) -> Callable[[], Work]:
    repo = world.repo(FILES)

    def work() -> Work:
        earlier = {"d/a.bin": new(), "same.csv": TEXT, "own.txt": b"mine"}
        out = write(world.folder / "out", earlier)
        return Work(
            "XetDownloadOperator",
            {"destination": f"file://{out}/", "paths": sorted(FILES), **at(repo)},
            repo,
            FILES,
            folder=out,
            known=versions(earlier, FILES),
            wanted=earlier | FILES,
        )

    return work


def cache_download(world: World) -> Callable[[], Work]:
    repo = world.repo(FILES)

    def work() -> Work:
        place = f"datasets--{repo.repo_id.replace('/', '--')}"
        out = world.folder / "hub" / place / "snapshots"
        [head] = [each.id for each in world.hub.repositories.commits(name_of(repo), "main")[:1]]
        wanted = {f"{head}/{path}": content for path, content in FILES.items()}
        return Work(
            "support.failing_tasks:CacheDownload",
            {"cache": str(world.folder / "hub"), "paths": sorted(FILES), **at(repo)},
            repo,
            FILES,
            folder=out,
            known=versions(wanted),
            wanted=wanted,
        )

    return work


def mirror_download(world: World) -> Callable[[], Work]:
    repo = world.repo(OLD)
    earlier = world.root / "earlier"
    shutil.rmtree(earlier, ignore_errors=True)
    XetHubConnection().mirror_download(str(earlier), repo)
    write(earlier, {"own.txt": b"mine"})
    set_tree(world.hub, repo, FILES)
    before = OLD | {"own.txt": b"mine"}

    def work() -> Work:
        out = shutil.copytree(earlier, world.folder / "out", symlinks=True)
        return Work(
            "XetMirrorOperator",
            {"destination": str(out), "max_delete_share": 1.0, **at(repo)},
            repo,
            FILES,
            folder=out,
            known=versions(before, FILES),
            wanted={**FILES, "own.txt": b"mine"},
            ignored=frozenset([".gitattributes", MIRROR_RECORD]),
        )

    return work


def versions(*trees: Tree) -> dict[str, list[bytes]]:
    return {path: [tree[path] for tree in trees if path in tree] for path in {path for tree in trees for path in tree}}


TASKS = (
    token,
    hand_over,
    upload,
    stored_upload,
    upload_with_token,
    commit,
    mirror,
    download,
    stored_download,
    cache_download,
    mirror_download,
)


@dataclass
class Machine:
    """A worker whose calls fail. Its process imports Airflow once for all tests."""

    world: World
    failing: FailingCalls
    forks: Forks


@pytest.fixture(scope="module")
def machine(running_hub, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calls").resolve()
    (folder / "library").mkdir()
    world = World(running_hub, folder / "world")
    world.renew()
    failing = FailingCalls(folder / "library", [world.root])
    environment = {
        "AIRFLOW_CONN_XETHUB_DEFAULT": json.dumps(
            {"conn_type": "xethub", "host": running_hub.url, "password": running_hub.token(), "extra": LIMITS}
        ),
        "TMPDIR": str(world.temporary),
        "HF_XET_CACHE": str(world.cache),
    }
    forks = Forks(environment | failing.environment, 0.05)
    yield Machine(world, failing, forks)
    forks.close()
    failing.close()


class Trial:
    """One run of a task with one failing call, with its retries until it succeeds."""

    def __init__(self, machine: Machine, work: Work) -> None:
        self.world, self.failing, self.forks, self.work = machine.world, machine.failing, machine.forks, work
        self.head = self._commits()[0]
        self.tree: Tree = work.before
        self.changes = [work.change] if work.change else []
        self.stored: dict[str, Any] = {}
        self.wrong: list[str] = []
        self.ended: dict[str, Any] = {}
        self.hit: Call | None = None
        self.has_failed = self.is_retried = False

    def run(self, number: int, way: Way) -> None:
        """Let a call fail, and retry; number 0: none fails."""
        for try_number in range(1, TRIES + 1):
            if try_number == 1:
                self.failing.arm(number, errors=way.errors, and_later=way.and_later)
            self._try(try_number)
            self.failing.disarm()
            if try_number == 1:
                self.hit = self._hit(number)
                self.has_failed = self.failing.failed > 0
                self.is_retried = self.ended["state"] != "success"
            hit = self.hit if try_number == 1 else None
            self._check(hit, is_quiet=try_number > 1 or not number, way=way)
            if self.wrong or self.ended["state"] == "success":
                return
        self.wrong.append(f"not through after {TRIES} tries")

    def _hit(self, number: int) -> Call | None:
        calls = self.failing.calls()
        return calls[number - 1] if 0 < number <= len(calls) else None

    def _try(self, try_number: int) -> None:
        arguments = {**self.work.arguments, "try_number": try_number}
        self.forks.start(self.work.operator, arguments, state=self.stored)
        pid = self.forks.pid

        def kill() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

        watch = threading.Timer(MOST_SECONDS, kill)
        watch.start()
        self.ended = {"state": "killed", "bases": [], "text": "", "value": None, "stored": {}} | self.forks.end()
        watch.cancel()
        self.stored = self.ended["stored"]

    def _check(self, hit: Call | None, *, is_quiet: bool, way: Way) -> None:
        work, is_done = self.work, self.ended["state"] == "success"
        folder = files_below(work.folder) if work.folder else {}
        leftovers = [path for path in folder if path not in work.known and path not in work.ignored]
        final = {path: content for path, content in folder.items() if path in work.known}
        # A cache that cannot be written is replaced by one that all later tasks share.
        others = [path for path in files_below(self.world.temporary) if not path.startswith("xethub-cache-")]
        leftovers += [f"temporary/{path}" for path in others]
        leftovers += [f"hub/{path}" for path in files_below(self.world.folder / "hub") if is_temporary(path)]
        if hit and hit.kind == "remove":  # nobody else can remove it
            leftovers = [path for path in leftovers if not hit.path.endswith(path.rpartition("/")[2])]
        trees = self._new_trees()
        name = name_of(work.repo)
        checks = work.check(self.ended["value"]) if is_done else []
        if is_done and work.folder and (text := difference(work.wanted, final)) != "no difference":
            checks.append(text)
        facts = Facts(
            state=self.ended["state"],
            error=self.ended["bases"],
            message=self.ended["text"],
            is_quiet=is_quiet,
            # Where calls of any kind fail on and on, the temporary file cannot be removed either.
            was_killed=way.and_later,
            repos={
                name: RepoFacts(
                    self.tree, trees, self.changes, [[work.change]] if is_done and work.change else [], is_bucket=False
                )
            },
            folder=final,
            known=work.known,
            leftovers=leftovers,
            printed=self.ended["text"],
            secrets={self.world.hub.token("write"), *self.world.hub.access.issued_xet_tokens()},
            checks=checks,
        )
        self.wrong += map(str, violations(facts))
        if trees:
            self.tree = trees[-1]
            self.changes = []  # a second commit of it is one too many

    def _commits(self) -> list[str]:
        return [each.id for each in self.world.hub.repositories.commits(name_of(self.work.repo), "main")]

    def _new_trees(self) -> list[Tree]:
        commits = self._commits()
        new = commits[: commits.index(self.head)] if self.head in commits else commits
        self.head = commits[0]
        return [read_tree(self.world.hub, self.work.repo, each) for each in reversed(new)]


def is_temporary(path: str) -> bool:
    return path.endswith((".incomplete", ".xetpart", ".shared", ".new"))


def files_below(folder: Path) -> dict[str, bytes]:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def sample(calls: list[Call], name: str) -> Iterable[tuple[int, Way]]:
    """Choose calls of each kind, in turn, and a way in which each fails."""
    chance = random.Random(name)
    by_kind: dict[str, list[int]] = {}
    for number, call in enumerate(calls, 1):
        by_kind.setdefault(call.kind, []).append(number)
    for numbers in by_kind.values():
        chance.shuffle(numbers)
    chosen: list[int] = []
    while len(chosen) < SAMPLE and any(by_kind.values()):
        chosen += [numbers.pop() for numbers in by_kind.values() if numbers]
    for place, number in enumerate(sorted(chosen[:SAMPLE])):
        yield number, WAYS[place % len(WAYS)]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.__name__)
def test_each_call_may_fail(machine, hub, connection, task):
    world, failing = machine.world, machine.failing
    world.renew()
    make = task(world)

    def trial(number: int, way: Way) -> Trial:
        world.renew()
        done = Trial(machine, make())
        done.run(number, way)
        return done

    undisturbed = trial(0, WAYS[0])
    assert not undisturbed.wrong
    calls = failing.calls()
    assert len(calls) > 5
    every = [(number, way) for way in WAYS for number in range(1, len(calls) + 1)]
    wrong: list[str] = []
    failed = retried = 0
    for number, way in every if ALL else sample(calls, task.__name__):
        done = trial(number, way)
        failed += done.has_failed
        retried += done.is_retried
        for text in done.wrong:
            hit = f"{done.hit.kind} {done.hit.path.removeprefix(str(world.root))}" if done.hit else "no call"
            wrong.append(f"{task.__name__}, {way.name}, call {number} ({hit}): {text}")
    print(f"{task.__name__}: {len(calls)} calls, {failed} failed in turn, {retried} times the task was retried")
    assert not wrong, "\n".join(wrong)
