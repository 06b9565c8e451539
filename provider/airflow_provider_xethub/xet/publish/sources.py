"""Where the files of a commit come from: local files and objects, bytes in memory, uploaded records, or copies.

A source says what is not in CAS yet, uploads it, and returns the content of what the Hub stores inline.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_xethub.xet import samples
from airflow_provider_xethub.xet.hub import preupload
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.hub.preupload import UploadMode
from airflow_provider_xethub.xet.publish.records_on_disk import batches
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.records import XetCommitResult, XetFile, XetTransfer, no_transfer, xet_file_record
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.token import Fernet

# What transfers need is imported where it is used: a commit of files that are in CAS needs none of it.
if TYPE_CHECKING:
    from airflow_provider_xethub.xet.cas.session import WithCasAccess
    from airflow_provider_xethub.xet.files.digest_memory import DigestMemory
    from airflow_provider_xethub.xet.files.found_files import FoundFiles, LocalFile, SourceFile
    from airflow_provider_xethub.xet.files.object_storage import Location, Storage
    from airflow_provider_xethub.xet.publish import copies
    from airflow_provider_xethub.xet.publish.known_files import KnownFiles

    OpenStorage = Callable[[Location], Storage]
    ReadAccess = Callable[[Repo], WithCasAccess]


class Sources(ABC):
    """The files of one commit. By default all of them are in CAS."""

    def batches(self, files: Sequence[XetFile]) -> Iterator[list[XetFile]]:
        """Yield the records of all files, so many at a time that memory does not grow with their number.

        :param files: those of the request, by path if they are more than one batch.
        """
        return batches(files)

    def pending(self, files: Sequence[XetFile]) -> list[str]:  # noqa: ARG002
        """Return the paths of files of this batch that are not in CAS yet."""
        return []

    @abstractmethod
    def contents(self, files: Sequence[XetFile]) -> Mapping[str, bytes]:
        """Return the content of files that the Hub stores inline, by path.

        :raises XetHubError: a content is missing or has changed.
        """

    def with_samples(self, files: Sequence[XetFile]) -> Sequence[XetFile]:
        """Return the records with their samples, by which a repository decides how to store the files."""
        return files

    def prefetch(self, repo: Repo) -> AbstractContextManager[None]:  # noqa: ARG002
        """Fetch the token of the upload while the Hub is asked how to store the files, where that saves time."""
        return nullcontext()

    def modes(
        self, hub: Hub, request: CommitRequest, files: Sequence[XetFile], gitignore: str | None
    ) -> dict[str, UploadMode]:
        """Return how the repository stores each file of a batch.

        :param gitignore: the content of the ``.gitignore`` that is published with the files.
        """
        return preupload.upload_modes(hub, request.repo, files, create_pr=request.create_pr, gitignore=gitignore)

    def unchanged_in_repository(
        self,
        hub: Hub,  # noqa: ARG002
        repo: Repo,  # noqa: ARG002
        paths: Collection[str],  # noqa: ARG002
        modes: Mapping[str, UploadMode],  # noqa: ARG002
    ) -> Mapping[str, XetFile]:
        """Return the records of pending files that the repository has already, by path.

        :param paths: the pending files that would go through CAS.
        """
        return {}

    def unchanged_in_bucket(
        self,
        hub: Hub,  # noqa: ARG002
        bucket: Repo,  # noqa: ARG002
        paths: Collection[str],  # noqa: ARG002
    ) -> Mapping[str, XetFile]:
        """Return the records of pending files that the bucket has already, by path."""
        return {}

    def remember(self, result: XetCommitResult) -> None:  # noqa: B027 - most have nothing to remember
        """Remember for the next upload what the repository has now."""

    def upload(self, paths: Collection[str]) -> tuple[Mapping[str, XetFile], XetTransfer]:  # noqa: ARG002
        """Upload pending files to CAS, and return their records by path."""
        return {}, no_transfer()

    def origin(self, path: str) -> Repo | None:  # noqa: ARG002
        """Return the repository that has a file which was never uploaded for the target."""
        return None


class SourceFiles(Sources):
    """Local files, and objects of an object storage.

    :param files: by path in the repository.
    :param with_cas_access: runs the upload with a write token.
    :param prefetch: fetches the write token early; ``None`` where the task was given one.
    :param deduplicate: as for :func:`airflow_provider_xethub.xet.cas.session.settings`.
    :param memory: remembers digests of files that did not change; ``None``: all are read.
    """

    def __init__(
        self,
        files: FoundFiles,
        with_cas_access: WithCasAccess,
        prefetch: Callable[[Repo], AbstractContextManager[None]] | None = None,
        deduplicate: bool | None = None,
        memory: DigestMemory | None = None,
    ) -> None:
        self._found = files
        self._here: dict[str, SourceFile] = {}
        self._with_cas_access = with_cas_access
        self._prefetch = prefetch
        self._deduplicate = deduplicate
        self._memory = memory
        self._digests: Mapping[str, str] = {}
        self._branch: KnownFiles | None = None
        self._same: dict[str, XetFile] = {}

    def records(self, repo: Repo) -> Sequence[XetFile]:
        """Return the records of the files before their upload."""
        return SourceRecords(self._found, repo.uri)

    def batches(self, files: Sequence[XetFile]) -> Iterator[list[XetFile]]:
        """Yield the records of the files without their first bytes; many files are on disk."""
        from airflow_provider_xethub.xet.transfer import upload

        for some in batches(self._found):
            self._here = {file.path_in_repo: file for file in some}
            yield upload.source_records(some, cast("SourceRecords", files).repo)

    def pending(self, files: Sequence[XetFile]) -> list[str]:
        """Return all paths."""
        return [file["path"] for file in files]

    def contents(self, files: Sequence[XetFile]) -> Mapping[str, bytes]:
        """Read the files."""
        from airflow_provider_xethub.xet.transfer import upload

        return upload.read_inline([self._file(file["path"]) for file in files])

    def with_samples(self, files: Sequence[XetFile]) -> Sequence[XetFile]:
        """Read the first bytes of objects; those of local files are read when the Hub is asked about them."""
        from airflow_provider_xethub.xet.transfer import upload

        upload.fetch_samples([self._here[file["path"]] for file in files])
        return files

    def prefetch(self, repo: Repo) -> AbstractContextManager[None]:
        """Fetch the token early for objects, and for a small upload that certainly goes through CAS."""
        if self._found.are_on_disk or not self._prefetch:
            return nullcontext()
        from airflow_provider_xethub.xet.files.found_files import LocalFile
        from airflow_provider_xethub.xet.process import threads

        files = list(self._found)
        # The storage does not say whether the repository has the content of an object already.
        stored = [file for file in files if not isinstance(file, LocalFile)]
        is_certain = threads.interruptible(
            lambda: preupload.should_prefetch_token(stored, are_sent=True) or preupload.should_prefetch_token(files)
        )
        return self._prefetch(repo) if is_certain else nullcontext()

    def modes(
        self, hub: Hub, request: CommitRequest, files: Sequence[XetFile], gitignore: str | None
    ) -> dict[str, UploadMode]:
        """Ask about those files of which the answer is not known from the last upload, and about a sample."""

        def ask(files: Sequence[XetFile]) -> dict[str, UploadMode]:
            return super(SourceFiles, self).modes(hub, request, self._sampled(files), gitignore)

        if self._memory is None:
            return ask(files)
        from airflow_provider_xethub.xet.publish import known_files
        from airflow_provider_xethub.xet.transfer import unchanged

        self._same = {}
        if not known_files.is_worthwhile(request):
            return ask(files)
        if self._branch is None:
            self._branch = known_files.KnownFiles(self._memory, hub, request, gitignore)
        here = self._local(file["path"] for file in files)
        digests = unchanged.recalled(here, self._memory) if self._branch.is_known else {}
        there = self._branch.of(digests)
        modes: dict[str, UploadMode] = {}
        if there and self._branch.verified(there, digests, lambda paths: ask(_with_paths(files, paths))):
            same = [file for file in here if file.path_in_repo in there]
            self._same = unchanged.known_records(request.repo, same, digests, there)
            modes = {path: UploadMode(False, digests[path], False) for path in there}
        rest = [file for file in files if file["path"] not in modes]
        return {**modes, **ask(rest)} if rest else modes

    def _sampled(self, files: Sequence[XetFile]) -> list[XetFile]:
        """Return the records with their first bytes; the card has them."""
        from airflow_provider_xethub.xet.transfer import upload

        own = [file for file in files if "sample" not in file]
        others = [file for file in files if "sample" in file]
        return [*upload.with_samples(own, [self._here[file["path"]] for file in own]), *others]

    def _local(self, paths: Iterable[str]) -> list[LocalFile]:
        from airflow_provider_xethub.xet.files.found_files import LocalFile

        files = (self._here.get(path) for path in paths)
        return [file for file in files if isinstance(file, LocalFile) and file.size]

    def remember(self, result: XetCommitResult) -> None:
        """Remember what the branch has, so that the next upload asks only about what it does not."""
        if self._branch is not None:
            self._branch.remember(result)

    def unchanged_in_repository(
        self, hub: Hub, repo: Repo, paths: Collection[str], modes: Mapping[str, UploadMode]
    ) -> Mapping[str, XetFile]:
        """Compare digests of local files; those are kept for the upload."""
        from airflow_provider_xethub.xet.transfer import unchanged

        files = [self._here[path] for path in paths if path not in self._same]
        if not files:
            return self._same
        known, self._digests = unchanged.in_repository(hub, repo, files, modes, self._memory)
        return {**self._same, **known}

    def unchanged_in_bucket(self, hub: Hub, bucket: Repo, paths: Collection[str]) -> Mapping[str, XetFile]:
        """Compare Xet hashes of local files."""
        from airflow_provider_xethub.xet.transfer import unchanged

        return unchanged.in_bucket(hub, bucket, [self._here[path] for path in paths], self._memory)

    def upload(self, paths: Collection[str]) -> tuple[Mapping[str, XetFile], XetTransfer]:
        """Upload files of one batch, all in one transfer."""
        from airflow_provider_xethub.xet.transfer import upload

        if not paths:
            return {}, no_transfer()
        files = [self._here[path] for path in paths]
        work = partial(
            upload.upload, files=files, deduplicate=self._deduplicate, digests=self._digests, memory=self._memory
        )
        sent = self._with_cas_access(work)
        return {file["path"]: file for file in sent["files"]}, sent["transfer"]

    def _file(self, path: str) -> SourceFile:
        return self._here.get(path) or cast("SourceFile", self._found.get(path))


def _with_paths(files: Sequence[XetFile], paths: Sequence[str]) -> list[XetFile]:
    return [file for file in files if file["path"] in paths]


class SourceRecords(Sequence[XetFile]):
    """The records of files before their upload, without their first bytes.

    :param found: the files.
    :param repo: the ``hf://`` URI of the repository.
    :ivar are_checked: their paths were checked when they were found, and are different.
    """

    are_checked = True

    def __init__(self, found: FoundFiles, repo: str) -> None:
        self._found = found
        self.repo = repo

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[XetFile]:
        """Yield the records in the order of their paths."""
        for path, size in self._found.sizes():
            yield xet_file_record(path, size, self.repo)

    def __getitem__(self, index: Any) -> Any:
        return list(self)[index]

    def find(self, path: str) -> XetFile | None:
        """Return the record with this path."""
        file = self._found.get(path)
        return None if file is None else xet_file_record(path, file.size, self.repo)


class UploadedFiles(Sources):
    """Files that were uploaded to CAS, perhaps by other tasks.

    :param read_access: returns what runs a download with a token for reading a repository.
    :param open_storage: opens the object storage that a record names as its source.
    :param fernets: returns the keys that open sealed samples.
    """

    def __init__(
        self, read_access: ReadAccess, open_storage: OpenStorage, fernets: Callable[[], Sequence[Fernet]]
    ) -> None:
        self._read_access = read_access
        self._open_storage = open_storage
        self._fernets = fernets

    def with_samples(self, files: Sequence[XetFile]) -> Sequence[XetFile]:
        """Open sealed samples."""
        is_sealed = any("sealed_sample" in file for file in files)
        return samples.unseal(files, self._fernets()) if is_sealed else files

    def contents(self, files: Sequence[XetFile]) -> Mapping[str, bytes]:
        """Read the files back, each with a token of the revision that it was uploaded for."""
        contents: dict[str, bytes] = {}
        for uri in dict.fromkeys(file["repo"] for file in files):
            from airflow_provider_xethub.xet.transfer.read_back import read_back

            access = self._read_access(Repo.from_uri(uri))
            contents |= read_back([file for file in files if file["repo"] == uri], access, self._open_storage)
        return contents


class HeldContents(Sources):
    """Bytes in memory, together with files that were uploaded.

    :param held: the contents by path in the repository.
    :param repo: where they are to be published.
    :param uploaded: the source of the other files.
    :param with_cas_access: runs the upload with a write token.
    """

    def __init__(
        self, held: Mapping[str, bytes], repo: Repo, uploaded: UploadedFiles, with_cas_access: WithCasAccess
    ) -> None:
        from airflow_provider_xethub.xet.transfer import upload

        uri = repo.uri
        self._held = held
        self._uploaded = uploaded
        self._with_cas_access = with_cas_access
        self.records = {path: upload.content_record(path, content, uri) for path, content in held.items()}

    def pending(self, files: Sequence[XetFile]) -> list[str]:
        """Return the paths of what is in memory."""
        return [file["path"] for file in files if file["path"] in self._held]

    def with_samples(self, files: Sequence[XetFile]) -> Sequence[XetFile]:
        """Open sealed samples; those of what is in memory are known."""
        return self._uploaded.with_samples(files)

    def contents(self, files: Sequence[XetFile]) -> Mapping[str, bytes]:
        """Return what is in memory, and read back the rest."""
        here = {file["path"]: self._held[file["path"]] for file in files if file["path"] in self._held}
        return here | dict(self._uploaded.contents([file for file in files if file["path"] not in here]))

    def unchanged_in_repository(
        self,
        hub: Hub,  # noqa: ARG002
        repo: Repo,  # noqa: ARG002
        paths: Collection[str],
        modes: Mapping[str, UploadMode],
    ) -> Mapping[str, XetFile]:
        """Compare digests, which are known."""
        records = self.records
        return {path: records[path] for path in paths if modes[path].current == records[path]["sha256"]}

    def upload(self, paths: Collection[str]) -> tuple[Mapping[str, XetFile], XetTransfer]:
        """Upload contents through a temporary folder."""
        from airflow_provider_xethub.xet.transfer import upload

        records = [self.records[path] for path in paths]
        sent = upload.upload_contents(records, lambda file: self._held[file["path"]], self._with_cas_access)
        return {file["path"]: file for file in sent}, no_transfer()


class CopiedFiles(Sources):
    """Files of another repository. Those that it stores inline are read and written again.

    :param job: what is copied.
    :param hub: reads inline originals.
    :param with_cas_access: runs uploads with a write token; a bucket has everything in CAS.
    """

    def __init__(self, job: copies.Copies, hub: Hub, with_cas_access: WithCasAccess) -> None:
        self._job = job
        self._hub = hub
        self._with_cas_access = with_cas_access
        self._here: dict[str, XetFile] = {}

    def batches(self, files: Sequence[XetFile]) -> Iterator[list[XetFile]]:
        """Copy one batch after the other."""
        for some in batches(files):
            self._here = {file["path"]: file for file in some}
            yield some

    def pending(self, files: Sequence[XetFile]) -> list[str]:
        """Return the paths of what the source stores inline."""
        return [file["path"] for file in files if not file["xet_hash"]]

    def contents(self, files: Sequence[XetFile]) -> Mapping[str, bytes]:
        """Read the originals."""
        return {file["path"]: self._read(file) for file in files}

    def modes(
        self,
        hub: Hub,
        request: CommitRequest,
        files: Sequence[XetFile],
        gitignore: str | None,  # noqa: ARG002
    ) -> dict[str, UploadMode]:
        """Keep how each original is stored; the Hub gives the repository those that are in CAS."""
        from airflow_provider_xethub.xet.publish import copies

        modes = copies.modes(hub, request.repo, files)
        copies.duplicate(hub, self._job, files, modes)
        return modes

    def upload(self, paths: Collection[str]) -> tuple[Mapping[str, XetFile], XetTransfer]:
        """Upload inline originals."""
        from airflow_provider_xethub.xet.transfer import upload

        records = [self._here[path] for path in paths]
        sent = upload.upload_contents(records, self._read, self._with_cas_access)
        return {file["path"]: file for file in sent}, no_transfer()

    def origin(self, path: str) -> Repo | None:
        """Return the source for all files that it has in CAS."""
        return None if path in self._job.inline else self._job.source

    def _read(self, file: XetFile) -> bytes:
        from airflow_provider_xethub.xet.publish import copies

        return copies.read_original(self._hub, self._job, file["path"])
