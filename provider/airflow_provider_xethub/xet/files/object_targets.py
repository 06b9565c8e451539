"""Where downloaded files go in object storage: never outside the destination, under their name only when verified."""

from __future__ import annotations

import os
import posixpath
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from airflow_provider_xethub.exceptions import XetInputError, XetIntegrityError
from airflow_provider_xethub.xet import temporary_names as part_files
from airflow_provider_xethub.xet import threads as workers
from airflow_provider_xethub.xet.files import spellings
from airflow_provider_xethub.xet.files.object_storage import AT_A_TIME, Location, Storage
from airflow_provider_xethub.xet.files.targets import digest_of, new_digest
from airflow_provider_xethub.xet.native_client import XetHash
from airflow_provider_xethub.xet.records import XetFile
from airflow_provider_xethub.xet.repo import check_path
from airflow_provider_xethub.xet.task_state import TaskState

STATE = "xethub_uploads_in_parts"
"""Key of the task state: the ids of the uploads in parts that are under way, by URI."""


@dataclass(frozen=True)
class StoredTarget:
    """A file to download: its record, and its final path in object storage."""

    file: XetFile
    storage: Storage
    path: str

    @property
    def uri(self) -> str:
        """What names it for ``ObjectStoragePath`` and the operators."""
        return self.storage.uri(self.path)


def plan(files: Sequence[XetFile], where: Location, storage: Storage, *, single: bool) -> list[StoredTarget]:
    """Decide where each file goes, and refuse what would leave ``where``.

    :param where: a folder; for a ``single`` file it may name the object itself, unless it is an existing folder or ends
        with a slash.
    :raises XetInputError: a path would leave the folder, or two files would become one. Nothing was written.
    """
    root = storage.plain(where.path)
    as_file = single and len(files) == 1 and not where.path.endswith("/") and not storage.is_folder(root)
    targets: dict[str, StoredTarget] = {}
    for file in files:
        check_path(file["path"])
        path = root if as_file else f"{root.rstrip('/')}/{file['path']}"
        if storage.scheme in ("file", "local") and not as_file:
            # Elsewhere nobody can tell what a symbolic link leads to, or there are none.
            folder = os.path.realpath(os.path.dirname(path))  # noqa: PTH120 - a path of the storage
            if os.path.commonpath([folder, os.path.realpath(root)]) != os.path.realpath(root):
                raise XetInputError(f"{file['path']} of {file['repo']} would be written outside of {where}. Refused.")
        if path in targets:
            raise XetInputError(f"two of the files would be written to {storage.uri(path)}.")
        targets[path] = StoredTarget(file, storage, path)
    if files and not storage.tells_names_apart:
        folder = posixpath.dirname(root) if as_file else root
        paths = [posixpath.basename(root)] if as_file else [file["path"] for file in files]
        spellings.check(_Names(storage), folder, paths, files[0]["repo"])
    return list(targets.values())


