"""The content of files that other tasks uploaded to CAS and that the Hub wants inline in the commit.

Those tasks could not ask the Hub, so these files are in CAS like all others. The committing task takes their content
from the record if the sample is the whole file, else from CAS, else from the object storage they were uploaded from.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from airflow_provider_xethub.exceptions import XetCancelledError, XetDestinationError, XetHubError, XetInputError
from airflow_provider_xethub.xet.cas.session import WithCasAccess
from airflow_provider_xethub.xet.files.object_storage import AT_A_TIME, Location, Storage, location
from airflow_provider_xethub.xet.files.storage_entries import Entry
from airflow_provider_xethub.xet.files.targets import Target
from airflow_provider_xethub.xet.message_text import counted, os_reason, shortened
from airflow_provider_xethub.xet.process import threads
from airflow_provider_xethub.xet.process.temporary_folders import temporary_folder
from airflow_provider_xethub.xet.records import XetFile
from airflow_provider_xethub.xet.transfer.download import download

log = logging.getLogger(__name__)

MAX_BYTES = 64 << 20
"""Largest file that is committed inline: it is held in memory more than once. The Hub's own limit is 10 MiB."""

_MAX_NAMED = 5


def read_back(
    files: Sequence[XetFile], with_cas_access: WithCasAccess, open_storage: Callable[[Location], Storage]
) -> dict[str, bytes]:
    """Return the content of uploaded files, by path, verified.

    :param files: records as :func:`airflow_provider_xethub.xet.transfer.upload.upload` returns them.
    :param with_cas_access: runs the download with a token.
    :param open_storage: opens the object storage that a record names as its source.
    :raises XetHubError: neither CAS nor the source of a file returned it; the message says why, and what to do.
    """
    for file in files:
        if file["size"] > MAX_BYTES:
            raise XetInputError(
                f"The Hub wants {file['path']} of {file['repo']} inline, in the commit, but it has {file['size']} "
                "bytes. Add it to the .gitattributes of the repository with 'filter=lfs'. It was not committed."
            )
    contents = {file["path"]: content for file in files if (content := _of_record(file)) is not None}
    rest = [file for file in files if file["path"] not in contents]
    stored = [file for file in rest if file.get("storage_uri") and file["sha256"]]
    try:
        return contents | _of_cas(rest, with_cas_access)
    except XetHubError as error:
        if not stored or isinstance(error, XetCancelledError):
            raise _explained(error, rest) from None
        log.warning("%s Reading %s from the original source.", error, counted(len(stored), "file"))
        refused = error
    with _explaining(stored, refused):
        contents |= _of_sources(stored, open_storage)
    # CAS rejected all files because of one.
    left = [file for file in rest if file["path"] not in contents]
    with _explaining(left):
        return contents | _of_cas(left, with_cas_access)


def _of_record(file: XetFile) -> bytes | None:
    """Return the content if the sample in the record is the whole file."""
    if "sample" not in file:
        return None
    try:
        sample = base64.b64decode(file["sample"])
    except ValueError:
        return None
    return sample if _is_it(file, sample) else None


def _is_it(file: XetFile, content: bytes) -> bool:
    return len(content) == file["size"] and hashlib.sha256(content).hexdigest() == file["sha256"]


def _of_cas(files: Sequence[XetFile], with_cas_access: WithCasAccess) -> dict[str, bytes]:
    if not files:
        return {}
    try:
        with temporary_folder() as folder:
            targets = [
                Target(file, folder / str(number), folder / f"{number}.part") for number, file in enumerate(files)
            ]
            download(targets, with_cas_access, None)
            return {target.file["path"]: target.path.read_bytes() for target in targets}
    except XetHubError:
        raise
    except OSError as error:
        raise XetDestinationError(
            f"The folder for temporary files of this worker cannot be used: {os_reason(error)}. Let the task retry, or "
            "point TMPDIR to another folder."
        ) from error


def _of_sources(files: Sequence[XetFile], open_storage: Callable[[Location], Storage]) -> dict[str, bytes]:
    places = [(file, where) for file in files if (where := location(file["storage_uri"]))]
    # One at a time: two threads would open the same storage twice.
    opened = [(file, where, open_storage(where)) for file, where in places]
    contents = threads.stoppable(lambda stopped: threads.each(_of_source, opened, AT_A_TIME, stopped))
    return {file["path"]: content for (file, _), content in zip(places, contents, strict=True)}


def _of_source(source: tuple[XetFile, Location, Storage]) -> bytes:
    file, where, storage = source
    entry = storage.stat(storage.plain(where.path))
    if not isinstance(entry, Entry):
        raise XetInputError(f"{where} no longer exists")
    if entry.size == file["size"] and _is_it(file, content := b"".join(storage.blocks(entry))):
        return content
    raise XetInputError(f"{where} has changed since")


@contextmanager
def _explaining(files: Sequence[XetFile], refused: XetHubError | None = None) -> Iterator[None]:
    try:
        yield
    except XetHubError as error:
        raise (_explained(refused, files, error) if refused else _explained(error, files)) from None


def _explained(error: XetHubError, files: Sequence[XetFile], other: XetHubError | None = None) -> XetHubError:
    """Return an error that says what the content is needed for.

    :param error: from CAS.
    :param other: from the source; it decides the class if only that error is worth a retry.
    """
    if isinstance(other or error, XetCancelledError):
        return other or error
    named = shortened([file["path"] for file in files], _MAX_NAMED)
    source = f" nor from its source ({_sentence(other)})" if other else ""
    base = other if other and other.retryable and not error.retryable else error
    explained = type(base).__new__(type(base))
    explained.__dict__.update(base.__dict__)
    explained.args = (
        f"The Hub stores {named} of {files[0]['repo']} inline, so the commit needs the content, which "
        f"cannot be read back from CAS ({_sentence(error)}){source}. None of them was committed. Upload these files "
        "again, or let the task that uploads them commit them: then nothing is read back.",
    )
    return explained


def _sentence(error: XetHubError) -> str:
    return str(error).rstrip(".")
