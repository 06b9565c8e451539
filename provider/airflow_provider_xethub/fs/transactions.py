"""Several files in one commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fsspec.transaction import Transaction

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.fs.errors import file_not_found_errors

if TYPE_CHECKING:
    from airflow_provider_xethub.fs.open_files import WritingFile

MAX_BYTES_IN_MEMORY = 64 << 20
"""Bytes of small files that stay in memory until the end of a transaction; more go into CAS when they are closed."""


class XetTransaction(Transaction):  # type: ignore[misc]  # fsspec has no types
    """Publish all files that a thread writes in one commit for each repository and revision.

    Nothing is published if an exception leaves the block.

    :ivar folders: folders that were created in it; they are discarded when it ends.
    """

    fs: Any

    def __init__(self, fs: Any, **options: Any) -> None:
        super().__init__(fs, **options)
        self._bytes_in_memory = 0
        self.folders: set[str] = set()

    def reserve_memory(self, size: int) -> bool:
        """Return whether a file of this size may stay in memory until the end, and count it if so."""
        if self._bytes_in_memory + size > MAX_BYTES_IN_MEMORY:
            return False
        self._bytes_in_memory += size
        return True

    def complete(self, commit: bool = True) -> None:
        """Publish the files, or discard them.

        :raises XetInputError: one was not closed; nothing was published.
        :raises XetHubError: nothing was committed to this repository.
        """
        fs: Any = self.fs
        files = list(self.files)
        self.files.clear()
        fs._intrans, fs._transaction, self.fs, self._bytes_in_memory = False, None, None, 0
        self.folders.clear()
        unfinished = [file for file in files if not file.closed]
        if not commit or unfinished:
            for file in files:
                file.discard()
        if not commit:
            return
        if unfinished:
            raise XetInputError(
                f"hf://{unfinished[0].path} was not closed before the end of the transaction. Nothing was published."
            )
        by_repo: dict[str, list[WritingFile]] = {}
        for file in files:
            if file.is_complete:  # an incomplete one was left by an exception that the block caught
                by_repo.setdefault(file.hub_path.repo.uri, []).append(file)
        for group in by_repo.values():
            with file_not_found_errors():
                fs.publish(group)
