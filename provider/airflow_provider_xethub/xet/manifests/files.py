"""The file records that a task was given: a list, lists of lists, manifests, or any mixture, as one sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, Protocol, TypeAlias, cast, overload

from airflow_provider_xethub.exceptions import XetHubError, XetInputError
from airflow_provider_xethub.xet import manifest as manifests
from airflow_provider_xethub.xet.files import targets
from airflow_provider_xethub.xet.hub import pages
from airflow_provider_xethub.xet.hub.pages import HubPage, common_folder
from airflow_provider_xethub.xet.manifests.spool import Spool
from airflow_provider_xethub.xet.message_text import counted
from airflow_provider_xethub.xet.records import XetFile, XetManifest
from airflow_provider_xethub.xet.repo import Repo

BATCH = 10_000
"""Records that are in memory at a time."""


_PLACES = ("local_path", "storage_uri", "sealed_content")


class Reader(Protocol):
    """Reads the records of a manifest."""

    def __call__(self, manifest: XetManifest) -> Spool:
        """Return the records, all of them compared with what the manifest says.

        :raises XetHubError: they cannot be read, or are something else.
        """


class Listed:
    """Records that were given as a list."""

    def __init__(self, files: Sequence[XetFile]) -> None:
        self._files = files
        self.count = len(files)
        self.bytes = sum(file["size"] for file in files)
        self.named = self.uris = list(dict.fromkeys(file["repo"] for file in files))

    @property
    def ends(self) -> Sequence[str]:
        """The paths that sort first and last."""
        return [min(file["path"] for file in self._files), max(file["path"] for file in self._files)]

    def load(self, reader: Reader) -> None:
        """Do nothing: the records are there."""

    def records(self) -> Iterator[XetFile]:
        """Yield the records."""
        return iter(self._files)

    def value(self, destination: str) -> Any:
        """Return the records with their places."""
        return [placed(file, destination) for file in self._files]


class Referred:
    """Records that a manifest stands for.

    :param manifest: checked.
    :param spool: the records, if they were read before.
    """

    def __init__(self, manifest: XetManifest, spool: Spool | None = None) -> None:
        self.manifest = manifest
        self._spool = spool
        self.count = manifest["file_count"]
        self.bytes = manifest["bytes"]
        self.named = [manifest["repo"]]

    @property
    def uris(self) -> Iterable[str]:
        """What the records name."""
        return self._loaded().totals.uris

    @property
    def ends(self) -> Sequence[str]:
        """The paths that sort first and last."""
        totals = self._loaded().totals
        return [totals.first, totals.last] if totals.file_count else []

    def load(self, reader: Reader) -> None:
        """Read the records."""
        if self._spool is None:
            self._spool = reader(self.manifest)

    def _loaded(self) -> Spool:
        if self._spool is None:
            raise RuntimeError("load() was not called")
        return self._spool

    def records(self) -> Iterator[XetFile]:
        """Yield the records; those of a download name the place of each file."""
        destination = self.manifest.get("destination")
        spool = self._loaded()
        return iter(spool) if destination is None else (placed(file, destination) for file in spool)

    def value(self, destination: str) -> Any:
        """Return the manifest with the destination."""
        return {**self.manifest, "destination": destination}


Part: TypeAlias = Listed | Referred


class Files(Sequence[XetFile]):
    """Records of which some or all are in manifests. Any number of iterations reads each manifest once.

    Length, :attr:`bytes` and :attr:`source` are what the manifests say, which is compared when the records are read:
    before the first of them is returned.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        reader: Reader,
        change: Callable[[XetFile], XetFile] | None = None,
    ) -> None:
        self._parts = parts
        self._reader = reader
        self._change = change

    def __len__(self) -> int:
        return sum(part.count for part in self._parts)

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return sum(part.bytes for part in self._parts)

    @property
    def source(self) -> Repo:
        """The repository of all records, at the revision of the first.

        :raises XetInputError: there are none, or they are of several repositories.
        """
        return targets.source_of_uris(list(dict.fromkeys(chain.from_iterable(part.named for part in self._parts))))

    @property
    def uris(self) -> list[str]:
        """The repositories and revisions that the records name."""
        self.load()
        return list(dict.fromkeys(chain.from_iterable(part.uris for part in self._parts)))

    @property
    def folder(self) -> str:
        """The deepest folder that contains all files."""
        self.load()
        return common_folder([path for part in self._parts for path in part.ends])

    def load(self, reader: Reader | None = None) -> Files:
        """Read what is in manifests, unless it was read before.

        :param reader: what reads it. Default: that of the task's own connection.
        :raises XetHubError: see :class:`Reader`.
        """
        for part in self._parts:
            part.load(reader or self._reader)
        return self

    def __iter__(self) -> Iterator[XetFile]:
        self.load()
        records = chain.from_iterable(part.records() for part in self._parts)
        return records if self._change is None else map(self._change, records)

    @overload
    def __getitem__(self, index: int) -> XetFile: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[XetFile]: ...

    def __getitem__(self, index: int | slice) -> XetFile | Sequence[XetFile]:
        if isinstance(index, slice):
            return list(islice(self, *index.indices(len(self))))
        found = next(islice(self, index if index >= 0 else len(self) + index, None), None)
        if found is None:
            raise IndexError(index)
        return found

    def changed(self, change: Callable[[XetFile], XetFile]) -> Files:
        """Return the same files with each record changed as it is read."""
        before = self._change
        return Files(self._parts, self._reader, change if before is None else lambda file: change(before(file)))

    @property
    def manifest(self) -> XetManifest | None:
        """The manifest that stands for all of the records as they are; ``None`` if they are in several."""
        [part, *others] = self._parts
        return part.manifest if isinstance(part, Referred) and not others and self._change is None else None

    def value(self, destination: str) -> list[Any] | XetManifest:
        """Return what a download of these files returns: lists as they were given, and manifests with the destination.

        :param destination: the folder that all files are below.
        """
        values = [part.value(destination) for part in self._parts]
        return cast("XetManifest", values[0]) if len(values) == 1 else values

    def __repr__(self) -> str:
        return f"<{counted(len(self), 'file')}>"


