"""Downloads into the Hugging Face cache: each content once, locked as ``huggingface_hub`` locks it, the ref last."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from airflow_provider_xethub.exceptions import XetNotFoundError
from airflow_provider_xethub.xet import answers, native_client
from airflow_provider_xethub.xet.cas.session import WithCasAccess
from airflow_provider_xethub.xet.files.cache import layout
from airflow_provider_xethub.xet.files.cache.layout import Blob, Snapshot, blobs_of, has_content
from airflow_provider_xethub.xet.files.cache.locks import Locks
from airflow_provider_xethub.xet.files.targets import Target
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.manifests.files import Files, batches, in_batches, source_of, uris_of
from airflow_provider_xethub.xet.manifests.spool import Spool, spooled
from airflow_provider_xethub.xet.message_text import counted, size
from airflow_provider_xethub.xet.records import XetDownloadResult, XetFile, XetReceived
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.transfer import digests
from airflow_provider_xethub.xet.transfer.download import Contents, check_inline, download

LOCK_SECONDS = 600.0
"""Seconds to wait for another process that downloads the same file. A lock saves a second download, nothing else: on a
filesystem without real locks, that of a killed process stays."""

_POLL_SECONDS = 0.25
_MAX_TRIED = 1000

log = logging.getLogger(__name__)


def download_to_cache(
    snapshot: Snapshot,
    files: Sequence[XetFile] | Spool,
    with_cas_access: WithCasAccess,
    hub: Callable[[], Hub] | None,
    contents: Contents | None,
    *,
    ref: str | None = None,
    tree: Sequence[dict[str, object]] | None = None,
) -> XetDownloadResult:
    """Download files of one commit into the cache; content that is there is verified, and only the rest downloaded.

    :param files: records of files at the commit of the snapshot. Those on disk are downloaded in batches, and their
        records are not returned.
    :param with_cas_access, hub, contents: as for :func:`airflow_provider_xethub.xet.transfer.download.download`.
    :param ref: a branch or tag that points to the commit when all files are in the snapshot.
    :param tree: all entries of the commit, as the Hub lists them, if they are known.
    :raises XetHubError: the ref is unchanged, and nothing damaged has a name in the cache.
    """
    started = time.monotonic()
    are_many = isinstance(files, Spool)
    digests.check(files)
    snapshot.prepare(files, are_many=are_many)
    if tree is not None:
        snapshot.write_tree(tree)
    fill = _Fill(snapshot, with_cas_access, hub, contents)
    count = 0
    with in_batches(lambda: fill.transfer["files"]):
        for batch in batches(files) if isinstance(files, Spool) else [files]:
            _download(snapshot, batch, fill, hub, contents)
            count += len(batch)
            if are_many:
                log.info("%d files of the snapshot are complete, %s downloaded.", count, size(fill.transfer["bytes"]))
                native_client.release_memory()
    if ref is not None:
        snapshot.set_ref(ref)
    transfer = fill.transfer
    transfer["skipped"] = count - transfer["files"]
    transfer["seconds"] = round(time.monotonic() - started, 3)
    placed: list[XetFile] = [] if are_many else [_placed(file, snapshot) for file in files]
    return {"files": placed, "transfer": transfer, "snapshot": str(snapshot.folder)}


def _download(
    snapshot: Snapshot, files: Sequence[XetFile], fill: _Fill, hub: Callable[[], Hub] | None, contents: Contents | None
) -> None:
    blobs = blobs_of(files)
    snapshot.remove_abandoned(blobs)
    complete = digests.each(snapshot.is_complete, blobs)
    missing = [blob for blob, is_there in zip(blobs, complete, strict=True) if not is_there]
    check_inline([blob.file for blob in missing if not blob.is_in_cas and blob.file["size"]], hub, contents)
    fill.run(missing)
    for file in files:
        # The blob of an inline file was verified by its git blob id; the record of an upload has the sha256 as well.
        has_both = file["sha256"] and not file["xet_hash"] and file.get("blob_id")
        if has_both and not has_content(snapshot.path_of(file["path"]), file):
            raise digests.changed(file)


def _placed(file: XetFile, snapshot: Snapshot) -> XetFile:
    record = file.copy()
    record.pop("storage_uri", None)
    record.pop("sealed_content", None)
    record["local_path"] = str(snapshot.path_of(file["path"]))
    return record


def check(files: Sequence[XetFile]) -> Repo:
    """Refuse files that cannot be in one snapshot, and return their repository at the revision that they name.

    :raises XetInputError: there are none, they are of several repositories or revisions, or of a bucket; or a path is
        not valid, or occurs twice.
    """
    repo = source_of(files)
    layout.check(repo, uris_of(files), files, are_many=isinstance(files, Files))
    return repo


def pinned(files: Sequence[XetFile], repo: Repo, hub: Hub | None) -> Sequence[XetFile] | Spool:
    """Return the records as those of a commit, with the digests that the Hub has for them; see :func:`confirmed`.

    :param repo: the repository at the commit.
    :param hub: the Hub; ``None`` without a connection, and then the records decide.
    :returns: a list, or records on disk if a manifest stands for some of them.
    """

    def at_commit(some: Sequence[XetFile]) -> list[XetFile]:
        here: list[XetFile] = [{**file, "repo": repo.uri} for file in some]
        return here if hub is None or is_listing else confirmed(here, repo, hub)

    if not isinstance(files, Files):
        is_listing = False
        return at_commit(files)
    # A listing of this commit was compared with the Hub when it was read.
    known = files.manifest
    is_listing = known is not None and known["manifest"] == "listing" and known["repo"] == repo.uri
    return spooled(at_commit(some) for some in batches(files))


def confirmed(files: Sequence[XetFile], repo: Repo, hub: Hub) -> list[XetFile]:
    """Return the records with the digests that the Hub has for them at a commit.

    :param repo: the repository at the commit.
    :raises XetNotFoundError: the commit does not have one of the files.
    :raises XetSourceError: it has another file under that path.
    """
    if tree := hub.listed_tree(repo):
        listed = [answers.file_record(entry, repo.uri) for entry in tree if answers.kind(entry) == "file"]
    else:
        listed = hub.get_files(repo, [file["path"] for file in files])
    known = {file["path"]: file for file in listed}
    result: list[XetFile] = []
    for file in files:
        now = known.get(file["path"])
        if now is None:
            raise XetNotFoundError(
                f"{file['path']} is not in {repo}. Nothing was downloaded. List the files of this commit.", status=404
            )
        if digests.is_other(file, now):
            raise digests.changed(file)
        record: XetFile = {**file, **now}
        record["sha256"] = now["sha256"] or file["sha256"]
        result.append(record)
    return result


class _Fill:
    """Downloads the missing blobs of one snapshot, as many at a time as it can lock.

    :ivar transfer: the figures so far.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        with_cas_access: WithCasAccess,
        hub: Callable[[], Hub] | None,
        contents: Contents | None,
    ) -> None:
        self._snapshot = snapshot
        self._contents = contents
        self._access = with_cas_access
        self._hub = hub
        self.transfer: XetReceived = {"files": 0, "bytes": 0, "bytes_received": 0, "skipped": 0, "seconds": 0.0}

    def run(self, missing: Sequence[Blob]) -> None:
        pending = list(missing)
        waiting_since: float | None = None
        with Locks(self._snapshot.locks_folder()) as locks:
            while pending:
                taken = self._take(pending, locks)
                if not taken:
                    waiting_since = waiting_since or self._begin_waiting(pending)
                    if time.monotonic() - waiting_since < LOCK_SECONDS:
                        time.sleep(_POLL_SECONDS)
                        continue
                    log.warning(
                        "Another process has locked %s in the cache for %.0f s. Downloading without the lock.",
                        counted(len(pending), "file"),
                        LOCK_SECONDS,
                    )
                    taken = pending[: locks.most]
                waiting_since = None
                self._fill(taken, locks)
                done = {blob.name for blob in taken}
                pending = [blob for blob in pending if blob.name not in done]

    @staticmethod
    def _take(pending: Sequence[Blob], locks: Locks) -> list[Blob]:
        # Never waiting with a lock held, two processes cannot wait for each other.
        taken: list[Blob] = []
        failed = 0
        for blob in pending:
            if len(taken) == locks.most or failed == _MAX_TRIED:
                break
            if locks.acquire(blob.name):
                taken.append(blob)
            else:
                failed += 1
        return taken

    def _begin_waiting(self, pending: Sequence[Blob]) -> float:
        others = f" and {counted(len(pending) - 1, 'other file')}" if len(pending) > 1 else ""
        log.info("Waiting for another process that downloads %s%s.", pending[0].file["path"], others)
        return time.monotonic()

    def _fill(self, blobs: Sequence[Blob], locks: Locks) -> None:
        snapshot = self._snapshot

        def is_complete(blob: Blob) -> bool:
            snapshot.remove_abandoned_links(blob)
            # Another process may have downloaded it before it released the lock.
            found = snapshot.is_complete(blob, is_locked=True)
            if not found and snapshot.find_shared(blob):
                snapshot.place(blob, snapshot.blob_path(blob))
                found = True
            if found:
                locks.release(blob.name)
            return found

        complete = digests.each(is_complete, blobs)
        missing = [blob for blob, is_there in zip(blobs, complete, strict=True) if not is_there]
        if not missing:
            return
        by_path = {snapshot.blob_path(blob): blob for blob in missing}

        def kept(target: Target) -> None:
            blob = by_path[target.path]
            snapshot.share(blob)
            snapshot.place(blob)
            locks.release(blob.name)

        targets = [snapshot.target(blob) for blob in missing]
        part = download(targets, self._access, self._hub, snapshot.attempt, self._contents, kept)["transfer"]
        total = self.transfer
        total["files"] += part["files"]
        total["bytes"] += part["bytes"]
        total["bytes_received"] += part["bytes_received"]
