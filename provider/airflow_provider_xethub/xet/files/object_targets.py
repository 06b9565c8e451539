"""Targets of downloads in object storage: never outside the destination, verified before they are visible."""

from __future__ import annotations

import os
import posixpath
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.files import spellings
from airflow_provider_xethub.xet.files.object_storage import AT_A_TIME, Location, Storage, location
from airflow_provider_xethub.xet.files.targets import checked_paths, damaged, digest_of, new_digest
from airflow_provider_xethub.xet.native_client import XetHash
from airflow_provider_xethub.xet.process import temporary_names, threads
from airflow_provider_xethub.xet.records import XetFile
from airflow_provider_xethub.xet.repo import check_path
from airflow_provider_xethub.xet.task_state import TaskState

STATE = "xethub_uploads_in_parts"
"""Key of the task state: the ids of multipart uploads in progress, by URI."""


@dataclass(frozen=True)
class StoredTarget:
    """A file to download: its record, and its final path in object storage."""

    file: XetFile
    storage: Storage
    path: str

    @property
    def uri(self) -> str:
        """The URI for ``ObjectStoragePath`` and the operators."""
        return self.storage.uri(self.path)


def stored_targets(
    files: Sequence[XetFile], where: Location, storage: Storage, *, single: bool, names_checked: bool = False
) -> list[StoredTarget]:
    """Decide on the path of each file, and refuse paths outside of ``where``.

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
            # Other storages have no symbolic links, or do not report their targets.
            folder = os.path.realpath(os.path.dirname(path))  # noqa: PTH120 - a path of the storage
            if os.path.commonpath([folder, os.path.realpath(root)]) != os.path.realpath(root):
                raise XetInputError(
                    f"{file['path']} of {file['repo']} would be written outside of {where}. It was refused."
                )
        if path in targets:
            raise XetInputError(
                f"two of the files would be written to {storage.uri(path)}. Download them to different folders."
            )
        targets[path] = StoredTarget(file, storage, path)
    if files and not names_checked and not storage.distinguishes_names:
        folder = posixpath.dirname(root) if as_file else root
        paths = [posixpath.basename(root)] if as_file else [file["path"] for file in files]
        spellings.check(_Names(storage), folder, paths, files[0]["repo"])
    return list(targets.values())


def check_names(files: Iterable[XetFile], where: Location, storage: Storage, repo: str) -> None:
    """Refuse any number of files as :func:`airflow_provider_xethub.xet.files.targets.check_names` does.

    :raises XetInputError: there are such files. Nothing was written.
    """
    names = _DistinctNames(storage) if storage.distinguishes_names else _Names(storage)
    spellings.check(names, storage.plain(where.path), checked_paths(files), repo, on_disk=True)


def abort_abandoned(storage: Storage, where: Location, state: TaskState) -> None:
    """Abort the multipart uploads that an earlier attempt of this task left below a folder."""
    if storage.attempt.number == 1:
        return
    for uri, upload_id in Unfinished(state).from_earlier_attempt().items():
        if uri.startswith(f"{storage.uri(storage.plain(where.path))}/") and (at := location(uri)):
            storage.abort(storage.plain(at.path), upload_id)


class _Names:
    """A storage as a destination for :mod:`airflow_provider_xethub.xet.files.spellings`."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.has = storage.has
        self.shown = storage.uri

    def listed(self, folders: Sequence[str]) -> list[list[str]]:
        return threads.stoppable(lambda stopped: threads.each(self._storage.names, folders, AT_A_TIME, stopped))

    @contextmanager
    def trial(self, folder: str) -> Iterator[spellings.Trial]:
        while not self._storage.is_folder(folder) and folder.strip("/"):
            folder = posixpath.dirname(folder)
        place = f"{folder.rstrip('/')}/{temporary_names.new_name('/')}"
        try:
            yield _Trial(self._storage, place)
        finally:
            self._storage.remove_folder(place)


