"""The content of inline files, read with a connection and put into records, sealed, for workers that have none."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from airflow_provider_xethub.exceptions import XetInputError, XetIntegrityError, XetTokenSealError
from airflow_provider_xethub.xet.files import sealed_content
from airflow_provider_xethub.xet.files.sealed_content import MAX_FILE_BYTES, MAX_NAMED, is_inline
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.identifiers import COMMIT_ID
from airflow_provider_xethub.xet.message_text import counted, named, shortened, size
from airflow_provider_xethub.xet.process import threads
from airflow_provider_xethub.xet.records import XetFile
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.token import Fernet
from airflow_provider_xethub.xet.transfer import digests
from airflow_provider_xethub.xet.transfer.download import INLINE_AT_A_TIME

MAX_BYTES = 16 << 20
"""Bytes of inline files, before compression, that the records of one listing carry: the XCom is not much larger."""

MAX_FILES = 1000
"""Files whose content the records of one listing carry: each takes a request to the Hub."""

log = logging.getLogger(__name__)


def commit_of(hub: Hub, repo: Repo) -> str | None:
    """Return the commit that a revision names now; ``None`` where there are no commits yet."""
    if COMMIT_ID.fullmatch(repo.revision):
        return repo.revision
    commits = hub.latest_commits(repo)
    return commits[0]["oid"] if commits else None


def look_up(hub: Hub, files: Sequence[XetFile], repo: Repo, commit: str) -> list[XetFile]:
    """Return records with what the Hub says about those that may be inline, if they are the same files at a commit.

    :param files: records from elsewhere, such as an event; those of an upload do not say how the Hub stores the file.
    :raises XetSourceError: a file changed since its record was made.
    """
    paths = [file["path"] for file in files if file["size"] and not file["xet_hash"]]
    now = {file["path"]: file for file in (hub.get_files(repo.at(commit), paths) if paths else ())}

    def known(file: XetFile) -> XetFile:
        if not (file["size"] and not file["xet_hash"]):
            return file
        found = now.get(file["path"])
        # An upload knows the sha256, and a listing the blob id: then only reading the content can compare them.
        if found is None or digests.is_other(file, found):
            raise digests.changed(file)
        return {**file, "blob_id": found["blob_id"]} if is_inline(found) else file

    return [known(file) for file in files]


def add(
    hub: Hub, files: Sequence[XetFile], repo: Repo, commit: str, fernet: Fernet | None, *, required: bool
) -> list[XetFile]:
    """Return the records with the sealed content of those that are inline.

    :param files: records of one repository, as they are at this commit.
    :param repo: the repository and revision that was asked for.
    :param commit: what is read.
    :param fernet: the key to seal with, or ``None`` where this worker has none: then no record gets content.
    :param required: whether to fail if not all content fits; otherwise the smallest files get theirs.
    :raises XetInputError: it is required, and too much.
    :raises XetTokenSealError: it is required, and there is no key.
    :raises XetIntegrityError: the Hub twice returned something else than the file.
    """
    inline = [file for file in files if is_inline(file)]
    if not inline:
        return list(files)
    if fernet is None:
        error = XetTokenSealError(
            "No Fernet key to seal inline content with: set [core] fernet_key or [xethub] fernet_key on all workers. "
            f"Without it, the records of {counted(len(inline), 'inline file')} of {repo} have no content."
        )
        if required:
            raise error
        log.warning("%s Workers without the connection cannot download them.", error)
        return list(files)
    chosen = _fitting(inline)
    if len(chosen) < len(inline):
        left = sorted({file["path"] for file in inline} - {file["path"] for file in chosen})
        text = (
            f"{counted(len(inline), 'inline file')} are too much for records: list less with path or patterns, or give "
            f"the workers a connection. {repo} has {size(sum(file['size'] for file in inline))} of them; records carry "
            f"up to {MAX_FILES:,} files, {size(MAX_FILE_BYTES)} each, {size(MAX_BYTES)} in all. Without content: "
            f"{shortened(left, MAX_NAMED)}."
        )
        if required:
            raise XetInputError(text)
        log.warning("%s Workers without the connection cannot download them.", text)

    def sealed(file: XetFile) -> XetFile:
        return sealed_content.seal(file, _read(hub, repo.at(commit), file), commit, fernet)

    def work(stopped: threading.Event) -> list[XetFile]:
        return threads.each(sealed, chosen, INLINE_AT_A_TIME, stopped)

    started = time.monotonic()
    contents = {file["path"]: file for file in threads.stoppable(work)}
    log.info(
        "Sealed the content of %s (%s) of %s at commit %s for workers without the connection, in %.1f s.",
        counted(len(chosen), "inline file"),
        size(sum(file["size"] for file in chosen)),
        repo,
        commit[:12],
        time.monotonic() - started,
    )
    return [contents.get(file["path"], file) for file in files]


def _fitting(files: Sequence[XetFile]) -> list[XetFile]:
    """Return the smallest of the files, within the limits."""
    chosen: list[XetFile] = []
    left = MAX_BYTES
    for file in sorted(files, key=lambda each: (each["size"], each["path"]))[:MAX_FILES]:
        left -= file["size"]
        if left < 0 or file["size"] > MAX_FILE_BYTES:
            break
        chosen.append(file)
    return chosen


def _read(hub: Hub, repo: Repo, file: XetFile) -> bytes:
    for _ in range(2):
        content = hub.read_inline(repo, file["path"])
        if sealed_content.has_digests(file, content):
            return content
        if sealed_content.has_digests({**file, "sha256": None}, content):
            raise digests.changed(file)
        log.warning("%s of %s arrived damaged. Fetching it once more.", file["path"], repo)
    raise XetIntegrityError(
        f"{file['path']} of {named(f'{repo}')} arrived damaged twice. Let the task retry: the Hub returned something "
        "else than the file."
    )
