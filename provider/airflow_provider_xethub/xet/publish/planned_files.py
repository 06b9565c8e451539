"""The files of a commit with what the Hub has already: in memory, or on disk if there are many."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from airflow_provider_xethub.xet import records
from airflow_provider_xethub.xet.process.path_table import PathTable, Row
from airflow_provider_xethub.xet.publish.records_on_disk import RecordsOnDisk, record_text
from airflow_provider_xethub.xet.records import XetFile, published_record


@dataclass(frozen=True)
class Planned:
    """One file.

    :param record: as it will be published.
    :param inline: whether its content travels in the commit.
    :param unchanged: whether the repository has it already.
    """

    record: XetFile
    inline: bool
    unchanged: bool

    @property
    def inline_bytes(self) -> int | None:
        """Its size where it is inline."""
        return self.record["size"] if self.inline else None


class PlannedFiles:
    """Files with different paths. They are added in any order, and read by path."""

    def __init__(self) -> None:
        self._most = records.IN_MEMORY
        self._few: list[Planned] = []
        self._paths: list[str] | None = None
        self._by_path: list[Planned] = []
        self._many: PathTable | None = None

    def add(self, files: Iterable[Planned]) -> None:
        """Add files, whose paths are new."""
        self._paths = None
        for file in files:
            if self._many is None:
                self._few.append(file)
                if len(self._few) > self._most:
                    self._many = PathTable()
                    for each in self._few:
                        self._many.add(_row(each))
                    self._few = []
            else:
                self._many.add(_row(file))

    def __len__(self) -> int:
        return len(self._few) if self._many is None else len(self._many)

    @property
    def are_on_disk(self) -> bool:
        """Whether there are so many that they are kept on disk."""
        return self._many is not None

    def by_path(self, start: int = 0, stop: int | None = None) -> Iterator[Planned]:
        """Yield the files in the order of their paths, from a position to another one."""
        if self._many is None:
            self._sort()
            yield from self._by_path[start:stop]
        else:
            for row in self._many.by_path(start, stop):
                yield Planned(json.loads(row.value), row.size is not None, row.marked)

    def sizes_by_path(self) -> Iterator[tuple[int | None, bool]]:
        """Yield of each file its size, if it is inline, and whether it is unchanged, in the order of their paths."""
        if self._many is not None:
            return self._many.sizes_by_path()
        return ((file.inline_bytes, file.unchanged) for file in self.by_path())

    def has(self, path: str) -> bool:
        """Return whether a file has this path."""
        if self._many is not None:
            return self._many.get(path) is not None
        paths = self._sort()
        at = bisect_left(paths, path)
        return paths[at : at + 1] == [path]

    def has_below(self, folder: str) -> bool:
        """Return whether a file is in this folder."""
        if self._many is not None:
            return self._many.has_below(folder)
        paths = self._sort()
        at = bisect_left(paths, f"{folder}/")
        return at < len(paths) and paths[at].startswith(f"{folder}/")

    def replace_record(self, record: XetFile) -> None:
        """Let a file that was added have another record."""
        if self._many is not None:
            self._many.replace(record["path"], record_text(record))
            return
        self._few = [
            replace(file, record=record) if file.record["path"] == record["path"] else file for file in self._few
        ]
        self._paths = None

    @property
    def unchanged(self) -> Collection[str]:
        """The paths of files that the repository has already."""
        return (
            {file.record["path"] for file in self._few if file.unchanged}
            if self._many is None
            else MarkedPaths(self._many)
        )

    def compare_again(self, same: Iterable[str]) -> Collection[str]:
        """Return which paths were unchanged before an earlier attempt. After this, the parts are others."""
        if self._many is None:
            return set(same)
        self._many.mark_all(False)
        self._many.mark(same)
        return MarkedPaths(self._many)

    def published(self, repo: str) -> Sequence[XetFile]:
        """Return the records as they are after they were published.

        :param repo: the ``hf://`` URI of the repository and revision that now has them.
        """
        if self._many is None:
            return [published_record(file.record, repo) for file in self._few]
        return RecordsOnDisk(self._many, lambda file: published_record(file, repo))

    def _sort(self) -> list[str]:
        if self._paths is None:
            self._by_path = sorted(self._few, key=lambda file: file.record["path"])
            self._paths = [file.record["path"] for file in self._by_path]
        return self._paths


class MarkedPaths(Collection[str]):
    """The paths of marked rows, in their order."""

    def __init__(self, rows: PathTable) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return self._rows.count_marked()

    def __iter__(self) -> Iterator[str]:
        return (row.path for row in self._rows.by_path() if row.marked)

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and self._rows.is_marked(path)


def _row(file: Planned) -> Row:
    record = file.record
    # Samples were needed to ask the Hub; the content of inline files is read once more, by the whole record.
    kept = record if file.inline else published_record(record, record["repo"])
    return Row(record["path"], record_text(kept), file.inline_bytes, file.unchanged)
