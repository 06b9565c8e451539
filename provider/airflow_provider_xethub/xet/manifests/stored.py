"""Manifests as files: uploaded to CAS, or kept in object storage under the name of their digest.

CAS has no documented lifetime for content that no commit refers to. Uploads with ``commit=False`` depend on it in the
same way; nobody outside Hugging Face knows when such content is removed.
"""

from __future__ import annotations

from collections.abc import Iterator

from airflow_provider_xethub.exceptions import XetHubError, XetInputError, XetIntegrityError, XetSourceError
from airflow_provider_xethub.xet.cas import streams, uploads
from airflow_provider_xethub.xet.cas.session import CasAccess, WithCasAccess
from airflow_provider_xethub.xet.files.object_storage import Storage
from airflow_provider_xethub.xet.files.storage_entries import Entry
from airflow_provider_xethub.xet.manifest import Totals
from airflow_provider_xethub.xet.manifests.spool import Spool
from airflow_provider_xethub.xet.process import threads
from airflow_provider_xethub.xet.records import XetManifest
from airflow_provider_xethub.xet.repo import Repo

SUFFIX = ".jsonl.gz"


def to_cas(spool: Spool, repo: Repo, with_cas_access: WithCasAccess) -> XetManifest:
    """Upload records to CAS.

    :param repo: the repository of the records.
    :param with_cas_access: runs the upload with a write token.
    """

    def work(access: CasAccess) -> uploads.Uploaded:
        [uploaded], _ = uploads.upload(access, [spool], [spool.size])
        return uploaded

    sent = with_cas_access(work)
    if (sent.sha256, sent.size) != (spool.sha256, spool.size):
        raise XetIntegrityError(f"The manifest of {repo} was uploaded with another content. Let the task retry.")
    return {
        "manifest": "cas",
        "repo": repo.uri,
        "file_count": spool.totals.file_count,
        "bytes": spool.totals.bytes,
        "xet_hash": sent.xet_hash,
        "sha256": spool.sha256,
        "size": spool.size,
    }


def from_cas(manifest: XetManifest, with_cas_access: WithCasAccess) -> Spool:
    """Read records from CAS, and verify them.

    :param manifest: checked.
    :param with_cas_access: runs the download with a token for the repository.
    :raises XetHubError: they cannot be read, or are not what the manifest says.
    """
    spool = Spool()

    def receive(_: int, pieces: Iterator[bytes]) -> None:
        spool.clear()
        _fill(spool, manifest, pieces)

    def work(access: CasAccess) -> int:
        wanted = [(manifest["xet_hash"], manifest["size"])]
        return streams.fetch(access, wanted, receive, [f"manifest of {manifest['file_count']} files"])

    with_cas_access(work)
    return _verified(spool, manifest)


def to_storage(spool: Spool, repo: Repo, storage: Storage, folder: str) -> XetManifest:
    """Keep records in object storage, unless they are there already.

    :param folder: the folder on that storage.
    """
    path = _path(storage, folder, spool.sha256)

    def work() -> None:
        there = storage.stat(path)
        if isinstance(there, Entry) and there.size == spool.size:
            return
        with storage.writing(path, spool.size, spool.sha256) as writer:
            for block in spool.blocks():
                writer.write(block)
            writer.finish()

    threads.interruptible(work)
    return {
        "manifest": "storage",
        "repo": repo.uri,
        "file_count": spool.totals.file_count,
        "bytes": spool.totals.bytes,
        "uri": storage.uri(path),
        "sha256": spool.sha256,
        "size": spool.size,
    }


def from_storage(manifest: XetManifest, storage: Storage, folder: str) -> Spool:
    """Read records from object storage, and verify them.

    :param manifest: checked. Its URI is compared, never used: it could name any object that the connection can read.
    :raises XetInputError: the manifest is elsewhere.
    :raises XetHubError: they cannot be read, or are not what the manifest says.
    """
    path = _path(storage, folder, manifest["sha256"])
    if manifest["uri"] != storage.uri(path):
        raise XetInputError(
            "The manifest is not below [xethub] manifest_storage: set the same folder on all workers. It names "
            f"{manifest['uri']!r:.200} instead of {storage.uri(path)}."
        )
    spool = Spool()

    def work() -> None:
        there = storage.stat(path)
        if not isinstance(there, Entry):
            raise XetSourceError(
                f"{storage.uri(path)} does not exist any more: run the task again that returned this manifest. A "
                "lifecycle rule of the storage may have removed it."
            )
        _fill(spool, manifest, storage.blocks(there))

    threads.interruptible(work)
    return _verified(spool, manifest)


def _path(storage: Storage, folder: str, sha256: str) -> str:
    return f"{storage.plain(folder).rstrip('/')}/{sha256}{SUFFIX}"


def _fill(spool: Spool, manifest: XetManifest, pieces: Iterator[bytes]) -> None:
    for piece in pieces:
        spool.write(piece)
        if spool.size > manifest["size"]:
            break
    if (spool.size, spool.sha256) != (manifest["size"], manifest["sha256"]):
        raise _wrong(manifest, f"it has {spool.size} bytes and sha256 {spool.sha256}")
    spool.complete()


def _verified(spool: Spool, manifest: XetManifest) -> Spool:
    try:
        totals = spool.verify(manifest["file_count"])
    except XetHubError as error:
        raise _wrong(manifest, str(error)) from None
    if (totals.file_count, totals.bytes) != (manifest["file_count"], manifest["bytes"]):
        raise _wrong(manifest, f"it has {totals.file_count} records of {totals.bytes} bytes")
    check_repo(totals, manifest)
    return spool


def check_repo(totals: Totals, manifest: XetManifest) -> None:
    """Refuse records of another repository than the manifest names.

    :raises XetInputError: there are such records.
    """
    repo = Repo.from_uri(manifest["repo"])
    other = next((uri for uri in totals.uris if not Repo.from_uri(uri).is_same_repo(repo)), None)
    if other is not None:
        raise XetInputError(
            f"The manifest is for {repo}, but has records of {other!r:.200}. Run the task again that returned it."
        )


def _wrong(manifest: XetManifest, difference: str) -> XetIntegrityError:
    return XetIntegrityError(
        f"The manifest of {manifest['repo']} has another content: run the task again that returned it. "
        f"{difference[:1].upper()}{difference[1:].rstrip('.')}. Expected {manifest['file_count']} records of "
        f"{manifest['bytes']} bytes, in {manifest['size']} bytes with sha256 {manifest['sha256']}."
    )
