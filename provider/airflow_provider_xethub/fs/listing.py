"""The lower half of the filesystem: its connection, and what is where."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fsspec.spec import AbstractFileSystem

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.fs.errors import missing_files, not_found
from airflow_provider_xethub.fs.places import SCHEMES, Place, connection_of, place, plain
from airflow_provider_xethub.get_provider_info import DEFAULT_CONN_ID

if TYPE_CHECKING:
    from airflow_provider_xethub.hooks.xethub import XetHubConnection
    from airflow_provider_xethub.xet.cas.ranges import Ranges
    from airflow_provider_xethub.xet.hub.tree import Node
    from airflow_provider_xethub.xet.repo import Repo

LISTING_SECONDS = 10
"""How long a listing is good for: shorter than anybody waits between two looks."""


REMEMBERED = "is_remembered"
"""In what is said of a folder that was made here, and that the Hub knows nothing of."""


class XetListing(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The lower half of :class:`~airflow_provider_xethub.fs.xethub.XetHubFileSystem`.

    :param conn_id: the Airflow connection.
    """

    protocol = SCHEMES
    cachable = True

    def __init__(self, conn_id: str = DEFAULT_CONN_ID, **storage_options: Any) -> None:
        if self._cached:
            return
        super().__init__(listings_expiry_time=LISTING_SECONDS, **storage_options)
        self.conn_id = conn_id
        self._folders: set[str] = set()
        self._turn = threading.Lock()
        self._opened: tuple[int, XetHubConnection, dict[Repo, Ranges]] | None = None

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return [cls._strip_protocol(each) for each in path] if isinstance(path, list) else plain(os.fspath(path))

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        conn_id = connection_of(path)
        return {"conn_id": conn_id} if conn_id not in (None, DEFAULT_CONN_ID) else {}

    @property
    def fsid(self) -> str:
        """Tells filesystems apart: the connection."""
        return f"{SCHEMES[0]}-{self.conn_id}"

    # --- the hook, and what is kept open through it ---------------------------------------------------------------

    def _open_hook(self) -> tuple[int, XetHubConnection, dict[Repo, Ranges]]:
        from airflow_provider_xethub.hooks.xethub import XetHubConnection

        with self._turn:
            # Airflow keeps a filesystem for the life of the process, and may have made it before a fork.
            if self._opened is None or self._opened[0] != os.getpid():
                self._opened = (os.getpid(), XetHubConnection(self.conn_id), {})
            return self._opened

    @property
    def hook(self) -> XetHubConnection:
        """The hook through which all of this happens."""
        return self._open_hook()[1]

    def ranges(self, repo: Repo) -> Ranges:
        """Return what reads ranges of the files of a repository: one for all of its files and threads."""
        from airflow_provider_xethub.xet.cas import ranges as cas_ranges
        from airflow_provider_xethub.xet.cas import session as cas

        _, hook, known = self._open_hook()

        def access(refused: cas.CasAccess | None) -> cas.CasAccess:
            token = hook.refresh_token(refused.token) if refused else hook.get_token(repo, "read")
            return hook.cas_access()(token)

        with self._turn:
            return known.setdefault(repo, cas_ranges.Ranges(access))

    # --- folders without files, of which the Hub knows nothing ------------------------------------------------------

    def remembered(self) -> set[str]:
        """Return the folders that were made here, also those that have files by now."""
        return set(self._folders)

    def forget_folders(self, names: Iterable[str]) -> None:
        """Forget folders that were deleted or moved, with those in them."""
        for name in names:
            self._folders.difference_update(
                each for each in self.remembered() if each == name or each.startswith(f"{name}/")
            )

    def _remembered_in(self, path: str, listed: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        inside = {each[len(path) + 1 :].partition("/")[0] for each in self.remembered() if each.startswith(f"{path}/")}
        names = {f"{path}/{each}" for each in inside} - {info["name"] for info in listed}
        return [{**_folder(name), REMEMBERED: True} for name in sorted(names)]

    # --- looking --------------------------------------------------------------------------------------------------

    def invalidate_cache(self, path: str | None = None) -> None:
        """Forget all listings: a commit may change more than one folder."""
        self.dircache.clear()
        super().invalidate_cache(path)

    def ls(self, path: str, detail: bool = True, refresh: bool = False, **_: Any) -> list[Any]:
        """List a folder; what was listed a moment ago is not asked again, unless ``refresh`` is set.

        :raises FileNotFoundError: there is nothing at ``path``.
        """
        path = self._strip_protocol(path)
        if refresh:
            self.invalidate_cache()
        found = self.dircache.get(path)
        found = self._list(path) if found is None else found
        found = [*found, *self._remembered_in(path, found)]
        return found if detail else [info["name"] for info in found]

    def _list(self, path: str) -> list[dict[str, Any]]:
        from airflow_provider_xethub.xet.hub import tree

        where = _repository(path)
        found: list[dict[str, Any]]
        with missing_files():
            try:
                nodes = tree.list_folder(self.hook.hub, where.repo, where.path, recursive=False)
            except LookupError:
                info = self.info(path)  # a file, or a folder that was only made here
                return [info] if info["type"] == "file" else []
        found = [_info(where, node) for node in nodes]
        if not found and where.path and (info := self.info(path))["type"] == "file":
            return [info]  # some Hubs list a file, too
        self.dircache[path] = found
        return found

    def info(self, path: str, expand: bool = False, **_: Any) -> dict[str, Any]:
        """Describe a file or a folder: ``name``, ``size``, ``type``, ``xet_hash``, ``sha256``, ``blob_id``, ``ETag``.

        :param path: with or without ``hf://``.
        :param expand: with ``LastModified`` and ``last_commit``, which takes the Hub longer. Of files in buckets the
            time is there anyway.
        :param _: what other filesystems take.
        :raises FileNotFoundError: there is nothing at ``path``.
        """
        from airflow_provider_xethub.xet.hub import tree

        path = self._strip_protocol(path)
        where = place(path)
        if where is None:
            return _folder(path)
        if not expand and (cached := self._cached_info(where, path)):
            return cached
        with missing_files():
            node = tree.get_node(self.hook.hub, where.repo, where.path, expand=expand)
        if node is None:
            if any(each == path or each.startswith(f"{path}/") for each in self.remembered()):
                return {**_folder(path), REMEMBERED: True}
            raise not_found(path)
        return _info(where, node)

    def _cached_info(self, where: Place, path: str) -> dict[str, Any] | None:
        beside = self.dircache.get(path.rpartition("/")[0]) if where.path else None
        if found := next((dict(info) for info in beside or [] if info["name"] == path), None):
            return found  # of a file and a folder with the same path, the file comes first
        is_listed = self.dircache.get(path) is not None
        # A bucket may have a file of that path, too.
        may_be_file = where.repo.is_bucket and where.path and beside is None
        return _folder(path) if is_listed and not may_be_file else None

    def exists(self, path: str, **_: Any) -> bool:
        """Whether there is anything at ``path``. A wrong credential is an error here, not an answer."""
        return self._type(path) is not None

    def isdir(self, path: str) -> bool:
        """Whether there is a folder at ``path``."""
        return self._type(path) == "directory"

    def isfile(self, path: str) -> bool:
        """Whether there is a file at ``path``."""
        return self._type(path) == "file"

    def _type(self, path: str) -> str | None:
        try:
            return str(self.info(path)["type"])
        except FileNotFoundError:
            return None

    def walk(self, path: str, maxdepth: int | None = None, **options: Any) -> Any:
        """Walk through folders as :func:`os.walk` does; all of them come with one listing."""
        if maxdepth != 1 and self.dircache.get(plain(path)) is None:
            self._list_all(plain(path))
        return super().walk(path, maxdepth=maxdepth, **options)

    def _list_all(self, path: str) -> None:
        """Keep the listings of all folders below ``path``."""
        from airflow_provider_xethub.xet.hub import tree

        where = place(path)
        if where is None:
            return
        with missing_files():
            try:
                nodes = tree.list_folder(self.hook.hub, where.repo, where.path, recursive=True)
            except LookupError:
                return
        listings: dict[str, list[dict[str, Any]]] = {path: []} if nodes else {}
        for node in nodes:
            info = _info(where, node)
            if node.is_folder:
                listings.setdefault(info["name"], [])
            listings.setdefault(info["name"].rpartition("/")[0], []).append(info)
        for name, listing in listings.items():
            self.dircache[name] = listing

    def modified(self, path: str) -> datetime:
        """Return when the file was changed last."""
        found: datetime = self.info(path, expand=True)["LastModified"]
        return found


def _repository(path: str) -> Place:
    where = place(path)
    if where is None:
        raise XetInputError(
            f"hf://{path} names no repository; expected hf://[datasets/|spaces/|buckets/]namespace/name[@revision]."
        )
    return where


def _folder(name: str) -> dict[str, Any]:
    return {"name": name, "size": 0, "type": "directory"}


def _info(where: Place, node: Node) -> dict[str, Any]:
    name = where.name(node.path)
    times = {"LastModified": node.modified} if node.modified else {}
    last = {"last_commit": node.commit} if node.commit else {}
    if node.is_folder:
        return {**_folder(name), **times, **last}
    return {
        "name": name,
        "size": node.size,
        "type": "file",
        "xet_hash": node.xet_hash,
        "sha256": node.sha256,
        "blob_id": node.blob_id,
        "ETag": node.sha256 or node.xet_hash or node.blob_id,
        **times,
        **last,
    }
