"""``ObjectStoragePath("hf://xethub_default@datasets/acme/corpus/…")``: a filesystem over the hook.

Reads come by ranges through CAS, and a written file becomes a commit when it is closed.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.spec import AbstractFileSystem

from airflow_provider_xethub.exceptions import XetInputError, XetIntegrityError
from airflow_provider_xethub.fs import changes, compression, entries, local_sources, targets
from airflow_provider_xethub.fs.entries import REMEMBERED
from airflow_provider_xethub.fs.errors import file_not_found_errors, not_found
from airflow_provider_xethub.fs.open_files import ReadingFile, WritingFile, WritingText
from airflow_provider_xethub.fs.open_hook import OpenHook
from airflow_provider_xethub.fs.paths import SCHEMES, HubPath, connection_of, parse, parse_file, parse_root, strip
from airflow_provider_xethub.fs.transactions import XetTransaction
from airflow_provider_xethub.get_provider_info import DEFAULT_CONN_ID
from airflow_provider_xethub.xet.message_text import named

if TYPE_CHECKING:
    from airflow_provider_xethub.hooks.xethub import XetHubConnection
    from airflow_provider_xethub.xet.cas.ranges import Ranges
    from airflow_provider_xethub.xet.cas.writer import CasWriter
    from airflow_provider_xethub.xet.repo import Repo

schemes = ["xethub"]
"""Schemes for which Airflow calls :func:`get_fs`."""

LISTING_SECONDS = 10
"""Seconds for which a listing is reused: shorter than the usual pause between two polls."""

_PAIRS: ContextVar[list[tuple[str, str]] | None] = ContextVar("xethub_pairs", default=None)
_TEXT_OPTIONS = ("encoding", "errors", "newline")


def get_fs(conn_id: str | None, storage_options: Mapping[str, Any] | None = None) -> AbstractFileSystem:
    """Return the filesystem of a connection. It sends no request before it is used.

    Default: the connection ``xethub_default``. For this connection the argument is omitted, as ``fsspec`` omits it for
    ``xethub://`` addresses, so that each path has one filesystem.
    """
    default = {} if conn_id in (None, DEFAULT_CONN_ID) else {"conn_id": conn_id}
    return XetHubFileSystem(**default, **(storage_options or {}))


class XetHubFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Repositories and buckets of the Hub that a connection describes.

    Paths: ``[datasets/|spaces/|buckets/]namespace/name[@revision]/path``. A pickled filesystem contains the id of the
    connection only.

    :param conn_id: the Airflow connection.
    """

    protocol = SCHEMES
    cachable = True
    blocksize = ReadingFile.DEFAULT_BLOCK_SIZE
    transaction_type = XetTransaction

    def __init__(self, conn_id: str = DEFAULT_CONN_ID, **storage_options: Any) -> None:
        if self._cached:
            return
        self._thread = threading.local()
        super().__init__(listings_expiry_time=LISTING_SECONDS, **storage_options)
        self.conn_id = conn_id
        self._open_hook = OpenHook(conn_id)
        self._folders: set[str] = set()

    # A transaction belongs to one thread, but all threads that use a connection share its filesystem.
    _intrans = property(
        lambda self: getattr(self._thread, "is_in_transaction", False),
        lambda self, value: setattr(self._thread, "is_in_transaction", value),
    )
    _transaction = property(
        lambda self: getattr(self._thread, "transaction", None),
        lambda self, value: setattr(self._thread, "transaction", value),
    )

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return [cls._strip_protocol(each) for each in path] if isinstance(path, list) else strip(os.fspath(path))

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        conn_id = connection_of(path)
        return {"conn_id": conn_id} if conn_id not in (None, DEFAULT_CONN_ID) else {}

    @property
    def fsid(self) -> str:
        """An id that differs for each connection."""
        return f"{SCHEMES[0]}-{self.conn_id}"

    # --- access for open files --------------------------------------------------------------------------------------

    @property
    def hook(self) -> XetHubConnection:
        """The hook of the connection."""
        return self._open_hook.hook

    def ranges(self, repo: Repo) -> Ranges:
        """Return the range reader of a repository: one for all of its files and threads."""
        return self._open_hook.ranges(repo)

    def writer(self, file: HubPath) -> CasWriter:
        """Start an upload of unknown length."""
        from airflow_provider_xethub.xet.cas.writer import CasWriter

        return CasWriter(self.hook.cas_access()(self.hook.get_token(file.repo, "write")), file.path)

    def publish(self, files: Sequence[WritingFile]) -> None:
        """Publish written files of one repository in one commit."""
        try:
            changes.publish(self.hook, files)
        finally:
            self.invalidate_cache()

    # --- folders without files, which the Hub does not know -----------------------------------------------------------

    def remembered(self) -> set[str]:
        """Return the folders that :meth:`mkdir` made in this process, including those that have files by now."""
        return self._folders | (self.transaction.folders if self._intrans else set())

    def forget_folders(self, names: Iterable[str]) -> None:
        """Forget folders that were deleted or moved, with the folders in them."""
        for name in names:
            self._folders.difference_update(
                each for each in self.remembered() if each == name or each.startswith(f"{name}/")
            )

    def _remembered_in(self, path: str, listed: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        inside = {each[len(path) + 1 :].partition("/")[0] for each in self.remembered() if each.startswith(f"{path}/")}
        names = {f"{path}/{each}" for each in inside} - {info["name"] for info in listed}
        return [{**entries.folder_info(name), REMEMBERED: True} for name in sorted(names)]

    # --- listing ------------------------------------------------------------------------------------------------------

    def invalidate_cache(self, path: str | None = None) -> None:
        """Forget all listings: a commit may change more than one folder."""
        self.dircache.clear()
        super().invalidate_cache(path)

    def ls(self, path: str, detail: bool = True, refresh: bool = False, **_: Any) -> list[Any]:
        """List a folder. A listing is reused for some seconds, unless ``refresh`` is set.

        :raises FileNotFoundError: ``path`` does not exist.
        """
        path = self._strip_protocol(path)
        if refresh:
            self.invalidate_cache()
        found = self.dircache.get(path)
        found = self._list(path) if found is None else found
        found = [*found, *self._remembered_in(path, found)]
        return found if detail else [info["name"] for info in found]

    def _list(self, path: str) -> list[dict[str, Any]]:
        hub_path = parse_root(path)
        found = entries.list_folder(self.hook.hub, hub_path)
        if found is None:
            info = self.info(path)  # a file, or a folder that only mkdir made
            return [info] if info["type"] == "file" else []
        if not found and hub_path.path and (info := self.info(path))["type"] == "file":
            return [info]  # some Hubs return an empty listing for a file
        self.dircache[path] = found
        return found

    def info(self, path: str, expand: bool = False, **_: Any) -> dict[str, Any]:
        """Describe a file or a folder: ``name``, ``size``, ``type``, ``xet_hash``, ``sha256``, ``blob_id``, ``ETag``.

        :param path: with or without ``hf://``.
        :param expand: whether to add ``LastModified`` and ``last_commit``, which the Hub returns more slowly. Files in
            buckets always have ``LastModified``.
        :param _: options of other filesystems.
        :raises FileNotFoundError: ``path`` does not exist.
        """
        path = self._strip_protocol(path)
        hub_path = parse(path)
        if hub_path is None:
            return entries.folder_info(path)
        if not expand and (cached := self._cached_info(hub_path, path)):
            return cached
        found = entries.get_info(self.hook.hub, hub_path, expand=expand)
        if found is None:
            if any(each == path or each.startswith(f"{path}/") for each in self.remembered()):
                return {**entries.folder_info(path), REMEMBERED: True}
            raise not_found(path)
        return found

    def _cached_info(self, hub_path: HubPath, path: str) -> dict[str, Any] | None:
        siblings = self.dircache.get(path.rpartition("/")[0]) if hub_path.path else None
        if found := next((dict(info) for info in siblings or [] if info["name"] == path), None):
            return found  # of a file and a folder with the same path, the file comes first
        is_listed = self.dircache.get(path) is not None
        # A bucket may have a file of that path, too.
        may_be_file = hub_path.repo.is_bucket and hub_path.path and siblings is None
        return entries.folder_info(path) if is_listed and not may_be_file else None

    def exists(self, path: str, **_: Any) -> bool:
        """Return whether ``path`` exists. A refused credential is an error, not an answer."""
        return self._type(path) is not None

    def isdir(self, path: str) -> bool:
        """Return whether ``path`` is a folder."""
        return self._type(path) == "directory"

    def isfile(self, path: str) -> bool:
        """Return whether ``path`` is a file."""
        return self._type(path) == "file"

    def _type(self, path: str) -> str | None:
        try:
            return str(self.info(path)["type"])
        except FileNotFoundError:
            return None

    def walk(self, path: str, maxdepth: int | None = None, **options: Any) -> Any:
        """Walk through folders as :func:`os.walk` does; one listing covers all of them."""
        folder = strip(path)
        if maxdepth != 1 and self.dircache.get(folder) is None and (hub_path := parse(folder)) is not None:
            for name, listing in entries.list_folders_below(self.hook.hub, hub_path, folder).items():
                self.dircache[name] = listing
        return super().walk(path, maxdepth=maxdepth, **options)

    def modified(self, path: str) -> datetime:
        """Return when the file was last changed."""
        found: datetime = self.info(path, expand=True)["LastModified"]
        return found

    # --- reading and writing ------------------------------------------------------------------------------------------

    def open(self, path: str, mode: str = "rb", *args: Any, **options: Any) -> Any:
        """Open a file; see :meth:`fsspec.spec.AbstractFileSystem.open`.

        The option ``commit_message`` is the title of the commit that a written file becomes.
        """
        if "r" in mode or "b" in mode:
            if "r" in mode or options.get("compression") is None:
                return super().open(path, mode, *args, **options)
            method = compression.compression_of(path, options.pop("compression"))
            file = super().open(path, mode, *args, **options)
            return file if method is None else compression.WritingCompressed(file, method)
        text = {name: options.pop(name) for name in _TEXT_OPTIONS if name in options}
        return WritingText(self.open(path, mode.replace("t", "") + "b", *args, **options), **text)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        cache_type: str = "readahead",
        commit_message: str | None = None,
        **_: Any,
    ) -> ReadingFile | WritingFile:
        file = parse_file(path)
        if commit_message is not None and not commit_message.strip():
            raise XetInputError("commit_message is empty. Leave it out to use the default.")
        if mode == "rb":
            info, content = self._snapshot(path, file)
            return ReadingFile(
                self,
                file,
                info,
                content,
                block_size=block_size or "default",
                cache_type=cache_type,
                cache_options=cache_options,
            )
        if mode not in ("wb", "xb"):
            text = f"Mode {mode!r} is not supported. Use r to read a file, w to replace it, or x to create it."
            raise NotImplementedError(text)
        if mode == "xb" and self.exists(path):
            raise FileExistsError(errno.EEXIST, "already exists", path)
        reserve_memory = None if autocommit else self.transaction.reserve_memory
        return WritingFile(self, file, path, commit_message, reserve_memory)

    def _snapshot(self, path: str, file: HubPath) -> tuple[dict[str, Any], bytes | None]:
        """Return the description of a file and, if it is stored inline, its content, both from the same commit."""
        from airflow_provider_xethub.xet.publish.commit import git_blob_id

        for is_last in (False, True):
            info = self.info(path)
            if info["type"] == "directory":
                raise IsADirectoryError(errno.EISDIR, "is a folder", path)
            if info["xet_hash"] and info["size"]:
                return info, None
            with file_not_found_errors():
                content = self.hook.hub.read_inline(file.repo, file.path) if info["size"] else b""
            if not info["size"] or git_blob_id(content) == info["blob_id"]:
                return info, content
            if is_last:
                break
            self.invalidate_cache()  # the listing is older than the last commit
        raise XetIntegrityError(
            f"{named(f'hf://{path}')} arrived damaged. Let the task retry: the blob id of hf://{path} is not "
            f"{info['blob_id']}."
        )

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        """Read a file, or exactly a range of it. A whole file is verified, and fetched again if it is damaged."""
        content: bytes = super().cat_file(path, start, end, **{"cache_type": "none", **options})
        return content

    def get(self, rpath: Any, lpath: Any, *args: Any, **options: Any) -> None:
        """Download files and folders; see :meth:`fsspec.spec.AbstractFileSystem.get`.

        :raises XetInputError: a path is empty, or two files would get the same target. Nothing was written.
        """
        targets.check_named("rpath", rpath)
        targets.check_named("lpath", lpath)
        if not isinstance(rpath, str):  # below one folder, no two files have the same path
            with targets.dry_run():
                super().get(rpath, lpath, *args, **{**options, "callback": DEFAULT_CALLBACK})
        super().get(rpath, lpath, *args, **options)

    def get_file(self, rpath: str, lpath: Any = None, outfile: Any = None, **options: Any) -> None:
        """Download a file, verified before it appears under its final name."""
        info = self.info(rpath)
        if targets.check_target(rpath, lpath, is_folder=info["type"] == "directory"):
            return
        if outfile is None and isinstance(lpath, (str, os.PathLike)) and info["type"] == "file":
            file = parse_file(info["name"])
            self.hook.download(os.fspath(lpath), [changes.record(file, info)], single=True)
        else:
            super().get_file(rpath, lpath, outfile=outfile, **options)

    def put(self, lpath: Any, rpath: Any, recursive: bool = False, *args: Any, **options: Any) -> None:
        """Upload files and folders in one commit, by the same rules as every upload.

        :raises XetInputError: a path is empty, two files would get the same path, or a link leads out of its folder.
            Nothing was published.
        """
        targets.check_named("lpath", lpath)
        targets.check_named("rpath", rpath)
        with local_sources.selecting(lpath, rpath, recursive=recursive):
            if not isinstance(lpath, str):
                with targets.dry_run():
                    super().put(lpath, rpath, recursive, *args, **{**options, "callback": DEFAULT_CALLBACK})
            with nullcontext() if self._intrans else self.transaction:
                super().put(lpath, rpath, recursive, *args, **options)

    def put_file(
        self, lpath: Any, rpath: str, callback: Any = DEFAULT_CALLBACK, mode: str = "overwrite", **options: Any
    ) -> None:
        """Upload a file. A folder is only remembered, until the end of :meth:`put`, because it may have no files."""
        if not local_sources.is_selected(lpath):
            return
        is_folder = Path(lpath).is_dir()
        if targets.check_target(lpath, self._strip_protocol(rpath), is_folder=is_folder):
            return
        if is_folder:
            self.mkdir(rpath)
            return
        if mode == "create" and self.exists(rpath):
            raise FileExistsError(errno.EEXIST, "already exists", rpath)
        with Path(lpath).open("rb") as source, self.open(rpath, "wb", **options) as target:
            callback.set_size(os.fstat(source.fileno()).st_size)
            while data := source.read(self.blocksize):
                callback.relative_update(target.write(data))

    # --- changing -----------------------------------------------------------------------------------------------------

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:  # noqa: ARG002
        """Remember a folder in this process until it is deleted: the Hub has no folders without files.

        A folder that is made in a transaction is remembered until the transaction ends.
        """
        (self.transaction.folders if self._intrans else self._folders).add(self._strip_protocol(path))

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Remember a folder as :meth:`mkdir` does.

        :raises FileExistsError: ``path`` exists, and ``exist_ok`` does not allow it.
        """
        if self.exists(path) and not (exist_ok and self.isdir(path)):
            raise FileExistsError(errno.EEXIST, "already exists", path)
        self.mkdir(path)

    def rmdir(self, path: str) -> None:
        """Forget a folder without files.

        :raises OSError: the folder contains files.
        """
        path = self._strip_protocol(path)
        if not self.isdir(path):
            raise not_found(path)
        if REMEMBERED not in self.info(path):
            raise OSError(errno.ENOTEMPTY, "is not empty", path)
        if self._remembered_in(path, []):
            raise OSError(errno.ENOTEMPTY, "is not empty", path)
        self.forget_folders([path])

    def rm_file(self, path: str) -> None:
        """Delete a file in a commit of its own."""
        self.rm(path)

    def rm(self, path: str | list[str], recursive: bool = False, maxdepth: int | None = None) -> None:
        """Delete files, in one commit for each repository.

        :param path: a file, a folder, a pattern, or a list of these.
        :param recursive: whether to delete folders with everything in them.
        :param maxdepth: delete no files below this level. ``None``: all.
        :raises FileNotFoundError: a path does not exist. Nothing was deleted.
        """
        self.invalidate_cache()  # files committed since the last listing are deleted, too
        infos = [self.info(each) for each in self.expand_path(path)]
        for info in infos:
            if info["type"] == "directory" and not recursive:
                raise IsADirectoryError(errno.EISDIR, "is a folder", info["name"])
        doomed = [info for info in infos if REMEMBERED not in info]
        if recursive and maxdepth is not None:
            found = [self.info(each) for each in self.expand_path(path, recursive=True, maxdepth=maxdepth)]
            doomed = [info for info in found if info["type"] == "file"]
        elif recursive:
            # A bucket may have a file and a folder of the same path.
            files = [info["name"] for info in doomed if info["type"] == "file" and info["name"].startswith("buckets/")]
            doomed += [self.info(inside) for each in files for inside in self.find(each) if inside != each]
        try:
            with file_not_found_errors():
                changes.delete(self.hook, doomed)
            self.forget_folders(info["name"] for info in infos)
        finally:
            self.invalidate_cache()

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """Copy a file at the Hub, without moving the bytes that are in CAS."""
        pairs = _PAIRS.get()
        if pairs is None:
            self._copy([(path1, path2)], move=False)
        else:
            pairs.append((path1, path2))

    def copy(
        self, path1: Any, path2: Any, recursive: bool = False, maxdepth: int | None = None, **options: Any
    ) -> None:
        """Copy files and folders at the Hub, in one commit."""
        self._copy(self._pairs(path1, path2, recursive, maxdepth, options), move=False)

    def mv(self, path1: Any, path2: Any, recursive: bool = False, maxdepth: int | None = None, **options: Any) -> None:
        """Move files and folders; within a repository in one commit."""
        if path1 == path2:
            return
        pairs = self._pairs(path1, path2, recursive, maxdepth, options)
        if not pairs:
            raise IsADirectoryError(errno.EISDIR, "is a folder; use recursive=True to move it", path1)
        self._copy(pairs, move=True)

    def _pairs(
        self, path1: Any, path2: Any, recursive: bool, maxdepth: int | None, options: Any
    ) -> list[tuple[str, str]]:
        """Return which file is copied to which path, by fsspec's own rules."""
        pairs: list[tuple[str, str]] = []
        reset = _PAIRS.set(pairs)
        try:
            super().copy(path1, path2, recursive=recursive, maxdepth=maxdepth, **options)
        finally:
            _PAIRS.reset(reset)
        return pairs

    def _copy(self, pairs: Sequence[tuple[str, str]], *, move: bool) -> None:
        described = [(self.info(each), self._strip_protocol(target)) for each, target in pairs]
        files = [(info, target) for info, target in described if info["type"] == "file"]
        try:
            with file_not_found_errors():
                changes.copy(self.hook, files, move=move, rewrite=self._rewrite)
            if move:
                self.forget_folders(info["name"] for info, _ in described)
            for info, target in described:
                if REMEMBERED in info:
                    self.mkdir(target)
        finally:
            self.invalidate_cache()

    def _rewrite(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Copy files by reading and writing them, in one commit."""
        with self.transaction:
            for path, target in pairs:
                with self.open(path, "rb") as source, self.open(target, "wb") as stream:
                    shutil.copyfileobj(source, stream, self.blocksize)
