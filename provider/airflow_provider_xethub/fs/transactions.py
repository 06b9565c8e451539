"""Several files in one commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fsspec.transaction import Transaction

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.fs.errors import missing_files

if TYPE_CHECKING:
    from airflow_provider_xethub.fs.files import WritingFile

HELD = 64 << 20
"""Bytes of small files that wait in memory for the end of a transaction; more go into CAS when they are closed."""


class XetTransaction(Transaction):  # type: ignore[misc]  # fsspec has no types
    """Makes one commit of all files that a thread writes in it, for each repository and revision.

    Left by an exception, nothing is published.

    :ivar folders: those that were made in it; nobody remembers them afterwards.
    """

    fs: Any

    def __init__(self, fs: Any, **options: Any) -> None:
        super().__init__(fs, **options)
        self._held = 0
        self.folders: set[str] = set()

    def has_room(self, size: int) -> bool:
        """Whether a file of this size may wait in memory, and count it if so."""
        if self._held + size > HELD:
            return False
        self._held += size
        return True

    def complete(self, commit: bool = True) -> None:
        """Publish the files, or discard them.

        :raises XetInputError: one was not closed; nothing was published.
        :raises XetHubError: nothing was committed to this repository.
        """
        fs: Any = self.fs
        files = list(self.files)
        self.files.clear()
        fs._intrans, fs._transaction, self.fs, self._held = False, None, None, 0
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
            if file.is_complete:  # the others were left by an exception that somebody caught
                by_repo.setdefault(file.place.repo.uri, []).append(file)
        for group in by_repo.values():
            with missing_files():
                fs.publish(group)
