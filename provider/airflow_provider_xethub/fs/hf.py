"""``ObjectStoragePath("hf://connection@…")``: the filesystem of :mod:`~airflow_provider_xethub.fs.xethub`.

Airflow asks a module for a filesystem without passing the scheme, so ``hf`` and ``xethub`` need a module each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

schemes = ["hf"]
"""Schemes for which Airflow calls :func:`get_fs`."""


def get_fs(conn_id: str | None, storage_options: Mapping[str, Any] | None = None) -> AbstractFileSystem:
    """Return the filesystem of a connection. It sends no request before it is used.

    Without a connection it is that of ``huggingface_hub``: Airflow 3.2 and later use that for half of a path's methods
    in this case, and two different filesystems for one path would be worse.
    """
    if conn_id is None:
        from huggingface_hub import HfFileSystem

        return HfFileSystem(**(storage_options or {}))
    from airflow_provider_xethub.fs import xethub

    return xethub.get_fs(conn_id, storage_options)
