"""Uploads: files, objects and bytes in memory into CAS, and their records for a commit."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from airflow_provider_xethub.exceptions import XetTransferError
from airflow_provider_xethub.xet.cas import uploads
from airflow_provider_xethub.xet.cas.session import CasAccess, WithCasAccess
from airflow_provider_xethub.xet.files import object_sources
from airflow_provider_xethub.xet.files.digest_memory import DigestMemory
from airflow_provider_xethub.xet.files.found_files import LocalFile, SourceFile
from airflow_provider_xethub.xet.files.object_sources import SAMPLE_BYTES, StoredFile
from airflow_provider_xethub.xet.files.s3.window import Window
from airflow_provider_xethub.xet.files.sources import check_unchanged, read_unchanged
from airflow_provider_xethub.xet.process import threads
from airflow_provider_xethub.xet.process.temporary_folders import temporary_folder
from airflow_provider_xethub.xet.records import XetFile, XetUploadResult, xet_file_record
from airflow_provider_xethub.xet.transfer.remembered import remember


def upload(
    access: CasAccess,
    files: Sequence[SourceFile],
    deduplicate: bool | None = None,
    digests: Mapping[str, str] | None = None,
    memory: DigestMemory | None = None,
) -> XetUploadResult:
    """Upload files to CAS and return their records, without their first bytes.

    :param deduplicate: as for :func:`airflow_provider_xethub.xet.cas.session.settings`.
    :param digests: known sha256 digests by path in the repository; these are not computed again.
    :param memory: remembers the digests for the next upload.
    :raises XetSourceError: a file changed while it was read.
    """
    repo = access.token.repo.uri
    sources = [file.path if isinstance(file, LocalFile) else file for file in files]
    known_digests = [(digests or {}).get(file.path_in_repo) for file in files]
    sizes = [file.size for file in files]
    began = time.time_ns()
    storages = {file.listing.storage for file in files if isinstance(file, StoredFile)}
    held = access.storage_window() if storages else 0
    # Large objects are read one after the other, and objects of a few ranges two at a time.
    at_a_time = 2 if sum(size < uploads.STREAMS[0][0] for size in sizes) > 1 else 1
    for storage in storages:
        storage.window = Window(held // at_a_time, access.limits.concurrency)
    try:
        uploaded, transfer = uploads.upload(access, sources, sizes, deduplicate, known_digests, held)
    except XetTransferError as error:
        if type(error) is XetTransferError:
            # CAS rejects a file that no longer has the digest computed before.
            threads.stoppable(lambda stopped: check_unchanged(files, sizes, stopped))
        raise
    threads.stoppable(lambda stopped: check_unchanged(files, [each.size for each in uploaded], stopped))
    records = [
        xet_file_record(
            file.path_in_repo,
            file.size,
            repo,
            sha256=known.sha256,
            xet_hash=known.xet_hash,
            storage_uri=str(file) if isinstance(file, StoredFile) else None,
        )
        for file, known in zip(files, uploaded, strict=True)
    ]
    # What the next upload compares: a bucket has no sha256.
    kind = "Xet hash" if access.token.repo.is_bucket else "sha256"
    found = [
        (file, digest)
        for file, known in zip(files, uploaded, strict=True)
        if isinstance(file, LocalFile)
        and (digest := known.xet_hash if access.token.repo.is_bucket else known.sha256) is not None
    ]
    remember(memory, kind, found, began)
    return {"files": records, "transfer": transfer}


def fetch_samples(files: Sequence[SourceFile]) -> None:
    """Read the first bytes of each object in object storage.

    :raises XetSourceError: an object cannot be read.
    """
    stored = [file for file in files if isinstance(file, StoredFile)]
    if stored:
        threads.stoppable(lambda stopped: object_sources.fetch_samples(stored, stopped))


def with_samples(records: Sequence[XetFile], files: Sequence[SourceFile]) -> list[XetFile]:
    """Return the records of files with their first bytes; those of local files are read.

    :param records: in the order of the files.
    :raises XetSourceError: a file can no longer be read.
    """

    def read() -> list[XetFile]:
        return [
            {**record, "sample": base64.b64encode(file.sample).decode()}
            for record, file in zip(records, files, strict=True)
        ]

    return threads.interruptible(read)


def read_inline(files: Sequence[SourceFile]) -> dict[str, bytes]:
    """Return the content of small files, by path in the repository.

    :raises XetSourceError: a file changed, or can no longer be read.
    """
    contents = threads.stoppable(lambda stopped: read_unchanged(files, stopped))
    return {file.path_in_repo: content for file, content in zip(files, contents, strict=True)}


def source_records(files: Iterable[SourceFile], repo: str) -> list[XetFile]:
    """Return the records of source files before their upload, without their first bytes.

    :param repo: the ``hf://`` URI of the repository.
    """
    return [xet_file_record(file.path_in_repo, file.size, repo) for file in files]


def content_record(path: str, content: bytes, repo: str) -> XetFile:
    """Return the record of a file in memory, before it is uploaded."""
    sha256 = hashlib.sha256(content).hexdigest()
    return xet_file_record(path, len(content), repo, sha256=sha256, sample=content[:SAMPLE_BYTES])


def stream_record(path: str, uploaded: uploads.Uploaded, head: bytes, repo: str) -> XetFile:
    """Return the record of a file that was streamed to CAS and is not on disk.

    :param head: its first bytes.
    """
    return xet_file_record(
        path,
        uploaded.size,
        repo,
        sha256=uploaded.sha256,
        xet_hash=uploaded.xet_hash,
        sample=head[:SAMPLE_BYTES],
    )


def upload_contents(
    files: Sequence[XetFile], read: Callable[[XetFile], bytes], with_cas_access: WithCasAccess
) -> list[XetFile]:
    """Upload small files to CAS, and return their records with digest and Xet hash.

    :param read: returns the content of a file; called for one file at a time.
    :param with_cas_access: runs the transfer with a token.
    """
    uploaded: list[uploads.Uploaded] = []

    def work(access: CasAccess) -> int:
        sent, transfer = uploads.upload(access, paths, [file["size"] for file in files])
        uploaded[:] = sent
        return transfer["bytes_sent"]

    if not files:
        return []
    with temporary_folder() as folder:
        paths = [folder / str(number) for number in range(len(files))]
        for path, file in zip(paths, files, strict=True):
            path.write_bytes(read(file))
        with_cas_access(work)
    return [
        {**file, "sha256": each.sha256, "xet_hash": each.xet_hash} for file, each in zip(files, uploaded, strict=True)
    ]
