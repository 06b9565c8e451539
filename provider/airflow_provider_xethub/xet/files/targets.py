"""Targets of downloads on the worker: never outside the destination, verified before they get their final name."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from airflow_provider_xethub.exceptions import XetDestinationError, XetHubError, XetInputError, XetIntegrityError
from airflow_provider_xethub.xet import answers
from airflow_provider_xethub.xet.files import path_kinds, spellings
from airflow_provider_xethub.xet.files.digest_memory import FileState
from airflow_provider_xethub.xet.message_text import named, os_reason, shortened
from airflow_provider_xethub.xet.process import temporary_names
from airflow_provider_xethub.xet.records import XetFile
from airflow_provider_xethub.xet.repo import Repo, check_path

_BLOCK = 1 << 20
_MAX_NAMED = 3


@dataclass(frozen=True)
class Target:
    """A file to download: its record, its final path, and the temporary path beside it."""

    file: XetFile
    path: Path
    part: Path


def check_record(value: object) -> XetFile:
    """Check a file record, which comes through XCom, where anyone may have edited it.

    :raises XetInputError: it is not a valid record; the message names the file and the mistake.
    """
    try:
        return answers.xet_file(value)
    except answers.WrongAnswerError as error:
        file = value.get("path") if isinstance(value, Mapping) else None
        shown = f" ({answers.title(file)!r:.200})" if isinstance(file, str) else ""
        raise XetInputError(
            f"files has a record with {error}{shown}. Pass records as XetUploadOperator or XetListOperator return them."
        ) from None


def repo_of(files: Sequence[XetFile]) -> Repo:
    """Return the repository and revision of the records.

    :raises XetInputError: there are no records, or they are of several repositories or revisions.
    """
    return repo_of_uris({file["repo"] for file in files})


def source_of(files: Sequence[XetFile]) -> Repo:
    """Return the repository that records are read from, at the revision of the first.

    Records of several revisions can be read together: CAS is asked for content, and the Hub for each inline file at the
    revision of its own record.

    :raises XetInputError: there are no records, or they are of several repositories.
    """
    return source_of_uris(list(dict.fromkeys(file["repo"] for file in files)))


def source_of_uris(uris: Sequence[str]) -> Repo:
    """Return the repository that records are read from, which name these repositories and revisions.

    :raises XetInputError: there are none, or they are of several repositories.
    """
    if not uris or _are_of_several_repositories(uris):
        return repo_of_uris(uris)  # raises
    return Repo.from_uri(uris[0])


def repo_of_uris(uris: Collection[str]) -> Repo:
    """Return the repository and revision that records name; see :func:`repo_of`."""
    if not uris:
        raise XetInputError("there are no files: an empty list does not name a repository.")
    if len(uris) != 1:
        several = "repositories" if _are_of_several_repositories(uris) else "revisions"
        remedy = "Use one task for each." if several == "repositories" else "Name the revision."
        raise XetInputError(f"the files are of several {several} ({shortened(sorted(uris), _MAX_NAMED)}). {remedy}")
    return Repo.from_uri(next(iter(uris)))


def _are_of_several_repositories(uris: Collection[str]) -> bool:
    return len({(repo.repo_type, repo.repo_id) for repo in map(Repo.from_uri, uris)}) > 1


def local_targets(
    files: Sequence[XetFile],
    destination: str | os.PathLike[str],
    *,
    single: bool,
    attempt: temporary_names.Attempt = temporary_names.UNKNOWN,
    names_checked: bool = False,
) -> list[Target]:
    """Decide on the path of each file, and refuse paths outside of ``destination``.

    :param destination: a folder; for a ``single`` file it may name the file itself, unless it is an existing folder or
        ends with a slash.
    :param attempt: the attempt of the task that downloads, for the names of temporary files.
    :param names_checked: whether :func:`check_names` was called for these files and others.
    :raises XetInputError: a path would leave the folder, directly or through a symbolic link in it, or two files would
        become one. Nothing was written.
    """
    text = os.fspath(destination)
    root = root_of(text)
    try:
        as_file = single and len(files) == 1 and not text.endswith("/") and not path_kinds.is_folder(root)
    except OSError as error:
        reason = os_reason(error)
        if error.errno == errno.ENAMETOOLONG:
            raise XetInputError(f"destination {text!r:.80} cannot exist on this worker: {reason}.") from error
        raise XetDestinationError(
            f"{root} cannot be read on this worker: {reason}. Correct that, or choose another destination. Nothing was "
            "downloaded."
        ) from error
    longest = longest_name(root)
    targets: dict[Path, Target] = {}
    resolved = root.resolve()
    folders: set[Path] = set()
    for file in files:
        check_path(file["path"])
        path = root if as_file else root / file["path"]
        check_length(file, path, longest)
        if not as_file and path.parent not in folders and not path.parent.resolve().is_relative_to(resolved):
            raise XetInputError(f"{file['path']} of {file['repo']} would be written outside of {root}.")
        folders.add(path.parent)
        if path in targets:
            raise XetInputError(f"two of the files would be written to {path}. Download them to different folders.")
        targets[path] = Target(file, path, temporary_names.new(path, attempt))
    if files and not names_checked:
        folder = root.parent if as_file else root
        paths = [root.name] if as_file else [file["path"] for file in files]
        spellings.check(spellings.Local(), str(folder), paths, files[0]["repo"])
    return list(targets.values())


def check_names(files: Iterable[XetFile], destination: str | os.PathLike[str], repo: str) -> None:
    """Refuse any number of files with an invalid path, or of which two would become one, in bounded memory.

    :param destination: a folder.
    :param repo: the repository, for messages.
    :raises XetInputError: there are such files. Nothing was written.
    """
    root = root_of(os.fspath(destination))
    spellings.check(spellings.Local(), str(root), checked_paths(files), repo, on_disk=True)


def checked_paths(files: Iterable[XetFile]) -> Iterator[str]:
    """Yield the paths of files.

    :raises XetInputError: one of them is not a path in a repository.
    """
    for file in files:
        check_path(file["path"])
        yield file["path"]


def root_of(text: str) -> Path:
    """Return the path that a destination names.

    :raises XetInputError: it is empty, or no path.
    """
    if not text:
        raise XetInputError("destination is empty.")
    try:
        is_name = b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        is_name = False
    if not is_name:
        raise XetInputError(f"destination {text!r:.80} contains a character that file names cannot have.")
    root = Path(os.path.expanduser(text))  # noqa: PTH111 - pathlib raises over an unknown user
    if root.parts and root.parts[0].startswith("~"):
        raise XetInputError(f"destination {text!r} is in the home folder of an unknown user.")
    return root


def check_length(file: XetFile, path: Path, longest: int) -> None:
    """Refuse a path with a name that is too long.

    :param longest: from :func:`longest_name`.
    :raises XetInputError: a name in it is longer.
    """
    if too_long := next((part for part in path.parts if len(os.fsencode(part)) > longest), None):
        raise XetInputError(
            f"{file['path']!r:.60} of {file['repo']} cannot be written: {too_long!r:.60} is longer than the "
            f"{longest} bytes that the file system of this worker allows for a name."
        )


def longest_name(root: Path) -> int:
    """Return how many bytes a name can have in this folder, even if the folder does not exist yet."""
    for folder in (root, *root.absolute().parents):
        with suppress(OSError, ValueError):
            return os.pathconf(folder, "PC_NAME_MAX")
    return 255


@contextmanager
def temporary_files(
    targets: Sequence[Target], equal: Sequence[Target] = (), attempt: temporary_names.Attempt = temporary_names.UNKNOWN
) -> Iterator[None]:
    """Create the folders, remove abandoned temporary files, and at the end remove those of this download.

    :param equal: files that exist already; an earlier attempt may have left temporary files beside them too.
    :param attempt: the attempt of the task that downloads.
    :raises XetDestinationError: a folder cannot be created or written; the message names it.
    """
    for folder in {target.path.parent for target in targets}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # It has no name where the system supports that: the task may be stopped at this moment.
            with TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise XetDestinationError(
                f"{folder} cannot be written on this worker: {os_reason(error)}. Correct that, or choose another "
                "destination. Nothing was written there."
            ) from error
    try:
        temporary_names.remove_abandoned([target.path for target in (*targets, *equal)], attempt)
    except OSError as error:
        raise XetDestinationError(
            f"Temporary files of an earlier attempt cannot be removed on this worker: {os_reason(error)} "
            f"({error.filename}). Let the task retry, or remove them. Nothing was downloaded."
        ) from error
    for target in targets:
        with _writing(target):
            is_folder = path_kinds.is_folder(target.path)
        if is_folder:
            raise XetDestinationError(f"{target.path} is a folder; {target.file['path']} cannot replace it.")
    try:
        yield
    except BaseException:
        with suppress(XetDestinationError):  # the first error says more
            remove([target.part for target in targets])
        raise
    remove([target.part for target in targets])


def remove(parts: Iterable[Path]) -> None:
    """Remove temporary files, as many as can be.

    :raises XetDestinationError: one is left; the next attempt removes it.
    """
    failed: OSError | None = None
    for part in parts:
        try:
            part.unlink(missing_ok=True)
        except OSError as error:
            failed = failed or error
    if failed is not None:
        raise XetDestinationError(
            f"A temporary file cannot be removed on this worker: {os_reason(failed)}. Let the task retry, or remove "
            f"{failed.filename}."
        ) from failed


def write(target: Target, content: bytes) -> None:
    """Write the temporary file, but never through a symbolic link.

    :raises XetDestinationError: the file cannot be written; a partial file is removed.
    """
    with _writing(target):
        target.part.unlink(missing_ok=True)
        # With O_EXCL, it is an error if a link is there.
        descriptor = os.open(target.part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)


@contextmanager
def _writing(target: Target) -> Iterator[None]:
    """Turn errors of the operating system into exceptions of this provider, with path and repository."""
    try:
        yield
    except XetHubError:
        raise
    except OSError as error:
        kind = XetInputError if error.errno == errno.ENAMETOOLONG else XetDestinationError
        reason = os_reason(error)
        about = f"{target.file['path']} of {target.file['repo']}"
        text = (
            f"{target.path} cannot be written on this worker: {reason}. Correct that, or choose another destination. "
            f"It was for {about}, which was discarded."
        )
        raise kind(text) from error


def state_of(target: Target) -> FileState | None:
    """Return the state of the regular file under the final path; ``None`` where there is none.

    :raises XetHubError: the path cannot exist, for example because a name is too long.
    """
    with _writing(target):
        try:
            status = target.path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return FileState.of(status) if stat.S_ISREG(status.st_mode) else None


def complete(target: Target, pieces: Iterable[bytes]) -> None:
    """Verify the temporary file, and rename it to its final name.

    :param pieces: its content, read while it was written, which saves reading it again.
    :raises XetIntegrityError: size or digest differ; the final path is unchanged.
    """
    wanted = digest_of(target.file)
    size = 0
    state = new_digest(wanted[0], target.file["size"]) if wanted else None
    with _writing(target):
        for piece in pieces:
            size += len(piece)
            if state:
                state.update(piece)
        is_right = wanted and state and state.hexdigest() == wanted[1] and size == target.part.stat().st_size
    if is_right:
        _rename(target)
    else:
        # The file on disk decides, not the pieces that were read.
        complete_from_disk(target)


def complete_from_disk(target: Target) -> None:
    """Read the temporary file, verify it, and rename it to its final name.

    :raises XetIntegrityError: size or digest differ; the final path is unchanged.
    """
    with _writing(target):
        size = target.part.stat().st_size
        if size != target.file["size"]:
            raise damaged(target.file, f"it has {size} bytes instead of {target.file['size']}")
        wanted = digest_of(target.file)
        if wanted is not None:
            actual = digest(target.part, wanted[0], size)
            if actual != wanted[1]:
                raise damaged(target.file, f"{wanted[0]} is {actual} instead of {wanted[1]}")
    _rename(target)


def damaged(file: XetFile, difference: str) -> XetIntegrityError:
    """Return the error for content that is not the file.

    :param difference: such as ``sha256 is 3f… instead of 9b…``.
    """
    return XetIntegrityError(
        f"{file['path']} of {named(file['repo'])} arrived damaged. Let the task retry; what arrived was discarded: "
        f"{difference}."
    )


def _rename(target: Target) -> None:
    with _writing(target):
        target.part.replace(target.path)


def digest_of(file: XetFile) -> tuple[str, str] | None:
    """Return the kind and value of the digest that verifies a file; ``None`` where the Hub reports none."""
    if file["sha256"]:
        return "sha256", file["sha256"]
    return ("git blob sha1", file["blob_id"]) if file.get("blob_id") else None


def new_digest(kind: str, size: int) -> Any:
    """Start a digest of the kind that :func:`digest_of` returns, for a file of ``size`` bytes."""
    return hashlib.sha256() if kind == "sha256" else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def digest(path: Path, kind: str, size: int) -> str:
    """Compute the digest of a file, in blocks."""
    state = new_digest(kind, size)
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            state.update(block)
    return str(state.hexdigest())
