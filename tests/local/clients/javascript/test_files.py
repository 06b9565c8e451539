"""Files as ``@huggingface/hub`` uploads, lists, edits and downloads them: the real client against a real server."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.javascript_client import FOLDER, JavaScript, JavaScriptError, blob
from xethub_local.server import LocalHub

pytestmark = pytest.mark.long

MIB = 1024 * 1024


def binary(seed: str, size: int = 20_000) -> bytes:
    return b"\0" + random.Random(seed).randbytes(size - 1)


def paths(javascript: JavaScript, repo: str, **params: Any) -> set[str]:
    listed = javascript.call("listFiles", repo=repo, recursive=True, **params)
    return {entry["path"] for entry in listed if entry["type"] == "file"} - {".gitattributes"}


def uploaded_bytes(hub: LocalHub) -> int:
    """Bytes that xorb uploads carried since the log was cleared."""
    return sum(request.bytes_in for request in hub.log.requests("POST /cas/.*/v1/xorbs/.*"))


CONTENT = {
    "a.txt": b"text\n",
    "a.bin": binary("a"),
    "data/large.parquet": binary("large", 3 * MIB),
    "empty.txt": b"",
    "empty.bin": b"",
    "data/deep/one.bin": b"\0",
    "data/same.bin": binary("a"),
}


def test_files_of_all_sorts_go_up_in_one_commit_and_come_back(
    javascript: JavaScript, javascript_repo: str, javascript_hub: LocalHub
) -> None:
    made = javascript.upload(javascript_repo, CONTENT, commitTitle="All sorts", commitDescription="of files")
    assert len(made["commit"]["oid"]) == 40
    assert made["commit"]["url"].startswith(javascript_hub.url)
    assert paths(javascript, javascript_repo) == CONTENT.keys()
    assert {path: javascript.download(javascript_repo, path) for path in CONTENT} == CONTENT
    (commit, _) = javascript.call("listCommits", repo=javascript_repo)
    assert (commit["oid"], commit["title"], commit["message"]) == (made["commit"]["oid"], "All sorts", "of files")
    assert javascript_hub.log.requests("GET /cas/.*/v2/reconstructions/.*", status=200)
    assert javascript_hub.log.requests("POST /cas/.*/v1/shards", status=200)


def test_xet_false_takes_the_bytes_from_resolve(
    javascript: JavaScript, javascript_repo: str, javascript_hub: LocalHub
) -> None:
    javascript.upload(javascript_repo, {"a.bin": CONTENT["a.bin"]})
    javascript_hub.log.clear()
    assert javascript.download(javascript_repo, "a.bin", xet=False) == CONTENT["a.bin"]
    assert not javascript_hub.log.requests(".*/reconstructions/.*")


@pytest.mark.parametrize("options", [{}, {"parallelDownloads": False}, {"xet": False}])
@pytest.mark.parametrize("how", ["arrayBuffer", "stream"])
def test_a_slice_is_read_by_range(javascript: JavaScript, javascript_repo: str, options: Any, how: str) -> None:
    content = binary("slices", 2 * MIB)
    javascript.upload(javascript_repo, {"a.bin": content, "a.txt": b"0123456789"})
    for path, whole, cuts in (
        ("a.bin", content, [(0, 1), (100_000, 300_001), (len(content) - 1, len(content)), (0, len(content))]),
        ("a.txt", b"0123456789", [(3, 7), (9, 10), (0, 100)]),
    ):
        found = javascript.call("downloadFile", repo=javascript_repo, path=path, **options)
        assert found["size"] == len(whole)
        for start, end in cuts:
            assert javascript.read(found, start, end, how=how) == whole[start:end]
        assert javascript.read(found, how=how) == whole


def test_text_is_read_as_text(javascript: JavaScript, javascript_repo: str) -> None:
    text = "日本 \U0001f600\n".encode()
    javascript.upload(javascript_repo, {"a.txt": text})
    found = javascript.call("downloadFile", repo=javascript_repo, path="a.txt")
    assert javascript.read(found, how="text") == text


def test_what_is_not_there_is_null_and_not_an_error(javascript: JavaScript, javascript_repo: str) -> None:
    assert javascript.download(javascript_repo, "missing.bin") is None
    assert javascript.call("fileDownloadInfo", repo=javascript_repo, path="missing.bin") is None
    assert javascript.call("fileExists", repo=javascript_repo, path="missing.bin") is False
    assert javascript.call("pathsInfo", repo=javascript_repo, paths=["missing.bin"]) == []
    with pytest.raises(JavaScriptError) as caught:
        javascript.download(javascript_repo, "a.bin", revision="nowhere")
    assert (caught.value.kind, caught.value.status) == ("HubApiError", 404)
    assert "Invalid rev id: nowhere" in caught.value.message


def test_a_file_is_described_with_its_hashes(javascript: JavaScript, javascript_repo: str) -> None:
    made = javascript.upload(javascript_repo, {"a.bin": CONTENT["a.bin"], "a.txt": CONTENT["a.txt"]})
    sha256 = hashlib.sha256(CONTENT["a.bin"]).hexdigest()
    info = javascript.call("fileDownloadInfo", repo=javascript_repo, path="a.bin")
    assert (info["size"], info["etag"]) == (20_000, f'"{sha256}"')
    assert len(info["xet"]["hash"]) == 64
    found, text = javascript.call("pathsInfo", repo=javascript_repo, paths=["a.bin", "no", "a.txt"], expand=True)
    assert found["lfs"] == {"oid": sha256, "size": 20_000, "pointerSize": 130}
    assert (found["xetHash"], found["lastCommit"]["id"]) == (info["xet"]["hash"], made["commit"]["oid"])
    assert (text["path"], text["size"], text["lfs"], text["xetHash"]) == ("a.txt", 5, None, None)
    plain = javascript.call("fileDownloadInfo", repo=javascript_repo, path="a.txt")
    assert (plain["size"], plain["xet"], plain["etag"]) == (5, None, f'"{text["oid"]}"')
    assert javascript.call("fileExists", repo=javascript_repo, path="a.bin") is True


def test_a_known_answer_saves_the_second_request(
    javascript: JavaScript, javascript_repo: str, javascript_hub: LocalHub
) -> None:
    javascript.upload(javascript_repo, {"a.bin": CONTENT["a.bin"]})
    info = javascript.call("fileDownloadInfo", repo=javascript_repo, path="a.bin", noContentDisposition=True)
    info["xet"] |= {name: {"$url": info["xet"][name]} for name in ("refreshUrl", "reconstructionUrl")}
    javascript_hub.log.clear()
    assert javascript.download(javascript_repo, "a.bin", downloadInfo=info) == CONTENT["a.bin"]
    assert not javascript_hub.log.requests("GET .*/resolve/.*")


def test_raw_gives_the_pointer(javascript: JavaScript, javascript_repo: str) -> None:
    javascript.upload(javascript_repo, {"a.bin": CONTENT["a.bin"], "a.txt": CONTENT["a.txt"]})
    pointer = javascript.download(javascript_repo, "a.bin", raw=True)
    sha256 = hashlib.sha256(CONTENT["a.bin"]).hexdigest()
    assert pointer == f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize 20000\n".encode()
    assert javascript.download(javascript_repo, "a.txt", raw=True) == CONTENT["a.txt"]


# Characters that mean something in a URL are for the caller to escape: this client puts a path there as it is.
@pytest.mark.parametrize("path", ["sub dir/é.bin", "100%.bin", "+plus&and=.bin", "日本/\U0001f600.bin", "'q\"(1).bin"])
def test_a_strange_name_stays_what_it_is(javascript: JavaScript, javascript_repo: str, path: str) -> None:
    javascript.upload(javascript_repo, {path: binary(path)})
    assert paths(javascript, javascript_repo) == {path}
    assert javascript.download(javascript_repo, path) == binary(path)
    assert javascript.call("fileExists", repo=javascript_repo, path=path) is True
    assert [entry["path"] for entry in javascript.call("pathsInfo", repo=javascript_repo, paths=[path])] == [path]
    javascript.call("deleteFile", repo=javascript_repo, path=path)
    assert paths(javascript, javascript_repo) == set()


def test_a_folder_is_listed_alone_or_with_all_beneath(javascript: JavaScript, javascript_repo: str) -> None:
    made = javascript.upload(javascript_repo, CONTENT)
    top = {(e["type"], e["path"]) for e in javascript.call("listFiles", repo=javascript_repo)}
    assert top == {("file", path) for path in CONTENT if "/" not in path} | {
        ("directory", "data"),
        ("file", ".gitattributes"),
    }
    beneath = javascript.call("listFiles", repo=javascript_repo, path="data", recursive=True, expand=True)
    assert {entry["path"] for entry in beneath} == {"data/deep"} | {path for path in CONTENT if "/" in path}
    assert {e["lastCommit"]["id"] for e in beneath if e["type"] == "file"} == {made["commit"]["oid"]}
    with pytest.raises(JavaScriptError, match="does not exist") as caught:
        javascript.call("listFiles", repo=javascript_repo, path="nowhere")
    assert caught.value.status == 404


def test_a_long_list_comes_in_pages(javascript: JavaScript, javascript_repo: str, javascript_hub: LocalHub) -> None:
    content = {f"many/{number:04}.txt": f"{number}\n".encode() for number in range(1_203)}
    javascript.upload(javascript_repo, content)
    assert len(javascript_hub.log.requests("POST .*/preupload/main", status=200)) == 13
    javascript_hub.log.clear()
    assert paths(javascript, javascript_repo) == content.keys()
    assert len(javascript_hub.log.requests("GET .*/tree/main")) == 2
    assert javascript.download(javascript_repo, "many/1202.txt") == b"1202\n"


def test_many_small_xet_files_go_up_together(javascript: JavaScript, javascript_repo: str) -> None:
    content = {f"{number}.bin": binary(str(number), 300 + number) for number in range(250)}
    javascript.upload(javascript_repo, content)
    assert paths(javascript, javascript_repo) == content.keys()
    for path in ("0.bin", "99.bin", "100.bin", "249.bin"):
        assert javascript.download(javascript_repo, path) == content[path]


def test_more_than_one_xorb_goes_up_from_disk_and_comes_back(
    javascript: JavaScript, javascript_repo: str, javascript_hub: LocalHub, tmp_path: Path
) -> None:
    whole = binary("big", 70 * MIB)
    (tmp_path / "big.bin").write_bytes(whole)
    javascript.upload(javascript_repo, {"big.bin": tmp_path / "big.bin"})
    assert len(javascript_hub.log.requests("POST /cas/.*/v1/xorbs/.*", status=200)) == 2
    found = javascript.call("downloadFile", repo=javascript_repo, path="big.bin")
    assert hashlib.sha256(javascript.read(found, how="stream")).digest() == hashlib.sha256(whole).digest()
    cut = slice(63 * MIB, 66 * MIB)
    assert javascript.read(found, cut.start, cut.stop) == whole[cut]
    assert hashlib.sha256(javascript.download(javascript_repo, "big.bin", xet=False) or b"").digest() == (
        hashlib.sha256(whole).digest()
    )


def test_a_folder_of_the_disk_goes_up_by_its_url(javascript: JavaScript, javascript_repo: str, tmp_path: Path) -> None:
    content = {"in/a.txt": b"a", "in/sub/b.bin": binary("b")}
    for path, data in content.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    javascript.call("uploadFiles", repo=javascript_repo, files=[{"$url": (tmp_path / "in").as_uri()}])
    assert paths(javascript, javascript_repo) == content.keys()
    javascript.call("uploadFile", repo=javascript_repo, file={"$url": (tmp_path / "in/a.txt").as_uri()})
    assert javascript.download(javascript_repo, "a.txt") == b"a"


def test_an_upload_reports_its_progress(javascript: JavaScript, javascript_repo: str) -> None:
    files = [{"path": path, "content": blob(CONTENT[path])} for path in ("a.txt", "a.bin", "data/large.parquet")]
    events, made = javascript.steps("uploadFilesWithProgress", repo=javascript_repo, files=files, useWebWorkers=False)
    phases = [event["phase"] for event in events if event["event"] == "phase"]
    assert phases == ["preuploading", "uploadingLargeFiles", "committing"]
    done = {
        e["path"] for e in events if e["event"] == "fileProgress" and (e["progress"], e["state"]) == (1, "uploading")
    }
    assert done >= {"a.bin", "data/large.parquet"}
    assert javascript.call("pathsInfo", repo=javascript_repo, paths=["a.bin"], revision=made["commit"]["oid"])


def test_the_same_bytes_are_not_sent_again(
    javascript: JavaScript, javascript_repo: str, javascript_hub: LocalHub
) -> None:
    content = binary("again", 2 * MIB)
    javascript.upload(javascript_repo, {"a.bin": content})
    assert uploaded_bytes(javascript_hub) > 2 * MIB
    javascript_hub.log.clear()
    javascript.upload(javascript_repo, {"copy.bin": content})
    assert uploaded_bytes(javascript_hub) == 0
    assert javascript.download(javascript_repo, "copy.bin") == content


def test_one_commit_adds_edits_and_deletes(javascript: JavaScript, javascript_repo: str) -> None:
    original = binary("edit", 900_000)
    javascript.upload(javascript_repo, {"a.bin": original, "old.bin": binary("old"), "old.txt": b"old"})
    found = javascript.call("downloadFile", repo=javascript_repo, path="a.bin")
    edits = [
        {"content": blob(b"BEGIN"), "start": 0, "end": 0},
        {"content": blob(b"middle"), "start": 400_000, "end": 500_000},
        {"content": blob(b"END"), "start": 900_000, "end": 900_000},
    ]
    javascript.call(
        "commit",
        repo=javascript_repo,
        title="Three kinds",
        operations=[
            {"operation": "edit", "path": "a.bin", "originalContent": found, "edits": edits},
            {"operation": "addOrUpdate", "path": "new.txt", "content": blob(b"new")},
            {"operation": "delete", "path": "old.bin"},
        ],
    )
    assert paths(javascript, javascript_repo) == {"a.bin", "new.txt", "old.txt"}
    expected = b"BEGIN" + original[:400_000] + b"middle" + original[500_000:] + b"END"
    assert javascript.download(javascript_repo, "a.bin") == expected
    assert javascript.download(javascript_repo, "a.bin", xet=False) == expected
    javascript.call("deleteFiles", repo=javascript_repo, paths=["a.bin", "new.txt"])
    assert paths(javascript, javascript_repo) == {"old.txt"}


def test_useXet_false_uploads_by_lfs(  # noqa: N802 - the option's own name
    javascript: JavaScript, javascript_repo: str, javascript_hub: LocalHub
) -> None:
    content = {"small.bin": binary("small"), "parts.bin": binary("parts", 40 * MIB), "empty.bin": b""}
    javascript.upload(javascript_repo, content, useXet=False)
    assert not javascript_hub.log.requests("POST /cas/.*")
    assert len(javascript_hub.log.requests("PUT .*/lfs-objects/[0-9a-f]{64}", status=200)) == 1
    assert len(javascript_hub.log.requests("PUT .*/lfs-objects/[0-9a-f]{64}/parts/[123]", status=200)) == 3
    for path, data in content.items():
        assert javascript.download(javascript_repo, path) == data
    javascript_hub.log.clear()
    javascript.upload(javascript_repo, {"again.bin": content["parts.bin"]}, useXet=False)
    assert not javascript_hub.log.requests("PUT .*")


def test_the_tensors_of_a_model_are_read_without_its_weights(javascript: JavaScript, javascript_hub: LocalHub) -> None:
    model = "acme/with-tensors"
    javascript.call("createRepo", repo=model)
    tensor = {"dtype": "F32", "shape": [512, 1024], "data_offsets": [0, 2 * MIB]}
    header = json.dumps({"weight": tensor}).encode()
    content = len(header).to_bytes(8, "little") + header + binary("weights", 2 * MIB)
    javascript.upload(model, {"model.safetensors": content, "config.json": b"{}"})
    javascript_hub.log.clear()
    found = javascript.call("parseSafetensorsMetadata", repo=model, computeParametersCount=True)
    assert (found["sharded"], found["header"]["weight"]["shape"]) == (False, [512, 1024])
    assert found["parameterCount"] == {"F32": 512 * 1024}
    assert sum(request.bytes_out for request in javascript_hub.log.requests("GET .*")) < MIB


@pytest.mark.parametrize("repo_type", ["model", "dataset", "bucket"])
def test_the_command_line_uploads_a_folder(
    javascript: JavaScript, javascript_hub: LocalHub, tmp_path: Path, repo_type: str
) -> None:
    content = {"a.txt": b"text", "d/b.bin": binary("command line")}
    for path, data in content.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(data)
    repo = f"{repo_type}s/acme/by-command-line".removeprefix("models/")
    done = subprocess.run(
        ["node", "node_modules/@huggingface/hub/dist/cli.js", "upload", repo, str(tmp_path), "--quiet"],
        cwd=FOLDER,
        env={**os.environ, "HF_ENDPOINT": javascript_hub.url, "HF_TOKEN": javascript_hub.token()},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert paths(javascript, repo) == content.keys()
    assert javascript.download(repo, "d/b.bin") == content["d/b.bin"]
