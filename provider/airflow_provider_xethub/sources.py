"""What an upload reads: local files, folders, glob patterns and lists, each with its path in the repository.

Everything is looked at before anything is sent, so that one error names all that is missing.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from airflow_provider_xethub.exceptions import XetInputError, XetSourceError
from airflow_provider_xethub.repo import check_path

SAMPLE_BYTES = 512
"""Leading bytes that the Hub wants to see before it decides how a file is stored."""

_MAX_NAMED = 20


@dataclass(frozen=True)
class LocalFile:
    """A file to upload, as it was when it was looked at.

    :param path: where it lies.
    :param path_in_repo: its path in the repository.
    :param size: bytes.
    :param mtime_ns: time of its last change, in nanoseconds.
    :param sample: its first :data:`SAMPLE_BYTES` bytes.
    """

    path: Path
    path_in_repo: str
    size: int
    mtime_ns: int
    sample: bytes


def collect(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    path_in_repo: str | None = None,
    patterns: str | Sequence[str] | None = None,
) -> list[LocalFile]:
    """Find all files of ``source``, in the order of their paths in the repository.

    :param source: a file, a folder, a glob pattern (``**`` matches folders), or a list of these. Below a folder, paths
        in the repository are relative to it; for a glob, to its part before the first wildcard. ``.git`` is left out,
        and links to folders are not followed.
    :param path_in_repo: for a single file its path in the repository, or, with a trailing slash, its folder. For
        everything else the folder to put it into; the root where ``None``.
    :param patterns: of the files found, only those whose path below ``source`` matches one of these (``*`` matches
        ``/`` as well).
    :raises XetSourceError: something is missing or unreadable, or nothing was found; names all of it.
    :raises XetInputError: a source is empty, a path is not valid in a repository, or two files would get the same path.
    """
    sources = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    wanted = [patterns] if isinstance(patterns, str) else list(patterns or [])
    single = len(sources) == 1
    problems: list[str] = []
    found: dict[str, Path] = {}
    for each in sources:
        text = os.path.expanduser(os.fspath(each))  # noqa: PTH111 - pathlib raises over an unknown user
        if not text:
            raise XetInputError("source is empty. To upload the working folder, name it: '.'.")
        for path, relative in _expand(text, problems):
            if wanted and not any(fnmatchcase(relative, pattern) for pattern in wanted):
                continue
            target = _target(relative, path_in_repo, exact=single and Path(text).is_file())
            if target in found and found[target] != path:
                raise XetInputError(f"{found[target]} and {path} would both become {target} in the repository.")
            found[target] = path
    for target in found:
        check_path(target)
    files = [file for target, path in sorted(found.items()) if (file := _look(path, target, problems))]
    if not problems and not files:
        problems.append(f"{', '.join(map(str, sources)) or 'an empty list'}: no file found")
    if problems:
        more = f" … and {len(problems) - _MAX_NAMED} more" if len(problems) > _MAX_NAMED else ""
        raise XetSourceError(
            f"Nothing was uploaded, because {len(problems)} source(s) cannot be read on this worker: "
            + "; ".join(problems[:_MAX_NAMED])
            + more
        )
    return files


def _expand(source: str, problems: list[str]) -> Iterator[tuple[Path, str]]:
    """Yield the files of one source, each with its path below the source."""
    path = Path(source)
    if path.is_dir():
        yield from ((file, file.relative_to(path).as_posix()) for file in _walk(path, problems))
    elif os.path.lexists(path):
        yield path, path.name
    elif glob.has_magic(source):
        base = _glob_base(path)
        matches = [Path(match) for match in glob.iglob(str(path), recursive=True)]  # noqa: PTH207 - an absolute pattern
        files = [match for match in matches if not match.is_dir() and ".git" not in match.relative_to(base).parts]
        if not files:
            problems.append(f"{source}: matches no file")
        yield from ((match, match.relative_to(base).as_posix()) for match in files)
    else:
        problems.append(f"{source}: does not exist")


def _glob_base(pattern: Path) -> Path:
    """Return the part of a glob pattern before its first wildcard: the folder that paths are relative to."""
    parts: list[str] = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return Path(*parts)


def _walk(folder: Path, problems: list[str]) -> Iterator[Path]:
    def cannot_list(error: OSError) -> None:
        problems.append(f"{error.filename}: {(error.strerror or 'cannot be listed').lower()}")

    for root, folders, names in os.walk(folder, onerror=cannot_list):
        folders[:] = sorted(name for name in folders if name != ".git")
        yield from (Path(root, name) for name in sorted(names))


def _target(relative: str, path_in_repo: str | None, *, exact: bool) -> str:
    """Return the path in the repository of a file at ``relative`` below its source."""
    if not path_in_repo:
        return relative
    if exact and not path_in_repo.endswith("/"):
        return path_in_repo
    return f"{path_in_repo.rstrip('/')}/{relative}"


def _look(path: Path, path_in_repo: str, problems: list[str]) -> LocalFile | None:
    """Open the file as the upload will; say what is wrong with it otherwise."""
    try:
        # Not following into a pipe or device: opening one could block for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            problems.append(f"{path}: is not a regular file")
            return None
        with path.open("rb") as stream:
            sample = stream.read(SAMPLE_BYTES)
            status = os.fstat(stream.fileno())
    except OSError as error:
        problems.append(f"{path}: {(error.strerror or str(error)).lower()}")
        return None
    return LocalFile(path, path_in_repo, status.st_size, status.st_mtime_ns, sample)


def check_unchanged(files: Iterable[LocalFile], sent: Iterable[int]) -> None:
    """Make sure that what was sent is what was looked at.

    :param sent: the bytes that were read of each file, in the same order.
    :raises XetSourceError: names every file that changed meanwhile; what was read of it is a mixture.
    """
    changed: list[str] = []
    for file, size in zip(files, sent, strict=True):
        try:
            status = file.path.stat()
        except OSError:
            changed.append(str(file.path))
            continue
        if (status.st_size, status.st_mtime_ns, size) != (file.size, file.mtime_ns, file.size):
            changed.append(str(file.path))
    if changed:
        raise XetSourceError(
            f"{', '.join(changed[:_MAX_NAMED])} changed while being uploaded. Nothing was published. Upload when the "
            "writer is done."
        )


def read_unchanged(file: LocalFile) -> bytes:
    """Return the content of a small file, if it is still what was looked at.

    :raises XetSourceError: it changed, or cannot be read any more.
    """
    try:
        content = file.path.read_bytes()
    except OSError as error:
        raise XetSourceError(
            f"{file.path} cannot be read any more: {(error.strerror or str(error)).lower()}."
        ) from error
    check_unchanged([file], [len(content)])
    return content
