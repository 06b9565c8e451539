"""Entries in the listing of an object storage: files, links, and objects that stand for folders.

The differences between kinds of storage are handled here only. Nothing is left out: that is up to
:mod:`airflow_provider_xethub.xet.files.source_rules`, for local folders and object storage alike.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from airflow_provider_xethub.exceptions import XetSourceError

Kind = Literal["file", "folder", "marker", "other", "dangling"]

_VERSIONS = ("ETag", "etag", "e_tag", "generation", "md5Hash", "content_md5", "LastModified", "last_modified", "mtime",
             "updated", "modified")  # fmt: skip
_LOCAL = {"file", "local"}
_LINK_SECONDS = 60


@dataclass(frozen=True)
class Entry:
    """A file in object storage, in the state in which it was found.

    :param path: its path in the filesystem.
    :param size: bytes.
    :param version: what else distinguishes one content from another, such as ETag and time of last change.
    :param kind: what it is; a ``marker`` is an empty object whose key ends in a slash and that stands for a folder.
    :param link: for a symbolic link, the real path of its target, empty where the storage does not report it.
    :param checksum_type: of the checksum that S3 has, as it lists it: one that is ``COMPOSITE`` says nothing about the
        whole.
    """

    path: str
    size: int
    version: tuple[str, ...]
    kind: Kind = "file"
    link: str | None = None
    checksum_type: str | None = field(default=None, compare=False)


def entry(info: Mapping[str, Any]) -> Entry:
    """Return the entry for a file that a filesystem describes.

    :raises XetSourceError: its size is unknown.
    """
    if not isinstance(info.get("size"), int):
        raise XetSourceError(f"{info['name']}: the storage does not report its size.")
    version = tuple(f"{name}={info[name]}" for name in _VERSIONS if info.get(name) is not None)
    return Entry(info["name"], info["size"], version, checksum_type=info.get("ChecksumType"))


def below(fs: Any, scheme: str, folder: str, depth: int | None) -> list[Entry]:
    """List the entries below a folder, sorted, without the folders themselves.

    :param depth: levels to descend. Default: all. Links to folders are listed, and never followed.
    """
    found = fs.find(folder, maxdepth=depth, detail=True)
    return [_listed(fs, scheme, name, found[name]) for name in sorted(found)]


def real_path(fs: Any, scheme: str, path: str) -> str | None:
    """Return a path without symbolic links; ``None`` where the storage does not resolve them."""
    if scheme in _LOCAL:
        return os.path.realpath(path)
    pool = getattr(fs, "_pool", None)  # SFTP: the filesystem itself has no method for it
    if pool is None or not hasattr(pool, "get"):
        return None

    async def ask() -> str:
        async with pool.get() as channel:
            answer = await channel.realpath(path)
            return answer.decode() if isinstance(answer, bytes) else str(answer)

    return asyncio.run_coroutine_threadsafe(ask(), fs.loop).result(_LINK_SECONDS)


def _listed(fs: Any, scheme: str, name: str, info: Mapping[str, Any]) -> Entry:
    link: str | None = None
    if info["type"] == "link" or info.get("islink"):
        try:
            link, info = real_path(fs, scheme, name) or "", fs.info(name)
        except PermissionError:
            raise
        except OSError:  # it leads nowhere, or to itself
            return Entry(name, 0, (), "dangling", link)
    if info["type"] == "directory":
        return Entry(name, 0, (), "marker" if link is None else "folder", link)
    if info["type"] != "file":
        return Entry(name, 0, (), "other", link)
    plain = entry({**info, "name": name})
    is_marker = name.endswith("/") and not plain.size
    return replace(plain, kind="marker" if is_marker else "file", link=link)