def placed(file: XetFile, destination: str) -> XetFile:
    """Return a record with the place of the file below a folder on the worker or in object storage."""
    name = "storage_uri" if "://" in destination else "local_path"
    kept = {key: each for key, each in file.items() if key not in _PLACES}
    return cast("XetFile", {**kept, name: f"{destination.rstrip('/')}/{file['path']}"})


def read(value: object, reader: Reader) -> Sequence[XetFile]:
    """Return the records of a value: a list, lists of lists, a manifest, the result of a commit, or a mixture.

    Nothing is read yet.

    :param reader: reads manifests.
    :returns: a list, if all records were given in lists; otherwise :class:`Files`.
    :raises XetInputError: an item is neither a file record nor a manifest.
    """
    parts: list[Part] = []
    few: list[XetFile] = []
    for each in _flat(value):
        if manifests.is_manifest(each):
            if few:
                parts.append(Listed(few))
            parts.append(Referred(manifests.check(each)))
            few = []
        else:
            few.append(targets.check_record(each))
    if not parts:
        return few
    return Files([*parts, Listed(few)] if few else parts, reader)


def source_of(files: Sequence[XetFile]) -> Repo:
    """Return the repository that records are read from, at the revision of the first; see ``targets.source_of``."""
    return files.source if isinstance(files, Files) else targets.source_of(files)


def uris_of(files: Sequence[XetFile]) -> list[str]:
    """Return the repositories and revisions that records name."""
    return files.uris if isinstance(files, Files) else list(dict.fromkeys(file["repo"] for file in files))


def bytes_of(files: Sequence[XetFile]) -> int:
    """Return the bytes of all files."""
    return files.bytes if isinstance(files, Files) else sum(file["size"] for file in files)


def page_of_files(repo: Repo, files: Sequence[XetFile]) -> HubPage:
    """Return the page of a single file, or of the folder that contains all files."""
    return HubPage(repo, "folder", files.folder) if isinstance(files, Files) else pages.page_of_files(repo, files)


def batches(files: Iterable[XetFile], size: int | None = None) -> Iterator[list[XetFile]]:
    """Yield records in lists of up to ``size``. Default: :data:`BATCH`."""
    records = iter(files)
    while batch := list(islice(records, size or BATCH)):
        yield batch


@contextmanager
def in_batches(has_done: Callable[[], object]) -> Iterator[None]:
    """Process batches; an error says "Nothing more was …" if one before it ``has_done`` something."""
    try:
        yield
    except XetHubError as error:
        if has_done():
            error.args = (str(error).replace("Nothing was ", "Nothing more was ", 1),)
        raise


def _flat(value: object) -> Iterator[Mapping[str, Any]]:
    if manifests.is_item_of_manifest(value):
        raise XetInputError(
            "files is a field of a manifest: give it without expand(), or map over XetListOperator(batch_files=…). "
            "The list was longer than [xethub] manifest_files, so the task returned a manifest, and Airflow mapped "
            "over its fields."
        )
    if isinstance(value, Mapping) and "files" in value and "manifest" not in value:
        value = value["files"]  # the result of a commit
    if isinstance(value, Mapping):
        yield value
        return
    if isinstance(value, Files):
        raise XetInputError("files has records that were read already. Give the manifest itself.")
    if value is None or isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise XetInputError(
            f"files must be Xet file records, as XetUploadOperator or XetListOperator return them, not {value!r:.80}."
        )
    # In Airflow 3.0, the output of a skipped mapped task contains ArgNotSet instead of nothing.
    for each in value:
        if type(each).__name__ != "ArgNotSet":
            yield from _flat(each)
