"""What a sensor or a trigger waits for, and what each poll means: both decide here, so they cannot disagree.

A :class:`RepoState` holds what is known about a repository and fetches the rest from the Hub. A :class:`Condition` says
what has to be fetched, and evaluates the state. A sensor has its own state and fetches everything on each poll. In a
triggerer, all triggers on one repository share a state (:mod:`airflow_provider_xethub.xet.wait.poller`), which fetches
only the newest commit until that changes.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from airflow_provider_xethub.exceptions import (
    XetHubError,
    XetInputError,
    XetNotFoundError,
    XetProtocolError,
    XetRateLimitError,
    XetRevisionNotFoundError,
)
from airflow_provider_xethub.xet import arguments
from airflow_provider_xethub.xet import repo as names
from airflow_provider_xethub.xet.identifiers import COMMIT_ID, SHA256
from airflow_provider_xethub.xet.path_patterns import matches
from airflow_provider_xethub.xet.records import XetCommit, XetFile
from airflow_provider_xethub.xet.repo import Repo

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.hub.client import Hub

Missing = Literal["revision", "repo"]
"""What may not exist yet: only the revision, or the repository as well."""

MAX_DELAY = 300.0
"""Seconds between two looks at a Hub that fails, unless it asks for more, or the interval is longer."""

MAX_REQUESTED_DELAY = 3600.0
"""Seconds that a Hub may ask for at most: an answer with a wrong date must not end the waiting for years."""


class Snapshot:
    """The files of a repository at one revision, as far as somebody asked for them.

    :param repo: where to ask.
    :param uri: what the records say about where they are from.
    """

    def __init__(self, repo: Repo, uri: str) -> None:
        self._repo = repo
        self._uri = uri
        self._files: dict[str, XetFile | None] = {}
        self._is_listed = False
        self.error: XetNotFoundError | None = None

    def fetch(self, hub: Hub, paths: Iterable[str], *, listing: bool) -> bool:
        """Ask the Hub for what is not known yet; returns whether there was anything to ask."""
        if self._is_listed:
            return False
        missing = sorted(set(paths) - set(self._files))
        if listing:
            self._files = {file["path"]: self._labelled(file) for file in hub.list_files(self._repo)}
            self._is_listed = True
        elif missing:
            found = {file["path"]: self._labelled(file) for file in hub.get_files(self._repo, missing)}
            self._files |= {path: found.get(path) for path in missing}
        return listing or bool(missing)

    def _labelled(self, file: XetFile) -> XetFile:
        return cast("XetFile", {**file, "repo": self._uri})

    def forget(self, paths: Sequence[str]) -> None:
        """Forget what is known of these paths, because they changed; of a listing, everything."""
        if paths and self._is_listed:
            self._files, self._is_listed = {}, False
        for path in paths:
            self._files.pop(path, None)

    def get(self, path: str) -> XetFile | None:
        """Return the record of a path that was asked for."""
        return self._files.get(path)

    def matching(self, patterns: Sequence[str]) -> list[XetFile]:
        """Return the records whose path matches one of these, in the order of their paths."""
        return [file for path, file in sorted(self._files.items()) if file is not None and matches(path, patterns)]


class Condition(Protocol):
    """What somebody waits for."""

    def evaluate(self, state: RepoState) -> Any | None:
        """Return the value waited for, or ``None`` while it is not there.

        :raises XetNotFoundError: it can never be there.
        """


@dataclass(frozen=True)
class FilesCondition:
    """Files that are there; and where something is known of how they were, files that differ from that.

    :param paths: all of these.
    :param patterns: paths that match one of these (``*`` matches ``/`` as well).
    :param min_files: how many have to match the patterns.
    :param known: hashes (Xet hash, sha256 or git sha1) that a path had: a file that still has one does not count.
    :param newer_than: a commit: a file that is still as it was there does not count.
    :raises XetInputError: an argument is wrong.
    """

    paths: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    min_files: int = 1
    known: Mapping[str, Sequence[str]] = field(default_factory=dict)
    newer_than: str | None = None

    def __post_init__(self) -> None:
        if bool(self.paths) == bool(self.patterns):
            raise XetInputError("give either path, paths or patterns, and only one of them.")
        for path in self.paths:
            names.check_path(path)
        arguments.selection("patterns", list(self.patterns) or None)
        if isinstance(self.min_files, bool) or not isinstance(self.min_files, int) or self.min_files < 1:
            raise XetInputError(f"min_files {self.min_files!r} is not a number from 1 on.")
        if self.min_files > 1 and self.paths:
            raise XetInputError("min_files goes with patterns; of paths, all are waited for.")
        for text in (text for hashes in self.known.values() for text in hashes):
            if not isinstance(text, str) or not (SHA256.fullmatch(text) or COMMIT_ID.fullmatch(text)):
                raise XetInputError(f"changed_from {text!r} is not a Xet hash, a sha256 or a git sha1 in hex.")
        if self.newer_than is not None:
            check_oid(self.newer_than)

    def evaluate(self, state: RepoState) -> list[XetFile] | None:
        """Return the records of the files that count, if they are enough."""
        if state.files_error is not None:
            raise state.files_error
        then = state.at(self.newer_than) if self.newer_than else None
        if self.patterns:
            found = [file for file in state.now.matching(self.patterns) if self._counts(file, then)]
            return found if len(found) >= self.min_files else None
        files = [file for path in self.paths if (file := state.now.get(path)) and self._counts(file, then)]
        return files if len(files) == len(self.paths) else None

    def _counts(self, file: XetFile, then: Snapshot | None) -> bool:
        before = set(self.known.get(file["path"], ()))
        if then is not None and (old := then.get(file["path"])):
            before |= hashes(old)
        return not before & hashes(file)


@dataclass(frozen=True)
class NewCommitCondition:
    """A newest commit that is another one than this.

    :raises XetInputError: it is no commit id.
    """

    newer_than: str

    def __post_init__(self) -> None:
        check_oid(self.newer_than)

    def evaluate(self, state: RepoState) -> XetCommit | None:
        """Return the newest commit."""
        return state.head if state.head and state.head["oid"] != self.newer_than else None


@dataclass(frozen=True)
class CommitsSinceCondition:
    """All commits behind a known one; where none is known, the newest."""

    after: str | None

    def evaluate(self, state: RepoState) -> list[XetCommit] | None:
        """Return them, oldest first; only the newest, where the known one is not in the history any more."""
        if state.head is None or state.head["oid"] == self.after:
            return None
        oids = [commit["oid"] for commit in state.history]
        if self.after not in oids:
            return [state.head]
        return list(reversed(state.history[: oids.index(self.after)]))


class RepoState:
    """What is known of a repository.

    :param is_shared: remember the files until the newest commit moves; otherwise each look asks for them anew.
    :ivar is_streamed: of a bucket: changes are told by its event stream, so that its files need not be asked for again.
    """

    def __init__(self, repo: Repo, *, is_shared: bool = False) -> None:
        self._repo = repo
        self._is_shared = is_shared
        self.is_streamed = False
        self.head: XetCommit | None = None
        self.history: list[XetCommit] = []
        self._searched: set[str] = set()
        self.now = Snapshot(repo, repo.uri)
        self._then: dict[str, Snapshot] = {}
        self.files_error: XetProtocolError | None = None
        self.changes = 0

    def at(self, oid: str) -> Snapshot:
        """Return the files as they were at a commit.

        :raises XetNotFoundError: there is no such commit.
        """
        snapshot = self._then[oid]
        if snapshot.error is not None:
            raise snapshot.error
        return snapshot

    def forget_files(self) -> None:
        """Forget the files."""
        self.now = Snapshot(self._repo.at(self.head["oid"]) if self.head else self._repo, self._repo.uri)

    def refresh(self, hub: Hub, conditions: Sequence[Condition]) -> None:
        """Ask the Hub for what these conditions want to know: one request while nothing moved, two after that.

        :raises XetHubError: as the Hub's answers mean.
        """
        for condition in conditions:
            check_condition(condition, self._repo)
        files = [condition for condition in conditions if isinstance(condition, FilesCondition)]
        self._fetch_head(hub, conditions, wants_files=bool(files))
        self.files_error = None
        try:
            self._fetch_files(hub, files)
        except XetProtocolError as error:
            # A listing that cannot be read is no reason for those who wait for commits to hear nothing.
            if len(files) == len(conditions):
                raise
            self.files_error = error
            self.changes += 1

    def _fetch_files(self, hub: Hub, files: Sequence[FilesCondition]) -> None:
        paths = {path for condition in files for path in condition.paths}
        if self.now.fetch(hub, paths, listing=any(condition.patterns for condition in files)):
            self.changes += 1
        bases = {condition.newer_than for condition in files if condition.newer_than}
        self._then = {oid: snapshot for oid, snapshot in self._then.items() if oid in bases}
        for oid in sorted(bases):
            self._fetch_base(hub, oid, [condition for condition in files if condition.newer_than == oid])

    def _fetch_head(self, hub: Hub, conditions: Sequence[Condition], *, wants_files: bool) -> None:
        commits = [condition for condition in conditions if not isinstance(condition, FilesCondition)]
        if self._repo.is_bucket or not (self._is_shared or commits):
            if wants_files and not self.is_streamed:
                self.forget_files()
            return
        head = next(iter(hub.latest_commits(self._repo)), None)
        if head is None or head != self.head:
            self.head = head
            self.changes += 1
            self.history, self._searched = [], set()
            # Files are asked for at that commit: all looks until the next one see the same.
            self.forget_files()
        searched = {
            condition.after for condition in commits if isinstance(condition, CommitsSinceCondition) and condition.after
        }
        if head and not searched <= self._searched | {head["oid"]}:
            from airflow_provider_xethub.xet.hub.history import commits_until

            found = commits_until(hub, self._repo.at(head["oid"]), searched - {head["oid"]})
            self.history = [{**commit, "repo": self._repo.uri} for commit in found]
            self._searched = searched | {head["oid"]}
            self.changes += 1

    def _fetch_base(self, hub: Hub, oid: str, conditions: Sequence[FilesCondition]) -> None:
        base = self._then.setdefault(oid, Snapshot(self._repo.at(oid), self._repo.uri))
        paths = {path for condition in conditions for path in condition.paths}
        try:
            if base.error is None and base.fetch(
                hub, paths, listing=any(condition.patterns for condition in conditions)
            ):
                self.changes += 1
        except XetNotFoundError as error:
            base.error = error


def hashes(file: XetFile) -> set[str]:
    """Return everything by which the content of a file is known."""
    return {text for text in (file["xet_hash"], file["sha256"], file.get("blob_id")) if text}


def check_condition(condition: Condition, repo: Repo) -> None:
    """Refuse what a bucket cannot give.

    :raises XetInputError: the condition is about commits, and the repository is a bucket.
    """
    if repo.is_bucket and not isinstance(condition, FilesCondition):
        raise XetInputError(f"{repo} is a bucket: it has no commits. Wait for its files with XetFileSensor.")
    if repo.is_bucket and isinstance(condition, FilesCondition) and condition.newer_than:
        raise XetInputError(f"{repo} is a bucket: it has no commits. Use changed_from instead of newer_than.")


def check_oid(oid: object) -> None:
    """Refuse what is not the id of a commit.

    :raises XetInputError: it is something else, such as the name of a branch.
    """
    if not isinstance(oid, str) or not COMMIT_ID.fullmatch(oid):
        raise XetInputError(f"newer_than {oid!r} is not the id of a commit: 40 hex digits, as XetCommit has it in oid.")


def check_missing(value: object) -> None:
    """Refuse what ``may_be_missing`` cannot be.

    :raises XetInputError: it is neither ``None`` nor ``revision`` nor ``repo``.
    """
    if value not in (None, "revision", "repo"):
        raise XetInputError(f"may_be_missing {value!r} is not known; use 'revision', 'repo' or None.")


def is_fatal(error: XetHubError, may_be_missing: Missing | None, *, is_first: bool) -> bool:
    """Whether an error of a look ends the waiting.

    Too many requests never do. What no retry can mend does at once, unless it is a thing that may not exist yet. An
    outage does at the first look, where it may be a wrong host; later it is waited through.

    :param is_first: no look has succeeded yet.
    """
    if isinstance(error, XetRateLimitError):
        return False
    if isinstance(error, XetNotFoundError) and may_be_missing == "repo":
        return False
    if isinstance(error, XetRevisionNotFoundError) and may_be_missing == "revision":
        return False
    return is_first or not error.retryable


def requested_delay(error: XetHubError) -> float:
    """Return for how many seconds the Hub asks not to look, and up to a fifth more; 0 where it does not ask.

    All who have too many requests are told the same moment. Without the fifth they would all be back at it.
    """
    asked = min(getattr(error, "retry_after", None) or 0.0, MAX_REQUESTED_DELAY)
    return asked * random.uniform(1.0, 1.2)  # noqa: S311


def delay_after_failure(error: XetHubError, failures: int, interval: float) -> float:
    """Return for how many seconds not to look again after an error: what the Hub asks for, or longer each time.

    :param failures: how many looks in a row have failed, this one included.
    """
    if getattr(error, "retry_after", None) is not None:
        return max(interval, requested_delay(error))
    if isinstance(error, XetNotFoundError):
        return interval
    return max(interval, min(MAX_DELAY, interval * 2.0 ** min(failures - 1, 16)))