class _DistinctNames(_Names):
    """A storage where names that differ are different, whatever is there."""

    def listed(self, folders: Sequence[str]) -> list[list[str]]:
        return [[] for _ in folders]

    @contextmanager
    def trial(self, folder: str) -> Iterator[spellings.Trial]:  # noqa: ARG002
        yield _DistinctTrial()


class _DistinctTrial:
    def has(self, name: str) -> bool:  # noqa: ARG002
        return False

    def create(self, name: str) -> None:
        """Do nothing."""

    def remove(self, name: str) -> None:
        """Do nothing."""

    def listed(self) -> list[str]:
        return []


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
        return self.storage.names(self.place)


class Unfinished:
    """The multipart uploads in progress, kept in the task state so that a retry can abort those of a killed attempt."""

    def __init__(self, state: TaskState) -> None:
        self._state = state
        self._ids: dict[str, str] = {}
        self._changing = threading.Lock()

    def from_earlier_attempt(self) -> dict[str, str]:
        """Return the upload ids left by an earlier attempt, by URI."""
        known = self._state.recall(STATE).get("uploads")
        return {str(uri): str(upload) for uri, upload in known.items()} if isinstance(known, dict) else {}

    def started(self, target: StoredTarget, upload_id: str) -> None:
        """Record an upload that has started."""
        with self._changing:
            self._ids[target.uri] = upload_id
            self._state.remember(STATE, {"uploads": self._ids})

    def ended(self, target: StoredTarget) -> None:
        """Forget an upload that has ended. The task state may keep it: aborting it again has no effect."""
        with self._changing:
            self._ids.pop(target.uri, None)


def remove_abandoned(targets: Sequence[StoredTarget], unfinished: Unfinished, stopped: threading.Event) -> None:
    """Remove what earlier attempts of this task, and other writers that have ended, left of these targets."""
    if not targets:
        return
    storage = targets[0].storage
    if storage.attempt.number != 1:  # the first attempt has nothing to recall
        by_uri = {target.uri: target for target in targets}
        for uri, upload_id in unfinished.from_earlier_attempt().items():
            if uri in by_uri:
                storage.abort(by_uri[uri].path, upload_id)
    folders: dict[str, list[str]] = {}
    for target in targets:
        folder, name = posixpath.split(target.path)
        folders.setdefault(folder, []).append(name)
    threads.each(lambda each: storage.remove_abandoned(*each), list(folders.items()), AT_A_TIME, stopped)


def missing(targets: Sequence[StoredTarget], stopped: threading.Event) -> list[StoredTarget]:
    """Return the targets that have to be downloaded.

    The storage keeps the sha256 of objects that this provider wrote: the others are unchanged according to it.
    """
    if not targets:
        return []
    folder = posixpath.commonpath([posixpath.dirname(target.path) for target in targets])
    if not targets[0].storage.keeps_digests(folder):
        return list(targets)
    there = threads.each(_is_unchanged, targets, AT_A_TIME, stopped)
    return [target for target, is_unchanged in zip(targets, there, strict=True) if not is_unchanged]


def _is_unchanged(target: StoredTarget) -> bool:
    sha256 = target.file["sha256"]
    return sha256 is not None and target.storage.recorded(target.path) == (target.file["size"], sha256)


def write(target: StoredTarget, pieces: Iterable[bytes], unfinished: Unfinished) -> None:
    """Write and verify the content, and only then make the object visible under its final name.

    A file without a sha256, as in buckets, is verified by its Xet hash.

    :param unfinished: records a multipart upload.
    :raises XetIntegrityError: size or digest differ; the content was discarded, and the final name is unchanged.
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
                    unfinished.started(target, upload_id)
                    is_known = True
            if size != file["size"]:
                raise damaged(file, f"it has {size} bytes instead of {file['size']}")
            kind, digest = wanted or ("Xet hash", file["xet_hash"])
            if state and (found := state.hexdigest()) != digest:
                raise damaged(file, f"{kind} is {found} instead of {digest}")
            writer.finish()
    finally:
        if isinstance(state, XetHash):
            state.close()
    unfinished.ended(target)
