"""Define what sensors and triggers wait for, and decide what each poll means, for both in the same way.

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
from airflow_provider_xethub.xet.identifiers import COMMIT_ID, SHA256
from airflow_provider_xethub.xet.path_patterns import matches
from airflow_provider_xethub.xet.records import XetCommit, XetFile
from airflow_provider_xethub.xet.repo import Repo, check_path
from airflow_provider_xethub.xet.wait.details import DetailCondition, MergedCondition, check_pull_request

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.hub.client import Hub

Missing = Literal["revision", "repo"]
"""What may not exist yet: only the revision, or the repository too."""

MAX_DELAY = 300.0
"""Longest delay between two failing polls in seconds, unless the Hub asks for more or the interval is longer."""

MAX_REQUESTED_DELAY = 3600.0
"""Longest delay that the Hub can ask for, in seconds: a wrong date in a response must not suspend polls for years."""


class Snapshot:
    """Hold the file records of a repository at one revision, as far as they have been fetched.

    :param repo: the repository at the revision to fetch from.
    :param uri: the value of ``repo`` in the records.
    """

    def __init__(self, repo: Repo, uri: str) -> None:
        self._repo = repo
        self._uri = uri
        self._files: dict[str, XetFile | None] = {}
        self._is_listed = False
        self.error: XetNotFoundError | None = None

    def fetch(self, hub: Hub, paths: Iterable[str], *, listing: bool) -> bool:
        """Fetch what is missing.

        :param listing: fetch all files instead of ``paths``.
        :returns: whether a request was necessary.
        """
        if self._is_listed:
            return False
        missing = sorted(set(paths) - set(self._files))
        if listing:
            self._files = {file["path"]: self._with_uri(file) for file in hub.list_files(self._repo)}
            self._is_listed = True
        elif missing:
            found = {file["path"]: self._with_uri(file) for file in hub.get_files(self._repo, missing)}
            self._files |= {path: found.get(path) for path in missing}
        return listing or bool(missing)

    def _with_uri(self, file: XetFile) -> XetFile:
        return cast("XetFile", {**file, "repo": self._uri})

    def forget(self, paths: Sequence[str]) -> None:
        """Discard the records of paths that changed; if all files were listed, discard the whole listing."""
        if paths and self._is_listed:
            self._files, self._is_listed = {}, False
        for path in paths:
            self._files.pop(path, None)

    def get(self, path: str) -> XetFile | None:
        """Return the record of a path that was fetched; ``None`` if the file does not exist."""
        return self._files.get(path)

    def matching(self, patterns: Sequence[str]) -> list[XetFile]:
        """Return the records whose path matches one of ``patterns``, sorted by path."""
        return [file for path, file in sorted(self._files.items()) if file is not None and matches(path, patterns)]


class Condition(Protocol):
    """Describe what a sensor or a trigger waits for."""

    def evaluate(self, state: RepoState) -> Any | None:
        """Return the value of the condition, or ``None`` while it does not hold.

        :raises XetNotFoundError: it can never hold.
        """


@dataclass(frozen=True)
class FilesCondition:
    """Wait until files exist and, if an earlier state is given, differ from it.

    :param paths: all of these files must count.
    :param patterns: files that match one of these patterns count (``*`` matches ``/`` as well).
    :param min_files: how many files must match the patterns.
    :param known: earlier hashes of the files (Xet hash, sha256 or git sha1), by path. Files that still have one of them
        do not count.
    :param newer_than: commit ID. Files that are unchanged since that commit do not count.
    :raises XetInputError: an argument is wrong.
    """

    paths: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    min_files: int = 1
    known: Mapping[str, Sequence[str]] = field(default_factory=dict)
    newer_than: str | None = None

    def __post_init__(self) -> None:
        if bool(self.paths) == bool(self.patterns):
            raise XetInputError("Give exactly one of path, paths and patterns.")
        for path in self.paths:
            check_path(path)
        arguments.selection("patterns", list(self.patterns) or None)
        if isinstance(self.min_files, bool) or not isinstance(self.min_files, int) or self.min_files < 1:
            raise XetInputError(f"min_files {self.min_files!r} must be a whole number of at least 1.")
        if self.min_files > 1 and self.paths:
            raise XetInputError("min_files requires patterns. With paths, the task waits for all of them.")
        for text in (text for hashes in self.known.values() for text in hashes):
            if not isinstance(text, str) or not (SHA256.fullmatch(text) or COMMIT_ID.fullmatch(text)):
                raise XetInputError(f"changed_from {text!r} is not a Xet hash, sha256 or git sha1 in hex.")
        if self.newer_than is not None:
            check_oid(self.newer_than)

    def evaluate(self, state: RepoState) -> list[XetFile] | None:
        """Return the records of the files that count, or ``None`` while there are too few."""
        if state.listing_error is not None:
            raise state.listing_error
        base = state.files_at(self.newer_than) if self.newer_than else None
        if self.patterns:
            found = [file for file in state.files.matching(self.patterns) if self._counts(file, base)]
            return found if len(found) >= self.min_files else None
        files = [file for path in self.paths if (file := state.files.get(path)) and self._counts(file, base)]
        return files if len(files) == len(self.paths) else None

    def _counts(self, file: XetFile, base: Snapshot | None) -> bool:
        before = set(self.known.get(file["path"], ()))
        if base is not None and (old := base.get(file["path"])):
            before |= hashes(old)
        return not before & hashes(file)


@dataclass(frozen=True)
class NewCommitCondition:
    """Wait until the newest commit is another one than ``newer_than``.

    :raises XetInputError: ``newer_than`` is not a commit ID.
    """

    newer_than: str

    def __post_init__(self) -> None:
        check_oid(self.newer_than)

    def evaluate(self, state: RepoState) -> XetCommit | None:
        """Return the newest commit if it is another one."""
        return state.head if state.head and state.head["oid"] != self.newer_than else None


@dataclass(frozen=True)
class CommitsSinceCondition:
    """Wait for commits after ``after``; if that is ``None``, for any commit."""

    after: str | None

    def evaluate(self, state: RepoState) -> list[XetCommit] | None:
        """Return these commits, oldest first; only the newest if ``after`` is ``None`` or no longer in the history."""
        if state.head is None or state.head["oid"] == self.after:
            return None
        oids = [commit["oid"] for commit in state.history]
        if self.after not in oids:
            return [state.head]
        return list(reversed(state.history[: oids.index(self.after)]))


class RepoState:
    """Hold what is known about a repository: its newest commits and file records.

    :param is_shared: keep the file records until the newest commit changes. Otherwise each refresh fetches them again.
    :ivar is_streamed: whether an event stream reports changes of this bucket, so that its files need no refresh.
    :ivar version: increases with each change, so that a condition need not be evaluated twice on the same state.
    """

    def __init__(self, repo: Repo, *, is_shared: bool = False) -> None:
        self._repo = repo
        self._is_shared = is_shared
        self.is_streamed = False
        self.head: XetCommit | None = None
        self.history: list[XetCommit] = []
        self._searched: set[str] = set()
        self.files = Snapshot(repo, repo.uri)
        self._bases: dict[str, Snapshot] = {}
        self.listing_error: XetProtocolError | None = None
        self.details: dict[object, Any] = {}
        self.version = 0

    def files_at(self, oid: str) -> Snapshot:
        """Return the files at a commit.

        :raises XetNotFoundError: the commit does not exist.
        """
        snapshot = self._bases[oid]
        if snapshot.error is not None:
            raise snapshot.error
        return snapshot

    def forget_files(self) -> None:
        """Discard the file records."""
        self.files = Snapshot(self._repo.at(self.head["oid"]) if self.head else self._repo, self._repo.uri)

    def refresh(self, hub: Hub, conditions: Sequence[Condition]) -> None:
        """Fetch what the conditions need: one request while nothing has changed, two after a change.

        :raises XetHubError: see :meth:`airflow_provider_xethub.xet.hub.client.Hub.request`.
        """
        for condition in conditions:
            check_condition(condition, self._repo)
        files = [condition for condition in conditions if isinstance(condition, FilesCondition)]
        details = [condition for condition in conditions if isinstance(condition, DetailCondition)]
        others = [condition for condition in conditions if condition not in details or condition.needs_head]
        if others:
            self._fetch_head(hub, others, wants_files=bool(files))
        self._fetch_details(hub, details, is_alone=len(details) == len(conditions))
        self.listing_error = None
        try:
            self._fetch_files(hub, files)
        except XetProtocolError as error:
            # Conditions on commits must not fail because of a listing that cannot be read.
            if len(files) == len(conditions):
                raise
            self.listing_error = error
            self.version += 1

    def _fetch_details(self, hub: Hub, conditions: Sequence[DetailCondition], *, is_alone: bool) -> None:
        by_key = {condition.key: condition for condition in conditions}
        self.details = {key: value for key, value in self.details.items() if key in by_key}
        for key, condition in by_key.items():
            known = self.details.get(key)
            before = None if isinstance(known, XetHubError) else known
            try:
                found = condition.fetch(hub, self._repo, self.head, before)
            except XetHubError as error:
                # Conditions on commits and files must not fail because of details that cannot be had.
                if error.retryable or (is_alone and len(by_key) == 1):
                    raise
                found = error
            if found != known:
                self.details[key] = found
                self.version += 1

    def _fetch_files(self, hub: Hub, files: Sequence[FilesCondition]) -> None:
        paths = {path for condition in files for path in condition.paths}
        if self.files.fetch(hub, paths, listing=any(condition.patterns for condition in files)):
            self.version += 1
        bases = {condition.newer_than for condition in files if condition.newer_than}
        self._bases = {oid: snapshot for oid, snapshot in self._bases.items() if oid in bases}
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
            self.version += 1
            self.history, self._searched = [], set()
            # Files are fetched at that commit, so that all polls until the next commit see the same files.
            self.forget_files()
        searched = {
            condition.after for condition in commits if isinstance(condition, CommitsSinceCondition) and condition.after
        }
        if head and not searched <= self._searched | {head["oid"]}:
            from airflow_provider_xethub.xet.hub.history import commits_until

            found = commits_until(hub, self._repo.at(head["oid"]), searched - {head["oid"]})
            self.history = [{**commit, "repo": self._repo.uri} for commit in found]
            self._searched = searched | {head["oid"]}
            self.version += 1

    def _fetch_base(self, hub: Hub, oid: str, conditions: Sequence[FilesCondition]) -> None:
        base = self._bases.setdefault(oid, Snapshot(self._repo.at(oid), self._repo.uri))
        paths = {path for condition in conditions for path in condition.paths}
        try:
            if base.error is None and base.fetch(
                hub, paths, listing=any(condition.patterns for condition in conditions)
            ):
                self.version += 1
        except XetNotFoundError as error:
            base.error = error


def hashes(file: XetFile) -> set[str]:
    """Return all hashes of a file record."""
    return {text for text in (file["xet_hash"], file["sha256"], file.get("blob_id")) if text}


def check_condition(condition: Condition, repo: Repo) -> None:
    """Reject a condition on commits of a bucket, which has none.

    :raises XetInputError: the condition needs commits, and the repository is a bucket.
    """
    if repo.is_bucket and isinstance(condition, DetailCondition):
        raise XetInputError(f"{repo} is a bucket: it has neither pull requests nor security scans.")
    if isinstance(condition, MergedCondition):
        check_pull_request(repo)
    if repo.is_bucket and not isinstance(condition, FilesCondition):
        raise XetInputError(f"{repo} is a bucket: it has no commits. Wait for its files with XetFileSensor.")
    if repo.is_bucket and isinstance(condition, FilesCondition) and condition.newer_than:
        raise XetInputError(f"{repo} is a bucket: it has no commits. Use changed_from instead of newer_than.")


def check_oid(oid: object) -> None:
    """Reject a value that is not a commit ID.

    :raises XetInputError: it is something else, such as the name of a branch.
    """
    if not isinstance(oid, str) or not COMMIT_ID.fullmatch(oid):
        raise XetInputError(f"newer_than {oid!r} is not a commit ID: 40 hex digits, as in the field oid of a commit.")


def check_missing(value: object) -> None:
    """Reject an unknown value of ``may_be_missing``.

    :raises XetInputError: it is neither ``None`` nor ``revision`` nor ``repo``.
    """
    if value not in (None, "revision", "repo"):
        raise XetInputError(f"may_be_missing {value!r} must be 'revision', 'repo' or None.")


def is_fatal(error: XetHubError, may_be_missing: Missing | None, *, is_first: bool) -> bool:
    """Return whether a failed poll ends the wait.

    A rate limit never does. An error that retrying cannot fix does, unless it says that something is missing which may
    not exist yet. An outage ends the wait at the first poll, where it may mean a wrong host, but not later.

    :param is_first: whether no poll has succeeded yet.
    """
    if isinstance(error, XetRateLimitError):
        return False
    if isinstance(error, XetNotFoundError) and may_be_missing == "repo":
        return False
    if isinstance(error, XetRevisionNotFoundError) and may_be_missing == "revision":
        return False
    return is_first or not error.retryable


def requested_delay(error: XetHubError) -> float:
    """Return the delay in seconds that the Hub asks for, plus up to 20 %; 0 if it asks for none.

    The Hub asks all clients over the limit to wait until the same moment. The random share spreads their next requests.
    """
    requested = min(getattr(error, "retry_after", None) or 0.0, MAX_REQUESTED_DELAY)
    return requested * random.uniform(1.0, 1.2)  # noqa: S311


def delay_after_failure(error: XetHubError, failures: int, interval: float) -> float:
    """Return the seconds to the next poll after an error: what the Hub asks for, otherwise doubled for each failure.

    :param failures: how many polls in a row have failed, including this one.
    :param interval: seconds between two successful polls; the delay is at least this long.
    """
    if getattr(error, "retry_after", None) is not None:
        return max(interval, requested_delay(error))
    if isinstance(error, XetNotFoundError):
        return interval
    return max(interval, min(MAX_DELAY, interval * 2.0 ** min(failures - 1, 16)))
