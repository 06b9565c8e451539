"""Two clients, one Hub: what one uploads the other reads, byte for byte, and neither sends what is there already."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi

from support.javascript_client import JavaScript, blob
from xethub_local.server import LocalHub

pytestmark = pytest.mark.long

MIB = 1024 * 1024
SIZES = [0, 1, 7, 8_191, 65_537, 1_000_003, 9 * MIB + 1]


def binary(seed: str, size: int) -> bytes:
    return (b"\0" + random.Random(seed).randbytes(size))[:size]


def cut_alike(seed: str, size: int) -> bytes:
    """Return bytes that both clients cut into the same chunks.

    ``@huggingface/hub`` 2.17.5 may cut from byte 8,128 on, hf-xet 1.8 from byte 8,192 on. That makes a difference where
    byte 8,128 of a chunk is one of 20 values whose entry of the gear table is small: once in twelve chunks of random
    bytes. These bytes have none of the 20.
    """
    return random.Random(seed).randbytes(size).translate(bytes(80 + value % 12 for value in range(256)))


@pytest.fixture
def api(javascript_hub: LocalHub) -> HfApi:
    return HfApi(endpoint=javascript_hub.url, token=javascript_hub.token())


@pytest.fixture
def other_repo(javascript_hub: LocalHub, javascript_repo: str) -> str:
    """A second dataset, as Python names it."""
    return javascript_hub.create_repo(f"{javascript_repo.removeprefix('datasets/')}-other", "dataset").repo_id


@pytest.fixture
def another_javascript(javascript_hub: LocalHub) -> Iterator[JavaScript]:
    """A client in a process that has seen nothing yet."""
    with JavaScript(javascript_hub.url, javascript_hub.token()) as client:
        yield client


def python_upload(api: HfApi, repo: str, path: str, content: Any) -> None:
    api.upload_file(
        path_or_fileobj=content,
        path_in_repo=path,
        repo_id=repo.removeprefix("datasets/"),
        repo_type="dataset",
    )


def python_download(api: HfApi, repo: str, path: str, folder: Path) -> bytes:
    found = api.hf_hub_download(repo.removeprefix("datasets/"), path, repo_type="dataset", local_dir=folder)
    return Path(found).read_bytes()


def xet_hash(api: HfApi, repo: str, path: str) -> str | None:
    (entry,) = api.get_paths_info(repo.removeprefix("datasets/"), [path], repo_type="dataset")
    return entry.xet_hash  # type: ignore[union-attr]


def uploaded_bytes(hub: LocalHub) -> int:
    """Bytes of xorbs that were sent since the log was cleared, by whichever way."""
    return sum(r.bytes_in for r in hub.log.requests("(POST /cas/.*/v1/xorbs|PUT /cas/.*/uploads)/.*"))


@pytest.mark.parametrize("size", SIZES)
def test_what_python_uploads_javascript_reads(
    javascript: JavaScript, api: HfApi, javascript_repo: str, size: int
) -> None:
    content = binary(f"python{size}", size)
    python_upload(api, javascript_repo, "a.bin", content)
    assert javascript.download(javascript_repo, "a.bin") == content
    assert javascript.download(javascript_repo, "a.bin", xet=False) == content


@pytest.mark.parametrize("size", SIZES)
def test_what_javascript_uploads_python_reads(
    javascript: JavaScript, api: HfApi, javascript_repo: str, tmp_path: Path, size: int
) -> None:
    content = binary(f"javascript{size}", size)
    javascript.upload(javascript_repo, {"a.bin": content})
    assert python_download(api, javascript_repo, "a.bin", tmp_path) == content


@pytest.mark.parametrize("kind", ["one chunk", "many chunks", "zeros", "empty"])
def test_both_clients_give_the_same_bytes_the_same_hash(
    javascript: JavaScript, api: HfApi, javascript_repo: str, other_repo: str, tmp_path: Path, kind: str
) -> None:
    content = {
        "one chunk": binary("one chunk", 8_000),
        "many chunks": cut_alike("many chunks", 12 * MIB),
        "zeros": bytes(2 * MIB),
        "empty": b"",
    }[kind]
    javascript.upload(javascript_repo, {"a.parquet": content})
    python_upload(api, other_repo, "a.parquet", content)
    assert xet_hash(api, javascript_repo, "a.parquet") == xet_hash(api, other_repo, "a.parquet")
    assert javascript.download(f"datasets/{other_repo}", "a.parquet") == content
    assert python_download(api, javascript_repo, "a.parquet", tmp_path) == content


def test_a_shard_from_javascript_is_registered_with_its_sha256(
    javascript: JavaScript, api: HfApi, javascript_repo: str, javascript_hub: LocalHub
) -> None:
    content = {f"{number}.bin": binary(f"shard{number}", 100_000 * number) for number in range(1, 7)}
    javascript.upload(javascript_repo, content)
    # Its shards end with a footer, which Python's do not have; several workers send one each.
    assert len(javascript_hub.log.requests("POST /cas/.*/v1/shards", status=200)) >= 2
    for path, data in content.items():
        stored = javascript_hub.content.file(xet_hash(api, javascript_repo, path) or "")
        assert stored
        assert (stored.size, stored.sha256) == (len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("how", ["python first", "javascript first", "javascript twice"])
def test_a_new_session_sends_only_what_is_new(
    javascript: JavaScript,
    another_javascript: JavaScript,
    api: HfApi,
    javascript_repo: str,
    javascript_hub: LocalHub,
    tmp_path: Path,
    how: str,
) -> None:
    content = cut_alike(how, 4 * MIB)
    if how == "python first":
        python_upload(api, javascript_repo, "a.parquet", content)
    else:
        javascript.upload(javascript_repo, {"a.parquet": content})
    before = uploaded_bytes(javascript_hub)
    javascript_hub.log.clear()
    longer = content + cut_alike(f"{how} tail", 200_000)
    if how == "javascript first":
        python_upload(api, javascript_repo, "b.parquet", longer)
    else:
        another_javascript.upload(javascript_repo, {"b.parquet": longer})
    assert javascript_hub.log.requests("GET /cas/.*/v1/chunks/.*", status=200)
    assert 0 < uploaded_bytes(javascript_hub) < before / 4
    assert javascript.download(javascript_repo, "b.parquet") == longer
    assert python_download(api, javascript_repo, "b.parquet", tmp_path) == longer


def test_a_new_session_sends_nothing_of_a_file_that_lies_in_several_xorbs(
    javascript: JavaScript, another_javascript: JavaScript, javascript_repo: str, javascript_hub: LocalHub
) -> None:
    grown = b""
    for part in range(3):
        grown += cut_alike(f"part {part}", 500_000)
        javascript.upload(javascript_repo, {"a.parquet": grown})
    javascript_hub.log.clear()
    another_javascript.upload(javascript_repo, {"b.parquet": grown})
    assert uploaded_bytes(javascript_hub) == 0
    assert another_javascript.download(javascript_repo, "b.parquet") == grown


def test_bytes_that_the_clients_cut_otherwise_are_shared_for_the_greater_part(
    javascript: JavaScript, api: HfApi, javascript_repo: str, javascript_hub: LocalHub, tmp_path: Path
) -> None:
    content = binary("cut otherwise", 8 * MIB)
    python_upload(api, javascript_repo, "a.bin", content)
    javascript_hub.log.clear()
    javascript.upload(javascript_repo, {"b.bin": content + b"longer"})
    assert uploaded_bytes(javascript_hub) < len(content) / 2
    assert python_download(api, javascript_repo, "b.bin", tmp_path) == content + b"longer"


@pytest.mark.parametrize("place", ["begin", "middle", "end"])
def test_an_edit_of_a_large_file_leaves_what_it_does_not_touch(
    javascript: JavaScript, api: HfApi, javascript_repo: str, javascript_hub: LocalHub, tmp_path: Path, place: str
) -> None:
    """The client asks which chunks to cut again, and computes the file's hash from the answer."""
    content = b""
    for part in range(3):
        content += cut_alike(f"{place} {part}", 2 * MIB)
        python_upload(api, javascript_repo, "a.bin", content)
    at = {"begin": 1000, "middle": 3 * MIB, "end": len(content) - 1000}[place]
    javascript_hub.log.clear()
    found = javascript.call("downloadFile", repo=javascript_repo, path="a.bin")
    edit = {"start": at, "end": at + 500, "content": blob(b"edited")}
    file = {"path": "a.bin", "originalContent": found, "edits": [edit]}
    javascript.call("uploadFile", repo=javascript_repo, file=file)
    assert javascript_hub.log.requests("GET /cas/.*/v2/file-chunk-hashes/.*", status=200)
    assert 0 < uploaded_bytes(javascript_hub) < 2 * MIB
    expected = content[:at] + b"edited" + content[at + 500 :]
    assert python_download(api, javascript_repo, "a.bin", tmp_path) == expected


