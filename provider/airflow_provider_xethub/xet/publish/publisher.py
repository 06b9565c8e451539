"""Publishing: the one place that decides between a repository and a bucket.

A caller hands over sources (files, bytes in memory, uploaded records or copies) and a request. The publisher asks what
is there already, uploads what has to go through CAS, and makes the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from airflow_provider_xethub.xet import records as limits
from airflow_provider_xethub.xet.hub import preupload
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.hub.preupload import UploadMode
from airflow_provider_xethub.xet.process.path_table import PathTable
from airflow_provider_xethub.xet.publish import commit
from airflow_provider_xethub.xet.publish.batches import Batches
from airflow_provider_xethub.xet.publish.card import PATH as CARD_PATH
from airflow_provider_xethub.xet.publish.card_work import CardWork
from airflow_provider_xethub.xet.publish.records_on_disk import RecordsOnDisk
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.publish.sources import (
    CopiedFiles,
    HeldContents,
    SourceFiles,
    SourceRecords,
    Sources,
    UploadedFiles,
)
from airflow_provider_xethub.xet.records import XetCommitResult, XetCopyResult, XetFile, XetPublishResult, XetTransfer
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.token import Fernet

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.cas.session import WithCasAccess
    from airflow_provider_xethub.xet.files.digest_memory import DigestMemory
    from airflow_provider_xethub.xet.files.found_files import FoundFiles
    from airflow_provider_xethub.xet.files.mirror.plan import Rules
    from airflow_provider_xethub.xet.publish import copies
    from airflow_provider_xethub.xet.publish.mirror import Mirror
    from airflow_provider_xethub.xet.publish.sources import OpenStorage, ReadAccess


class Destination(Protocol):
    """A kind of repository to publish to."""

    def publish(self, request: CommitRequest, sources: Sources) -> tuple[XetCommitResult, XetTransfer]:
        """Upload what is missing and publish all files.

        :param request: checked, with the records of all files.
        """


class RepositoryDestination:
    """Publishes to a model, dataset or space: the Hub decides what is stored inline, and all of it is one commit."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def publish(self, request: CommitRequest, sources: Sources) -> tuple[XetCommitResult, XetTransfer]:
        """Upload what the Hub wants in CAS and does not have, and commit.

        Files are uploaded in batches, so that memory does not grow with their number; they are committed when all of
        them are uploaded, because their digests identify the work.
        """
        hub, files = self._hub, request.files
        card = self._card(request, sources)
        gitignore = preupload.own_gitignore(_with_path(files, preupload.GITIGNORE), sources.contents)
        work = commit.Work(request, sources.contents)
        batches = Batches(len(files))
        for batch in sources.batches(files) if files else [[]]:
            if card:
                batch = [file for file in batch if file["path"] != CARD_PATH]
            is_asked = card if batches.is_first else None
            records, modes = self._upload(batches, request, sources, batch, gitignore, is_asked)
            work.add(records, modes)
            if is_asked:
                mode_of_card = {CARD_PATH: modes[CARD_PATH]}
            batches.done(batch)
        if card:
            card.transfer = batches.transfer
        result = commit.publish_work(hub, request, work.complete(card, mode_of_card if card else None))
        sources.remember(result)
        return result, batches.transfer

    def _upload(
        self,
        batches: Batches,
        request: CommitRequest,
        sources: Sources,
        files: Sequence[XetFile],
        gitignore: str | None,
        card: CardWork | None,
    ) -> tuple[list[XetFile], Mapping[str, UploadMode]]:
        """Upload one batch, and return its records, and how the Hub stores them.

        :param card: the card, if the Hub is to be asked about it, too.
        """
        files = sources.with_samples(files)
        with sources.prefetch(request.repo):
            asked = [*files, card.placeholder()] if card else files
            modes = batches.paced(lambda: sources.modes(self._hub, request, asked, gitignore))
            if card:
                card.prepare(modes[CARD_PATH])
            pending = sources.pending(files)
            through_cas = [path for path in pending if not (modes[path].inline or modes[path].ignored)]
            known = batches.paced(lambda: sources.unchanged_in_repository(self._hub, request.repo, through_cas, modes))
            sent, transfer = sources.upload([path for path in through_cas if path not in known])
        batches.add(transfer)
        return _with_records(files, {**known, **sent}), modes

    def _card(self, request: CommitRequest, sources: Sources) -> CardWork | None:
        """Return the card, which takes the place of the ``README.md`` of the sources."""
        if request.card is None:
            return None
        from airflow_provider_xethub.xet.manifests.files import bytes_of

        own = _with_path(request.files, CARD_PATH)
        given = sources.contents(own)[CARD_PATH] if own else None
        size = bytes_of(request.files) - sum(file["size"] for file in own)
        return CardWork(self._hub, request.repo, request.card, given, len(request.files) - len(own), size)


