"""Object storage as Airflow offers it: what an ``ObjectStoragePath`` can name, through its ``fsspec`` filesystem.

The one place that knows how such filesystems want to be treated. Nothing here touches the local disk, and nothing here
knows Airflow: :mod:`airflow_provider_xethub.hooks.storage` opens the filesystem with its connection.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from airflow_provider_xethub.exceptions import (
    XetConnectionError,
    XetDestinationError,
    XetHubError,
    XetInputError,
    XetSourceError,
    XetTransferError,
)
from airflow_provider_xethub.xet import temporary_names as part_files
from airflow_provider_xethub.xet.files import object_writers, storage_entries
from airflow_provider_xethub.xet.files.storage_entries import Entry

BLOCK = 4 << 20
"""Bytes that are read at a time."""

AT_A_TIME = 16
"""Requests to the storage at the same time."""

PART = 8 << 20
"""Bytes of one part of a multipart upload, which may have 10,000 of them."""

DIGEST = "xet-sha256"
"""Name of the object metadata in which the sha256 is kept, where the storage keeps any."""

_MULTIPART = {"s3", "s3a", "s3n"}
"""Where an object appears, complete, when its upload is closed, and never before."""

_WITHOUT_FOLDERS = _MULTIPART | {"gs", "gcs", "abfs", "abfss", "adl", "az"}
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
    :param of: the ``ObjectStoragePath`` it was given as, or ``None``.
    """

    scheme: str
    conn_id: str | None
    path: str
    of: Any = None

    def __str__(self) -> str:
        connection = f"{self.conn_id}@" if self.conn_id else ""
        return f"{self.scheme}://{connection}{self.path}"


def location(value: object) -> Location | None:
    """Return the place in object storage that a URI or an ``ObjectStoragePath`` names; ``None`` for anything local.

    The text after the scheme and the connection is taken as it is: ``#``, ``?`` and ``%`` are part of names.

    :raises XetInputError: there is a password in it.
    """
    if not isinstance(value, str):
        scheme = getattr(value, "protocol", "")
        if not isinstance(scheme, str) or not scheme or not hasattr(value, "fs"):
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
            f"the {scheme}:// URI has a password in it, which would be seen in the Airflow UI. Put it into an Airflow "
            f"connection, and write {scheme}://<connection id>@…"
        )
    if scheme in _HOST_IN_CONNECTION:
        path = path[path.find("/") :] if "/" in path else "/"
    if not path.strip("/"):
        raise XetInputError(f"{scheme}:// names no bucket or folder.")
    return Location(scheme, conn_id, path)


class Writer:
    """An object that is being written; nothing is seen under its name before :meth:`keep`."""

    def __init__(self, inner: object_writers.Writing, errors: Callable[[], AbstractContextManager[None]]) -> None:
        self._inner = inner
        self._errors = errors

    def write(self, data: bytes) -> None:
        """Write the next bytes."""
        with self._errors():
            self._inner.write(data)

    def keep(self) -> None:
        """Give it its name."""
        with self._errors():
            self._inner.keep()

    @property
    def upload_id(self) -> str | None:
        """What the storage calls an upload in parts, once the first one was sent; ``None`` where there is none."""
        return getattr(self._inner, "upload_id", None)


