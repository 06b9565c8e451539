"""The LFS batch API: many parts in, signed URLs out."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from huggingface_hub import HfApi
from huggingface_hub.utils.tqdm import disable_progress_bars

from xethub_local.hub import lfs as hub_lfs
from xethub_local.server import LocalHub

disable_progress_bars()

PART = 64 * 1024
REPO = "acme/objects"
TIMEOUT = 20


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("hub")) as server:
        server.create_repo(REPO, "dataset")
        server.create_repo("acme/secret", "dataset", private=True)
        yield server


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_lfs, "PART_BYTES", PART)


def binary(seed: str, size: int = 3 * PART + 100) -> bytes:
    return b"\0" + random.Random(seed).randbytes(size - 1)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def ask(
    hub: LocalHub, operation: str, *contents: bytes, repo: str = REPO, token: str | None = None, **changes: Any
) -> Any:
    objects = [{"oid": sha256(content), "size": len(content)} for content in contents]
    return requests.post(
        f"{hub.url}/datasets/{repo}.git/info/lfs/objects/batch",
        json={"operation": operation, "transfers": ["basic", "multipart"], "objects": objects} | changes,
        headers={"Authorization": f"Bearer {token}"} if token else {},
        timeout=TIMEOUT,
    )


def upload_action(hub: LocalHub, content: bytes) -> Any:
    return ask(hub, "upload", content, token=hub.token()).json()["objects"][0]["actions"]["upload"]


def put_parts(action: Any, content: bytes) -> list[dict[str, Any]]:
    size = int(action["header"]["chunk_size"])
    urls = [action["header"][name] for name in sorted(action["header"]) if name.isdigit()]
    parts = []
    for number, url in enumerate(urls, 1):
        done = requests.put(url, data=content[(number - 1) * size : number * size], timeout=TIMEOUT)
        done.raise_for_status()
        parts.append({"partNumber": number, "etag": done.headers["etag"]})
    return parts


def finish(action: Any, content: bytes, parts: list[dict[str, Any]]) -> requests.Response:
    return requests.post(action["href"], json={"oid": sha256(content), "parts": parts}, timeout=TIMEOUT)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("size", [PART, PART + 1, 3 * PART, 3 * PART + 100])
def test_python_uploads_a_file_object_in_parts(hub: LocalHub, size: int) -> None:
    api, content = HfApi(endpoint=hub.url, token=hub.token()), binary(f"python{size}", size)
    hub.log.clear()
    api.upload_file(path_or_fileobj=io.BytesIO(content), path_in_repo="a.bin", repo_id=REPO, repo_type="dataset")
    assert len(hub.log.requests("PUT .*/parts/[0-9]+", status=200)) == (0 if size == PART else -(-size // PART))
    assert len(hub.log.requests("POST .*/complete", status=200)) == (0 if size == PART else 1)
    url = f"{hub.url}/datasets/{REPO}/resolve/main/a.bin"
    assert requests.get(url, timeout=TIMEOUT).content == content


def test_a_joined_object_is_made_of_the_xorbs_of_its_parts(hub: LocalHub) -> None:
    content = binary("shared", hub_lfs.PART_BYTES + 1_000_000)
    action = upload_action(hub, content)
    parts = put_parts(action, content)
    assert len(parts) == 2
    xorbs = set()
    for start in (0, hub_lfs.PART_BYTES):
        stored = hub.content.file_by_sha256(sha256(content[start : start + hub_lfs.PART_BYTES]))
        assert stored
        assert not hub.content.is_readable(f"datasets/{REPO}", stored.xet_hash)
        xorbs |= {term.xorb_hash for term in hub.content.reconstruct(stored.xet_hash).terms}
    assert finish(action, content, parts).status_code == 200
    joined = hub.content.file_by_sha256(sha256(content), repository=f"datasets/{REPO}")
    assert joined
    assert {term.xorb_hash for term in hub.content.reconstruct(joined.xet_hash).terms} == xorbs
    assert b"".join(hub.content.read_file(joined.xet_hash)) == content


@pytest.mark.usefixtures("small_parts")
def test_parts_come_in_any_order_and_more_than_once(hub: LocalHub) -> None:
    content = binary("order")
    action = upload_action(hub, content)
    put_parts(action, content)
    parts = put_parts(action, content)
    for _ in range(2):
        assert finish(action, content, parts[::-1]).status_code == 200
    assert "actions" not in ask(hub, "upload", content, token=hub.token()).json()["objects"][0]


@pytest.mark.usefixtures("small_parts")
def test_only_the_parts_that_were_agreed_are_joined(hub: LocalHub) -> None:
    content = binary("agreed")
    action = upload_action(hub, content)
    parts = put_parts(action, content)
    swapped = [parts[0], {**parts[1], "etag": parts[2]["etag"]}, {**parts[2], "etag": parts[1]["etag"]}, parts[3]]
    forged = [{**part, "etag": f'"{part["etag"][1:65]}"'} for part in parts]
    for wrong, status in (
        (parts[:-1], 400),
        ([*parts, {"partNumber": 5, "etag": parts[0]["etag"]}], 400),
        ([], 400),
        ("parts", 400),
        ([None, 1, {}], 400),
        (swapped, 403),
        (forged, 403),
        ([{"partNumber": part["partNumber"], "etag": None} for part in parts], 403),
    ):
        assert finish(action, content, wrong).status_code == status  # type: ignore[arg-type]
    assert hub.content.file_by_sha256(sha256(content), repository=f"datasets/{REPO}") is None


@pytest.mark.usefixtures("small_parts")
def test_a_receipt_counts_for_its_own_object_only(hub: LocalHub) -> None:
    content, other = binary("one"), binary("other")
    action, other_action = upload_action(hub, content), upload_action(hub, other)
    parts, other_parts = put_parts(action, content), put_parts(other_action, other)
    assert finish(other_action, other, parts).status_code == 403
    assert finish(action, content, other_parts).status_code == 403


@pytest.mark.usefixtures("small_parts")
def test_parts_that_make_another_object_are_refused(hub: LocalHub) -> None:
    announced, sent = binary("announced"), binary("sent")
    action = upload_action(hub, announced)
    answer = finish(action, announced, put_parts(action, sent))
    assert answer.status_code == 400
    assert sha256(announced) in answer.json()["error"]
    for content in (announced, sent):
        assert hub.content.file_by_sha256(sha256(content), repository=f"datasets/{REPO}") is None


@pytest.mark.usefixtures("small_parts")
def test_each_url_is_for_one_thing(hub: LocalHub) -> None:
    content = binary("urls")
    action = upload_action(hub, content)
    first = action["header"]["00001"]
    assert requests.put(first, data=content[: PART - 1], timeout=TIMEOUT).status_code == 400
    for wrong in (first.replace("/parts/1", "/parts/2"), first.replace("size=", "size=1"), first[:-1]):
        assert requests.put(wrong, data=content[:PART], timeout=TIMEOUT).status_code == 403
    assert (
        requests.post(action["href"].replace("part=", "part=9"), json={"parts": []}, timeout=TIMEOUT).status_code == 403
    )


def test_an_old_url_does_nothing(hub: LocalHub) -> None:
    content = binary("old", 1000)
    hub.access.clock_offset = -hub.access.data_url_life - 1
    try:
        action = upload_action(hub, content)
    finally:
        hub.access.clock_offset = 0
    assert requests.put(action["href"], data=content, timeout=TIMEOUT).status_code == 403


def test_objects_are_downloaded_by_signed_urls(hub: LocalHub) -> None:
    content, missing = binary("download"), binary("missing")
    hub.content.add_plain(content, repository=f"datasets/{REPO}")
    answer = ask(hub, "download", content, missing)
    assert answer.headers["content-type"] == "application/vnd.git-lfs+json"
    found, lost = answer.json()["objects"]
    assert lost["error"]["code"] == 404
    assert "actions" not in lost
    href = found["actions"]["download"]["href"]
    whole = requests.get(href, timeout=TIMEOUT)
    assert (whole.status_code, whole.content) == (200, content)
    part = requests.get(href, headers={"Range": "bytes=5-9"}, timeout=TIMEOUT)
    assert (part.status_code, part.content) == (206, content[5:10])
    assert requests.head(href, timeout=TIMEOUT).headers["content-length"] == str(len(content))
    assert requests.get(href[:-1], timeout=TIMEOUT).status_code == 403
    assert requests.put(href.replace("/content", ""), data=content, timeout=TIMEOUT).status_code == 403
    wrong_size = ask(hub, "download", objects=[{"oid": sha256(content), "size": 1}]).json()["objects"][0]
    assert wrong_size["error"]["code"] == 404


def test_a_private_object_is_downloaded_by_its_readers_only(hub: LocalHub) -> None:
    content = binary("secret")
    hub.content.add_plain(content, repository="datasets/acme/secret")
    assert ask(hub, "download", content, repo="acme/secret").status_code == 401
    found = ask(hub, "download", content, repo="acme/secret", token=hub.token("read")).json()["objects"][0]
    assert requests.get(found["actions"]["download"]["href"], timeout=TIMEOUT).content == content
    # Knowing the sha256 is not enough: the other repository does not have it.
    assert "error" in ask(hub, "download", content).json()["objects"][0]


@pytest.mark.parametrize(
    "body",
    [{"objects": "all"}, {"transfers": "basic"}, {"objects": [{"oid": "x", "size": 1}]}],
)
def test_a_batch_that_makes_no_sense_is_refused(hub: LocalHub, body: dict[str, Any]) -> None:
    assert ask(hub, "upload", token=hub.token(), **body).status_code == 400


def test_there_are_two_operations(hub: LocalHub) -> None:
    answer = ask(hub, "destroy", token=hub.token())
    assert answer.status_code == 400
    assert "'upload' or 'download'" in answer.json()["error"]
