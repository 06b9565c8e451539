"""The calls that the tests of this folder make again and again, with the real client."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from xethub_local.server import LocalHub

HEADER = '{"key":"header","value":{"summary":"s"}}'


def binary(seed: str, size: int = 20_000) -> bytes:
    return b"\0" + random.Random(seed).randbytes(size - 1)


def upload(api: HfApi, repo: str, path: str, content: Any, **options: Any) -> str:
    done = api.upload_file(
        path_or_fileobj=content,  # type: ignore[arg-type]
        path_in_repo=path,
        repo_id=repo,
        repo_type="dataset",
        **options,  # type: ignore[arg-type]
    )
    return str(done.oid)


def read(api: HfApi, repo: str, path: str, cache: Path, **options: Any) -> bytes:
    local = api.hf_hub_download(repo, path, repo_type="dataset", cache_dir=cache, **options)  # type: ignore[arg-type]
    return Path(local).read_bytes()


def names(api: HfApi, repo: str, **options: Any) -> set[str]:
    return set(api.list_repo_files(repo, repo_type="dataset", **options)) - {".gitattributes"}  # type: ignore[arg-type]


def refused(call: Callable[[], object], status: int) -> str:
    with pytest.raises(HfHubHTTPError) as caught:
        call()
    assert caught.value.response.status_code == status
    return str(caught.value)


def commit_lines(hub: LocalHub, repo: str, *lines: str, status: int, token: str | None = None) -> str:
    answer = requests.post(
        f"{hub.url}/api/datasets/{repo}/commit/main",
        data="\n".join(lines),
        headers={"Authorization": f"Bearer {token or hub.token()}", "Content-Type": "application/x-ndjson"},
        timeout=20,
    )
    assert answer.status_code == status, answer.text
    return str(answer.json().get("error", ""))


def batch_lines(hub: LocalHub, bucket: str, token: str, *lines: dict[str, object]) -> requests.Response:
    return requests.post(
        f"{hub.url}/api/buckets/{bucket}/batch",
        data="\n".join(map(json.dumps, lines)),
        headers={"Authorization": f"Bearer {token}"},
        timeout=20,
    )
