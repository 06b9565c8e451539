"""``xethub-local put``: files into a repository or bucket, in the data folder itself, also while a server uses it."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.local.cli.arguments import CommandError, Place, UsageError, opened_store, place_argument
from airflow_provider_xethub.local.cli.output import print_text, progress
from airflow_provider_xethub.local.display import count_text, size_text
from airflow_provider_xethub.xet.files.source_rules import Findings, check_paths, shown
from airflow_provider_xethub.xet.files.source_scan import Scan
from airflow_provider_xethub.xet.path_patterns import Selection
from airflow_provider_xethub.xet.repo import check_path

if TYPE_CHECKING:
    from airflow_provider_xethub.local.content.store import StoredFile
    from airflow_provider_xethub.local.local_store import LocalStore
    from airflow_provider_xethub.local.metadata.buckets import BucketFile
    from airflow_provider_xethub.local.metadata.commits import Change

STANDARD = "-"
_PIECE_BYTES = 1024 * 1024
_SAMPLE_BYTES = 512
_FOLLOW_THEM = "To put what such links lead to, add --follow-links; otherwise leave them out with --exclude."


@dataclass(frozen=True)
class _Source:
    """A local file, and where it goes in the repository."""

    file: Path
    path: str


def put(options: argparse.Namespace) -> None:
    """Put files and folders into a repository, as one commit, or into a bucket.

    :raises CommandError: a source cannot be read, or the repository does not take it.
    :raises UsageError: the arguments do not fit together.
    """
    place = place_argument(options.target)
    if options.message is not None and not options.message.strip():
        raise UsageError("--message is empty: give the commit a title, or leave --message out.")
    with opened_store(options.folder) as store, _standard_input(options) as standard_input:
        store.repositories.get(place.name)
        findings = Findings()
        sources = _sources(options, place, _is_folder(store, place), standard_input, findings)
        if not place.repo.is_bucket:
            sources = _not_ignored(store, place, sources, findings)
        if text := findings.left_out_text():
            print_text(f"Left out: {text}.")
        if not sources:
            print_text("Nothing to put.")
            return
        upload = _BucketUpload(store, place) if place.repo.is_bucket else _Commit(store, place, sources)
        # Each byte is read twice: to know its file by its sha256, and to store what is new.
        with progress("Storing", 2 * sum(source.file.stat().st_size for source in sources)) as advance:
            for source in sources:
                with _reading(source.file) as stream:
                    upload.add(source, stream, advance)
        print_text(upload.finish(options.message))


class _Upload:
    """What goes into one repository, and how much of it was there already."""

    def __init__(self, store: LocalStore, place: Place) -> None:
        self._store = store
        self._place = place
        self._sizes: list[int] = []
        self._unchanged = 0

    def add(self, source: _Source, stream: BinaryIO, advance: Callable[[int], None]) -> None:
        raise NotImplementedError

    def finish(self, message: str | None) -> str:
        raise NotImplementedError

    def _store_xet(self, sha256: str, stream: BinaryIO, advance: Callable[[int], None]) -> StoredFile:
        """Store a file's bytes, unless this repository has a file of the same bytes, however it was uploaded."""
        known = self._store.content.file_by_sha256(sha256, repository=self._place.name)
        if known is not None:
            advance(known.size)
            return known
        stream.seek(0)
        return self._store.content.add_plain(_Counted(stream, advance), repository=self._place.name)  # type: ignore[arg-type]

    def _summary(self, done: str) -> str:
        was_there = f"; {self._unchanged:,} there already" if self._unchanged else ""
        return f"{done} {count_text(len(self._sizes), 'file')} ({size_text(sum(self._sizes))}){was_there}."


