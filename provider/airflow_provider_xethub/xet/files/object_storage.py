"""Object storage, as an ``ObjectStoragePath`` names it, through its ``fsspec`` filesystem.

The differences between such filesystems are handled here only. Nothing here uses the local disk or Airflow:
:mod:`airflow_provider_xethub.hooks.storage` opens the filesystem with its connection.
"""

from __future__ import annotations

import posixpath
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.exceptions import (
    XetConnectionError,
    XetDestinationError,
    XetHubError,
    XetInputError,
    XetSourceError,
    XetTransferError,
)
from airflow_provider_xethub.xet.files import object_writers, storage_entries
from airflow_provider_xethub.xet.files.s3.window import Window
from airflow_provider_xethub.xet.files.storage_entries import Entry
from airflow_provider_xethub.xet.process import temporary_names

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.files.s3.objects import Objects

BLOCK = 4 << 20
"""Bytes of one read."""

AT_A_TIME = 16
"""Concurrent requests to the storage."""

PART = 8 << 20
"""Bytes of one part of a multipart upload, which may have 10,000 parts."""

DIGEST = "xet-sha256"
"""Name of the object metadata that holds the sha256, in storages with object metadata."""

MULTIPART = {"s3", "s3a", "s3n"}
"""Schemes of storages where an object becomes visible, complete, when its upload is closed."""

_WITHOUT_FOLDERS = MULTIPART | {"gs", "gcs", "abfs", "abfss", "adl", "az"}
_HUBS = {"hf", "xethub"}
_HOST_IN_CONNECTION = {"sftp", "ssh"}

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]+)://(?:([^/]*)@)?(.*)", re.DOTALL)
_SECRETS = re.compile(r"(?<=://)[^/@\s]*@|\?[^\s)\"']*")
_MAX_TEXT = 200
_PARTS = 9000


@dataclass(frozen=True)
class Location:
    """A place in object storage: ``scheme://conn_id@path``.

    :param path: as the filesystem takes it, nothing in it percent-encoded.
    :param of: the ``ObjectStoragePath`` that named it, or ``None``.
    """

    scheme: str
    conn_id: str | None
    path: str
    of: Any = None

    def __str__(self) -> str:
        connection = f"{self.conn_id}@" if self.conn_id else ""
        return f"{self.scheme}://{connection}{self.path}"


def _has_filesystem(value: object) -> bool:
    """Return whether a path has a filesystem, without reading it: that would open it."""
    return hasattr(type(value), "fs") or "fs" in getattr(value, "__dict__", {})


def location(value: object) -> Location | None:
    """Return the place in object storage that a URI or an ``ObjectStoragePath`` names; ``None`` for anything local.

    After the scheme and the connection, ``#``, ``?`` and ``%`` are part of names.

    :raises XetInputError: the URI contains a password.
    """
    if not isinstance(value, str):
        scheme = getattr(value, "protocol", "")
        if not isinstance(scheme, str) or not scheme or not _has_filesystem(value):
            return None
        options: Mapping[str, Any] = getattr(value, "storage_options", {})
        conn_id = getattr(value, "conn_id", None) or options.get("conn_id")
        return Location(scheme, conn_id, str(value.path), value)  # type: ignore[attr-defined]
    match = _URI.fullmatch(value)
    if not match:
        return None
    scheme, conn_id, path = match[1].lower(), match[2] or None, match[3]
    if conn_id and ":" in conn_id:
        raise XetInputError(
            f"the {scheme}:// URI contains a password, which the Airflow UI would show. Put it into an Airflow "
            f"connection, and write {scheme}://<connection id>@…"
        )
    if scheme in _HOST_IN_CONNECTION:
        path = path[path.find("/") :] if "/" in path else "/"
    if not path.strip("/"):
        raise XetInputError(f"{scheme}:// does not name a bucket or folder.")
    return Location(scheme, conn_id, path)


class Writer:
    """An object that is being written; it is visible under its name only after :meth:`finish`."""

    def __init__(self, inner: object_writers.Writing, errors: Callable[[], AbstractContextManager[None]]) -> None:
        self._inner = inner
        self._errors = errors

    def write(self, data: bytes) -> None:
        """Write the next bytes."""
        with self._errors():
            self._inner.write(data)

    def finish(self) -> None:
        """Complete the object under its final name."""
        with self._errors():
            self._inner.finish()

    @property
    def upload_id(self) -> str | None:
        """The id of a multipart upload, once the first part was sent; ``None`` otherwise."""
        return getattr(self._inner, "upload_id", None)


