"""A large file that the repository may have already: it is uploaded while its digest is computed.

To compute the digest first costs a changed file a third of its upload; to upload it first costs an unchanged one half
as much again. So both begin at the same time, on two cores, and the upload ends when the digest is that of the
repository's file.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence

from airflow_provider_xethub.xet.files.sources import LocalFile, SourceFile
from airflow_provider_xethub.xet.files.targets import digest
from airflow_provider_xethub.xet.hub.preupload import UploadMode

SMALLEST = 64 << 20
"""Size in bytes from which both are done at the same time; the digest of less takes as long as one request."""


def doubtful(files: Sequence[SourceFile], modes: Mapping[str, UploadMode]) -> tuple[LocalFile, str] | None:
    """Return the file to upload while its digest is computed, and the sha256 of the repository's file.

    ``None`` where that would be slower.

    With several files, their digests keep all cores busy. With one core, upload and digest would take turns.

    :param files: all that would go through CAS.
    :param modes: the Hub's answer for each; ``current`` is the sha256 of the file it has.
    """
    if len(files) != 1 or _cores() < 2:
        return None
    (file,) = files
    current = modes[file.path_in_repo].current
    return (file, current) if current and isinstance(file, LocalFile) and file.size >= SMALLEST else None


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


class Comparison:
    """Compares the digest of a file with that of the repository's file while the file is uploaded.

    :param file: the file.
    :param current: sha256 of the file that the repository has.
    :ivar digest: sha256 of the file in hex; ``None`` until it is known, and if the file could not be read.
    """

    def __init__(self, file: LocalFile, current: str) -> None:
        self._file = file
        self._current = current
        self._when_equal: Callable[[], None] | None = None
        self._turn = threading.Lock()
        self._is_started = False
        self.digest: str | None = None

    @property
    def is_equal(self) -> bool:
        """Whether the repository has the file already, as far as is known now."""
        return self.digest == self._current

    def start(self, when_equal: Callable[[], None]) -> None:
        """Compute the digest in a thread, unless an earlier attempt did, and call ``when_equal`` if it is equal."""
        with self._turn:
            if self.is_equal:
                when_equal()
                return
            self._when_equal = when_equal
            if self._is_started:
                return
            self._is_started = True
        threading.Thread(target=self._compare, name="xethub-digest", daemon=True).start()

    def end(self) -> None:
        """Do not call ``when_equal`` any more: the upload is over."""
        with self._turn:
            self._when_equal = None

    def _compare(self) -> None:
        try:
            found = digest(self._file.path, "sha256", self._file.size)
        except OSError:
            return  # the upload reads the file as well, and says what is wrong
        with self._turn:
            self.digest = found
            if self.is_equal and self._when_equal:
                self._when_equal()
