"""``xethub-local get``: files out of the data folder, also while a server uses it.

A file appears under its name once it is complete and is what was committed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.local.cli.arguments import CommandError, Place, UsageError, opened_store, place_argument
from airflow_provider_xethub.local.cli.output import print_text, progress
from airflow_provider_xethub.local.cli.put import STANDARD
from airflow_provider_xethub.local.cli.repositories import files_of
from airflow_provider_xethub.local.display import count_text, size_text

if TYPE_CHECKING:
    from airflow_provider_xethub.local.local_store import LocalStore

_PIECE_BYTES = 1024 * 1024


def get(options: argparse.Namespace) -> None:
    """Copy a file, a folder or everything out of a repository.

    :raises CommandError: there is no such path, or the destination cannot be written.
    :raises UsageError: the arguments do not fit together.
    """
    place = place_argument(options.source)
    if not place.path and options.source.rstrip("/").endswith(":"):
        raise UsageError(f"the path in {options.source!r} is empty. To copy the whole repository, leave the ':' out.")
    if options.destination == "":
        raise UsageError("the destination is empty. To copy into the working folder, name it: '.'.")
    with opened_store(options.folder) as store:
        files = files_of(store, place)
        is_file = len(files) == 1 and files[0].path == place.path
        if place.is_folder and is_file:
            raise CommandError(f"{place} is a file, not a folder.")
        if options.destination == STANDARD:
            _print_file(store, place, files, is_file=is_file)
            return
        if is_file:
            folder, targets = _file_target(options.destination, files[0].path)
        else:
            folder = Path(options.destination or (place.path or place.repo.repo_id).rpartition("/")[2])
            targets = [file.path.removeprefix(f"{place.path}/") if place.path else file.path for file in files]
        total = sum(file.size for file in files)
        copied = []
        with progress("Copying", total) as advance:
            for file, target in zip(files, targets, strict=True):
                if _copy(store, file, folder, target, advance):
                    copied.append(file.size)
    unchanged = len(files) - len(copied)
    was_there = f"; {unchanged:,} there already" if unchanged else ""
    print_text(f"Copied {count_text(len(copied), 'file')} ({size_text(sum(copied))}) to {folder}{was_there}.")


def _print_file(store: LocalStore, place: Place, files: list[Any], *, is_file: bool) -> None:
    if not is_file:
        raise UsageError(f"{place} is a folder; only one file can go to standard output.")
    if sys.stdout.isatty() and files[0].xet_hash:
        raise UsageError(f"{place} is not text; redirect standard output, or name a file.")
    for piece in _content(store, files[0]):
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def _file_target(destination: str | None, path: str) -> tuple[Path, list[str]]:
    """Say in which folder, and under which name in it, one file goes: as ``cp`` would."""
    name = path.rpartition("/")[2]
    if destination is None:
        return Path(), [name]
    if destination.endswith(os.sep) or Path(destination).is_dir():
        return Path(destination), [name]
    return Path(destination).parent, [Path(destination).name]


def _copy(store: LocalStore, file: Any, folder: Path, target: str, advance: Callable[[int], None]) -> bool:
    """Copy one file, unless the very same is there already; return whether it was copied."""
    final = folder / target
    try:
        # Links inside of the destination may lead out of it.
        if not final.parent.resolve().is_relative_to(folder.resolve()):
            raise CommandError(f"{final} lies outside of {folder}, because a link on its way leads there. Remove it.")
        if final.is_dir() and not final.is_symlink():
            raise CommandError(
                f"{final} is a folder, and {target} is a file. Remove it, or choose another destination."
            )
        if _is_same(final, file):
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
                raise CommandError(f"{file.path} is damaged in the data folder: its bytes are not what was committed.")
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


def _is_same(final: Path, file: Any) -> bool:
    from airflow_provider_xethub.local.metadata.trees import blob_oid

    if final.is_symlink() or not final.is_file() or final.stat().st_size != file.size:
        return False
    if not file.xet_hash:
        return bool(blob_oid(final.read_bytes()) == file.oid)
    expected = getattr(file, "sha256", None)
    return expected is not None and _sha256(final) == expected


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    for piece in _pieces(path):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE_BYTES):
            yield piece