class BucketDestination:
    """Publishes to a bucket: everything goes through CAS, and there are no commits."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def publish(self, request: CommitRequest, sources: Sources) -> tuple[XetCommitResult, XetTransfer]:
        """Upload what the bucket does not have, and put all files, one batch after the other."""
        from airflow_provider_xethub.xet.manifests.files import in_batches
        from airflow_provider_xethub.xet.publish import bucket

        batches = Batches(len(request.files))
        changes = bucket.Changes(self._hub, request, sources.origin, batches.paced)
        with in_batches(lambda: changes.is_changed):
            for batch in sources.batches(request.files) if request.files else [[]]:
                pending = sources.pending(batch)
                known = batches.paced(partial(sources.unchanged_in_bucket, self._hub, request.repo, pending))
                sent, transfer = sources.upload([path for path in pending if path not in known])
                batches.add(transfer)
                changes.put(_with_records(batch, {**known, **sent}))
                batches.done(batch)
        return changes.complete(), batches.transfer


def _with_records(files: Sequence[XetFile], records: Mapping[str, XetFile]) -> list[XetFile]:
    return [records.get(file["path"], file) for file in files]


def _with_path(files: Sequence[XetFile], path: str) -> list[XetFile]:
    """Return the record with a path, in a list, if there is one."""
    if isinstance(files, (RecordsOnDisk, SourceRecords)):
        found = files.find(path)
        return [found] if found else []
    return [file for file in files if file["path"] == path]


def _by_path(request: CommitRequest) -> Sequence[XetFile]:
    """Return the records of a request: many of them on disk, in the order of their paths.

    :raises XetInputError: two files have the same path.
    """
    files = request.files
    if len(files) <= limits.IN_MEMORY or isinstance(files, SourceRecords):
        return files
    kept = RecordsOnDisk(PathTable())
    for file in files:
        if not kept.add(file):
            raise request.twice(file["path"])
    return kept


class Publisher:
    """Publishes files on one Hub.

    :param hub: opens the Hub.
    :param write_access: returns what runs an upload with a token for writing to a repository.
    :param read_access: returns what runs a download with a token for reading a repository.
    :param open_storage: opens the object storage that a record names as its source.
    :param fernets: returns the keys of this worker, to open sealed samples.
    :param memory: remembers digests of local files that did not change; ``None``: all are read.
    """

    def __init__(
        self,
        hub: Callable[[], Hub],
        *,
        write_access: Callable[[Repo], WithCasAccess],
        read_access: ReadAccess,
        open_storage: OpenStorage,
        fernets: Callable[[], Sequence[Fernet]],
        memory: DigestMemory | None = None,
    ) -> None:
        self._hub = hub
        self._memory = memory
        self._write_access = write_access
        self._uploaded = UploadedFiles(read_access, open_storage, fernets)
        self._prepare: Callable[[Repo], None] | None = None

    def preparing(self, prepare: Callable[[Repo], None]) -> Publisher:
        """Return a publisher that calls ``prepare`` with the repository of a request before it sends anything."""
        other = copy(self)
        other._prepare = prepare
        return other

    def publish_files(
        self,
        files: FoundFiles,
        request: CommitRequest,
        *,
        write_access: WithCasAccess,
        prefetch: Callable[[Repo], AbstractContextManager[None]] | None = None,
        deduplicate: bool | None = None,
    ) -> XetPublishResult:
        """Upload local files and objects, and publish them.

        :param request: without ``files``.
        :param write_access: runs the upload with the token of this task.
        :param prefetch: fetches the write token early; ``None`` where the task was given one.
        :param deduplicate: as for :func:`airflow_provider_xethub.xet.cas.session.settings`.
        :raises XetHubError: nothing was committed.
        """
        sources = SourceFiles(files, write_access, prefetch, deduplicate, self._memory)
        committed, transfer = self._publish(replace(request, files=sources.records(request.repo)), sources)
        return {**committed, "transfer": transfer}

    def mirror(
        self,
        files: FoundFiles,
        request: CommitRequest,
        rules: Rules,
        *,
        write_access: WithCasAccess,
        prefetch: Callable[[Repo], AbstractContextManager[None]] | None = None,
        deduplicate: bool | None = None,
    ) -> Mirror:
        """Return the mirror of a source, which can be planned and run.

        :param files: all selected files of the source.
        :param request: without ``files`` and ``delete``.
        :param rules: what may be touched.
        :param write_access, prefetch, deduplicate: as for :meth:`publish_files`.
        """
        # Loaded here, because it would cost every upload six milliseconds.
        from airflow_provider_xethub.xet.publish.mirror import Mirror

        publish = partial(self.publish_files, write_access=write_access, prefetch=prefetch, deduplicate=deduplicate)
        return Mirror(self._hub(), files, request, rules, publish, self._memory)

    def publish_contents(self, contents: Mapping[str, bytes], request: CommitRequest) -> XetCommitResult:
        """Publish bytes in memory, together with the files of the request, which are in CAS.

        :raises XetHubError: nothing was committed.
        """
        repo = request.repo
        sources = HeldContents(contents, repo, self._uploaded, self._write_access(repo))
        return self._publish(replace(request, files=[*request.files, *sources.records.values()]), sources)[0]

    def publish_uploaded(self, request: CommitRequest) -> XetCommitResult:
        """Publish files that are in CAS.

        :raises XetHubError: nothing was committed.
        """
        return self._publish(request, self._uploaded)[0]

    def copy(self, job: copies.Copies) -> XetCopyResult:
        """Copy files of another repository.

        :param job: planned, and so checked.
        :raises XetHubError: nothing was committed.
        """
        from airflow_provider_xethub.xet.publish import copies

        hub, request = self._hub(), job.request
        sources = CopiedFiles(job, hub, self._write_access(request.repo))
        return copies.result(self._publish_checked(request, sources)[0], job)

    def _publish(self, request: CommitRequest, sources: Sources) -> tuple[XetCommitResult, XetTransfer]:
        request.check()
        return self._publish_checked(replace(request, files=_by_path(request)), sources)

    def _publish_checked(self, request: CommitRequest, sources: Sources) -> tuple[XetCommitResult, XetTransfer]:
        if self._prepare is not None:
            self._prepare(request.repo)
        return _destination(self._hub(), request.repo).publish(request, sources)


def _destination(hub: Hub, repo: Repo) -> Destination:
    return BucketDestination(hub) if repo.is_bucket else RepositoryDestination(hub)