def test_an_edit_in_javascript_is_read_by_python(
    javascript: JavaScript, api: HfApi, javascript_repo: str, tmp_path: Path
) -> None:
    content = binary("edit", 2 * MIB)
    python_upload(api, javascript_repo, "a.bin", content)
    found = javascript.call("downloadFile", repo=javascript_repo, path="a.bin")
    edit = {"start": MIB, "end": MIB + 1000, "content": blob(b"edited")}
    file = {"path": "a.bin", "originalContent": found, "edits": [edit]}
    javascript.call("uploadFile", repo=javascript_repo, file=file)
    expected = content[:MIB] + b"edited" + content[MIB + 1000 :]
    assert python_download(api, javascript_repo, "a.bin", tmp_path) == expected


def test_a_file_object_of_many_parts_from_python_is_read_by_javascript(
    javascript: JavaScript, api: HfApi, javascript_repo: str, javascript_hub: LocalHub
) -> None:
    content = binary("parts", 40 * MIB)
    python_upload(api, javascript_repo, "a.bin", io.BytesIO(content))
    assert len(javascript_hub.log.requests("PUT .*/lfs-objects/[0-9a-f]{64}/parts/[123]", status=200)) == 3
    assert hashlib.sha256(javascript.download(javascript_repo, "a.bin") or b"").digest() == (
        hashlib.sha256(content).digest()
    )


def test_a_bucket_is_shared(javascript: JavaScript, api: HfApi, javascript_repo: str, tmp_path: Path) -> None:
    bucket = javascript_repo.removeprefix("datasets/")
    api.create_bucket(bucket)
    content = {"python.bin": binary("p", MIB), "javascript.bin": binary("j", MIB)}
    api.batch_bucket_files(bucket, add=[(content["python.bin"], "python.bin")])
    javascript.upload(f"buckets/{bucket}", {"javascript.bin": content["javascript.bin"]})
    for path, data in content.items():
        assert javascript.download(f"buckets/{bucket}", path) == data
        api.download_bucket_files(bucket, [(path, tmp_path / path)])
        assert (tmp_path / path).read_bytes() == data
