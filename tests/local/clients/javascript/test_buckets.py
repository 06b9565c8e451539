"""Buckets as ``@huggingface/hub`` handles them, and its edits, which are made for them."""

from __future__ import annotations

import random

import pytest

from support.javascript_client import JavaScript, JavaScriptError, blob
from xethub_local.server import LocalHub

pytestmark = pytest.mark.long

MIB = 1024 * 1024


def binary(seed: str, size: int = 20_000) -> bytes:
    return b"\0" + random.Random(seed).randbytes(size - 1)


@pytest.fixture
def bucket(javascript: JavaScript, javascript_repo: str) -> str:
    """A new bucket, beside a new dataset of the same name."""
    name = javascript_repo.replace("datasets/", "buckets/")
    javascript.call("createRepo", repo=name)
    return name


def uploaded_bytes(hub: LocalHub) -> int:
    """Bytes that xorb uploads carried since the log was cleared."""
    return sum(request.bytes_in for request in hub.log.requests("POST /cas/.*/v1/xorbs/.*"))


def test_a_bucket_is_created_found_and_deleted(javascript: JavaScript, javascript_hub: LocalHub) -> None:
    bucket = "buckets/acme/life"
    made = javascript.call("createRepo", repo=bucket, visibility="private")
    assert made["repoUrl"] == f"{javascript_hub.url}/{bucket}"
    assert made["id"]
    assert javascript.call("repoExists", repo=bucket) is True
    assert javascript.call("repoExists", repo=bucket, accessToken="") is False
    javascript.call("deleteRepo", repo=bucket)
    assert javascript.call("repoExists", repo=bucket) is False
    with pytest.raises(JavaScriptError) as caught:
        javascript.upload(bucket, {"a.bin": b"a"})
    assert caught.value.status == 404


def test_files_go_up_are_listed_and_come_back(javascript: JavaScript, bucket: str, javascript_hub: LocalHub) -> None:
    content = {"a.txt": b"text", "d/a.bin": binary("a", 2 * MIB), "d/e/empty.bin": b"", "sub dir/é.bin": binary("b")}
    assert javascript.upload(bucket, content) is None
    listed = javascript.call("listFiles", repo=bucket, recursive=True, expand=True)
    assert {e["path"]: e["size"] for e in listed if e["type"] == "file"} == {p: len(d) for p, d in content.items()}
    assert all(len(entry["xetHash"]) == 64 and entry["uploadedAt"] for entry in listed if entry["type"] == "file")
    assert {e["path"] for e in javascript.call("listFiles", repo=bucket, path="d")} == {"d/a.bin", "d/e"}
    for path, data in content.items():
        assert javascript.download(bucket, path) == data
        assert javascript.download(bucket, path, xet=False) == data
        assert javascript.call("fileExists", repo=bucket, path=path) is True
    found = javascript.call("downloadFile", repo=bucket, path="d/a.bin")
    assert javascript.read(found, MIB, MIB + 7, how="stream") == content["d/a.bin"][MIB : MIB + 7]
    (info,) = javascript.call("pathsInfo", repo=bucket, paths=["a.txt", "no"])
    assert (info["path"], info["size"], info["type"]) == ("a.txt", 4, "file")
    assert javascript.download(bucket, "no") is None
    assert javascript.call("fileExists", repo=bucket, path="no") is False
    assert not javascript_hub.log.requests(".*/commit/.*")


def test_files_of_a_bucket_are_deleted(javascript: JavaScript, bucket: str) -> None:
    javascript.upload(bucket, {"a.bin": b"a", "b.bin": b"b", "c.bin": b"c"})
    javascript.call("deleteFile", repo=bucket, path="a.bin")
    javascript.call("deleteFiles", repo=bucket, paths=["b.bin"])
    assert [entry["path"] for entry in javascript.call("listFiles", repo=bucket)] == ["c.bin"]


def test_an_upload_to_a_bucket_reports_its_progress(javascript: JavaScript, bucket: str) -> None:
    files = [{"path": "a.bin", "content": blob(binary("progress", MIB))}]
    events, made = javascript.steps("uploadFilesWithProgress", repo=bucket, files=files)
    assert made is None
    assert [event["state"] for event in events if event["event"] == "fileProgress"][-1] == "uploading"
    assert not [event for event in events if event.get("state") == "error"]


def test_a_bucket_is_written_by_its_writers_only(javascript: JavaScript, bucket: str, javascript_hub: LocalHub) -> None:
    with pytest.raises(JavaScriptError) as caught:
        javascript.call("createRepo", repo="buckets/acme/other", accessToken=javascript_hub.token("read"))
    assert caught.value.status == 403
    with pytest.raises(JavaScriptError) as caught:
        javascript.call("deleteFile", repo=bucket, path="a.bin", accessToken=javascript_hub.token("read"))
    assert caught.value.status == 403