class Storage:
    """One filesystem with its connection.

    All methods raise errors that name the URI and say why; no credential is ever in them.

    :param fs: an ``fsspec.AbstractFileSystem``.
    :param attempt: of the task that works with it: decides which temporary files are its own.
    """

    def __init__(
        self, fs: Any, scheme: str, conn_id: str | None, attempt: part_files.Attempt = part_files.UNKNOWN
    ) -> None:
        self._fs = fs
        self.attempt = attempt
        self.scheme = scheme
        self.conn_id = conn_id

    def uri(self, path: str) -> str:
        """Return the URI of a path, which ``ObjectStoragePath`` and the operators take."""
        return str(Location(self.scheme, self.conn_id, path))

    # --- reading --------------------------------------------------------------------------------------------------

    def look(self, path: str) -> Entry | str | None:
        """Return the file at ``path``, the text ``folder``, or ``None`` where there is nothing."""
        with self._errors(XetSourceError, path):
            self._fs.invalidate_cache()
            try:
                info = self._fs.info(path)
            except FileNotFoundError:
                return None
            return "folder" if info["type"] == "directory" else storage_entries.entry(info)

    def find(self, folder: str, depth: int | None = None) -> list[Entry]:
        """List what is below a folder, sorted: files, links, and objects that stand for folders.

        :param depth: levels to descend; all where ``None``.
        """
        with self._errors(XetSourceError, folder):
            self._fs.invalidate_cache()
            return storage_entries.below(self._fs, self.scheme, folder, depth)

    def real_path(self, path: str) -> str | None:
        """Return a path without symbolic links in it; ``None`` where the storage does not tell, or has none."""
        with self._errors(XetSourceError, path):
            return storage_entries.real_path(self._fs, self.scheme, path)

    def plain(self, path: str) -> str:
        """Return a path without slash at its end, in the form in which the filesystem lists it."""
        return str(self._fs._strip_protocol(path)).rstrip("/") or "/"

    def head(self, entry: Entry, count: int) -> bytes:
        """Return the first bytes of a file."""
        with self._errors(XetSourceError, entry.path), self._open(entry) as file:
            return bytes(file.read(count))

    def blocks(self, entry: Entry) -> Iterator[bytes]:
        """Read a file in blocks of :data:`BLOCK` bytes."""
        with self._errors(XetSourceError, entry.path), self._open(entry) as file:
            while block := file.read(BLOCK):
                yield block

    def _open(self, entry: Entry) -> Any:
        # No cache of its own: the blocks are read once, in order. Other kinds of filesystems do not know the option.
        options: dict[str, Any] = {}
        if self.scheme in _WITHOUT_FOLDERS:
            options = {"cache_type": "none", "block_size": BLOCK}
        if self.scheme in _MULTIPART:
            # Where a key is also the prefix of others, the filesystem takes the object for an empty folder.
            options["size"] = entry.size
        return self._fs.open(entry.path, "rb", **options)

    # --- writing --------------------------------------------------------------------------------------------------

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder at ``path``."""
        with self._errors(XetDestinationError, path):
            self._fs.invalidate_cache()
            return bool(self._fs.isdir(path))

    def keeps_digests(self, folder: str) -> bool:
        """Whether :meth:`recorded` can know anything about what is below a folder: there may be nothing there."""
        if self.scheme not in _MULTIPART:
            return False
        with self._errors(XetDestinationError, folder):
            try:
                self._fs.info(folder, refresh=True)
            except FileNotFoundError:
                return False
            return True

    def recorded(self, path: str) -> tuple[int, str] | None:
        """Return size and sha256 of what this provider wrote to ``path``; ``None`` where the storage cannot tell."""
        if self.scheme not in _MULTIPART:
            return None
        with self._errors(XetDestinationError, path):
            try:
                # First what takes one request: for an object that is not there, ``info`` would also list.
                digest = self._fs.metadata(path, refresh=True).get(DIGEST)
                return (self._fs.info(path, refresh=True)["size"], digest) if digest else None
            except FileNotFoundError:
                return None

    @property
    def tells_names_apart(self) -> bool:
        """Whether it is known to: object stores compare keys byte by byte, and so does the Hub."""
        return self.scheme in _WITHOUT_FOLDERS or self.scheme in _HUBS

    def listed(self, folder: str) -> list[str]:
        """Return the names in a folder; none where there is no such folder."""
        with self._errors(XetDestinationError, folder):
            self._fs.invalidate_cache()
            try:
                return [posixpath.basename(str(each).rstrip("/")) for each in self._fs.ls(folder, detail=False)]
            except (FileNotFoundError, NotADirectoryError):
                return []

    def has(self, path: str) -> bool:
        """Whether there is anything at ``path``."""
        with self._errors(XetDestinationError, path):
            self._fs.invalidate_cache()
            return bool(self._fs.exists(path))

    def touch(self, path: str) -> None:
        """Write an empty file, and the folders above it."""
        with self._errors(XetDestinationError, path):
            self._fs.makedirs(posixpath.dirname(path), exist_ok=True)
            self._fs.pipe_file(path, b"")

    def remove(self, path: str) -> None:
        """Remove a file."""
        with self._errors(XetDestinationError, path):
            self._fs.rm_file(path)

    def remove_folder(self, folder: str) -> None:
        """Remove a folder and what is in it, if it can be removed."""
        with suppress(Exception):
            self._fs.rm(folder, recursive=True)

    def clear_left(self, folder: str, names: Sequence[str]) -> None:
        """Remove what writers that are certainly dead have left in a folder while they wrote the files ``names``.

        Nothing is there where objects appear only when they are complete.
        """
        if self.scheme in _MULTIPART:
            return
        for part in part_files.left(self.listed(folder), names, self.attempt):
            with self._errors(XetDestinationError, folder), suppress(FileNotFoundError):
                self._fs.rm_file(f"{folder}/{part}")

    def abort(self, path: str, upload_id: str) -> None:
        """Abort an upload in parts to ``path``; one that is complete, or aborted already, stays as it is."""
        bucket, key, _ = self._fs.split_path(path)
        # The storage may forbid it, and what stays is seen under no name.
        with suppress(Exception):
            self._fs.abort_mpu(bucket, key, upload_id)

    @contextmanager
    def writing(self, path: str, size: int, sha256: str | None) -> Iterator[Writer]:
        """Write an object of ``size`` bytes; what is not kept at the end of the block is discarded.

        :param sha256: kept with the object where the storage keeps any metadata.
        :raises XetDestinationError: it cannot be written.
        """
        errors = partial(self._errors, XetDestinationError, path)
        inner: object_writers.Writing
        with errors():
            if self.scheme in _MULTIPART:
                options = {"Metadata": {DIGEST: sha256}} if sha256 else {}
                inner = object_writers.Multipart(self._fs, path, max(PART, -(-size // _PARTS)), options)
            else:
                part = part_files.new_name(posixpath.basename(path), self.attempt)
                inner = object_writers.Beside(self._fs, path, size, part, folders=self.scheme not in _WITHOUT_FOLDERS)
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
            return f"may not be {access} ({text or name}). Check the credentials: {with_what}."
        if isinstance(error, FileNotFoundError):
            return "does not exist." if kind is XetSourceError else f"there is no such bucket or folder ({text})."
        return f"{name}: {text}" if text else name


def unusable(where: Location, error: Exception) -> XetHubError:
    """Return the error for a filesystem that cannot be opened at all; final where no retry can mend it."""
    if "No filesystem registered" in str(error):
        return XetInputError(
            f"{where}: no Airflow provider on this worker offers {where.scheme}://. Install the one for this storage."
        )
    text = f"{where} cannot be reached: {type(error).__name__}: {_clean(str(error))}. Check its Airflow connection."
    final = isinstance(error, (PermissionError, ValueError, TypeError, LookupError, AttributeError, ImportError))
    return (XetInputError if final or "NotFound" in type(error).__name__ else XetConnectionError)(text)


def _clean(text: str) -> str:
    # URLs may carry a password or a signature.
    return " ".join(_SECRETS.sub("…", text).split())[:_MAX_TEXT]
