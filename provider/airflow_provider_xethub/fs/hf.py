"""``ObjectStoragePath("hf://connection@…")``: the filesystem of :mod:`~airflow_provider_xethub.fs.xethub`.

Airflow asks a module for a filesystem without telling it the scheme, so that ``hf`` and ``xethub`` need one each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

schemes = ["hf"]
"""What Airflow asks :func:`get_fs` for."""


def get_fs(conn_id: str | None, storage_options: Mapping[str, Any] | None = None) -> AbstractFileSystem:
    """Return the filesystem of a connection; nothing is asked before it is used.

    Without a connection it is that of ``huggingface_hub``: Airflow 3.2 and later use it for half of what a path does
    then, and two different ones for one path would be worse.
    """
    if conn_id is None:
        from huggingface_hub import HfFileSystem

        return HfFileSystem(**(storage_options or {}))
    from airflow_provider_xethub.fs import xethub

    return xethub.get_fs(conn_id, storage_options)
