"""Sources of uploads in object storage: files, folders and glob patterns, each examined with one listing."""

from __future__ import annotations

import posixpath
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from airflow_provider_xethub.exceptions import XetEmptySourceError, XetSourceError
from airflow_provider_xethub.xet.files import source_rules
from airflow_provider_xethub.xet.files.object_storage import AT_A_TIME, BLOCK, Location, Storage
from airflow_provider_xethub.xet.files.source_rules import Findings
from airflow_provider_xethub.xet.files.storage_entries import Entry
from airflow_provider_xethub.xet.path_patterns import Glob, Selection, has_wildcard
from airflow_provider_xethub.xet.process import threads

SAMPLE_BYTES = 512
"""Leading bytes that the Hub examines to decide how a file is stored."""

KEPT_BYTES = 32 << 20
"""Total size of small files that are read in full instead of only their sample, so that they are read once."""


@dataclass(frozen=True)
class Listing:
    """A file, a folder or a glob pattern in object storage, which can be listed more than once.

    :param base: the file, or the folder that paths are relative to.
    :param pattern: for a glob, the part after ``base``.
    """

    storage: Storage
    kind: Literal["file", "folder", "glob"]
    base: str
    pattern: str = ""

    def files(self) -> list[tuple[Entry, str]]:
        """Return the entries that exist now, each with its path below ``base``, also those that no upload includes."""
        if self.kind == "file":
            entry = self.storage.stat(self.base)
            return [(entry, posixpath.basename(self.base))] if isinstance(entry, Entry) else []
        pattern = Glob(self.pattern) if self.kind == "glob" else None
        prefix = self.base.rstrip("/") + "/"
        found = [
            (entry, entry.path.removeprefix(prefix))
            for entry in self.storage.find(self.base, pattern.depth if pattern else None)
        ]
        return [(entry, relative) for entry, relative in found if pattern is None or pattern.takes(relative)]


@dataclass
class StoredFile:
    """A file to upload from object storage, in the state in which it was found.

    :param entry: its path, size and version.
    :param path_in_repo: its path in the repository.
    :param listing: the listing that found it.
    :param sample: its first :data:`SAMPLE_BYTES` bytes, once they have been read.
    :param content: the whole content, where it was read with the sample.
    """

    entry: Entry
    path_in_repo: str
    listing: Listing
    sample: bytes = b""
    content: bytes | None = None

    def __str__(self) -> str:
        return self.listing.storage.uri(self.entry.path)

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self.entry.size

    def blocks(self) -> Iterator[bytes]:
        """Read the content from the beginning."""
        if self.content is not None:
            yield self.content
            return
        for number, block in enumerate(self.listing.storage.blocks(self.entry)):
            if not number:
                self.sample = block[:SAMPLE_BYTES]
            yield block

    def fetch_sample(self, *, whole: bool) -> None:
        """Read the first bytes only, or the ``whole`` content of a small file."""
        if self.size:
            head = self.listing.storage.head(self.entry, self.size if whole else SAMPLE_BYTES)
            self.sample = head[:SAMPLE_BYTES]
            self.content = head if whole else None


def fetch_samples(files: Sequence[StoredFile], stopped: threading.Event) -> None:
    """Read the first bytes of files, and the whole content of as many small ones as fit into :data:`KEPT_BYTES`.

    :raises XetSourceError: a file cannot be read.
    """
    small: set[int] = set()
    total = 0
    for number in sorted(range(len(files)), key=lambda number: files[number].size):
        total += files[number].size
        if total > KEPT_BYTES or files[number].size > BLOCK:
            break
        small.add(number)
    numbers = range(len(files))
    threads.each(lambda number: files[number].fetch_sample(whole=number in small), numbers, AT_A_TIME, stopped)


def find(
    where: Location, storage: Storage, selection: Selection, findings: Findings, *, follow_links: bool
) -> tuple[Listing, list[tuple[Entry, str]]]:
    """Return the listing of a source, and its files, each with its path below the source.

    :param selection: selects among the files.
    :param findings: collects what is left out or refused.
    :param follow_links: whether to follow links that lead out of the source.
    :raises XetSourceError: it does not exist, or cannot be read.
    :raises XetEmptySourceError: it has no file, or none that matches.
    """
    listing = _listing(where, storage)
    found = listing.files()
    if listing.kind == "file":
        return listing, [each for each in found if selection.takes(each[1])]
    rule = _Rule(listing, selection, findings, follow_links=follow_links)
    taken = [(entry, relative) for entry, relative in found if rule.takes(entry, relative)]
    if not taken and not selection.is_limited:
        raise XetEmptySourceError(f"{where}: {'matches no file' if listing.kind == 'glob' else 'no file found'}")
    return listing, taken


