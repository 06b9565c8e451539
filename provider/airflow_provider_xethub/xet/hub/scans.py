"""The Hub's security scans of files: what it reports, and what that means.

Source: ``RepoFile`` of ``huggingface_hub`` 2.4, and the public OpenAPI description of the Hub: the entries of
paths-info with ``expand`` have ``securityFileStatus``, with a ``status`` for the file and one for each scanner. The
Hub's documentation adds that a scan takes up to a few minutes, and that a file without a result is being scanned, waits
for it, or could not be scanned.

Guesses, safe either way: that the report may be missing for a moment after a commit (so a young file counts as not
scanned yet), that a result which is not known here means an issue, and that files of pull requests are scanned like
others (if not, the wait ends with its timeout).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from airflow_provider_xethub.exceptions import (
    XetConflictError,
    XetInputError,
    XetNotFoundError,
    XetScanError,
    XetScanMissingError,
    XetScanPendingError,
    XetUnsafeFileError,
)
from airflow_provider_xethub.xet import answers
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.message_text import counted, shortened
from airflow_provider_xethub.xet.records import XetFile
from airflow_provider_xethub.xet.repo import Repo

BATCH = 100
"""Paths in one request. A guess: the Hub documents no limit, but lists only 50 entries with these details at a time."""

GRACE_SECONDS = 300.0
"""Seconds after a file's commit during which a missing report counts as a scan that has not begun."""

Outcome = Literal["safe", "pending", "unsafe", "missing"]

_PENDING = ("queued", "unscanned", "error")
_ISSUES = ("unsafe", "suspicious", "caution")
_MAX_NAMED = 10


@dataclass(frozen=True)
class Scan:
    """What the Hub reports about one file.

    :param outcome: ``safe``; ``pending`` without a result yet; ``unsafe`` with an issue or an unknown result;
        ``missing`` without a report.
    :param said: the status and the scanners that reported an issue, for messages.
    """

    path: str
    outcome: Outcome
    said: str = ""

    def __str__(self) -> str:
        return f"{self.path} ({self.said})" if self.said else self.path


def read(entry: Mapping[str, Any], now: float) -> Scan:
    """Read the entry of a file; raises what :meth:`Hub.reading` turns into a protocol error.

    The status of the file decides, except that an issue which one scanner calls unsafe counts in any case.

    :param now: this moment, in UNIX seconds.
    """
    path = answers.path(entry.get("path"))
    report = entry.get("securityFileStatus")
    if report is None:
        return Scan(path, "pending" if _is_young(entry, now) else "missing")
    status = answers.identifier(answers.mapping(report, "'securityFileStatus'").get("status"), "a status")
    by_scanner = {name: scan.get("status") for name, scan in report.items() if isinstance(scan, Mapping)}
    issues = {name.removesuffix("Scan"): found for name, found in by_scanner.items() if found in _ISSUES}
    if status == "safe" and "unsafe" not in issues.values():
        return Scan(path, "safe")
    if status in _PENDING and "unsafe" not in issues.values():
        return Scan(path, "pending", status)
    named = ", ".join(f"{name}: {found}" for name, found in sorted(issues.items()))
    return Scan(path, "unsafe", f"{answers.title(status)[:40]}{'; ' if named else ''}{named}")


def _is_young(entry: Mapping[str, Any], now: float) -> bool:
    last = entry.get("lastCommit")
    committed = answers.moment(last.get("date")) if isinstance(last, Mapping) else None
    return committed is not None and now - committed.timestamp() < GRACE_SECONDS


def get(hub: Hub, repo: Repo, paths: Sequence[str]) -> dict[str, Scan]:
    """Return the scans of those ``paths`` that exist and are files.

    :raises XetInputError: the repository is a bucket.
    :raises XetNotFoundError: the repository or the revision does not exist.
    """
    return {scan.path: scan for scan, _ in _get(hub, repo, paths)}


def _get(hub: Hub, repo: Repo, paths: Sequence[str]) -> list[tuple[Scan, XetFile]]:
    check_not_bucket(repo)
    found = []
    for start in range(0, len(paths), BATCH):
        batch = paths[start : start + BATCH]
        entries = hub.paths_info(repo, batch, expand=True)
        with hub.reading(f"the security scans of {counted(len(batch), 'file')} in {repo}"):
            files = [entry for entry in entries if answers.kind(entry) == "file"]
            found += [(read(entry, time.time()), answers.file_record(entry, repo.uri)) for entry in files]
    return found


def check_not_bucket(repo: Repo) -> None:
    """Reject a bucket: the Hub reports no scans of its files.

    :raises XetInputError: it is one.
    """
    if repo.is_bucket:
        raise XetInputError(f"{repo} is a bucket: the Hub reports no security scans of its files.")


def require_safe(hub: Hub, repo: Repo, files: Sequence[XetFile]) -> None:
    """Refuse files that the Hub has not scanned, or not found safe.

    :param repo: the repository and revision that the records name.
    :param files: records; the Hub must have scanned this content.
    :raises XetUnsafeFileError: a scanner found an issue.
    :raises XetScanPendingError: there is no result yet.
    :raises XetScanMissingError: the Hub reports no scan.
    :raises XetNotFoundError: a file is not in the repository, so it is not scanned.
    :raises XetConflictError: a file was replaced since, so another content was scanned.
    """
    found = {scan.path: (scan, record) for scan, record in _get(hub, repo, [file["path"] for file in files])}
    if absent := [file["path"] for file in files if file["path"] not in found]:
        raise XetNotFoundError(
            f"{shortened(absent, _MAX_NAMED)} not found in {repo}, so the Hub has not scanned it. Publish it first.",
            status=404,
        )
    if other := [file["path"] for file in files if not _digests(file) & _digests(found[file["path"]][1])]:
        raise XetConflictError(
            f"{shortened(other, _MAX_NAMED)} changed in {repo} since it was listed, so the scan is about another "
            "content. Nothing was downloaded. List the files again."
        )
    if error := problem(repo, [scan for scan, _ in found.values()]):
        error.args = (f"{error} Nothing was downloaded.",)
        raise error


def _digests(file: XetFile) -> set[str]:
    return {text for text in (file["xet_hash"], file["sha256"], file.get("blob_id")) if text}


def problem(repo: Repo, scans: Iterable[Scan]) -> XetScanError | None:
    """Return the error for scans of which at least one is not safe: unsafe before missing before pending."""
    by_outcome: dict[Outcome, list[str]] = {}
    for scan in scans:
        by_outcome.setdefault(scan.outcome, []).append(str(scan))
    if unsafe := by_outcome.get("unsafe"):
        return XetUnsafeFileError(
            f"The Hub's security scan found issues in {counted(len(unsafe), 'file')} of {repo}: "
            f"{shortened(sorted(unsafe), _MAX_NAMED)}. Remove these files, or leave them out."
        )
    if missing := by_outcome.get("missing"):
        return XetScanMissingError(
            f"The Hub reports no security scan of {counted(len(missing), 'file')} in {repo}: "
            f"{shortened(sorted(missing), _MAX_NAMED)}. It offers none, or none for these files: check them by other "
            "means."
        )
    if pending := by_outcome.get("pending"):
        return XetScanPendingError(
            f"The Hub has not scanned {counted(len(pending), 'file')} of {repo} yet: "
            f"{shortened(sorted(pending), _MAX_NAMED)}. Let the task retry, or wait with XetScanSensor."
        )
    return None
