"""Manifests: values that stand for many file records, and the checks of their fields. Pure: no I/O.

A manifest comes through XCom, where anyone may have edited it. What it says is a claim: each field is checked here
within bounds, and reading the records compares the rest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet import answers
from airflow_provider_xethub.xet.identifiers import COMMIT_ID
from airflow_provider_xethub.xet.records import XetFile, XetManifest
from airflow_provider_xethub.xet.repo import Repo

DEFAULT_LIMIT = 1024
"""Files in a result that stays a list, the default of ``[xethub] manifest_files``: Airflow maps over no longer list."""

MAX_FILES = 50_000_000
"""Files that a manifest may count."""

MAX_SIZE = 16 << 30
"""Bytes of a stored manifest, compressed."""

MAX_LINE = 32 << 20
"""Bytes of one record in a stored manifest; the sealed content of an inline file has up to 20 MiB."""

MAX_NAMES = 20_000
"""Patterns or folders that a listing may have."""

KINDS = ("listing", "cas", "storage")

_FIELDS = frozenset(XetManifest.__annotations__)


def is_manifest(value: object) -> bool:
    """Return whether a value is meant as a manifest: file records have no field of that name."""
    return isinstance(value, Mapping) and "manifest" in value


def is_item_of_manifest(value: object) -> bool:
    """Return whether a value is what Airflow gives a task that is mapped over a manifest: a key with its value."""
    return isinstance(value, (list, tuple)) and len(value) == 2 and isinstance(value[0], str) and value[0] in _FIELDS


def check(value: Mapping[str, Any]) -> XetManifest:
    """Return a manifest with all of its fields checked.

    :raises XetInputError: a field is missing or wrong; the message names it.
    """
    try:
        return _check(value)
    except (answers.WrongAnswerError, XetInputError) as error:
        raise XetInputError(
            f"files has a manifest with {error}. Pass it on as the task returned it, or run that task again."
        ) from None


def _check(value: Mapping[str, Any]) -> XetManifest:
    kind = value.get("manifest")
    if kind not in KINDS:
        raise answers.WrongAnswerError(f"a kind other than {', '.join(KINDS)}")
    repo = Repo.from_uri(answers.identifier(value.get("repo"), "'repo'"))
    checked: dict[str, Any] = {
        "manifest": kind,
        "repo": repo.uri,
        "file_count": _at_most(value.get("file_count"), "a file_count", MAX_FILES),
        "bytes": answers.integer(value.get("bytes"), "'bytes'"),
    }
    if kind == "listing":
        checked |= _listing(value, repo)
    else:
        checked["size"] = _at_most(value.get("size"), "a size", MAX_SIZE)
        checked["sha256"] = answers.sha256(value.get("sha256"))
    if kind == "cas":
        checked["xet_hash"] = answers.sha256(value.get("xet_hash"), "a Xet hash")
    if kind == "storage":
        checked["uri"] = answers.identifier(value.get("uri"), "'uri'")
    if value.get("destination") is not None:
        checked["destination"] = answers.identifier(value["destination"], "'destination'")
    return cast("XetManifest", checked)


def _listing(value: Mapping[str, Any], repo: Repo) -> dict[str, Any]:
    if not repo.is_bucket and not COMMIT_ID.fullmatch(repo.revision):
        raise answers.WrongAnswerError("a listing that names no commit")
    checked: dict[str, Any] = {"digest": answers.sha256(value.get("digest"), "a digest")}
    path, patterns, folders = value.get("path"), value.get("patterns"), value.get("folders")
    if folders is not None:
        if path is not None:
            raise answers.WrongAnswerError("both folders and path")
        checked["folders"] = [_folder(each) for each in _names(folders, "folders")]
    checked["path"] = None if path is None else answers.path(path)
    checked["patterns"] = None if patterns is None else [*_names(patterns, "patterns")]
    return checked


def _folder(value: object) -> str:
    # The root is an empty string, or a slash with all subfolders.
    return "" if value == "" else answers.path(value, "a folder")


def _names(value: object, name: str) -> Sequence[str]:
    names = answers.sequence(list(value) if isinstance(value, tuple) else value, name)
    if not 0 < len(names) <= MAX_NAMES:
        raise answers.WrongAnswerError(f"{name} that are not 1 to {MAX_NAMES}")
    return ["" if each == "" else answers.identifier(each, f"an item of {name}") for each in names]


def _at_most(value: object, name: str, most: int) -> int:
    number = answers.integer(value, name)
    if number > most:
        raise answers.WrongAnswerError(f"{name} above {most:,}")
    return number


class Totals:
    """Count records and their bytes, and compute a digest over them that does not depend on their order.

    :ivar uris: the repositories and revisions that the records name, in the order in which they occur.
    :ivar first, last: the paths that sort first and last.
    """

    MAX_URIS = 1000
    """Revisions that the records of one manifest may name."""

    def __init__(self) -> None:
        self.file_count = 0
        self.bytes = 0
        self.uris: dict[str, None] = {}
        self.first = self.last = ""
        self._sum = 0

    def add(self, files: Iterable[XetFile]) -> None:
        """Add records.

        :raises XetInputError: they name more than :data:`MAX_URIS` revisions.
        """
        for file in files:
            path, size = file["path"], file["size"]
            # In a listing, these fields and the repository determine the content.
            digests = f"{size} {file['xet_hash'] or ''} {file['sha256'] or ''} {file.get('blob_id') or ''} "
            line = hashlib.sha256((digests + path).encode("utf-8", "surrogatepass")).digest()
            self._sum += int.from_bytes(line, "big")
            self.file_count += 1
            self.bytes += size
            if path < self.first or self.file_count == 1:
                self.first = path
            if path > self.last:
                self.last = path
            if file["repo"] not in self.uris:
                self.uris[file["repo"]] = None
                if len(self.uris) > self.MAX_URIS:
                    raise XetInputError(
                        f"the files name more than {self.MAX_URIS} revisions, which one result cannot refer to. Use "
                        "one task for each."
                    )

    def merge(self, other: Totals) -> None:
        """Add what other records have."""
        if other.file_count:
            self.first = min(self.first, other.first) if self.file_count else other.first
            self.last = max(self.last, other.last)
        self.file_count += other.file_count
        self.bytes += other.bytes
        self.uris |= other.uris
        self._sum += other._sum

    @property
    def digest(self) -> str:
        """The sum of the sha256 of all records, in hex."""
        return f"{self._sum % 2**256:064x}"