class _Commit(_Upload):
    """Collects the changes of one commit."""

    def __init__(self, store: LocalStore, place: Place, sources: list[_Source]) -> None:
        from airflow_provider_xethub.local.metadata.upload_modes import GITATTRIBUTES, lfs_rules

        super().__init__(store, place)
        self._head = store.repositories.resolve(place.name, place.repo.revision)
        self._changes: list[Change] = []
        self._is_lfs = lfs_rules(_rules(store, place, sources, GITATTRIBUTES))

    def add(self, source: _Source, stream: BinaryIO, advance: Callable[[int], None]) -> None:
        from airflow_provider_xethub.local.metadata.commits import PutRegular, PutXet
        from airflow_provider_xethub.local.metadata.trees import blob_oid
        from airflow_provider_xethub.local.metadata.upload_modes import upload_mode

        held = self._store.repositories.find(self._head, source.path)
        size = os.fstat(stream.fileno()).st_size
        if upload_mode(size, stream.read(_SAMPLE_BYTES), self._is_lfs(source.path)) == "regular":
            stream.seek(0)
            content = stream.read()
            advance(2 * len(content))
            if held is not None and held.oid == blob_oid(content):
                self._unchanged += 1
                return
            self._changes.append(PutRegular(source.path, content))
            self._sizes.append(len(content))
            return
        sha256 = _sha256(stream, advance)
        if held is not None and held.sha256 == sha256:
            advance(held.size)
            self._unchanged += 1
            return
        stored = self._store_xet(sha256, stream, advance)
        self._changes.append(PutXet(source.path, stored.xet_hash, stored.sha256 or sha256, stored.size))
        self._sizes.append(stored.size)

    def finish(self, message: str | None) -> str:
        if not self._changes:
            return (
                f"Nothing to commit: {self._place.name} has {count_text(self._unchanged, 'file')} like these already."
            )
        only = self._changes[0].path if len(self._changes) == 1 else count_text(len(self._changes), "file")
        made = self._store.commits.commit(
            self._place.name,
            self._place.repo.revision,
            self._changes,
            title=message or f"Upload {only} with xethub-local",
        )
        return f"{self._summary('Committed')} Commit {made.commit.id}"


class _BucketUpload(_Upload):
    """Collects the files of one change of a bucket."""

    def __init__(self, store: LocalStore, place: Place) -> None:
        super().__init__(store, place)
        self._files: list[BucketFile] = []

    def add(self, source: _Source, stream: BinaryIO, advance: Callable[[int], None]) -> None:
        from airflow_provider_xethub.local.metadata.buckets import BucketFile

        stored = self._store_xet(_sha256(stream, advance), stream, advance)
        held = self._store.bucket_files.get(self._place.name, source.path)
        if held is not None and held.xet_hash == stored.xet_hash:
            self._unchanged += 1
            return
        mtime = int(os.fstat(stream.fileno()).st_mtime * 1000)
        now = self._store.access.now()
        self._files.append(BucketFile(source.path, stored.size, stored.xet_hash, mtime, now))
        self._sizes.append(stored.size)

    def finish(self, message: str | None) -> str:
        if message:
            raise UsageError(f"{self._place} is a bucket, which has no commits: leave --message out.")
        with self._store.bucket_files.batch(self._place.name) as batch:
            for file in self._files:
                batch.put(file)
        return self._summary("Stored")


class _Counted:
    """A stream that tells how many bytes were read from it."""

    def __init__(self, stream: BinaryIO, advance: Callable[[int], None]) -> None:
        self._stream = stream
        self._advance = advance

    def read(self, size: int = -1) -> bytes:
        piece = self._stream.read(size)
        self._advance(len(piece))
        return piece


