"""``xethub-local put``: store files in a repository or bucket of the data folder, also while a server is using it."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from xethub_local.cli.arguments import (
    CommandError,
    RepoPath,
    UsageError,
    opened_store,
    repo_path_argument,
)
from xethub_local.cli.files import PIECE_BYTES, STANDARD, sha256_of
from xethub_local.cli.output import print_text, progress
from xethub_local.cli.source_files import LeftOut, SourceFolder
from xethub_local.display import count_text, size_text
from xethub_local.repo import InvalidNameError, check_path

if TYPE_CHECKING:
    from xethub_local.content.store import StoredFile
    from xethub_local.local_store import LocalStore
    from xethub_local.metadata.buckets import BucketFile
    from xethub_local.metadata.commits import Change


@dataclass(frozen=True)
class _Source:
    """A local file, and its path in the repository."""

    file: Path
    path: str


def put(options: argparse.Namespace) -> None:
    """Store files and folders in a repository, as one commit, or in a bucket.

    :raises CommandError: a source cannot be read, or the repository rejects it.
    :raises UsageError: the arguments cannot be combined.
    """
    target = repo_path_argument(options.target)
    if options.message is not None and not options.message.strip():
        raise UsageError("--message is empty. Give the commit a title, or omit --message.")
    with opened_store(options.folder) as store, _standard_input(options) as standard_input:
        store.repositories.get(target.name)
        left_out = LeftOut()
        sources = _sources(options, target, _is_folder(store, target), standard_input, left_out)
        if not target.repo.is_bucket:
            sources = _not_ignored(store, target, sources, left_out)
        if left_out.names:
            print_text(f"Left out: {left_out}.")
        if not sources:
            print_text("Nothing to store: all files were left out.")
            return
        upload = _BucketUpload(store, target) if target.repo.is_bucket else _CommitUpload(store, target, sources)
        # Each byte is read twice: to compute the sha256 of its file, and to store it if it is new.
        with progress("Storing", 2 * sum(source.file.stat().st_size for source in sources)) as advance:
            for source in sources:
                with _reading(source.file) as stream:
                    upload.add(source, stream, advance)
        print_text(upload.finish(options.message))


class _Upload:
    """Stores files in one repository, and counts those that it has already."""

    def __init__(self, store: LocalStore, target: RepoPath) -> None:
        self._store = store
        self._target = target
        self._sizes: list[int] = []
        self._unchanged = 0

    def add(self, source: _Source, stream: BinaryIO, advance: Callable[[int], None]) -> None:
        raise NotImplementedError

    def finish(self, message: str | None) -> str:
        raise NotImplementedError

    def _store_xet(self, sha256: str, stream: BinaryIO, advance: Callable[[int], None]) -> StoredFile:
        """Store a file in CAS, unless this repository has one with the same content, however it was uploaded."""
        known = self._store.content.file_by_sha256(sha256, repository=self._target.name)
        if known is not None:
            advance(known.size)
            return known
        stream.seek(0)
        return self._store.content.add_plain(_Counted(stream, advance), repository=self._target.name)  # type: ignore[arg-type]

    def _summary(self, done: str) -> str:
        rest = f"; {self._unchanged:,} unchanged" if self._unchanged else ""
        return f"{done} {count_text(len(self._sizes), 'file')} ({size_text(sum(self._sizes))}){rest}."


class _CommitUpload(_Upload):
    """Collects the changes of one commit."""

    def __init__(self, store: LocalStore, target: RepoPath, sources: list[_Source]) -> None:
        from xethub_local.metadata.upload_modes import GITATTRIBUTES, lfs_rules

        super().__init__(store, target)
        self._head = store.repositories.resolve(target.name, target.repo.revision)
        self._changes: list[Change] = []
        self._is_lfs = lfs_rules(_rules(store, target, sources, GITATTRIBUTES))

    def add(self, source: _Source, stream: BinaryIO, advance: Callable[[int], None]) -> None:
        from xethub_local.metadata.commits import PutRegular, PutXet
        from xethub_local.metadata.trees import blob_oid
        from xethub_local.metadata.upload_modes import SAMPLE_BYTES, upload_mode

        held = self._store.repositories.find(self._head, source.path)
        size = os.fstat(stream.fileno()).st_size
        if upload_mode(size, stream.read(SAMPLE_BYTES), self._is_lfs(source.path)) == "regular":
            stream.seek(0)
            content = stream.read()
            advance(2 * len(content))
            if held is not None and held.oid == blob_oid(content):
                self._unchanged += 1
                return
            self._changes.append(PutRegular(source.path, content))
            self._sizes.append(len(content))
            return
        stream.seek(0)
        sha256 = sha256_of(stream, advance)
        if held is not None and held.sha256 == sha256:
            advance(held.size)
            self._unchanged += 1
            return
        stored = self._store_xet(sha256, stream, advance)
        self._changes.append(PutXet(source.path, stored.xet_hash, stored.sha256 or sha256, stored.size))
        self._sizes.append(stored.size)

    def finish(self, message: str | None) -> str:
        if not self._changes:
            return f"Nothing to commit: {self._unchanged_files()}."
        only = self._changes[0].path if len(self._changes) == 1 else count_text(len(self._changes), "file")
        made = self._store.commits.commit(
            self._target.name,
            self._target.repo.revision,
            self._changes,
            title=message or f"Upload {only} with xethub-local",
        )
        return f"{self._summary('Committed')} Commit {made.commit.id}"

    def _unchanged_files(self) -> str:
        count = self._unchanged
        return "the file already matches" if count == 1 else f"all {count:,} files already match"


class _BucketUpload(_Upload):
    """Collects the files of one batch of a bucket."""

    def __init__(self, store: LocalStore, target: RepoPath) -> None:
        super().__init__(store, target)
        self._files: list[BucketFile] = []

    def add(self, source: _Source, stream: BinaryIO, advance: Callable[[int], None]) -> None:
        from xethub_local.metadata.buckets import BucketFile

        stored = self._store_xet(sha256_of(stream, advance), stream, advance)
        held = self._store.bucket_files.get(self._target.name, source.path)
        if held is not None and held.xet_hash == stored.xet_hash:
            self._unchanged += 1
            return
        mtime = int(os.fstat(stream.fileno()).st_mtime * 1000)
        now = self._store.access.now()
        self._files.append(BucketFile(source.path, stored.size, stored.xet_hash, mtime, now))
        self._sizes.append(stored.size)

    def finish(self, message: str | None) -> str:
        if message:
            raise UsageError(f"{self._target} is a bucket, which has no commits; omit --message.")
        with self._store.bucket_files.batch(self._target.name) as batch:
            for file in self._files:
                batch.put(file)
        return self._summary("Stored")


class _Counted:
    """A stream that reports how many bytes are read from it."""

    def __init__(self, stream: BinaryIO, advance: Callable[[int], None]) -> None:
        self._stream = stream
        self._advance = advance

    def read(self, size: int = -1) -> bytes:
        piece = self._stream.read(size)
        self._advance(len(piece))
        return piece


def _sources(
    options: argparse.Namespace, target: RepoPath, is_folder: bool, standard_input: Path | None, left_out: LeftOut
) -> list[_Source]:
    """Return the files to store and their paths in the repository.

    This works as ``cp`` does, except that a folder is replaced by its content.
    """
    given: list[str] = options.sources
    exclude: list[str] = options.exclude or []
    if not all(exclude):
        raise UsageError("--exclude is empty. Give it a pattern, or omit --exclude.")
    found: dict[str, _Source] = {}
    is_folder = is_folder or target.is_folder or not target.path or len(given) > 1
    for text in given:
        if not text:
            raise UsageError("a source is empty. To store the working directory, use '.'.")
        local = standard_input if text == STANDARD and standard_input else Path(text)
        if local.is_dir():
            files = SourceFolder(local, exclude, left_out, follow_links=options.follow_links).files()
            new = [_Source(file, _joined(target.path, relative)) for file, relative in files]
        elif not local.exists():
            raise CommandError(f"the source {text} does not exist.")
        elif not is_folder:
            new = [_Source(local, target.path)]
        elif text == STANDARD:
            raise UsageError(f"standard input has no file name. Add a path to the target, such as {target}:data.csv")
        else:
            new = [_Source(local, _joined(target.path, local.resolve().name))]
        for source in new:
            try:
                check_path(source.path)
            except InvalidNameError as error:
                raise CommandError(f"cannot store {source.file}: {error}") from error
            if source.path in found:
                raise UsageError(f"{found[source.path].file} and {source.file} would both become {source.path}.")
            found[source.path] = source
    for path in found:
        if folder := next((str(each) for each in PurePosixPath(path).parents if str(each) in found), None):
            raise CommandError(f"{folder} would be both a file and the folder of {path}. Exclude one of them.")
    if not found:
        also = f" (left out: {left_out})" if left_out.names else ""
        raise CommandError(f"no files found in {', '.join(given)}{also}.")
    return [*found.values()]


def _not_ignored(store: LocalStore, target: RepoPath, sources: list[_Source], left_out: LeftOut) -> list[_Source]:
    """Leave out what ``.gitignore`` excludes: the one among the sources, otherwise the one in the repository."""
    from xethub_local.metadata.upload_modes import GITIGNORE, ignored_paths

    is_ignored = ignored_paths(_rules(store, target, sources, GITIGNORE))
    kept = []
    for source in sources:
        if is_ignored(source.path):
            left_out.add(f"excluded by {GITIGNORE}", source.path)
        else:
            kept.append(source)
    return kept


def _rules(store: LocalStore, target: RepoPath, sources: list[_Source], name: str) -> str:
    """Return the content that ``.gitattributes`` or ``.gitignore`` will have after the commit."""
    new = next((source.file for source in sources if source.path == name), None)
    if new is not None:
        with _reading(new) as stream:
            return stream.read().decode(errors="replace")
    old = store.repositories.find(store.repositories.resolve(target.name, target.repo.revision), name)
    return store.repositories.blob(old.oid).decode(errors="replace") if old and not old.xet_hash else ""


def _is_folder(store: LocalStore, target: RepoPath) -> bool:
    """Whether the path is that of an existing folder."""
    if target.repo.is_bucket:
        return any(file.path != target.path for file in store.bucket_files.beneath(target.name, target.path))
    head = store.repositories.resolve(target.name, target.repo.revision)
    entry = store.repositories.find(head, target.path) if target.path else None
    return entry is not None and entry.kind == "directory"


@contextmanager
def _standard_input(options: argparse.Namespace) -> Iterator[Path | None]:
    """Copy standard input to a file, if it is one of the sources, because its size decides how it is stored."""
    if STANDARD not in options.sources:
        yield None
        return
    if options.sources.count(STANDARD) > 1:
        raise UsageError("standard input can be stored only once.")
    with tempfile.NamedTemporaryFile(dir=options.folder, prefix=".stdin.") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy, PIECE_BYTES)
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


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
