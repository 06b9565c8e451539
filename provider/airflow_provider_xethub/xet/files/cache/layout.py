"""One snapshot in the Hugging Face cache: its folders, blobs, links and ref, as ``huggingface_hub`` lays them out.

``blobs/<etag>`` holds the content, ``snapshots/<commit>/<path>`` is a relative link to it, and ``refs/<revision>``
holds the commit. The etag is the sha256 of a file in CAS, and the git blob id of an inline file. Where the worker has
no symbolic links, the snapshot holds the files themselves.

No link is followed below the folder of the cache, except from a blob into the store of shared blobs: anyone who may
write to a shared cache could otherwise redirect what a task writes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from airflow_provider_xethub.exceptions import XetDestinationError, XetHubError, XetInputError
from airflow_provider_xethub.xet.files import spellings, targets
from airflow_provider_xethub.xet.files.cache import client_cache
from airflow_provider_xethub.xet.files.cache.hub_cache import HubCache
from airflow_provider_xethub.xet.files.targets import Target
from airflow_provider_xethub.xet.message_text import os_reason, shortened
from airflow_provider_xethub.xet.process import temporary_names
from airflow_provider_xethub.xet.records import XetFile
from airflow_provider_xethub.xet.repo import Repo, check_path

_EMPTY_BLOB = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
"""The git blob id of an empty file."""


@dataclass(frozen=True)
class Blob:
    """One content of a snapshot, and the paths that have it.

    :param name: its etag.
    :param file: the record of one of the paths, with only the digest that is the etag.
    :param paths: in the repository.
    """

    name: str
    file: XetFile
    paths: Sequence[str]

    @property
    def is_in_cas(self) -> bool:
        """Whether the content is in CAS, so that repositories share it."""
        return bool(self.file["xet_hash"] and self.file["size"])


def etag(file: XetFile) -> str:
    """Return the name of a file's blob.

    :raises XetInputError: the record has no digest that the Hub uses as the etag.
    """
    if file["xet_hash"] and file["sha256"]:
        return file["sha256"]
    found = file.get("blob_id") or (file["sha256"] if file["size"] else _EMPTY_BLOB)
    if found is None:
        raise XetInputError(
            f"The record of {file['path']} of {file['repo']} has no sha256 and no blob_id, so it has no name in the "
            "Hugging Face cache. Pass records as XetListOperator returns them."
        )
    return found


def blobs_of(files: Sequence[XetFile]) -> list[Blob]:
    """Return the distinct contents of the files, sorted by name.

    :raises XetInputError: a file has no digest.
    """
    by_name: dict[str, list[XetFile]] = {}
    for file in files:
        by_name.setdefault(etag(file), []).append(file)
    blobs = []
    for name, same in sorted(by_name.items()):
        # One path may have come with its content, another without.
        file = next((each for each in same if "sealed_content" in each), same[0]).copy()
        # Verified by its name: of two digests in one record, the other may be wrong.
        if file["sha256"] != name:
            file["sha256"], file["blob_id"] = None, name
        blobs.append(Blob(name, file, [each["path"] for each in same]))
    return blobs


class Snapshot:
    """The folder of one commit in the cache. Nothing is written before :meth:`prepare`.

    :param cache: names the folder of the cache.
    :param repo: the repository at the commit.
    :param attempt: the attempt of the task that downloads, for the names of temporary files.
    :raises XetInputError: the path of the cache is wrong.
    :ivar folder: what ``from_pretrained`` takes.
    """

    def __init__(self, cache: HubCache, repo: Repo, attempt: temporary_names.Attempt = temporary_names.UNKNOWN) -> None:
        self.repo = repo
        self.attempt = attempt
        self.root = targets.root_of(client_cache.default_folder() if cache.path is None else cache.path).resolve()
        self._name = client_cache.repo_folder(repo)
        self.storage = self.root / self._name
        self.folder = self.storage / "snapshots" / repo.revision
        self._blobs = self.storage / "blobs"
        self._links = True
        self._checked: set[Path] = set()

    # --- folders

    def prepare(self, files: Iterable[XetFile], *, are_many: bool = False) -> None:
        """Create the folders, and check that the files can have their names here.

        :param files: any iterable that can be iterated several times.
        :param are_many: whether they may be too many for memory, and a path may occur twice.
        :raises XetInputError: a name is too long, or two files would become one.
        :raises XetDestinationError: a folder cannot be created, or is a symbolic link.
        """
        longest = targets.longest_name(self.root)
        for file in files:
            targets.check_length(file, Path(file["path"]), longest)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise XetDestinationError(f"{self.root} cannot be created on this worker: {os_reason(error)}.") from error
        self._real_folder(self._name, "blobs")
        self._real_folder(self._name, "snapshots", self.repo.revision)
        paths = (file["path"] for file in files)
        spellings.check(spellings.Local(), str(self.folder), paths, self.repo.uri, on_disk=are_many)
        with self._writing(str(self.root)):
            self._links = client_cache.links_supported(self.root)
            client_cache.tag(self.root)

    def locks_folder(self) -> Path:
        """Return the folder of the lock files, and create it."""
        return self._real_folder(".locks", self._name)

    def write_tree(self, entries: Sequence[dict[str, object]]) -> None:
        """Write the listing of the commit, as the Hub returned it."""
        self._real_folder(self._name, "trees")
        with self._writing("the listing of the commit"):
            client_cache.write_tree(self.storage, self.repo.revision, entries)

    def _real_folder(self, *names: str) -> Path:
        """Return a folder below the cache's, created where it is missing.

        :raises XetDestinationError: one of the folders is a symbolic link, a file, or cannot be created.
        """
        folder = self.root
        for name in names:
            folder = folder / name
            if folder in self._checked:
                continue
            with self._writing(str(folder)):
                folder.mkdir(exist_ok=True)
                is_link = folder.is_symlink()
            if is_link:
                raise XetDestinationError(
                    f"{folder} is a symbolic link, which is not followed inside a cache. Replace it with a folder."
                )
            self._checked.add(folder)
        return folder

    # --- blobs

    def blob_path(self, blob: Blob) -> Path:
        """Return where the content of a blob is, or will be."""
        return self._blobs / blob.name

    def target(self, blob: Blob) -> Target:
        """Return the download of a blob."""
        path = self.blob_path(blob)
        return Target(blob.file, path, temporary_names.new(path, self.attempt))

    def is_complete(self, blob: Blob, *, is_locked: bool = False) -> bool:
        """Return whether the content is in the cache and has the right digest, which is computed; place it if so.

        :param is_locked: whether this process may finish what a killed one began; until then, it counts as missing.
        """
        found = self.find(blob)
        with self._writing(blob.name):
            is_unfinished = found is not None and self._is_unfinished(blob)
        if is_unfinished:
            if not is_locked:
                return False
            self.share(blob)
        if found is not None:
            self.place(blob, found)
        return found is not None

    def _is_unfinished(self, blob: Blob) -> bool:
        """Return whether a process was killed after it had written a blob, and before it moved it to the shared ones.

        No snapshot refers to such a blob yet, so nobody reads it while it is moved.
        """
        path = self.blob_path(blob)
        is_plain = self._shared_as(blob) is not None and not path.is_symlink() and path.is_file()
        return is_plain and blob.name not in self._in_use

    @cached_property
    def _in_use(self) -> frozenset[str]:
        """Names of the blobs that snapshots referred to when it was first asked."""

        def fail(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise error  # what cannot be listed may be in use

        paths = (
            os.path.join(folder, name)  # noqa: PTH118 - many
            for folder, _, names in os.walk(self.storage / "snapshots", onerror=fail)
            for name in names
        )
        return frozenset(os.path.basename(os.readlink(path)) for path in paths if os.path.islink(path))  # noqa: PTH114, PTH115, PTH119

    def _shared_as(self, blob: Blob) -> str | None:
        """Return the Xet hash by which a blob is shared; ``None`` if it is not to be shared."""
        return blob.file["xet_hash"] if self._links and blob.is_in_cas else None

    def find(self, blob: Blob) -> Path | None:
        """Return a file of the repository with the right size and digest."""
        candidates = [self.blob_path(blob)]
        if not self._links:
            candidates += [self.folder / path for path in blob.paths]
        for path in candidates:
            try:
                content = client_cache.shared_blob(self.root, path) if path.is_symlink() else path
                if content is not None and has_content(content, blob.file):
                    return path
            except OSError:
                continue  # unreadable here, so that it is replaced
        return None

    def find_shared(self, blob: Blob) -> bool:
        """Link a blob to the store of shared blobs if that has its content, which is verified. Call it locked."""
        xet_hash, size = self._shared_as(blob), blob.file["size"]
        if xet_hash is None:
            return False
        with self._writing(blob.name):
            content = client_cache.find_shared(self.root, xet_hash, size)
            return (
                content is not None
                and has_content(content, blob.file)
                and client_cache.link_shared(self.root, self.blob_path(blob), xet_hash, size)
            )

    def share(self, blob: Blob) -> None:
        """Move a blob that was just downloaded to the store of shared blobs. Call it locked."""
        if xet_hash := self._shared_as(blob):
            with self._writing(blob.name):
                client_cache.share(self.root, self.blob_path(blob), xet_hash, blob.file["size"])

    def remove_abandoned(self, blobs: Sequence[Blob]) -> None:
        """Remove temporary files that killed attempts left."""
        names = [self.blob_path(blob) for blob in blobs]
        with self._writing(str(self._blobs)):
            temporary_names.remove_abandoned([*names, self._blobs / "ref"], self.attempt)

    def remove_abandoned_links(self, blob: Blob) -> None:
        """Remove temporary links of a killed process. Call it locked."""
        with self._writing(blob.name):
            for link in client_cache.abandoned_links(self.blob_path(blob)):
                link.unlink(missing_ok=True)

    # --- names

    def path_of(self, path: str) -> Path:
        """Return where a file of the repository is in the snapshot."""
        return self.folder / path

    def place(self, blob: Blob, content: Path | None = None) -> None:
        """Give a blob its names in the snapshot.

        :param content: a file that has the content; where the worker has no symbolic links, it is copied. ``None``: the
            blob that was just downloaded, which is moved there.
        """
        for number, path in enumerate(blob.paths, 1):
            self._real_folder(self._name, "snapshots", self.repo.revision, *path.split("/")[:-1])
            pointer = self.path_of(path)
            with self._writing(path):
                if self._links:
                    self._link(self.blob_path(blob), pointer)
                elif content is None and number == len(blob.paths):
                    self.blob_path(blob).replace(pointer)
                elif pointer.is_symlink() or not has_content(pointer, blob.file):
                    with self._scratch(blob.name, pointer) as scratch:
                        shutil.copyfile(content or self.blob_path(blob), scratch)

    def _link(self, blob: Path, pointer: Path) -> None:
        target = os.path.relpath(blob, pointer.parent)
        try:
            pointer.symlink_to(target)
        except FileExistsError:
            if pointer.is_symlink() and str(pointer.readlink()) == target:
                return
            with self._scratch(blob.name, pointer) as scratch:
                scratch.symlink_to(target)

    def set_ref(self, revision: str) -> None:
        """Make a branch or tag of the cache point to this commit.

        :raises XetDestinationError: it cannot be written. The snapshot is complete.
        """
        *folders, name = revision.split("/")
        ref = self._real_folder(self._name, "refs", *folders) / name
        with self._writing(str(ref)):
            if not ref.is_symlink() and ref.is_file() and ref.read_bytes() == self.repo.revision.encode():
                return
            with self._scratch("ref", ref) as scratch:
                scratch.write_text(self.repo.revision)

    @contextmanager
    def _scratch(self, name: str, final: Path) -> Iterator[Path]:
        """Provide a temporary path, and rename it to its final one at the end.

        It is beside the blobs: whoever reads a snapshot or the refs would take it for a file of the repository.

        :param name: by which :meth:`remove_abandoned` finds it.
        """
        scratch = temporary_names.new(self._blobs / name, self.attempt)
        try:
            yield scratch
            scratch.replace(final)
        finally:
            scratch.unlink(missing_ok=True)

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        try:
            yield
        except XetHubError:
            raise
        except OSError as error:
            text = f"{what} of {self.repo} cannot be written to the cache {self.root}: {os_reason(error)}."
            raise XetDestinationError(text) from error


def check(repo: Repo, uris: Sequence[str], files: Iterable[XetFile], *, are_many: bool = False) -> None:
    """Refuse files that cannot be in one snapshot.

    :param repo: their repository.
    :param uris: the repositories and revisions that they name.
    :param are_many: whether :meth:`Snapshot.prepare` will find the paths that occur twice.
    :raises XetInputError: they are of several revisions, or of a bucket; or a path is not valid, or occurs twice.
    """
    if repo.is_bucket:
        raise XetInputError(
            f"{repo} is a bucket: it has no commits, so the Hugging Face cache has no place for it. Give destination a "
            "folder instead of HubCache."
        )
    revisions = dict.fromkeys(Repo.from_uri(uri).revision for uri in uris)
    if len(revisions) > 1:
        raise XetInputError(
            f"The files are of several revisions ({shortened(list(revisions), 3)}), but a snapshot is of one commit. "
            "Set revision to a branch or commit that has all of them, or use one task for each revision."
        )
    seen: set[str] = set()
    for file in files:
        check_path(file["path"])
        if file["path"] in seen:
            raise XetInputError(f"{file['path']} of {file['repo']} is given twice. Give each file once.")
        if not are_many:
            seen.add(file["path"])


def has_content(path: Path, file: XetFile) -> bool:
    """Return whether a regular file has the size and the digest of a record."""
    wanted = targets.digest_of(file)
    if not path.is_file() or path.stat().st_size != file["size"] or wanted is None:
        return False
    return targets.digest(path, wanted[0], file["size"]) == wanted[1]
