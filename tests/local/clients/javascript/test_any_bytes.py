"""Whatever the JavaScript client uploads everybody reads, and it reads whatever the transfer client uploaded."""

from __future__ import annotations

import hashlib
import itertools

import hf_xet
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.any_bytes import file_sets, ranges
from support.examples import examples
from support.javascript_client import JavaScript
from support.upload_settings import DOWNLOADS, REPO, UPLOADS, commit, downloading, operation, uploading
from support.xet_client import upload
from xethub_local.server import LocalHub

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

_numbers = itertools.count()


@pytest.fixture(scope="module")
def repo(javascript_hub: LocalHub) -> str:
    javascript_hub.create_repo(REPO.removeprefix("datasets/"), "dataset")
    return REPO


def binary_paths(contents: list[bytes]) -> dict[str, bytes]:
    return {f"{next(_numbers)}.bin": raw for raw in contents}


@settings(max_examples=examples(100), suppress_health_check=list(HealthCheck))
@given(file_sets, st.integers(0, len(DOWNLOADS) - 1), st.data())
def test_what_javascript_uploads_comes_back(
    javascript: JavaScript,
    javascript_hub: LocalHub,
    repo: str,
    contents: list[bytes],
    download_with: int,
    data: st.DataObject,
) -> None:
    files = binary_paths(contents)
    javascript.upload(repo, files)
    streams = downloading(download_with).new_download_stream_group(**operation(javascript_hub, "read"))
    for path, raw in files.items():
        assert javascript.download(repo, path) == raw
        assert requests.get(f"{javascript_hub.url}/{repo}/resolve/main/{path}", timeout=30).content == raw
        stored = javascript_hub.content.file_by_sha256(hashlib.sha256(raw).hexdigest(), repository=repo)
        assert stored is not None
        if raw:
            info = hf_xet.XetFileInfo(stored.xet_hash, stored.size)
            assert b"".join(streams.download_stream(info)) == raw
            start, end = data.draw(ranges(len(raw)))
            assert b"".join(streams.download_stream(info, start=start, end=end)) == raw[start:end]


@settings(max_examples=examples(100), suppress_health_check=list(HealthCheck))
@given(file_sets, st.integers(0, len(UPLOADS) - 1), st.data())
def test_javascript_reads_what_the_transfer_client_uploaded(
    javascript: JavaScript,
    javascript_hub: LocalHub,
    repo: str,
    contents: list[bytes],
    upload_with: int,
    data: st.DataObject,
) -> None:
    files = binary_paths(contents)
    infos = upload(uploading(upload_with), operation(javascript_hub, "write"), *contents)
    commit(javascript_hub, dict(zip(files, infos, strict=True)))
    for path, raw in files.items():
        found = javascript.call("downloadFile", repo=repo, path=path)
        assert javascript.read(found, how="stream") == raw
        if raw:
            start, end = data.draw(ranges(len(raw)))
            assert javascript.read(found, start, end) == raw[start:end]
