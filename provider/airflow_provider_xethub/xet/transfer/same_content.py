"""Compares the files of a source with a listing, by content: local files and objects, in repositories and buckets.

The listing of a repository has a digest of every file, so that nothing else has to be asked about those that are
equal. Only files of the same size are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from airflow_provider_xethub.exceptions import XetSourceError
from airflow_provider_xethub.xet import native_client
from airflow_provider_xethub.xet.files.content_identity import SIZE, XET_HASH, content_digest, identity
from airflow_provider_xethub.xet.files.digest_memory import DigestMemory
from airflow_provider_xethub.xet.files.found_files import LocalFile, SourceFile
from airflow_provider_xethub.xet.files.object_sources import StoredFile
from airflow_provider_xethub.xet.files.object_storage import AT_A_TIME
from airflow_provider_xethub.xet.files.sources import check_unchanged
from airflow_provider_xethub.xet.files.targets import digest
from airflow_provider_xethub.xet.message_text import os_reason
from airflow_provider_xethub.xet.process import threads
from airflow_provider_xethub.xet.records import XetFile
from airflow_provider_xethub.xet.transfer import digests
from airflow_provider_xethub.xet.transfer.remembered import digests_of

_Digest = tuple[str, str]
"""Path in the repository, and kind of the digest."""


class SourceContents:
    """The contents of source files; each digest is computed once, however often they are compared.

    :param files: in the state in which they were found.
    :param memory: remembers digests of local files that did not change; ``None``: all are read.
    """

    def __init__(self, files: Sequence[SourceFile], memory: DigestMemory | None = None) -> None:
        self._memory = memory
        self._files = {file.path_in_repo: file for file in files}
        self._known: dict[_Digest, str] = {}

    def equal(self, there: Mapping[str, XetFile]) -> set[str]:
        """Return the paths of those files that the listing has with the same content.

        :param there: records of files, by path.
        :raises XetSourceError: a file changed meanwhile, or cannot be read any more.
        """
        wanted = {
            path: known
            for path, file in self._files.items()
            if path in there and there[path]["size"] == file.size and (known := identity(there[path]))
        }
        self._compute([(path, known.kind) for path, known in wanted.items() if known.kind != SIZE])
        equal = {
            path for path, known in wanted.items() if known.kind == SIZE or self._known[path, known.kind] == known.value
        }
        compared = [self._files[path] for path in sorted(equal)]
        threads.stoppable(lambda stopped: check_unchanged(compared, [file.size for file in compared], stopped))
        return equal

    def _compute(self, wanted: Sequence[_Digest]) -> None:
        missing = [each for each in wanted if each not in self._known]
        for kind in sorted({kind for _, kind in missing}):
            here = {each: file for each in missing if each[1] == kind and (file := self._local(each[0]))}
            self._known |= dict(zip(here, self._local_digests(kind, here), strict=True))
        stored = [each for each in missing if each not in self._known]
        found = threads.stoppable(lambda stopped: threads.each(self._stored_digest, stored, AT_A_TIME, stopped))
        self._known |= dict(zip(stored, found, strict=True))

    def _local(self, path: str) -> LocalFile | None:
        file = self._files[path]
        return file if isinstance(file, LocalFile) else None

    def _local_digests(self, kind: str, wanted: Mapping[_Digest, LocalFile]) -> list[str]:
        keys = list(wanted)

        def compute(numbers: Sequence[int]) -> list[str]:
            chosen = [keys[number] for number in numbers]
            if kind == XET_HASH:
                return self._xet_hashes([path for path, _ in chosen])
            return digests.each(self._local_digest, chosen)

        return digests_of(self._memory, kind, list(wanted.values()), compute).digests

    def _local_digest(self, of: _Digest) -> str:
        path, kind = of
        file = self._files[path]
        try:
            return digest(file.path, kind, file.size)  # type: ignore[union-attr]
        except OSError as error:
            raise XetSourceError(f"{file} cannot be read any more: {os_reason(error)}. Nothing was changed.") from error

    def _stored_digest(self, of: _Digest) -> str:
        path, kind = of
        file = self._files[path]
        return content_digest(kind, file.size, _blocks(file))  # type: ignore[arg-type]

    def _xet_hashes(self, paths: Sequence[str]) -> list[str]:
        files = [self._files[path] for path in paths]
        if not files:
            return []
        try:
            return native_client.xet_hashes([file.path for file in files if isinstance(file, LocalFile)])
        except (OSError, RuntimeError) as error:  # it does not say which of them
            check_unchanged(files, [file.size for file in files])
            raise XetSourceError(f"One of {len(files)} files cannot be read any more: {error}.") from error


def _blocks(file: StoredFile) -> Iterator[bytes]:
    size = 0
    for block in file.blocks():
        size += len(block)
        yield block
    if size != file.size:
        raise XetSourceError(f"{file} changed while it was compared. Mirror when the writer is done.")
