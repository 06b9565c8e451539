"""Helpers that the tests of ``huggingface_hub`` import."""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
from collections.abc import Iterator
from enum import Enum
from typing import Any, NoReturn
from unittest.mock import MagicMock, patch

from huggingface_hub import HfApi


def repo_name(id: str | None = None, prefix: str = "repo") -> str:  # noqa: A002 - the tests pass it by name
    """Return a name that no repository has."""
    return f"{prefix}-{id or secrets.token_hex(3)}-{time.time_ns()}"


def wait_for_bucket_files(api: HfApi, bucket_id: str, paths: list[str]) -> None:
    """Wait until the files are listed, which they are at once here."""
    listed = {file.path for file in api.list_bucket_tree(bucket_id, recursive=True)}
    assert listed >= set(paths), f"{set(paths) - listed} are not listed."


class OfflineSimulationMode(Enum):
    """How there is no network."""

    CONNECTION_FAILS = 0
    CONNECTION_TIMES_OUT = 1
    HF_HUB_OFFLINE_SET_TO_1 = 2


@contextlib.contextmanager
def offline(mode: OfflineSimulationMode = OfflineSimulationMode.CONNECTION_FAILS, timeout: float = 0) -> Iterator[None]:
    """Let no request through."""
    if mode is OfflineSimulationMode.HF_HUB_OFFLINE_SET_TO_1:
        with patch("huggingface_hub.constants.HF_HUB_OFFLINE", True):
            yield
        return
    import httpx2

    kind = httpx2.ConnectError if mode is OfflineSimulationMode.CONNECTION_FAILS else httpx2.ConnectTimeout

    def fail(*_: Any, **__: Any) -> NoReturn:
        raise kind("There is no network in this test.")

    client = MagicMock()
    for method in ("request", "stream", "send", "get", "post", "head", "put", "patch", "delete"):
        getattr(client, method).side_effect = fail
    with patch("huggingface_hub.utils._http._GLOBAL_CLIENT", client), patch.object(socket, "socket", fail):
        yield
