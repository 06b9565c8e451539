"""The files in one folder of a repository. A missing folder has none."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import cast

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet import answers, records
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.process.path_table import PathTable, Row
from airflow_provider_xethub.xet.records import XetFile
from airflow_provider_xethub.xet.repo import Repo, folders_above


def list_folder(hub: Hub, repo: Repo, folder: str) -> Mapping[str, XetFile]:
    """Return the files in a folder of a repository, by path; none where the folder does not exist.

    :param folder: the path of the folder; empty for the root.
    :returns: in the order of the paths. More than :data:`~airflow_provider_xethub.xet.records.IN_MEMORY` are on disk.
    :raises XetInputError: the folder, or one above it, is a file.
    :raises XetNotFoundError: the repository or the revision does not exist.
    """
    if folder and not repo.is_bucket:
        names = [folder, *folders_above(folder)]
        there = hub.existing_paths(repo, names)
        if file := next((name for name in names if name in there), None):
            raise XetInputError(
                f"path_in_repo {folder!r} cannot be a folder of {repo}: {file} is a file. Choose another."
            )
        if f"{folder}/" not in there:
            return {}
    path = f"{folder}/" if repo.is_bucket and folder else folder or None
    about = f"the listing of {path or 'all files'} in {repo}"
    few: dict[str, XetFile] = {}
    many: FilesOnDisk | None = None
    for entries in hub.tree_pages(repo, path, recursive=True):
        with hub.reading(about):
            files = [answers.file_record(each, repo.uri) for each in entries if answers.kind(each) == "file"]
        if many is not None:
            many.add(files)
            continue
        few |= {file["path"]: file for file in files}
        if len(few) > records.IN_MEMORY:
            many = FilesOnDisk()
            many.add(few.values())
            few = {}
    return dict(sorted(few.items())) if many is None else many


class FilesOnDisk(Mapping[str, XetFile]):
    """File records by path, in the order of the paths, on this worker's disk."""

    def __init__(self) -> None:
        self._rows = PathTable()

    def add(self, files: Iterable[XetFile]) -> None:
        """Add records; of those with the same path, the first is kept."""
        for file in files:
            self._rows.add(Row(file["path"], json.dumps(file)))

    def __getitem__(self, path: str) -> XetFile:
        value = self._rows.get(path)
        if value is None:
            raise KeyError(path)
        return cast("XetFile", json.loads(value))

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and self._rows.get(path) is not None

    def __iter__(self) -> Iterator[str]:
        return (row.path for row in self._rows.by_path())

    def __len__(self) -> int:
        return len(self._rows)
