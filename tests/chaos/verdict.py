"""What must be true when all tasks are over. Each check is a pure function of facts.

``test_verdict.py`` plants a violation of each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Digests = Mapping[str, str]
"""Digest of each file by path."""


@dataclass(frozen=True)
class Commit:
    """A commit, and which paths are different since the one before it."""

    title: str
    changed: frozenset[str]


@dataclass(frozen=True)
class Attempted:
    """A task instance at the end.

    :param task: ID of the task.
    :param index: map index, or -1.
    :param tries: how often it was started.
    """

    task: str
    index: int
    state: str
    tries: int


@dataclass(frozen=True)
class Download:
    """A folder that a task downloaded to.

    :param place: ``shared``, or the name of the worker.
    """

    item: str
    place: str
    files: Digests


@dataclass
class Facts:
    """What is known at the end.

    :param tasks: all task instances of the run.
    :param wanted_tasks: how many there should be.
    :param wanted_commits: the paths of each commit by its title.
    :param commits: those after the first one, oldest first.
    :param wanted_files: the files of the repository.
    :param files: those that are there.
    :param wanted_downloads: the files of each item that is downloaded, by name.
    :param downloads: the folders that are there.
    :param temporary: temporary files where the last attempt of their task ran, or in a shared folder.
    :param abandoned: temporary files of killed tasks, on workers where the task did not run again.
    :param refs: branches and tags, other than ``main``.
    :param pull_requests: their titles.
    :param credentials: where one was found.
    :param unsearched: where a text was not found that certainly is there: the search does not read these places.
    :param running: processes that did not end.
    """

    tasks: Sequence[Attempted] = ()
    wanted_tasks: int = 0
    wanted_commits: Mapping[str, frozenset[str]] = field(default_factory=dict)
    commits: Sequence[Commit] = ()
    wanted_files: Digests = field(default_factory=dict)
    files: Digests = field(default_factory=dict)
    wanted_downloads: Mapping[str, Digests] = field(default_factory=dict)
    downloads: Sequence[Download] = ()
    temporary: Sequence[str] = ()
    abandoned: Sequence[str] = ()
    refs: Sequence[str] = ()
    pull_requests: Sequence[str] = ()
    credentials: Sequence[str] = ()
    unsearched: Sequence[str] = ()
    running: Sequence[str] = ()


def every_task_succeeded(facts: Facts) -> Iterable[str]:
    """Every task instance succeeded, and none is missing."""
    for each in facts.tasks:
        if each.state != "success":
            yield f"{each.task} {each.index} is {each.state} after {each.tries} tries"
    if len(facts.tasks) != facts.wanted_tasks:
        yield f"there are {len(facts.tasks)} task instances instead of {facts.wanted_tasks}"


def every_commit_was_made_once(facts: Facts) -> Iterable[str]:
    """Each intended commit exists once, with exactly its files; there are no others."""
    made = Counter(commit.title for commit in facts.commits)
    for title in facts.wanted_commits:
        if made[title] != 1:
            yield f"commit {title!r} was made {made[title]} times"
    for commit in facts.commits:
        wanted = facts.wanted_commits.get(commit.title)
        if wanted is None:
            yield f"nobody wanted commit {commit.title!r}"
        elif commit.changed != wanted:
            yield f"commit {commit.title!r} changed {_difference(commit.changed, wanted)}"


def every_file_is_published(facts: Facts) -> Iterable[str]:
    """The repository has exactly the files that were uploaded, with their contents."""
    yield from (f"{path} of the repository {why}" for path, why in _compare(facts.files, facts.wanted_files))


def every_file_was_downloaded(facts: Facts) -> Iterable[str]:
    """Each item was downloaded completely, and no final name anywhere has other content."""
    complete = set()
    for each in facts.downloads:
        wanted = facts.wanted_downloads.get(each.item, {})
        for path, found in each.files.items():
            if found != wanted.get(path):
                yield f"{path} of {each.item} at {each.place} is unknown or has other content"
        if wanted and each.files == wanted:
            complete.add(each.item)
    for item in facts.wanted_downloads:
        if item not in complete:
            yield f"{item} was not downloaded completely anywhere"


def no_temporary_file_is_left(facts: Facts) -> Iterable[str]:
    """The last attempt of each task removed what earlier ones left where it ran."""
    return (f"temporary file {path}" for path in facts.temporary)


def nothing_else_was_published(facts: Facts) -> Iterable[str]:
    """There is neither a branch nor a tag nor a pull request that nobody asked for."""
    yield from (f"ref {ref} is left" for ref in facts.refs)
    yield from (f"pull request {title!r} is left" for title in facts.pull_requests)


def no_credential_is_visible(facts: Facts) -> Iterable[str]:
    """No credential is in a log, the database, the broker or a file of a worker."""
    yield from (f"a credential is in {place}" for place in facts.credentials)
    yield from (f"nobody searched {place}" for place in facts.unsearched)


def every_process_ended(facts: Facts) -> Iterable[str]:
    """No process of a task runs when all tasks are over."""
    return (f"still running: {each}" for each in facts.running)


CHECKS: tuple[Callable[[Facts], Iterable[str]], ...] = (
    every_task_succeeded,
    every_commit_was_made_once,
    every_file_is_published,
    every_file_was_downloaded,
    no_temporary_file_is_left,
    nothing_else_was_published,
    no_credential_is_visible,
    every_process_ended,
)


def misses(facts: Facts) -> list[str]:
    """Return what does not hold, as ``name of the check: text``."""
    return [f"{check.__name__}: {text}" for check in CHECKS for text in check(facts)]


def _compare(found: Digests, wanted: Digests) -> Iterable[tuple[str, str]]:
    for path in sorted({*found, *wanted}):
        if path not in found:
            yield path, "is missing"
        elif path not in wanted:
            yield path, "is not one of those that were uploaded"
        elif found[path] != wanted[path]:
            yield path, "has other content"


def _difference(found: frozenset[str], wanted: frozenset[str]) -> str:
    missing, extra = sorted(wanted - found), sorted(found - wanted)
    return f"not {missing}, but also {extra}"
