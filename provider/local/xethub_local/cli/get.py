"""``xethub-local get``: copy files out of the data folder, also while a server is using it.

A file is verified before it appears under its final name.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import secrets
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xethub_local.cli.arguments import (
    CommandError,
    RepoPath,
    UsageError,
    opened_store,
    repo_path_argument,
)
from xethub_local.cli.files import STANDARD, sha256_of
from xethub_local.cli.output import print_text, progress
from xethub_local.cli.repositories import files_of
from xethub_local.display import count_text, size_text

if TYPE_CHECKING:
    from xethub_local.local_store import LocalStore


def get(options: argparse.Namespace) -> None:
    """Copy a file, a folder or everything out of a repository.

    :raises CommandError: the path does not exist, or the destination cannot be written.
    :raises UsageError: the arguments cannot be combined.
    """
    source = repo_path_argument(options.source)
    if not source.path and options.source.rstrip("/").endswith(":"):
        raise UsageError(f"the path in {options.source!r} is empty. To copy the whole repository, omit the ':'.")
    if options.destination == "":
        raise UsageError("the destination is empty. To copy into the working directory, use '.'.")
    with opened_store(options.folder) as store:
        files = files_of(store, source)
        is_file = len(files) == 1 and files[0].path == source.path
        if source.is_folder and is_file:
            raise CommandError(f"{source} is a file, not a folder.")
        if options.destination == STANDARD:
            _print_file(store, source, files, is_file=is_file)
            return
        if is_file:
            folder, targets = _file_target(options.destination, files[0].path)
        else:
            folder = Path(options.destination or (source.path or source.repo.repo_id).rpartition("/")[2])
            targets = [file.path.removeprefix(f"{source.path}/") if source.path else file.path for file in files]
        total = sum(file.size for file in files)
        copied = []
        with progress("Copying", total) as advance:
            for file, target in zip(files, targets, strict=True):
                if _copy(store, file, folder, target, advance):
                    copied.append(file.size)
    unchanged = len(files) - len(copied)
    rest = f"; {unchanged:,} unchanged" if unchanged else ""
    print_text(f"Copied {count_text(len(copied), 'file')} ({size_text(sum(copied))}) to {folder}{rest}.")


def _print_file(store: LocalStore, source: RepoPath, files: list[Any], *, is_file: bool) -> None:
    if not is_file:
        raise UsageError(f"{source} is a folder; only a single file can be written to standard output.")
    if sys.stdout.isatty() and files[0].xet_hash:
        raise UsageError(f"{source} is not text; redirect standard output, or give a destination.")
    for piece in _content(store, files[0]):
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def _file_target(destination: str | None, path: str) -> tuple[Path, list[str]]:
    """Return the folder and the name in it to which a single file is copied, as ``cp`` would choose them."""
    name = path.rpartition("/")[2]
    if destination is None:
        return Path(), [name]
    if destination.endswith(os.sep) or Path(destination).is_dir():
        return Path(destination), [name]
    return Path(destination).parent, [Path(destination).name]


def _copy(store: LocalStore, file: Any, folder: Path, target: str, advance: Callable[[int], None]) -> bool:
    """Copy a file, unless an identical one exists; return whether it was copied."""
    final = folder / target
    try:
        # Symbolic links inside the destination may lead out of it.
        if not final.parent.resolve().is_relative_to(folder.resolve()):
            raise CommandError(f"{final} is outside {folder}, because a symbolic link leads there. Remove the link.")
        if final.is_dir() and not final.is_symlink():
            raise CommandError(
                f"{final} is a folder, but {target} is a file. Remove the folder, or choose another destination."
            )
        if _is_identical(final, file):
            advance(file.size)
            return False
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.with_name(f".{secrets.token_hex(8)}.part")
        try:
            with temporary.open("xb") as output:
                digest = hashlib.sha256()
                for piece in _content(store, file):
                    output.write(piece)
                    digest.update(piece)
                    advance(len(piece))
            expected = getattr(file, "sha256", None)
            if (expected and digest.hexdigest() != expected) or temporary.stat().st_size != file.size:
                raise CommandError(f"{file.path} is damaged in the data folder: its content is not what was committed.")
            temporary.replace(final)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()
    except OSError as error:
        raise CommandError(f"cannot write {final}: {error.strerror}.") from error
    return True


def _content(store: LocalStore, file: Any) -> Iterable[bytes]:
    if file.xet_hash:
        return store.content.read_file(file.xet_hash)
    return iter([store.repositories.blob(file.oid)])


def _is_identical(final: Path, file: Any) -> bool:
    from xethub_local.metadata.trees import blob_oid

    if final.is_symlink() or not final.is_file() or final.stat().st_size != file.size:
        return False
    if not file.xet_hash:
        return bool(blob_oid(final.read_bytes()) == file.oid)
    expected: str | None = getattr(file, "sha256", None)
    if expected is None:
        return False
    with final.open("rb") as stream:
        return sha256_of(stream) == expected
