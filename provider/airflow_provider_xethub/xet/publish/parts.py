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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.hub.preupload import UploadMode
from airflow_provider_xethub.xet.publish.card_work import CardWork
from airflow_provider_xethub.xet.publish.planned_files import Planned, PlannedFiles
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

    :param begin, until: the positions in the work's order at which it begins and ends.
    :param count: the number of its changes, without unchanged files.
    :param inline_bytes: the size of the inline files.
    :param has_inline: whether there are any.
    :param work: what it is a part of.
    """

    begin: int
    until: int
    count: int
    inline_bytes: int
    has_inline: bool
    work: Work = field(repr=False)

    @property
    def changes(self) -> Sequence[XetFile | str]:
        """Records of files, and paths to delete; without unchanged files."""
        return [each.record if isinstance(each, Planned) else each for each in self.planned()]

    def planned(self) -> Iterator[Planned | str]:
        """Yield what changes, with how the Hub stores it."""
        for each in self.work.order(self.begin, self.until):
            if isinstance(each, str) or not each.unchanged:
                yield each

    def halved(self) -> Limits:
        """Return limits that split this part in two."""
        return Limits(self.count // 2, self.inline_bytes // 2)


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


class Work:
    """All that a request publishes.

    Files are added in batches, compared with what the repository has; then come the deletions and the card.

    :param request: what is published.
    :param contents_of: returns the bytes of inline files.
    :ivar files: without those that ``.gitignore`` excludes.
    :ivar card: the record of the card by which the work is identified.
    """

    def __init__(self, request: CommitRequest, contents_of: ContentsOf) -> None:
        self._request = request
        self._held: dict[str, bytes] = {}
        self._ignored: list[str] = []
        self._ignored_count = 0
        self._asked = 0
        self._first: Sequence[str]
        self._last: Sequence[str]
        self.contents = InlineContents(lambda files: _contents(files, contents_of, self._held))
        self.files = PlannedFiles()
        self.card: XetFile | None = None

    def add(self, files: Sequence[XetFile], modes: Mapping[str, UploadMode]) -> None:
        """Compare files with what the repository has.

        :raises XetInputError: a record has no sha256, which the commit needs.
        """
        self._asked += len(files)
        wanted = []
        for file in files:
            mode = modes[file["path"]]
            if mode.ignored:
                self._ignored_count += 1
                self._ignored = sorted([*self._ignored, file["path"]])[:_MAX_NAMED]
                continue
            if not mode.inline and not file["sha256"]:
                raise XetInputError(
                    f"The record of {file['path']} has no sha256, which a commit to {self._request.repo} needs. Upload "
                    "it again."
                )
            wanted.append(file)
        inline = sorted((file for file in wanted if modes[file["path"]].inline), key=_path)
        digests = {
            path: digest for batch in _batches(inline) for path, digest in _digests(self.contents.of(batch), batch)
        }
        self.files.add(_planned(file, modes[file["path"]], digests.get(file["path"])) for file in wanted)

    def complete(self, card: CardWork | None = None, modes: Mapping[str, UploadMode] | None = None) -> Work:
        """Add the card, which is not among the files of the request, and put everything in order.

        :param modes: with that of the card.
        """
        if self._ignored:
            log.warning(
                "%d of %d files are left out, because the .gitignore of %s excludes them: %s",
                self._ignored_count,
                self._asked,
                self._request.repo,
                ", ".join(self._ignored) + (" …" if self._ignored_count > _MAX_NAMED else ""),
            )
        delete = self._request.delete
        if card is not None and modes is not None:
            is_alone = len(self.files.unchanged) == len(self.files) and not delete
            content = card.content(is_alone=is_alone)
            record = card.record(content)
            self._held[record["path"]] = content
            ((path, digest),) = _digests(self._held, [record])
            self.files.add([_planned(record, modes[path], digest)])
            self.card = card.key_record(content)
        in_the_way = {path for path in delete if self._is_in_the_way(path)}
        self._first = [path for path in delete if path in in_the_way]
        self._last = [path for path in delete if path not in in_the_way]
        return self

    def _is_in_the_way(self, path: str) -> bool:
        return self.files.has_below(path) or any(
            self.files.has(path[:at]) for at, char in enumerate(path) if char == "/"
        )

    def __len__(self) -> int:
        """Return the number of files and deletions, changed or not."""
        return len(self._first) + len(self.files) + len(self._last)

    def key_files(self) -> Iterator[XetFile]:
        """Yield the files by which the work is identified, in the order of their paths: the card without its block."""
        card = self.card
        for file in self.files.by_path():
            yield card if card and file.record["path"] == card["path"] else file.record

    def order(self, begin: int, until: int) -> Iterator[Planned | str]:
        """Yield files by path and paths to delete, in the order of publishing, from a position to another one."""
        yield from self._first[begin:until]
        before = len(self._first)
        yield from self.files.by_path(max(begin - before, 0), max(until - before, 0))
        before += len(self.files)
        yield from self._last[max(begin - before, 0) : max(until - before, 0)]

    def parts(self, begin: int, limits: Limits) -> list[Part]:
        """Split the order, from a position on, into as few parts as the limits allow."""
        parts: list[Part] = []
        count = size = 0
        has_inline = False
        first = begin
        nothing: tuple[int | None, bool] = (None, False)
        deletions = itertools.repeat(nothing, len(self._first)), itertools.repeat(nothing, len(self._last))
        order = itertools.chain(deletions[0], self.files.sizes_by_path(), deletions[1])
        for at, (inline_bytes, unchanged) in enumerate(itertools.islice(order, begin, None), begin):
            if unchanged:
                continue
            more = inline_bytes or 0
            if count and (count >= limits.changes or (more and size + more > limits.inline_bytes)):
                parts.append(Part(first, at, count, size, has_inline, self))
                first, count, size, has_inline = at, 0, 0, False
            count += 1
            size += more
            has_inline |= inline_bytes is not None
        return [*parts, Part(first, len(self), count, size, has_inline, self)] if count else parts

    def lines(self, part: Part) -> Iterator[dict[str, Any]]:
        """Yield the lines of a commit request below its header."""
        contents: Mapping[str, bytes] = {}
        if part.has_inline:
            inline = [each.record for each in part.planned() if isinstance(each, Planned) and each.inline]
            contents = self.contents.of(inline)
        for change in part.planned():
            if isinstance(change, str):
                yield {"key": "deletedFolder" if change.endswith("/") else "deletedFile", "value": {"path": change}}
                continue
            file = change.record
            if change.inline:
                content = base64.b64encode(contents[file["path"]]).decode()
                yield {"key": "file", "value": {"content": content, "path": file["path"], "encoding": "base64"}}
            else:
                value = {"path": file["path"], "algo": "sha256", "oid": file["sha256"], "size": file["size"]}
                yield {"key": "lfsFile", "value": value}


def plan_work(
    request: CommitRequest, modes: Mapping[str, UploadMode], contents_of: ContentsOf, card: CardWork | None = None
) -> Work:
    """Compare the request with what the repository has, and put the changes in order.

    :param card: the card, which is not among the files of the request.
    :raises XetInputError: a record has no sha256, which the commit needs.
    """
    work = Work(request, contents_of)
    work.add(request.files, modes)
    return work.complete(card, modes)


def _planned(file: XetFile, mode: UploadMode, digest: tuple[str, str] | None) -> Planned:
    """Compare a file with what the repository has.

    :param digest: of an inline file, its sha256 and git blob id.
    """
    record = file.copy()
    if digest:
        record["sha256"], record["blob_id"] = digest
    unchanged = mode.current == (record["blob_id"] if digest else record["sha256"])
    return Planned(record, digest is not None, unchanged)


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