def _sources(
    options: argparse.Namespace, place: Place, is_folder: bool, standard_input: Path | None, findings: Findings
) -> list[_Source]:
    """Say which files are meant, and where each goes: like ``cp``, but a folder gives what is in it."""
    given: list[str] = options.sources
    found: dict[str, _Source] = {}
    try:
        chosen = Selection(None, options.exclude)
    except XetInputError as error:
        raise UsageError(str(error)) from error
    is_folder = is_folder or place.is_folder or not place.path or len(given) > 1
    for text in given:
        if not text:
            raise UsageError("a source is empty. To put the working folder, name it: '.'.")
        local = standard_input if text == STANDARD and standard_input else Path(text)
        if local.is_dir():
            scan = Scan(str(local), chosen, findings, follow_links=options.follow_links)
            files = sorted(scan.files(), key=lambda file: file[1].split("/"))
            new = [_Source(Path(file), _joined(place.path, relative)) for file, relative in files]
        elif not local.exists():
            raise CommandError(f"there is no file or folder {text}.")
        elif not is_folder:
            new = [_Source(local, place.path)]
        elif text == STANDARD:
            raise UsageError(f"standard input has no name: say where it goes, such as {place}:data.csv")
        else:
            new = [_Source(local, _joined(place.path, local.resolve().name))]
        for source in new:
            try:
                check_path(source.path)
            except XetInputError as error:
                raise CommandError(f"{source.file} cannot be put: {error}") from error
            if source.path in found:
                raise UsageError(f"{found[source.path].file} and {source.file} would both become {source.path}.")
            found[source.path] = source
    if findings.problems:
        raise CommandError(f"cannot read {shown(findings.problems[0])}.")
    try:
        findings.check(_FOLLOW_THEM)
        check_paths(found)
    except XetInputError as error:
        raise CommandError(str(error)) from error
    if not found:
        left_out = findings.left_out_text()
        raise CommandError(f"there are no files in {', '.join(given)}{f' (left out: {left_out})' if left_out else ''}.")
    return [*found.values()]


def _not_ignored(store: LocalStore, place: Place, sources: list[_Source], findings: Findings) -> list[_Source]:
    """Leave out what ``.gitignore`` excludes: the one that is put, or else the one that is there."""
    from airflow_provider_xethub.local.metadata.upload_modes import GITIGNORE, ignored_paths

    is_ignored = ignored_paths(_rules(store, place, sources, GITIGNORE))
    kept = []
    for source in sources:
        if is_ignored(source.path):
            findings.leave_out(f"excluded by {GITIGNORE}", source.path)
        else:
            kept.append(source)
    return kept


def _rules(store: LocalStore, place: Place, sources: list[_Source], name: str) -> str:
    """Return the content of ``.gitattributes`` or ``.gitignore`` as it will be in the repository."""
    new = next((source.file for source in sources if source.path == name), None)
    if new is not None:
        with _reading(new) as stream:
            return stream.read().decode(errors="replace")
    old = store.repositories.find(store.repositories.resolve(place.name, place.repo.revision), name)
    return store.repositories.blob(old.oid).decode(errors="replace") if old and not old.xet_hash else ""


def _is_folder(store: LocalStore, place: Place) -> bool:
    """Whether the path names a folder that is there already."""
    if place.repo.is_bucket:
        return any(file.path != place.path for file in store.bucket_files.beneath(place.name, place.path))
    head = store.repositories.resolve(place.name, place.repo.revision)
    entry = store.repositories.find(head, place.path) if place.path else None
    return entry is not None and entry.kind == "directory"


@contextmanager
def _standard_input(options: argparse.Namespace) -> Iterator[Path | None]:
    """Copy standard input to a file, where it is one of the sources: its size decides how it is stored."""
    if STANDARD not in options.sources:
        yield None
        return
    if options.sources.count(STANDARD) > 1:
        raise UsageError("standard input can be put once only.")
    with tempfile.NamedTemporaryFile(dir=options.folder, prefix=".stdin.") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy, _PIECE_BYTES)
        copy.flush()
        yield Path(copy.name)


@contextmanager
def _reading(file: Path) -> Iterator[BinaryIO]:
    try:
        stream = file.open("rb")
    except OSError as error:
        raise CommandError(f"cannot read {file}: {error.strerror}.") from error
    with stream:
        yield stream


def _sha256(stream: BinaryIO, advance: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    stream.seek(0)
    while piece := stream.read(_PIECE_BYTES):
        digest.update(piece)
        advance(len(piece))
    return digest.hexdigest()


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
