"""``ObjectStoragePath("hf://xethub_default@datasets/acme/corpus/…")``: a filesystem over the hook.

What is read comes by ranges through CAS, what is written becomes a commit when it is closed.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsspec.callbacks import DEFAULT_CALLBACK

from airflow_provider_xethub.exceptions import XetInputError, XetIntegrityError
from airflow_provider_xethub.fs import changes, compressed, local_sources, targets
from airflow_provider_xethub.fs.errors import missing_files, not_found
from airflow_provider_xethub.fs.files import ReadingFile, WritingFile, WritingText
from airflow_provider_xethub.fs.listing import REMEMBERED, XetListing
from airflow_provider_xethub.fs.places import Place, file_place
from airflow_provider_xethub.fs.transactions import XetTransaction
from airflow_provider_xethub.get_provider_info import DEFAULT_CONN_ID

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    from airflow_provider_xethub.xet.cas.writer import CasWriter

schemes = ["xethub"]
"""What Airflow asks :func:`get_fs` for."""

_PAIRS: ContextVar[list[tuple[str, str]] | None] = ContextVar("xethub_pairs", default=None)
_TEXT_OPTIONS = ("encoding", "errors", "newline")


def get_fs(conn_id: str | None, storage_options: Mapping[str, Any] | None = None) -> AbstractFileSystem:
    """Return the filesystem of a connection; nothing is asked before it is used.

    Without a connection it is that of ``xethub_default``. For that one the argument is left out, as ``fsspec`` leaves
    it out for ``xethub://`` addresses, so that one path has one filesystem.
    """
    default = {} if conn_id in (None, DEFAULT_CONN_ID) else {"conn_id": conn_id}
    return XetHubFileSystem(**default, **(storage_options or {}))


class XetHubFileSystem(XetListing):
    """Repositories and buckets of the Hub that a connection describes.

    Paths: ``[datasets/|spaces/|buckets/]namespace/name[@revision]/path``. It can be pickled: what travels is the id of
    the connection.

    :param conn_id: the Airflow connection.
    """

    blocksize = ReadingFile.DEFAULT_BLOCK_SIZE
    transaction_type = XetTransaction

    def __init__(self, conn_id: str = DEFAULT_CONN_ID, **storage_options: Any) -> None:
        if self._cached:
            return
        self._thread = threading.local()
        super().__init__(conn_id, **storage_options)

    # A transaction is that of one thread: a filesystem is shared by all that use its connection.
    _intrans = property(
        lambda self: getattr(self._thread, "is_in_transaction", False),
        lambda self, value: setattr(self._thread, "is_in_transaction", value),
    )
    _transaction = property(
        lambda self: getattr(self._thread, "transaction", None),
        lambda self, value: setattr(self._thread, "transaction", value),
    )

    def writer(self, where: Place) -> CasWriter:
        """Begin an upload of which nobody knows how long it gets."""
        from airflow_provider_xethub.xet.cas.writer import CasWriter

        return CasWriter(self.hook.cas_access()(self.hook.get_token(where.repo, "write")), where.path)

    def publish(self, files: Sequence[WritingFile]) -> None:
        """Publish written files of one repository in one commit."""
        try:
            changes.publish(self.hook, files)
        finally:
            self.invalidate_cache()

    # --- reading and writing --------------------------------------------------------------------------------------

    def open(self, path: str, mode: str = "rb", *args: Any, **options: Any) -> Any:
        """Open a file; see :meth:`fsspec.spec.AbstractFileSystem.open`.

        ``commit_message`` among the options is that of the commit which a written file becomes.
        """
        if "r" in mode or "b" in mode:
            if "r" in mode or options.get("compression") is None:
                return super().open(path, mode, *args, **options)
            method = compressed.method(path, options.pop("compression"))
            file = super().open(path, mode, *args, **options)
            return file if method is None else compressed.WritingCompressed(file, method)
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
        where = file_place(path)
        if commit_message is not None and not commit_message.strip():
            raise XetInputError("commit_message is empty. Leave it out for a default one.")
        if mode == "rb":
            info, content = self._opened_now(path, where)
            return ReadingFile(
                self,
                where,
                info,
                content,
                block_size=block_size or "default",
                cache_type=cache_type,
                cache_options=cache_options,
            )
        if mode not in ("wb", "xb"):
            raise NotImplementedError(f"mode {mode!r}: a file of the Hub is read, or written anew (r, w, x).")
        if mode == "xb" and self.exists(path):
            raise FileExistsError(errno.EEXIST, "exists already", path)
        return WritingFile(self, where, path, commit_message, None if autocommit else self.transaction)

    def _opened_now(self, path: str, where: Place) -> tuple[dict[str, Any], bytes | None]:
        """Return what a file is, and its content where that is stored inline, both of the same moment."""
        from airflow_provider_xethub.xet.publish.commit import git_blob_id

        for is_last in (False, True):
            info = self.info(path)
            if info["type"] == "directory":
                raise IsADirectoryError(errno.EISDIR, "is a folder", path)
            if info["xet_hash"] and info["size"]:
                return info, None
            with missing_files():
                content = self.hook.hub.read_inline(where.repo, where.path) if info["size"] else b""
            if not info["size"] or git_blob_id(content) == info["blob_id"]:
                return info, content
            if is_last:
                break
            self.invalidate_cache()  # the listing is older than the last commit
        raise XetIntegrityError(f"hf://{path} arrived damaged: it is not {info['blob_id']}. Let the task retry.")

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        """Read a file, or a range of it and no more. A whole one is verified, and read once more if it is damaged."""
        content: bytes = super().cat_file(path, start, end, **{"cache_type": "none", **options})
        return content

    def get(self, rpath: Any, lpath: Any, *args: Any, **options: Any) -> None:
        """Download files and folders; see :meth:`fsspec.spec.AbstractFileSystem.get`.

        :raises XetInputError: nothing was named, or two files would get the same name. Nothing was written.
        """
        targets.named("rpath", rpath)
        targets.named("lpath", lpath)
        if not isinstance(rpath, str):  # below one folder, no two files have the same path
            with targets.collected():
                super().get(rpath, lpath, *args, **{**options, "callback": DEFAULT_CALLBACK})
        super().get(rpath, lpath, *args, **options)

    def get_file(self, rpath: str, lpath: Any = None, outfile: Any = None, **options: Any) -> None:
        """Download a file: verified, before it gets its name."""
        info = self.info(rpath)
        if targets.collect(rpath, lpath, is_folder=info["type"] == "directory"):
            return
        if outfile is None and isinstance(lpath, (str, os.PathLike)) and info["type"] == "file":
            where = file_place(info["name"])
            self.hook.download(os.fspath(lpath), [changes.record(where, info)], single=True)
        else:
            super().get_file(rpath, lpath, outfile=outfile, **options)

    def put(self, lpath: Any, rpath: Any, recursive: bool = False, *args: Any, **options: Any) -> None:
        """Upload files and folders, in one commit: those that every upload takes.

        :raises XetInputError: nothing was named, two files would get the same path, or a link leads out of its folder.
            Nothing was published.
        """
        targets.named("lpath", lpath)
        targets.named("rpath", rpath)
        with local_sources.only_taken(lpath, rpath, recursive=recursive):
            if not isinstance(lpath, str):
                with targets.collected():
                    super().put(lpath, rpath, recursive, *args, **{**options, "callback": DEFAULT_CALLBACK})
            with nullcontext() if self._intrans else self.transaction:
                super().put(lpath, rpath, recursive, *args, **options)

    def put_file(
        self, lpath: Any, rpath: str, callback: Any = DEFAULT_CALLBACK, mode: str = "overwrite", **options: Any
    ) -> None:
        """Upload a file. Of a folder, :meth:`put` remembers only until its end that it may have no files."""
        if not local_sources.is_taken(lpath):
            return
        is_folder = Path(lpath).is_dir()
        if targets.collect(lpath, self._strip_protocol(rpath), is_folder=is_folder):
            return
        if is_folder:
            self.mkdir(rpath)
            return
        if mode == "create" and self.exists(rpath):
            raise FileExistsError(errno.EEXIST, "exists already", rpath)
        with Path(lpath).open("rb") as source, self.open(rpath, "wb", **options) as target:
            callback.set_size(os.fstat(source.fileno()).st_size)
            while data := source.read(self.blocksize):
                callback.relative_update(target.write(data))

    # --- changing -------------------------------------------------------------------------------------------------

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:  # noqa: ARG002
        """Remember a folder, for this process and until it is deleted: the Hub has none without files.

        One that is made in a transaction is remembered until that ends.
        """
        (self.transaction.folders if self._intrans else self._folders).add(self._strip_protocol(path))

    def remembered(self) -> set[str]:
        """Return the folders that were made here, also those that have files by now."""
        return super().remembered() | (self.transaction.folders if self._intrans else set())

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Remember a folder as :meth:`mkdir` does.

        :raises FileExistsError: there is something at ``path``, and it may not.
        """
        if self.exists(path) and not (exist_ok and self.isdir(path)):
            raise FileExistsError(errno.EEXIST, "exists already", path)
        self.mkdir(path)

    def rmdir(self, path: str) -> None:
        """Forget a folder without files.

        :raises OSError: there are files in it.
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
        """Delete a file, which is a commit."""
        self.rm(path)

    def rm(self, path: str | list[str], recursive: bool = False, maxdepth: int | None = None) -> None:
        """Delete files, in one commit for each repository.

        :param path: a file, a folder, a pattern, or a list of these.
        :param recursive: whether a folder is deleted, with all that is in it.
        :param maxdepth: delete no files that are deeper than this.
        :raises FileNotFoundError: there is nothing at a path. Nothing was deleted.
        """
        self.invalidate_cache()  # what was committed since the last listing is deleted, too
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
            with missing_files():
                changes.delete(self.hook, doomed)
            self.forget_folders(info["name"] for info in infos)
        finally:
            self.invalidate_cache()

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """Copy a file at the Hub, without moving what is in CAS."""
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
            raise IsADirectoryError(errno.EISDIR, "is a folder, which recursive=True moves", path1)
        self._copy(pairs, move=True)

    def _pairs(
        self, path1: Any, path2: Any, recursive: bool, maxdepth: int | None, options: Any
    ) -> list[tuple[str, str]]:
        """Let fsspec's rules say which file goes where."""
        pairs: list[tuple[str, str]] = []
        reset = _PAIRS.set(pairs)
        try:
            super().copy(path1, path2, recursive=recursive, maxdepth=maxdepth, **options)
        finally:
            _PAIRS.reset(reset)
        return pairs

    def _copy(self, pairs: Sequence[tuple[str, str]], *, move: bool) -> None:
        plain_pairs = [(self.info(each), self._strip_protocol(target)) for each, target in pairs]
        files = [(info, target) for info, target in plain_pairs if info["type"] == "file"]
        try:
            with missing_files():
                changes.copy(self, files, move=move)
            if move:
                self.forget_folders(info["name"] for info, _ in plain_pairs)
            for info, target in plain_pairs:
                if REMEMBERED in info:
                    self.mkdir(target)
        finally:
            self.invalidate_cache()
