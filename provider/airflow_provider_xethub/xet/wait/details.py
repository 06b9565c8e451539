"""Conditions on what is neither a commit nor a file: the state of a pull request, and security scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_xethub.exceptions import XetHubError, XetInputError, XetNotFoundError
from airflow_provider_xethub.xet import arguments
from airflow_provider_xethub.xet.path_patterns import matches
from airflow_provider_xethub.xet.records import XetCommit, XetScanResult
from airflow_provider_xethub.xet.repo import Repo, check_path

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.hub.client import Hub
    from airflow_provider_xethub.xet.hub.pull_requests import PullRequest
    from airflow_provider_xethub.xet.hub.scans import Scan
    from airflow_provider_xethub.xet.wait.conditions import RepoState

MissingScan = Literal["fail", "wait", "accept"]
"""What to do about a file of which the Hub reports no scan."""

PULL_REQUEST = "refs/pr/"

MAX_LAGGING = 3
"""Requests in one poll that may find scans without a result. More of them would only say that the scan is not over."""


class DetailCondition:
    """A condition that fetches its own details; conditions with the same ``key`` share them.

    :cvar needs_head: whether the newest commit is fetched first.
    """

    needs_head: ClassVar[bool]

    @property
    def key(self) -> object:
        """What distinguishes these details from others of the same repository and revision."""
        raise NotImplementedError

    def fetch(self, hub: Hub, repo: Repo, head: XetCommit | None, before: Any) -> Any:
        """Return the details, a value that is compared with the one before.

        :param head: the newest commit, if it is needed.
        :param before: the details of the previous poll; ``None`` at the first.
        """
        raise NotImplementedError

    def _details(self, state: RepoState) -> Any:
        """Return the details, or raise the error that prevented them."""
        found = state.details.get(self.key)
        if isinstance(found, XetHubError):
            raise found
        return found


@dataclass(frozen=True)
class MergedCondition(DetailCondition):
    """Wait until the pull request of the revision ``refs/pr/N`` is merged."""

    needs_head: ClassVar[bool] = False

    @property
    def key(self) -> object:
        """The revision names the pull request."""
        return "pull request"

    def fetch(
        self,
        hub: Hub,
        repo: Repo,
        head: XetCommit | None,  # noqa: ARG002
        before: Any,  # noqa: ARG002
    ) -> tuple[PullRequest, XetCommit | None]:
        """Return the state of the pull request, and the commit that merged it."""
        from airflow_provider_xethub.xet.hub import pull_requests

        found = pull_requests.get(hub, repo, int(repo.revision.removeprefix(PULL_REQUEST)))
        return found, pull_requests.merge_commit(hub, found) if found.status == "merged" else None

    def evaluate(self, state: RepoState) -> XetCommit | None:
        """Return the commit that merged it.

        :raises XetPullRequestClosedError: it was closed without being merged.
        """
        from airflow_provider_xethub.xet.hub import pull_requests

        found, commit = self._details(state)
        if found.status == "closed":
            raise pull_requests.closed_error(found)
        return commit  # type: ignore[no-any-return]


def check_pull_request(repo: Repo) -> None:
    """Reject a revision that is not a pull request.

    :raises XetInputError: it is something else.
    """
    number = repo.revision.removeprefix(PULL_REQUEST)
    if repo.is_bucket or number == repo.revision or not number.isdecimal():
        raise XetInputError(f"{repo} is not a pull request. Its revision must be refs/pr/N.")


@dataclass(frozen=True)
class _Scans:
    """The scans of the selected files at a commit.

    :param unsettled: the scans of files without a final result, by path.
    """

    head: XetCommit
    file_count: int
    bytes: int
    unsettled: Mapping[str, Scan]


@dataclass(frozen=True)
class ScannedCondition(DetailCondition):
    """Wait until the Hub has scanned files at the newest commit, and found all of them safe.

    :param paths: these files. Without ``paths`` and ``patterns``: all files of the repository.
    :param patterns: files that match one of these patterns (``*`` matches ``/`` as well).
    :param exclude: leave out files whose path matches one of these.
    :param missing_scan: what to do about a file of which the Hub reports no scan.
    :raises XetInputError: an argument is wrong.
    """

    needs_head: ClassVar[bool] = True

    paths: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    missing_scan: MissingScan = field(default="fail", compare=False)

    def __post_init__(self) -> None:
        if self.paths and self.patterns:
            raise XetInputError("Give only one of paths and patterns.")
        for path in self.paths:
            check_path(path)
        arguments.selection("patterns", list(self.patterns) or None)
        arguments.selection("exclude", list(self.exclude) or None)
        check_missing_scan(self.missing_scan)

    @property
    def key(self) -> object:
        """Which files are selected."""
        return "scans", self.paths, self.patterns, self.exclude

    def fetch(self, hub: Hub, repo: Repo, head: XetCommit | None, before: _Scans | None) -> _Scans:
        """Request the scans of all files at a new commit; later, only of those without a final result.

        :raises XetNotFoundError: no file is selected, or a path does not exist.
        """
        if head is None:
            raise XetNotFoundError(f"{repo} has no commits yet.", status=404)
        at = repo.at(head["oid"])
        if before is not None and before.head["oid"] == head["oid"]:
            count, size, waiting = before.file_count, before.bytes, list(before.unsettled)
        else:
            files = self._select(hub, repo, at)
            count, size, waiting = len(files), sum(files.values()), list(files)
        return _Scans(head, count, size, self._unsettled(hub, at, waiting))

    def _unsettled(self, hub: Hub, at: Repo, waiting: Sequence[str]) -> dict[str, Scan]:
        """Request the scans of files, and return those without a final result, also of files not asked about yet."""
        from airflow_provider_xethub.xet.hub.scans import BATCH, Scan, get

        unsettled: dict[str, Scan] = {}
        lagging = 0
        for start in range(0, len(waiting), BATCH):
            batch = waiting[start : start + BATCH]
            if lagging == MAX_LAGGING:
                unsettled |= {path: Scan(path, "pending") for path in batch}
                continue
            found = get(hub, at, batch)
            # The listing has them, so an answer without one of them says nothing about it.
            scans = [found.get(path) or Scan(path, "missing") for path in batch]
            unsettled |= {scan.path: scan for scan in scans if scan.outcome != "safe"}
            lagging += any(scan.outcome == "pending" for scan in scans)
        return unsettled

    def _select(self, hub: Hub, repo: Repo, at: Repo) -> dict[str, int]:
        """Return the sizes of the selected files by path."""
        found = hub.get_files(at, self.paths) if self.paths else hub.list_files(at)
        sizes = {
            file["path"]: file["size"]
            for file in found
            if (not self.patterns or matches(file["path"], self.patterns))
            and not (self.exclude and matches(file["path"], self.exclude))
        }
        missing = [path for path in self.paths if path not in {file["path"] for file in found}]
        if missing or not sizes:
            named = ", ".join(missing) or f"Files that match {self.patterns or self.exclude or 'anything'}"
            raise XetNotFoundError(f"{named} not found in {repo}, so nothing is scanned. Check the paths.", status=404)
        return sizes

    def evaluate(self, state: RepoState) -> XetScanResult | None:
        """Return the commit whose files are safe.

        :raises XetUnsafeFileError: a scanner found an issue.
        :raises XetScanMissingError: the Hub reports no scan of a file, and ``missing_scan`` is ``fail``.
        """
        from airflow_provider_xethub.xet.hub import scans

        found: _Scans = self._details(state)
        unsettled = list(found.unsettled.values())
        missing = [scan for scan in unsettled if scan.outcome == "missing"]
        fatal = [scan for scan in unsettled if scan.outcome == "unsafe"]
        fatal += missing if self.missing_scan == "fail" else []
        if error := scans.problem(Repo.from_uri(found.head["repo"]), fatal):
            raise error
        if len(unsettled) > (len(missing) if self.missing_scan == "accept" else 0):
            return None
        scanned = found.file_count - len(missing)
        return {**found.head, "file_count": found.file_count, "scanned_count": scanned, "bytes": found.bytes}


def check_missing_scan(value: object) -> None:
    """Reject an unknown value of ``missing_scan``.

    :raises XetInputError: it is not ``fail``, ``wait`` or ``accept``.
    """
    if value not in ("fail", "wait", "accept"):
        raise XetInputError(f"missing_scan {value!r:.60} must be 'fail', 'wait' or 'accept'.")
