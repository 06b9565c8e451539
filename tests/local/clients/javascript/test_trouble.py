"""Trouble on the way: what ``@huggingface/hub`` makes of it, and how a file is put together from many places."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from support import javascript_client, node_packages, object_stores
from support.javascript_client import JavaScript, JavaScriptError
from xethub_local.control.fault import Fault
from xethub_local.server import LocalHub

pytestmark = pytest.mark.long

MIB = 1024 * 1024


def binary(seed: str, size: int = 400_000) -> bytes:
    return b"\0" + random.Random(seed).randbytes(size - 1)


@pytest.fixture(autouse=True)
def no_faults_left(javascript_hub: LocalHub) -> Iterator[None]:
    yield
    javascript_hub.faults.clear()


@pytest.mark.parametrize("parallel", [True, False])
def test_an_expired_data_url_is_asked_for_again(
    javascript: JavaScript, javascript_repo: str, javascript_hub: LocalHub, *, parallel: bool
) -> None:
    javascript.upload(javascript_repo, {"a.bin": binary("expired")})
    javascript_hub.log.clear()
    javascript_hub.faults.add(Fault("GET .*/v2/reconstructions/.*", data_url_life=-1, times=1))
    assert javascript.download(javascript_repo, "a.bin", parallelDownloads=parallel) == binary("expired")
    assert len(javascript_hub.log.requests("GET .*/data/.*", status=403)) == 1
    assert len(javascript_hub.log.requests("GET .*/v2/reconstructions/.*", status=200)) == 2


def test_a_token_about_to_expire_is_fetched_anew(
    javascript: JavaScript, javascript_repo: str, javascript_hub: LocalHub
) -> None:
    javascript_hub.faults.add(Fault(".*(objects/batch|xet-(read|write)-token/.*)", token_life=30))
    javascript.upload(javascript_repo, {"a.bin": binary("short")})
    # For the xorb and for the shard: what is left of the batch's token, under a minute, is not used.
    assert len(javascript_hub.log.requests("GET .*/xet-write-token/main", status=200)) >= 2
    found = javascript.call("downloadFile", repo=javascript_repo, path="a.bin")
    assert javascript.read(found) == javascript.read(found) == binary("short")


@pytest.mark.parametrize(
    ("route", "name"),
    [
        ("POST .*/preupload/.*", "upload"),
        ("POST .*/objects/batch", "upload"),
        ("POST /cas/.*/v1/xorbs/.*", "upload"),
        ("POST /cas/.*/v1/shards", "upload"),
        ("POST .*/commit/.*", "upload"),
        ("GET .*/resolve/.*", "download"),
        ("GET /cas/.*/v2/reconstructions/.*", "download"),
        ("GET /cas/.*/data/.*", "download"),
    ],
)
def test_what_the_server_says_reaches_the_caller(
    javascript: JavaScript, javascript_repo: str, javascript_hub: LocalHub, route: str, name: str
) -> None:
    content = binary(f"says {route}")
    if name == "download":
        javascript.upload(javascript_repo, {"a.bin": content})
    body = '{"error": "The disk is full."}'
    json = {"Content-Type": "application/json"}
    javascript_hub.faults.add(Fault(route, status=507, body=body, headers=json))
    what = {"a.bin": content} if name == "upload" else "a.bin"
    with pytest.raises(JavaScriptError, match="The disk is full") as caught:
        getattr(javascript, name)(javascript_repo, what)
    assert (caught.value.kind, caught.value.status) == ("HubApiError", 507)
    javascript_hub.faults.clear()
    javascript.upload(javascript_repo, {"a.bin": content})
    assert javascript.download(javascript_repo, "a.bin") == content


@pytest.mark.parametrize("fault", [{"truncate": 50_000}, {"drop": "middle"}])
def test_a_file_that_comes_incomplete_is_an_error(
    javascript: JavaScript, javascript_repo: str, javascript_hub: LocalHub, fault: dict[str, object]
) -> None:
    javascript.upload(javascript_repo, {"a.bin": binary("incomplete")})
    javascript_hub.faults.add(Fault("GET /cas/.*/data/.*", **fault))  # type: ignore[arg-type]
    with pytest.raises(JavaScriptError):
        javascript.download(javascript_repo, "a.bin")
    javascript_hub.faults.clear()
    assert javascript.download(javascript_repo, "a.bin") == binary("incomplete")


def test_a_busy_server_is_asked_again_for_data(
    javascript: JavaScript, javascript_repo: str, javascript_hub: LocalHub
) -> None:
    javascript.upload(javascript_repo, {"a.bin": binary("busy")})
    busy = Fault("GET /cas/.*/data/.*", status=429, headers={"Retry-After": "0"}, times=2)
    javascript_hub.faults.add(busy)
    assert javascript.download(javascript_repo, "a.bin") == binary("busy")


@pytest.mark.parametrize("options", [{}, {"parallelDownloads": False}, {"xet": False}])
def test_a_file_is_put_together_from_far_parts_of_old_ones(
    javascript: JavaScript, javascript_repo: str, javascript_hub: LocalHub, options: dict[str, object]
) -> None:
    old = [binary(f"old{number}", 6 * MIB) for number in range(2)]
    javascript.upload(javascript_repo, {f"{number}.bin": content for number, content in enumerate(old)})
    api = HfApi(endpoint=javascript_hub.url, token=javascript_hub.token())
    cuts = [(0, 0, 2), (1, 0, 1), (0, 3, 5), (1, 4, 6), (0, 5, 6), (0, 0, 2)]
    pieces = [old[which][start * MIB : end * MIB] for which, start, end in cuts]
    mixed = b"".join(piece + binary(f"new{number}", 100_000) for number, piece in enumerate(pieces))
    javascript_hub.log.clear()
    javascript.upload(javascript_repo, {"mixed.bin": mixed})
    assert sum(r.bytes_in for r in javascript_hub.log.requests("POST /cas/.*/v1/xorbs/.*")) < len(mixed)
    javascript_hub.log.clear()
    assert javascript.download(javascript_repo, "mixed.bin", **options) == mixed
    if options.get("xet", True):
        # All pieces of a xorb come in one answer of many parts.
        asked = [request.path for request in javascript_hub.log.requests("GET /cas/.*/data/.*", status=206)]
        assert len(asked) == len(set(asked)) >= 2
    found = javascript.call("downloadFile", repo=javascript_repo, path="mixed.bin", **options)
    for start, end in ((0, 100), (MIB, 3 * MIB), (len(mixed) - 5 * MIB, len(mixed) - 1)):
        assert javascript.read(found, start, end, how="stream") == mixed[start:end]
    (entry,) = api.get_paths_info(javascript_repo.removeprefix("datasets/"), ["mixed.bin"], repo_type="dataset")
    assert entry.size == len(mixed)  # type: ignore[union-attr]


def test_an_upload_that_fails_leaves_nothing_behind(
    javascript: JavaScript, javascript_repo: str, javascript_hub: LocalHub
) -> None:
    javascript_hub.faults.add(Fault("POST /cas/.*/v1/shards", drop="before"))
    content = {f"{number}.bin": binary(f"fails{number}") for number in range(8)}
    with pytest.raises(JavaScriptError):
        javascript.upload(javascript_repo, content)
    assert [e["path"] for e in javascript.call("listFiles", repo=javascript_repo)] == [".gitattributes"]
    javascript_hub.faults.clear()
    javascript.upload(javascript_repo, content)
    assert javascript.download(javascript_repo, "7.bin") == content["7.bin"]


@pytest.mark.parametrize("route", ["POST .*/preupload/.*", "POST .*/objects/batch", "POST .*/commit/.*"])
def test_an_upload_that_is_aborted_leaves_nothing_behind(
    javascript: JavaScript, javascript_repo: str, javascript_hub: LocalHub, route: str
) -> None:
    javascript_hub.faults.add(Fault(route, delay=60))
    with pytest.raises(JavaScriptError, match="abort"):
        javascript.upload(javascript_repo, {"a.bin": binary(f"abort {route}")}, abortSignal={"$abort": 500})
    javascript_hub.faults.clear()
    assert [e["path"] for e in javascript.call("listFiles", repo=javascript_repo)] == [".gitattributes"]
    assert javascript.call("countCommits", repo=javascript_repo) == 1


def test_the_client_is_the_version_that_is_promised() -> None:
    folder = javascript_client.FOLDER
    assert node_packages.installed(folder) == node_packages.wanted(folder) == {"@huggingface/hub": "2.17.5"}


def test_the_suite_fails_where_node_is_missing_or_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="need Node 20 and npm"):
        node_packages.install(javascript_client.FOLDER)
    for name, text in (("node", "#!/bin/sh\necho v18.19.0\n"), ("npm", "#!/bin/sh\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    with pytest.raises(RuntimeError, match="v18"):
        node_packages.install(javascript_client.FOLDER)


def test_the_client_is_installed_from_nothing(tmp_path: Path) -> None:
    for name in ("package.json", "package-lock.json", "client.mjs"):
        shutil.copy(javascript_client.FOLDER / name, tmp_path)
    node_packages.install(tmp_path)
    done = subprocess.run(["node", "client.mjs"], cwd=tmp_path, input="", capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("folder", [javascript_client.FOLDER, Path(object_stores.__file__).parent / "s3rver"])
def test_the_lock_files_name_no_registry(folder: Path) -> None:
    text = (folder / "package-lock.json").read_text()
    assert '"integrity"' in text
    assert "://" not in text
    assert '"resolved"' not in text
