"""The real transfer client, hf_xet, as the tests of CAS use it: sessions with settings, uploads and downloads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hf_xet

MIB = 1024 * 1024


def session_with(**settings: object) -> hf_xet.XetSession:
    """Return a session of its own; ``client__shard_api_version=1`` sets ``client.shard_api_version``."""
    # Without its report a session ends at once; the default session of the tests sends it.
    changes = {"telemetry.enabled": False} | {name.replace("__", "."): value for name, value in settings.items()}
    return hf_xet.XetSession(config=hf_xet.XetConfig().with_config(changes))


def upload(
    session: hf_xet.XetSession, operation: dict[str, Any], *contents: bytes, sha256: Any = hf_xet.COMPUTE_SHA256
) -> list[hf_xet.XetFileInfo]:
    """Upload contents in one commit."""
    with session.new_upload_commit(**operation) as commit:
        handles = [commit.start_upload_bytes(content, sha256=sha256) for content in contents]
    return [handle.result().xet_info for handle in handles]


def download(
    session: hf_xet.XetSession, operation: dict[str, Any], folder: Path, *infos: hf_xet.XetFileInfo
) -> list[bytes]:
    """Download files in one group into a folder and return their contents."""
    paths = [folder / str(number) for number in range(len(infos))]
    with session.new_file_download_group(**operation) as group:
        for info, path in zip(infos, paths, strict=True):
            group.start_download_file(info, str(path))
    return [path.read_bytes() for path in paths]


def bearer(token: str) -> dict[str, str]:
    """Return the header that carries a Xet token."""
    return {"Authorization": f"Bearer {token}"}
