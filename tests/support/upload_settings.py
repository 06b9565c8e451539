"""Settings of the real transfer client, each combination with a client of its own, and commits of what it uploads."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import hf_xet
import requests

from support.xet_client import bearer, session_with
from xethub_local.server import LocalHub

REPO = "datasets/acme/corpus"
# Small xorbs make files of many xorbs; without hysteresis a file refers to as many places as it can.
UPLOADS: list[dict[str, object]] = [
    {"xorb__compression_policy": policy, **more}
    for policy in ("none", "lz4", "bg4-lz4", "auto")
    for more in (
        {},
        {"xorb__simulation_max_chunks": 3, "client__shard_api_version": 1},
        {"deduplication__min_n_chunks_per_range": 0.0, "deduplication__min_n_chunks_per_range_hysteresis_factor": 0.0},
        {"shard__cache_subdir": "another-client", "client__legacy_direct_xorb_upload": True},
    )
]
DOWNLOADS: list[dict[str, object]] = [
    {},
    {"client__reconstruction_api_version": 1},
    {"client__enable_multirange_fetching": True},
]


@lru_cache(None)
def uploading(number: int) -> hf_xet.XetSession:
    return session_with(**UPLOADS[number])


@lru_cache(None)
def downloading(number: int) -> hf_xet.XetSession:
    return session_with(**DOWNLOADS[number])


def operation(hub: LocalHub, scope: str) -> dict[str, Any]:
    return {
        "token_refresh_url": f"{hub.url}/api/{REPO}/xet-{scope}-token/main",
        "token_refresh_headers": bearer(hub.token()),
    }


def commit(hub: LocalHub, files: dict[str, hf_xet.XetFileInfo]) -> None:
    lines: list[dict[str, object]] = [{"key": "header", "value": {"summary": "Any bytes"}}]
    for path, info in files.items():
        lines.append(
            {
                "key": "lfsFile",
                "value": {"path": path, "algo": "sha256", "oid": info.sha256, "size": info.file_size},
            }
        )
    answer = requests.post(
        f"{hub.url}/api/{REPO}/commit/main",
        data="\n".join(map(json.dumps, lines)),
        headers={**bearer(hub.token()), "Content-Type": "application/x-ndjson"},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
