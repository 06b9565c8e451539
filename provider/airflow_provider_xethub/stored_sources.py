"""What an upload reads from object storage: files, folders and glob patterns, each looked at with one listing."""

from __future__ import annotations

import glob
import posixpath
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from airflow_provider_xethub import workers
from airflow_provider_xethub.exceptions import XetEmptySourceError, XetSourceError
from airflow_provider_xethub.object_storage import AT_A_TIME, BLOCK, Entry, Location, Storage

SAMPLE_BYTES = 512
"""Leading bytes that the Hub wants to see before it decides how a file is stored."""

KEPT_BYTES = 32 << 20
"""Bytes of files of at most one block that are read in full instead of their sample only: they are read once."""


@dataclass(frozen=True)
class Listing:
    """A file, a folder or a glob pattern in object storage, to be looked at now and again.

    :param base: the file, or the folder that paths are relative to.
    :param pattern: for a glob, what comes after ``base``.
    """

    storage: Storage
    kind: Literal["file", "folder", "glob"]
    base: str
    pattern: str = ""

    def files(self) -> list[tuple[Entry, str]]:
        """Return the files there now, each with its path below ``base``."""
        if self.kind == "file":
            entry = self.storage.look(self.base)
            return [(entry, posixpath.basename(self.base))] if isinstance(entry, Entry) else []
        depth = None if self.kind == "folder" or "**" in self.pattern else self.pattern.count("/") + 1
        prefix = self.base.rstrip("/") + "/"
        found = [(entry, entry.path.removeprefix(prefix)) for entry in self.storage.find(self.base, depth)]
        parts = self.pattern.split("/")
        return [
            (entry, relative)
            for entry, relative in found
            if ".git" not in relative.split("/") and (self.kind == "folder" or _matches(relative.split("/"), parts))
        ]


@dataclass
class StoredFile:
    """A file to upload from object storage, as it was when it was looked at.

    :param entry: where it lies, its size and version.
    :param path_in_repo: its path in the repository.
    :param listing: how it was found.
    :param sample: its first :data:`SAMPLE_BYTES` bytes, once they were read.
    :param content: all of it, where it was read with the sample.
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
        """Bytes."""
        return self.entry.size

    def blocks(self) -> Iterator[bytes]:
        """Read it from the beginning."""
        if self.content is not None:
            yield self.content
            return
        for number, block in enumerate(self.listing.storage.blocks(self.entry)):
            if not number:
                self.sample = block[:SAMPLE_BYTES]
            yield block

    def fetch_sample(self, *, keep: bool) -> None:
        """Read its first bytes only, or all of a small file, to ``keep`` it."""
        if self.size:
            head = self.listing.storage.head(self.entry, self.size if keep else SAMPLE_BYTES)
            self.sample = head[:SAMPLE_BYTES]
            self.content = head if keep else None


def fetch_samples(files: Sequence[StoredFile], stopped: threading.Event) -> None:
    """Read the first bytes of files, and all of as many small ones as fit into :data:`KEPT_BYTES`.

    :raises XetSourceError: one cannot be read.
    """
    kept: set[int] = set()
    total = 0
    for number in sorted(range(len(files)), key=lambda number: files[number].size):
        total += files[number].size
        if total > KEPT_BYTES or files[number].size > BLOCK:
            break
        kept.add(number)
    numbers = range(len(files))
    workers.each(lambda number: files[number].fetch_sample(keep=number in kept), numbers, AT_A_TIME, stopped)


def find(where: Location, storage: Storage) -> tuple[Listing, list[tuple[Entry, str]]]:
    """Return what a place is, and its files, each with its path below the source.

    :raises XetSourceError: it does not exist, or cannot be read.
    :raises XetEmptySourceError: there is no file in it, or none that matches.
    """
    listing = _listing(where, storage)
    files = listing.files()
    if not files and listing.kind != "file":
        raise XetEmptySourceError(f"{where}: {'matches no file' if listing.kind == 'glob' else 'no file found'}")
    return listing, files


def _listing(where: Location, storage: Storage) -> Listing:
    path = storage.plain(where.path)
    if where.path.endswith("/"):
        return Listing(storage, "folder", path)
    there = storage.look(path)
    if there is not None:
        return Listing(storage, "folder" if there == "folder" else "file", path)
    if not glob.has_magic(path):
        raise XetSourceError(f"{where}: does not exist")
    parts = path.split("/")
    # The name of a bucket has no wildcard.
    first = next((number for number, part in enumerate(parts) if number and glob.has_magic(part)), len(parts) - 1)
    return Listing(storage, "glob", "/".join(parts[:first]) or "/", "/".join(parts[first:]))


def changed(files: Sequence[StoredFile], stopped: threading.Event) -> list[str]:
    """Return the URIs of files that are not there any more as they were; each listing is made once more."""
    by_listing: dict[Listing, list[StoredFile]] = {}
    for file in files:
        by_listing.setdefault(file.listing, []).append(file)

    def compare(listing: Listing) -> list[str]:
        now = {entry for entry, _ in listing.files()}
        return [str(file) for file in by_listing[listing] if file.entry not in now]

    return [uri for uris in workers.each(compare, list(by_listing), AT_A_TIME, stopped) for uri in uris]


def _matches(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path matches as in :mod:`glob`: ``**`` is any number of folders, wildcards leave out hidden names."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        if pattern[1:] and _matches(path, pattern[1:]):
            return True
        return (
            bool(path)
            and not path[0].startswith(".")
            and (_matches(path[1:], pattern) or len(path) == 1 == len(pattern))
        )
    return (
        bool(path)
        and fnmatchcase(path[0], pattern[0])
        and (path[0].startswith(".") <= pattern[0].startswith("."))
        and _matches(path[1:], pattern[1:])
    )