class _Names:
    """How a storage treats names: see :mod:`airflow_provider_xethub.xet.files.spellings`."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.has = storage.has
        self.shown = storage.uri

    def listed(self, folders: Sequence[str]) -> list[list[str]]:
        return workers.stoppable(lambda stopped: workers.each(self._storage.listed, folders, AT_A_TIME, stopped))

    @contextmanager
    def trial(self, folder: str) -> Iterator[spellings.Trial]:
        while not self._storage.is_folder(folder) and folder.strip("/"):
            folder = posixpath.dirname(folder)
        place = f"{folder.rstrip('/')}/{part_files.new_name('/')}"
        try:
            yield _Trial(self._storage, place)
        finally:
            self._storage.remove_folder(place)


@dataclass(frozen=True)
class _Trial:
    storage: Storage
    place: str

    def has(self, name: str) -> bool:
        return self.storage.has(f"{self.place}/{name}")

    def create(self, name: str) -> None:
        self.storage.touch(f"{self.place}/{name}")

    def remove(self, name: str) -> None:
        self.storage.remove(f"{self.place}/{name}")

    def listed(self) -> list[str]:
        return self.storage.listed(self.place)


class Unfinished:
    """The uploads in parts that are under way: remembered, so that a retry can abort what a killed try has left."""

    def __init__(self, state: TaskState) -> None:
        self._state = state
        self._ids: dict[str, str] = {}
        self._changing = threading.Lock()

    def left(self) -> dict[str, str]:
        """Return the ids of those of an earlier try by URI."""
        known = self._state.recall(STATE).get("uploads")
        return {str(uri): str(upload) for uri, upload in known.items()} if isinstance(known, dict) else {}

    def begun(self, target: StoredTarget, upload_id: str) -> None:
        """Remember one."""
        with self._changing:
            self._ids[target.uri] = upload_id
            self._state.remember(STATE, {"uploads": self._ids})

    def ended(self, target: StoredTarget) -> None:
        """Forget one; that needs not be written down, as it can be aborted no more."""
        with self._changing:
            self._ids.pop(target.uri, None)


def clear_left(targets: Sequence[StoredTarget], unfinished: Unfinished, stopped: threading.Event) -> None:
    """Remove what earlier attempts of this task, and others that are certainly dead, have left of these targets."""
    if not targets:
        return
    storage = targets[0].storage
    if storage.attempt.number != 1:  # before the first one there is nothing to recall
        by_uri = {target.uri: target for target in targets}
        for uri, upload_id in unfinished.left().items():
            if uri in by_uri:
                storage.abort(by_uri[uri].path, upload_id)
    folders: dict[str, list[str]] = {}
    for target in targets:
        folder, name = posixpath.split(target.path)
        folders.setdefault(folder, []).append(name)
    workers.each(lambda each: storage.clear_left(*each), list(folders.items()), AT_A_TIME, stopped)


def missing(targets: Sequence[StoredTarget], stopped: threading.Event) -> list[StoredTarget]:
    """Return the targets that have to be downloaded.

    The others are what the storage says they are: it keeps the sha256 of what this provider wrote.
    """
    if not targets:
        return []
    folder = posixpath.commonpath([posixpath.dirname(target.path) for target in targets])
    if not targets[0].storage.keeps_digests(folder):
        return list(targets)
    there = workers.each(_is_there, targets, AT_A_TIME, stopped)
    return [target for target, is_there in zip(targets, there, strict=True) if not is_there]


def _is_there(target: StoredTarget) -> bool:
    sha256 = target.file["sha256"]
    return sha256 is not None and target.storage.recorded(target.path) == (target.file["size"], sha256)


def receive(target: StoredTarget, pieces: Iterable[bytes], unfinished: Unfinished) -> None:
    """Write the pieces, verify them while they pass, and only then give the object its name.

    What has no sha256, as in buckets, is verified by its Xet hash.

    :param unfinished: is told of an upload in parts.
    :raises XetIntegrityError: size or digest differ; nothing was kept, and the final name is as it was.
    :raises XetDestinationError: the object cannot be written.
    """
    file = target.file
    wanted = digest_of(file)
    state = new_digest(wanted[0], file["size"]) if wanted else XetHash() if file["size"] else None
    size = 0
    is_known = False
    try:
        with target.storage.writing(target.path, file["size"], file["sha256"]) as writer:
            for piece in pieces:
                size += len(piece)
                if state:
                    state.update(piece)
                writer.write(piece)
                if not is_known and (upload_id := writer.upload_id):
                    unfinished.begun(target, upload_id)
                    is_known = True
            about = f"{file['path']} of {file['repo']} arrived"
            if size != file["size"]:
                raise XetIntegrityError(f"{about} with {size} bytes instead of {file['size']}. Nothing was kept.")
            kind, digest = wanted or ("Xet hash", file["xet_hash"])
            if state and (found := state.hexdigest()) != digest:
                raise XetIntegrityError(f"{about} damaged: {kind} is {found} instead of {digest}. Nothing was kept.")
            writer.keep()
    finally:
        if isinstance(state, XetHash):
            state.close()
    unfinished.ended(target)