class Storage:
    """One filesystem with its connection.

    Errors of all methods name the URI and the reason, and never contain a credential.

    :param fs: an ``fsspec.AbstractFileSystem``.
    :param attempt: the attempt of the task that uses it; identifies its own temporary files.
    """

    def __init__(
        self, fs: Any, scheme: str, conn_id: str | None, attempt: temporary_names.Attempt = temporary_names.UNKNOWN
    ) -> None:
        self._fs = fs
        self.attempt = attempt
        self.scheme = scheme
        self.conn_id = conn_id
        self._opening = threading.Lock()
        self.window = Window()
        """How much of objects in S3 is in memory; other storages are streamed one block after the other."""

    def uri(self, path: str) -> str:
        """Return the URI of a path, which ``ObjectStoragePath`` and the operators take."""
        return str(Location(self.scheme, self.conn_id, path))

    # --- reading --------------------------------------------------------------------------------------------------

    def stat(self, path: str) -> Entry | str | None:
        """Return the file at ``path``, the string ``folder``, or ``None`` where nothing exists."""
        with self._errors(XetSourceError, path):
            self._fs.invalidate_cache()
            try:
                info = self._fs.info(path)
            except FileNotFoundError:
                return None
            return "folder" if info["type"] == "directory" else storage_entries.entry(info)

    def find(self, folder: str, depth: int | None = None) -> list[Entry]:
        """List the entries below a folder, sorted: files, links, and objects that stand for folders.

        :param depth: levels to descend. Default: all.
        """
        with self._errors(XetSourceError, folder):
            self._fs.invalidate_cache()
            return storage_entries.below(self._fs, self.scheme, folder, depth)

    def real_path(self, path: str) -> str | None:
        """Return a path without symbolic links; ``None`` where the storage has none or does not resolve them."""
        with self._errors(XetSourceError, path):
            return storage_entries.real_path(self._fs, self.scheme, path)

    def plain(self, path: str) -> str:
        """Return a path without a trailing slash, in the form in which the filesystem lists it."""
        return str(self._fs._strip_protocol(path)).rstrip("/") or "/"

    def head(self, entry: Entry, count: int) -> bytes:
        """Return the first bytes of a file."""
        with self._errors(XetSourceError, entry.path):
            if self._objects:
                return self._objects.head(entry, count, self.window)
            with self._open(entry) as file:
                return bytes(file.read(count))

    def blocks(self, entry: Entry) -> Iterator[bytes]:
        """Read a file in blocks of at most :data:`BLOCK` bytes."""
        with self._errors(XetSourceError, entry.path):
            if self._objects:
                yield from self._objects.blocks(entry, self.window)
                return
            with self._open(entry) as file:
                while block := file.read(BLOCK):
                    yield block

    @property
    def _objects(self) -> Objects | None:
        """The objects of an S3, which are read and written several requests at a time; ``None`` elsewhere."""
        with self._opening:
            return self._opened

    @cached_property
    def _opened(self) -> Objects | None:
        if self.scheme not in MULTIPART:
            return None
        # Loaded here, because local files need none of it.
        from airflow_provider_xethub.xet.files.s3 import client as s3_client
        from airflow_provider_xethub.xet.files.s3.objects import Objects

        client = s3_client.of(self._fs)
        return Objects(client, self._bucket_and_key) if client else None

    def _bucket_and_key(self, path: str) -> tuple[str, str]:
        bucket, key, _ = self._fs.split_path(path)
        return bucket, key

    def _open(self, entry: Entry) -> Any:
        # No cache: the blocks are read once, in order. Other filesystems do not have the option.
        options: dict[str, Any] = {}
        if self.scheme in _WITHOUT_FOLDERS:
            options = {"cache_type": "none", "block_size": BLOCK}
        if self.scheme in MULTIPART:
            # Where a key is also a prefix of others, the filesystem would treat the object as an empty folder.
            options["size"] = entry.size
        return self._fs.open(entry.path, "rb", **options)

    # --- writing --------------------------------------------------------------------------------------------------

    def is_folder(self, path: str) -> bool:
        """Return whether there is a folder at ``path``."""
        with self._errors(XetDestinationError, path):
            self._fs.invalidate_cache()
            return bool(self._fs.isdir(path))

    def keeps_digests(self, folder: str) -> bool:
        """Return whether :meth:`recorded` can have values for objects below a folder, which may not exist."""
        if self.scheme not in MULTIPART:
            return False
        with self._errors(XetDestinationError, folder):
            try:
                self._fs.info(folder, refresh=True)
            except FileNotFoundError:
                return False
            return True

    def recorded(self, path: str) -> tuple[int, str] | None:
        """Return size and sha256 of an object that this provider wrote to ``path``; ``None`` where unknown."""
        if self.scheme not in MULTIPART:
            return None
        from airflow_provider_xethub.xet.files.s3.filesystem import S3FileSystem

        with self._errors(XetDestinationError, path):
            try:
                if isinstance(self._fs, S3FileSystem):
                    head = self._fs.head(path)
                    digest = head["Metadata"].get(DIGEST)
                    return (head["ContentLength"], digest) if digest else None
                # The metadata first, with one request: for a missing object, ``info`` would also list.
                digest = self._fs.metadata(path, refresh=True).get(DIGEST)
                return (self._fs.info(path, refresh=True)["size"], digest) if digest else None
            except FileNotFoundError:
                return None

    @property
    def distinguishes_names(self) -> bool:
        """Whether names that differ in any byte are different here: so in object stores and on the Hub."""
        return self.scheme in _WITHOUT_FOLDERS or self.scheme in _HUBS

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; empty where the folder does not exist."""
        with self._errors(XetDestinationError, folder):
            self._fs.invalidate_cache()
            try:
                return [posixpath.basename(str(each).rstrip("/")) for each in self._fs.ls(folder, detail=False)]
            except (FileNotFoundError, NotADirectoryError):
                return []

    def has(self, path: str) -> bool:
        """Return whether anything exists at ``path``."""
        with self._errors(XetDestinationError, path):
            self._fs.invalidate_cache()
            return bool(self._fs.exists(path))

    def touch(self, path: str) -> None:
        """Create an empty file, and the folders above it."""
        with self._errors(XetDestinationError, path):
            self._fs.makedirs(posixpath.dirname(path), exist_ok=True)
            self._fs.pipe_file(path, b"")

    def remove(self, path: str) -> None:
        """Remove a file."""
        with self._errors(XetDestinationError, path):
            self._fs.rm_file(path)

    def remove_folder(self, folder: str) -> None:
        """Remove a folder and its content, if possible."""
        with suppress(Exception):
            self._fs.rm(folder, recursive=True)

    @property
    def has_folders(self) -> bool:
        """Whether a name is either a file or a folder; in object stores, a key can also be the beginning of others."""
        return self.scheme not in _WITHOUT_FOLDERS

    def remove_empty_folder(self, folder: str) -> None:
        """Remove a folder if it is empty."""
        with suppress(Exception):
            self._fs.rmdir(folder)

    def remove_abandoned(self, folder: str, names: Sequence[str]) -> None:
        """Remove the abandoned temporary files of the files ``names`` in a folder.

        Where objects become visible only when they are complete, there are none.
        """
        if self.scheme in MULTIPART:
            return
        for part in temporary_names.abandoned(self.names(folder), names, self.attempt):
            with self._errors(XetDestinationError, folder), suppress(FileNotFoundError):
                self._fs.rm_file(f"{folder}/{part}")

    def abort(self, path: str, upload_id: str) -> None:
        """Abort a multipart upload to ``path``; no effect where it is already complete or aborted."""
        bucket, key, _ = self._fs.split_path(path)
        # The storage may forbid it, and leftover parts are not visible.
        with suppress(Exception):
            self._fs.abort_mpu(bucket, key, upload_id)

    @contextmanager
    def writing(self, path: str, size: int, sha256: str | None) -> Iterator[Writer]:
        """Write an object of ``size`` bytes; unless the block finishes it, the object is discarded.

        :param sha256: stored as metadata of the object, in storages with object metadata.
        :raises XetDestinationError: it cannot be written.
        """
        errors = partial(self._errors, XetDestinationError, path)
        inner: object_writers.Writing
        with errors():
            if self.scheme in MULTIPART:
                part, metadata = max(PART, -(-size // _PARTS)), {DIGEST: sha256} if sha256 else {}
                if self._objects:
                    inner = self._objects.writing(path, size, metadata, self.window)
                else:
                    inner = object_writers.Multipart(self._fs, path, part, {"Metadata": metadata} if metadata else {})
            else:
                name = temporary_names.new_name(posixpath.basename(path), self.attempt)
                inner = object_writers.Beside(self._fs, path, size, name, folders=self.scheme not in _WITHOUT_FOLDERS)
        try:
            yield Writer(inner, errors)
        finally:
            inner.discard()

    @contextmanager
    def _errors(self, kind: type[XetTransferError], path: str) -> Iterator[None]:
        try:
            yield
        except XetHubError:
            raise
        except Exception as error:
            raise kind(f"{self.uri(path)}: {self._reason(error, kind)}") from None

    def _reason(self, error: Exception, kind: type[XetTransferError]) -> str:
        name = type(error).__name__
        text = _clean(str(error))
        if name == "FileExpired":
            return "changed while being uploaded. Nothing was published. Upload when the writer is done."
        if isinstance(error, PermissionError) or re.search("Credential|Denied|Forbidden|Unauthor", name):
            access = "read" if kind is XetSourceError else "written"
            with_what = f"connection {self.conn_id!r}" if self.conn_id else "a connection in the URI"
            return f"cannot be {access}: permission denied ({text or name}). Check the credentials: {with_what}."
        if isinstance(error, FileNotFoundError):
            return "does not exist." if kind is XetSourceError else f"the bucket or folder does not exist ({text})."
        return f"{name}: {text}" if text else name


def unusable(where: Location, error: Exception) -> XetHubError:
    """Return the error for a filesystem that cannot be opened; final where retrying cannot fix it."""
    if "No filesystem registered" in str(error):
        return XetInputError(
            f"{where}: no Airflow provider on this worker supports {where.scheme}://. Install the one for this storage."
        )
    text = f"{where} cannot be reached: {type(error).__name__}: {_clean(str(error))}. Check its Airflow connection."
    final = isinstance(error, (PermissionError, ValueError, TypeError, LookupError, AttributeError, ImportError))
    return (XetInputError if final or "NotFound" in type(error).__name__ else XetConnectionError)(text)


def _clean(text: str) -> str:
    # URLs may contain a password or a signature.
    return " ".join(_SECRETS.sub("…", text).split())[:_MAX_TEXT]
