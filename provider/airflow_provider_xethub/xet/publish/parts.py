"""The content of a commit: its changes, their order, and the parts that the Hub's limits require.

Most work is one part. Files come in the order of their paths, followed by deletions, so that nothing is deleted before
its successor exists; only a file in the place of a new folder is deleted first, and so are files in a folder that
becomes a file.
"""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.hub.preupload import UploadMode
from airflow_provider_xethub.xet.publish.card_work import CardWork
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.records import XetFile

log = logging.getLogger(__name__)

_MAX_NAMED = 20

MAX_CHANGES = 25_000
"""Changes in one commit. ``huggingface_hub`` documents 25,000 LFS files for ``create_commit``."""

MAX_INLINE_BYTES = 100 * 1024 * 1024
"""Bytes of inline files in one commit. The Hub accepts 1 GB; ``huggingface_hub.upload_folder`` 2.4 stops here."""

ContentsOf = Callable[[Sequence[XetFile]], Mapping[str, bytes]]
"""Returns the bytes of inline files, by path."""


@dataclass(frozen=True)
class Limits:
    """The limits of one commit."""

    changes: int
    inline_bytes: int


@dataclass(frozen=True)
class Part:
    """A run of the work's changes that fits into one commit.

    :param until: the position in the work's order at which it ends.
    :param changes: records of files, and paths to delete; without unchanged files.
    :param inline_bytes: the size of the inline files.
    """

    until: int
    changes: Sequence[XetFile | str]
    inline_bytes: int

    def halved(self) -> Limits:
        """Return limits that split this part in two."""
        return Limits(len(self.changes) // 2, self.inline_bytes // 2)


class InlineContents:
    """The bytes of inline files, read for one part at a time, so that memory does not grow with the number of files."""

    def __init__(self, read: ContentsOf) -> None:
        self._read = read
        self._held: Mapping[str, bytes] = {}

    def of(self, files: Sequence[XetFile]) -> Mapping[str, bytes]:
        """Return the bytes of these files by path; those read last are kept."""
        if any(file["path"] not in self._held for file in files):
            self._held = {}
            self._held = self._read(files)
        return self._held


@dataclass(frozen=True)
class Work:
    """All that a request publishes.

    :param files: in the order of the request, without those that ``.gitignore`` excludes.
    :param order: the files by path and the paths to delete, in the order of publishing.
    :param unchanged: paths that the repository already has with this content.
    :param inline: paths of inline files.
    :param card: the record of the card by which the work is identified.
    """

    files: Sequence[XetFile]
    order: Sequence[XetFile | str]
    unchanged: Collection[str]
    inline: Collection[str]
    contents: InlineContents
    card: XetFile | None = None

    @property
    def key_files(self) -> Sequence[XetFile]:
        """The files by which the work is identified: the card without its block."""
        if self.card is None:
            return self.files
        return [self.card if file["path"] == self.card["path"] else file for file in self.files]

    def parts(self, begin: int, limits: Limits) -> list[Part]:
        """Split the order, from a position on, into as few parts as the limits allow."""
        parts: list[Part] = []
        changes: list[XetFile | str] = []
        size = 0
        for at, change in enumerate(self.order[begin:], begin):
            if not isinstance(change, str) and change["path"] in self.unchanged:
                continue
            more = 0 if isinstance(change, str) or change["path"] not in self.inline else change["size"]
            if changes and (len(changes) >= limits.changes or (more and size + more > limits.inline_bytes)):
                parts.append(Part(at, changes, size))
                changes, size = [], 0
            changes.append(change)
            size += more
        return [*parts, Part(len(self.order), changes, size)] if changes else parts

    def lines(self, part: Part) -> Iterator[dict[str, Any]]:
        """Yield the lines of a commit request below its header."""
        inline = [each for each in part.changes if not isinstance(each, str) and each["path"] in self.inline]
        contents = self.contents.of(inline) if inline else {}
        for change in part.changes:
            if isinstance(change, str):
                yield {"key": "deletedFolder" if change.endswith("/") else "deletedFile", "value": {"path": change}}
            elif change["path"] in self.inline:
                content = base64.b64encode(contents[change["path"]]).decode()
                yield {"key": "file", "value": {"content": content, "path": change["path"], "encoding": "base64"}}
            else:
                value = {"path": change["path"], "algo": "sha256", "oid": change["sha256"], "size": change["size"]}
                yield {"key": "lfsFile", "value": value}


def plan_work(
    request: CommitRequest, modes: Mapping[str, UploadMode], contents_of: ContentsOf, card: CardWork | None = None
) -> Work:
    """Compare the request with what the repository has, and put the changes in order.

    :param card: the card, which is not among the files of the request.
    :raises XetInputError: a record has no sha256, which the commit needs.
    """
    wanted, ignored = [], []
    for file in request.files:
        mode = modes[file["path"]]
        if mode.ignored:
            ignored.append(file["path"])
            continue
        if not mode.inline and not file["sha256"]:
            raise XetInputError(
                f"The record of {file['path']} has no sha256, which a commit to {request.repo} needs. Upload it again."
            )
        wanted.append(file)
    if ignored:
        log.warning(
            "%d of %d files are left out, because the .gitignore of %s excludes them: %s",
            len(ignored),
            len(request.files),
            request.repo,
            ", ".join(sorted(ignored)[:_MAX_NAMED]) + (" …" if len(ignored) > _MAX_NAMED else ""),
        )
    held: dict[str, bytes] = {}
    contents = InlineContents(lambda files: _contents(files, contents_of, held))
    inline = sorted((file for file in wanted if modes[file["path"]].inline), key=_path)
    digests = {path: digest for batch in _batches(inline) for path, digest in _digests(contents.of(batch), batch)}
    files, unchanged = [], set()
    for file in wanted:
        path, record = file["path"], file.copy()
        if path in digests:
            record["sha256"], record["blob_id"] = digests[path]
        if modes[path].current == (record["blob_id"] if path in digests else record["sha256"]):
            unchanged.add(path)
        files.append(record)
    if card is None:
        return Work(files, _order(files, request.delete), unchanged, digests, contents)
    content = card.content(is_alone=len(unchanged) == len(files) and not request.delete)
    record = card.record(content)
    path = record["path"]
    held[path] = content
    ((_, digests[path]),) = _digests(held, [record])
    record["sha256"], record["blob_id"] = digests[path]
    if modes[path].current == record["blob_id"]:
        unchanged.add(path)
    files.append(record)
    return Work(files, _order(files, request.delete), unchanged, digests, contents, card.key_record(content))


def _contents(files: Sequence[XetFile], read: ContentsOf, held: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """Return the bytes of inline files: of those in memory, and of the others."""
    others = [file for file in files if file["path"] not in held]
    here = {file["path"]: held[file["path"]] for file in files if file["path"] in held}
    return {**(read(others) if others else {}), **here}


def git_blob_id(content: bytes) -> str:
    """Return git's id of a file with this content: sha1 over a header and the bytes."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def encoded(header: Mapping[str, Any], lines: Iterator[dict[str, Any]]) -> bytes:
    """Return the body of a commit request: newline-delimited JSON, the header first."""
    body = io.BytesIO()  # returns its value without a copy
    for line in itertools.chain([{"key": "header", "value": header}], lines):
        body.write(json.dumps(line).encode())
        body.write(b"\n")
    return body.getvalue()


def _path(file: XetFile) -> str:
    return file["path"]


def _order(files: Sequence[XetFile], delete: Sequence[str]) -> list[XetFile | str]:
    new = {file["path"] for file in files}
    folders = {path[:at] for path in new for at, char in enumerate(path) if char == "/"}

    def is_in_the_way(path: str) -> bool:
        return path in folders or any(path[:at] in new for at, char in enumerate(path) if char == "/")

    in_the_way = {path for path in delete if is_in_the_way(path)}
    first = [path for path in delete if path in in_the_way]
    return [*first, *sorted(files, key=_path), *(path for path in delete if path not in in_the_way)]


def _batches(files: Sequence[XetFile]) -> Iterator[list[XetFile]]:
    batch: list[XetFile] = []
    size = 0
    for file in files:
        if batch and size + file["size"] > MAX_INLINE_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file["size"]
    if batch:
        yield batch


def _digests(contents: Mapping[str, bytes], files: Sequence[XetFile]) -> Iterator[tuple[str, tuple[str, str]]]:
    for file in files:
        content = contents[file["path"]]
        yield file["path"], (hashlib.sha256(content).hexdigest(), git_blob_id(content))