def test_files_are_copied_into_a_bucket_without_their_bytes(
    javascript: JavaScript, bucket: str, javascript_repo: str, javascript_hub: LocalHub
) -> None:
    content = {"a.bin": binary("copy", MIB), "d/b.txt": b"regular", "d/c.bin": binary("c")}
    javascript.upload(javascript_repo, content)
    javascript_hub.log.clear()
    javascript.call(
        "copyFile",
        source={"repo": javascript_repo, "path": "a.bin"},
        destination={"repo": bucket, "path": "copied/a.bin"},
    )
    assert not javascript_hub.log.requests("(POST|GET) /cas/.*")
    events, _ = javascript.steps(
        "copyFolderIter", source={"repo": javascript_repo, "path": "d"}, destination={"repo": bucket, "path": "folder"}
    )
    assert [(event["event"], event["path"]) for event in events] == [("fileDownloaded", "d/b.txt")]
    files = [
        {"source": {"repo": bucket, "path": "copied/a.bin"}, "destinationPath": "twice.bin"},
        {"source": {"repo": javascript_repo, "path": "d/b.txt"}, "destinationPath": "b.txt"},
    ]
    javascript.call("copyFiles", destination=bucket, files=files)
    expected = {
        "copied/a.bin": content["a.bin"],
        "folder/b.txt": content["d/b.txt"],
        "folder/c.bin": content["d/c.bin"],
        "twice.bin": content["a.bin"],
        "b.txt": content["d/b.txt"],
    }
    listed = javascript.call("listFiles", repo=bucket, recursive=True)
    assert {entry["path"] for entry in listed if entry["type"] == "file"} == expected.keys()
    assert {path: javascript.download(bucket, path) for path in expected} == expected
    with pytest.raises(JavaScriptError, match="Source file not found"):
        javascript.call(
            "copyFile", source={"repo": javascript_repo, "path": "no"}, destination={"repo": bucket, "path": "no"}
        )


EDITS = {
    "insert at the beginning": [(0, 0, b"BEGIN")],
    "replace in the middle": [(700_000, 700_100, b"middle")],
    "cut out": [(100_000, 900_000, b"")],
    "append": [(2 * MIB, 2 * MIB, binary("tail", 300_000))],
    "several": [(0, 10, b""), (500_000, 500_001, b"xyz"), (1_500_000, 1_500_000, b"in"), (2 * MIB - 1, 2 * MIB, b"!")],
}


@pytest.mark.parametrize("edits", EDITS.values(), ids=EDITS)
def test_an_edit_sends_little_and_gives_the_file_that_it_says(
    javascript: JavaScript, bucket: str, javascript_hub: LocalHub, edits: list[tuple[int, int, bytes]]
) -> None:
    original = binary("edits", 2 * MIB)
    javascript.upload(bucket, {"a.bin": original})
    found = javascript.call("downloadFile", repo=bucket, path="a.bin")
    javascript_hub.log.clear()
    javascript.call(
        "uploadFile",
        repo=bucket,
        file={
            "path": "a.bin",
            "originalContent": found,
            "edits": [{"start": start, "end": end, "content": blob(content)} for start, end, content in edits],
        },
    )
    expected, position = b"", 0
    for start, end, content in edits:
        expected, position = expected + original[position:start] + content, end
    expected += original[position:]
    assert javascript.download(bucket, "a.bin") == expected
    assert javascript.download(bucket, "a.bin", xet=False) == expected
    assert uploaded_bytes(javascript_hub) < MIB
    # The edited file is the file that a plain upload of its bytes makes: same Xet hash.
    javascript.upload(bucket, {"plain.bin": expected})
    edited, plain = javascript.call("pathsInfo", repo=bucket, paths=["a.bin", "plain.bin"])
    assert edited["xetHash"] == plain["xetHash"]


def test_appending_again_and_again_needs_no_answer_from_cas(
    javascript: JavaScript, bucket: str, javascript_hub: LocalHub
) -> None:
    expected = binary("log", MIB)
    javascript.upload(bucket, {"log.bin": expected}, rangeEditCache={"$map": "appends"})
    for number in range(3):
        found = javascript.call("downloadFile", repo=bucket, path="log.bin")
        line = f"line {number}\n".encode() * 10
        edit = {"start": len(expected), "end": len(expected), "content": blob(line)}
        javascript_hub.log.clear()
        javascript.call(
            "uploadFile",
            repo=bucket,
            file={"path": "log.bin", "originalContent": found, "edits": [edit]},
            rangeEditCache={"$map": "appends"},
        )
        assert not javascript_hub.log.requests("GET .*/file-chunk-hashes/.*")
        expected += line
        assert javascript.download(bucket, "log.bin") == expected