class _Rule:
    """The rule of :mod:`airflow_provider_xethub.xet.files.source_rules`, applied to one listing."""

    def __init__(self, listing: Listing, selection: Selection, findings: Findings, *, follow_links: bool) -> None:
        self._listing = listing
        self._selection = selection
        self._findings = findings
        self._follow_links = follow_links
        self._left_out: dict[str, bool] = {}

    def takes(self, entry: Entry, relative: str) -> bool:
        """Return whether an entry is uploaded; otherwise record the reason where the user needs to know it."""
        if entry.kind == "folder":
            if self._selection.takes_link(relative) and not self._is_left_out(relative):
                self._folder_link(entry, relative)
            return False
        if not self._selection.takes(relative) or self._is_left_out(relative):
            return False
        if entry.kind == "marker":
            if relative:  # the marker of the source itself does not count
                self._findings.leave_out(source_rules.MARKER, relative)
        elif entry.kind == "dangling":
            self._findings.problems.append(f"{self._uri(entry)}: is a dangling link")
        elif entry.kind == "other":
            self._findings.problems.append(f"{self._uri(entry)}: is not a regular file")
        elif entry.link is not None and not self._follow_links and not self._stays(entry.link):
            self._findings.leaving.append(f"{self._uri(entry)} -> {entry.link or 'unknown'}")
        elif "" in relative.split("/"):
            what = "ends in '/'" if not relative.endswith("//") and relative.endswith("/") else "contains '//'"
            self._findings.refused.append(f"{self._uri(entry)} (its key {what})")
        else:
            return True
        return False

    def _folder_link(self, entry: Entry, relative: str) -> None:
        # Whether such a link leads back to a folder above it is unknown: storages have no ids for folders.
        if self._stays(entry.link or "") and not self._follow_links:
            self._findings.leave_out(source_rules.FOLDER_LINK, relative)
        elif self._follow_links:
            self._findings.refused.append(
                f"{self._uri(entry)} (a link to a folder, which is followed on the worker only)"
            )
        else:
            self._findings.leaving.append(f"{self._uri(entry)} -> {entry.link or 'unknown'}")

    def _stays(self, target: str) -> bool:
        base = self._real_base
        if not target or base is None:
            return False
        return source_rules.is_inside(target, base) or source_rules.is_blob(target, source_rules.cached_repo(base))

    @cached_property
    def _real_base(self) -> str | None:
        return self._listing.storage.real_path(self._listing.base)

    def _is_left_out(self, relative: str) -> bool:
        """Return whether a file, or a folder above it, is left out; each of these is recorded once."""
        above, path = posixpath.basename(self._listing.base), ""
        for name in relative.split("/"):
            path = f"{path}/{name}" if path else name
            if path not in self._left_out:
                reason = source_rules.left_out(name, above)
                self._left_out[path] = reason is not None
                if reason:
                    self._findings.leave_out(reason, path)
            if self._left_out[path]:
                return True
            above = name
        return False

    def _uri(self, entry: Entry) -> str:
        return self._listing.storage.uri(entry.path)


def _listing(where: Location, storage: Storage) -> Listing:
    path = storage.plain(where.path)
    if where.path.endswith("/"):
        return Listing(storage, "folder", path)
    found = storage.stat(path)
    if found is not None:
        return Listing(storage, "folder" if found == "folder" else "file", path)
    if not has_wildcard(path):
        raise XetSourceError(f"{where}: does not exist")
    parts = path.split("/")
    # Bucket names have no wildcards.
    first = next((number for number, part in enumerate(parts) if number and has_wildcard(part)), len(parts) - 1)
    return Listing(storage, "glob", "/".join(parts[:first]) or "/", "/".join(parts[first:]))


def changed(files: Sequence[StoredFile], stopped: threading.Event) -> list[str]:
    """Return the URIs of files that have changed or vanished; each source is listed once more, as far as need be."""
    by_listing: dict[Listing, list[StoredFile]] = {}
    for file in files:
        by_listing.setdefault(file.listing, []).append(file)

    def compare(listing: Listing) -> list[str]:
        theirs = by_listing[listing]
        now = {entry for entry, _ in _narrowed(listing, theirs).files()}
        return [str(file) for file in theirs if file.entry not in now]

    return [uri for uris in threads.each(compare, list(by_listing), AT_A_TIME, stopped) for uri in uris]


def _narrowed(listing: Listing, files: Sequence[StoredFile]) -> Listing:
    """Return the listing of the lowest folder that has all these files: a batch of many files is in few folders."""
    if listing.kind != "folder":
        return listing
    common = posixpath.dirname(posixpath.commonprefix([file.entry.path for file in files]) + "*")
    # A key with an empty part between two slashes is below no folder that a filesystem could list.
    is_below = common.startswith(listing.base.rstrip("/") + "/") and "//" not in f"{common}/"
    return replace(listing, base=common) if is_below else listing
