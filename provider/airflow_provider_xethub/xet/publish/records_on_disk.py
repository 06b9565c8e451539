"""The records of many files on this worker's disk, as a sequence in the order of their paths."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar, cast, overload

from airflow_provider_xethub.xet import records
from airflow_provider_xethub.xet.message_text import counted
from airflow_provider_xethub.xet.process.path_table import PathTable, Row
from airflow_provider_xethub.xet.records import XetFile

T = TypeVar("T")

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class RecordsOnDisk(Sequence[XetFile]):
    """Records with different paths. Any number of iterations; the memory does not depend on their number.

    :param rows: their records.
    :param change: changes each record when it is read.
    """

    def __init__(self, rows: PathTable, change: Callable[[XetFile], XetFile] = lambda file: file) -> None:
        self._rows = rows
        self._change = change

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[XetFile]:
        return self._between(0)

    @overload
    def __getitem__(self, index: int) -> XetFile: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[XetFile]: ...

    def __getitem__(self, index: int | slice) -> XetFile | Sequence[XetFile]:
        if isinstance(index, slice):
            wanted = range(len(self))[index]
            if not wanted:
                return []
            first, last = sorted((wanted[0], wanted[-1]))
            return list(self._between(first, last + 1))[:: wanted.step]
        at = index if index >= 0 else len(self) + index
        if not 0 <= at < len(self):
            raise IndexError(index)
        return next(self._between(at, at + 1))

    def find(self, path: str) -> XetFile | None:
        """Return the record with this path."""
        value = self._rows.get(path)
        return None if value is None else self._read(value)

    def add(self, file: XetFile) -> bool:
        """Add a record, and return whether its path is new; if not, nothing is changed."""
        return self._rows.add(Row(file["path"], record_text(file), file["size"]))

    def _between(self, start: int, stop: int | None = None) -> Iterator[XetFile]:
        return (self._read(row.value) for row in self._rows.by_path(start, stop))

    def _read(self, value: str) -> XetFile:
        return self._change(cast("XetFile", json.loads(value)))

    def __repr__(self) -> str:
        return f"<{counted(len(self), 'file')}>"


def record_text(file: XetFile) -> str:
    """Return a record as it is kept on disk."""
    return _ENCODER.encode(file)


def batches(items: Iterable[T], size: int | None = None) -> Iterator[list[T]]:
    """Yield lists of up to ``size`` items. Default: as many as are kept in memory."""
    rest = iter(items)
    while batch := list(islice(rest, size or records.IN_MEMORY)):
        yield batch
