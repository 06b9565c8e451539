"""Where downloaded files go: never outside the destination, never under their name before they are verified."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from airflow_provider_xethub.exceptions import XetDestinationError, XetHubError, XetInputError, XetIntegrityError
from airflow_provider_xethub.xet import answers
from airflow_provider_xethub.xet import temporary_names as part_files
from airflow_provider_xethub.xet.files import spellings
from airflow_provider_xethub.xet.message_text import os_reason
from airflow_provider_xethub.xet.records import XetFile
from airflow_provider_xethub.xet.repo import Repo, check_path

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Target:
    """A file to download: its record, its final path, and the temporary one beside it."""

    file: XetFile
    path: Path
    part: Path


def check_files(files: object) -> list[XetFile]:
    """Return the records, flattened: mapped tasks give a list of lists.

    :raises XetInputError: something else is among them.
    """
    if isinstance(files, Mapping) and "files" in files:
        files = files["files"]  # the result of a commit
    if isinstance(files, Mapping):
        return [check_record(files)]
    if files is None or isinstance(files, (str, bytes)) or not isinstance(files, Iterable):
        raise XetInputError(
            f"files must be Xet file records, as XetUploadOperator or XetListOperator return them, not {files!r:.80}."
        )
    # In Airflow 3.0, a mapped task that was skipped has returned this instead of nothing.
    there = [each for each in files if type(each).__name__ != "ArgNotSet"]
    return [record for each in there for record in check_files(each)]


def check_record(value: object) -> XetFile:
    """Return a file record, if it is one; it comes through XCom, where anybody may have edited it.

    :raises XetInputError: it is none; says of which file and what is wrong.
    """
    try:
        return answers.xet_file(value)
    except answers.WrongAnswerError as error:
        file = value.get("path") if isinstance(value, Mapping) else None
        named = f" ({answers.title(file)!r:.200})" if isinstance(file, str) else ""
        raise XetInputError(
            f"files has a record with {error}{named}. Pass records as XetUploadOperator or XetListOperator return them."
        ) from None


def repo_of(files: Sequence[XetFile]) -> Repo:
    """Return the one repository and revision that all records are of.

    :raises XetInputError: they are of several, or there are none.
    """
    if not files:
        raise XetInputError("there are no files: an empty list tells no repository.")
    uris = {file["repo"] for file in files}
    if len(uris) != 1:
        raise XetInputError(f"the files are of several repositories ({', '.join(sorted(uris))}): one task for each.")
    return Repo.from_uri(uris.pop())


def plan(
    files: Sequence[XetFile],
    destination: str | os.PathLike[str],
    *,
    single: bool,
    attempt: part_files.Attempt = part_files.UNKNOWN,
) -> list[Target]:
    """Decide where each file goes, and refuse what would leave ``destination``.

    :param destination: a folder; for a ``single`` file it may name the file itself, unless it is an existing folder or
        ends with a slash.
    :param attempt: of the task that downloads; goes into the names of temporary files.
    :raises XetInputError: a path would leave the folder, directly or through a symbolic link in it, or two files would
        become one. Nothing was written.
    """
    text = os.fspath(destination)
    if not text:
        raise XetInputError("destination is empty.")
    try:
        is_name = b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        is_name = False
    if not is_name:
        raise XetInputError(f"destination {text!r:.80} contains a character that no file name can have.")
    root = Path(os.path.expanduser(text))  # noqa: PTH111 - pathlib raises over an unknown user
    if root.parts[:1] and root.parts[0].startswith("~"):
        raise XetInputError(f"destination {text!r} is in the home folder of an unknown user.")
    try:
        as_file = single and len(files) == 1 and not text.endswith("/") and not root.is_dir()
    except OSError as error:
        reason = os_reason(error)
        raise XetInputError(f"destination {text!r:.80} cannot exist on this worker: {reason}.") from error
    longest = _longest_name(root)
    targets: dict[Path, Target] = {}
    resolved = root.resolve()
    folders: set[Path] = set()
    for file in files:
        check_path(file["path"])
        path = root if as_file else root / file["path"]
        if too_long := next((part for part in path.parts if len(os.fsencode(part)) > longest), None):
            raise XetInputError(
                f"{file['path']!r:.60} of {file['repo']} cannot be written: {too_long!r:.60} is longer than the "
                f"{longest} bytes that the file system of this worker allows for a name."
            )
        if not as_file and path.parent not in folders and not path.parent.resolve().is_relative_to(resolved):
            raise XetInputError(f"{file['path']} of {file['repo']} would be written outside of {root}. Refused.")
        folders.add(path.parent)
        if path in targets:
            raise XetInputError(f"two of the files would be written to {path}.")
        targets[path] = Target(file, path, part_files.new(path, attempt))
    if files:
        folder = root.parent if as_file else root
        paths = [root.name] if as_file else [file["path"] for file in files]
        spellings.check(spellings.Local(), str(folder), paths, files[0]["repo"])
    return list(targets.values())


def _longest_name(root: Path) -> int:
    """Return how many bytes a name may have in this folder, or where it will be made."""
    for folder in (root, *root.absolute().parents):
        with suppress(OSError, ValueError):
            return os.pathconf(folder, "PC_NAME_MAX")
    return 255


@contextmanager
def parts(
    targets: Sequence[Target], equal: Sequence[Target] = (), attempt: part_files.Attempt = part_files.UNKNOWN
) -> Iterator[None]:
    """Make the folders, and remove the temporary files at the end, whatever happens; those of dead writers at once.

    :param equal: files that are there already. An earlier try may have left something beside them too.
    :param attempt: of the task that downloads.
    :raises XetDestinationError: a folder cannot be made or written; says which.
    """
    for folder in {target.path.parent for target in targets}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Without a name where the system can: a task may be stopped at this very moment.
            with TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise XetDestinationError(
                f"{folder} cannot be written on this worker: {os_reason(error)}. Nothing was downloaded."
            ) from error
    part_files.clear_left([target.path for target in (*targets, *equal)], attempt)
    for target in targets:
        with _writing(target):
            is_folder = target.path.is_dir()
        if is_folder:
            raise XetDestinationError(f"{target.path} is a folder; {target.file['path']} cannot take its place.")
    try:
        yield
    finally:
        for target in targets:
            target.part.unlink(missing_ok=True)


def write(target: Target, content: bytes) -> None:
    """Write the temporary file; never through a link that somebody put there.

    :raises XetDestinationError: the file cannot be written; what is written of it is removed.
    """
    with _writing(target):
        target.part.unlink(missing_ok=True)
        descriptor = os.open(target.part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)


@contextmanager
def _writing(target: Target) -> Iterator[None]:
    """Turn what the system says about a path into our errors, with path and repository."""
    try:
        yield
    except XetHubError:
        raise
    except OSError as error:
        kind = XetInputError if error.errno == errno.ENAMETOOLONG else XetDestinationError
        reason = os_reason(error)
        about = f"{target.file['path']} of {target.file['repo']}"
        text = f"{about} cannot be written to {target.path} on this worker: {reason}. Nothing of it was kept."
        raise kind(text) from error


def is_like(target: Target) -> bool:
    """Whether the final path holds a file of the same size.

    :raises XetHubError: nothing can be there: such as a name that is too long.
    """
    with _writing(target):
        return _is_like(target)


def _is_like(target: Target) -> bool:
    return not target.path.is_symlink() and target.path.is_file() and target.path.stat().st_size == target.file["size"]


def is_there(target: Target) -> bool:
    """Whether the final path already holds exactly this file; never without a digest to tell."""
    wanted = digest_of(target.file)
    if wanted is None or not is_like(target):
        return False
    return digest(target.path, wanted[0], target.file["size"]) == wanted[1]


def receive(target: Target, pieces: Iterable[bytes]) -> None:
    """Verify what is in the temporary file, and give it its final name.

    :param pieces: what is in the temporary file, read while it was written; saves reading it again.
    :raises XetIntegrityError: size or digest differ; the final path is as it was.
    """
    wanted = digest_of(target.file)
    size = 0
    state = new_digest(wanted[0], target.file["size"]) if wanted else None
    for piece in pieces:
        size += len(piece)
        if state:
            state.update(piece)
    if wanted and state and state.hexdigest() == wanted[1] and size == target.part.stat().st_size:
        _name(target)
    else:
        # The file on disk decides, not what was seen of it.
        keep(target)


def keep(target: Target) -> None:
    """Read the temporary file, verify it, and give it its final name.

    :raises XetIntegrityError: size or digest differ; the final path is as it was.
    """
    size = target.part.stat().st_size
    about = f"{target.file['path']} of {target.file['repo']} arrived"
    if size != target.file["size"]:
        raise XetIntegrityError(f"{about} with {size} bytes instead of {target.file['size']}. Nothing of it was kept.")
    wanted = digest_of(target.file)
    if wanted is not None:
        actual = digest(target.part, wanted[0], size)
        if actual != wanted[1]:
            raise XetIntegrityError(
                f"{about} damaged: {wanted[0]} is {actual} instead of {wanted[1]}. Nothing of it was kept."
            )
    _name(target)


def _name(target: Target) -> None:
    with _writing(target):
        target.part.replace(target.path)


def digest_of(file: XetFile) -> tuple[str, str] | None:
    """Return by which digest a file can be verified, and its value; ``None`` where the Hub tells neither."""
    if file["sha256"]:
        return "sha256", file["sha256"]
    return ("git blob sha1", file["blob_id"]) if file.get("blob_id") else None


def new_digest(kind: str, size: int) -> Any:
    """Return the state of a digest of a file of ``size`` bytes, as :func:`digest_of` names it."""
    return hashlib.sha256() if kind == "sha256" else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def digest(path: Path, kind: str, size: int) -> str:
    """Return the digest of a file, read once in blocks."""
    state = new_digest(kind, size)
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            state.update(block)
    return str(state.hexdigest())
