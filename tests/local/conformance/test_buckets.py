"""Buckets: made and described, listed by prefix, changed in batches."""

from __future__ import annotations

import json
import uuid
from typing import Any

from support.hub_wire import Wire, error_of
from support.stored_content import Upload

MTIME = 1_700_000_000_123


def upload(bucket: Wire, made: Upload) -> None:
    found = bucket.get("{one}/xet-write-token")
    for path, body in ((f"/v1/xorbs/default/{made.xorb_hash}", made.body), ("/v1/shards", made.shard(sha256=None))):
        assert bucket("POST", found["casUrl"] + path, token=found["accessToken"], data=body).status_code == 200


def batch(bucket: Wire, *lines: dict[str, Any], status: int = 200, **options: Any) -> dict[str, Any]:
    body = "".join(json.dumps(line) + "\n" for line in lines)
    kind = {"Content-Type": "application/x-ndjson"}
    answer = bucket("POST", "{one}/batch", data=body, headers=kind, **options)
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def add(path: str, made: Upload) -> dict[str, Any]:
    return {"type": "addFile", "path": path, "xetHash": made.xet_hash, "mtime": MTIME}


def tree(bucket: Wire, rest: str = "") -> list[tuple[str, str]]:
    return [(one["type"], one["path"]) for one in bucket.get("{one}/tree" + rest)]


def test_creating_a_bucket_returns_its_url(bucket: Wire) -> None:
    name = f"b{uuid.uuid4().hex[:12]}"
    answer = bucket("POST", f"/api/buckets/local/{name}", json={"visibility": "private"})
    assert (answer.status_code, answer.json()["url"]) == (200, f"{bucket.hub.url}/buckets/local/{name}")
    assert bucket.get(f"/api/buckets/local/{name}")["private"] is True


def test_me_is_the_namespace_of_the_user(bucket: Wire) -> None:
    name = f"b{uuid.uuid4().hex[:12]}"
    assert bucket("POST", f"/api/buckets/me/{name}", json={}).json()["url"].endswith(f"/buckets/local/{name}")
    assert f"local/{name}" in {one["id"] for one in bucket.get("/api/buckets/me")}


def test_creating_an_existing_bucket_is_409_with_its_url(bucket: Wire) -> None:
    answer = bucket("POST", "{one}", json={})
    assert (answer.status_code, answer.json()["url"]) == (409, bucket.hub.url + bucket.web)


def test_a_bucket_describes_itself(bucket: Wire, made: Upload) -> None:
    upload(bucket, made)
    batch(bucket, add("a.bin", made))
    found = bucket.get("{one}")
    assert found.keys() >= {"id", "private", "createdAt", "size", "totalFiles"}
    assert (found["id"], found["size"], found["totalFiles"]) == (bucket.repo.repo_id, len(made.raw), 1)


def test_a_bucket_without_a_namespace_is_404(bucket: Wire) -> None:
    name = bucket.repo.repo_id.split("/")[1]
    assert bucket("GET", f"/api/buckets/{name}").status_code == 404
    assert bucket("DELETE", f"/api/buckets/{name}").status_code in (404, 405)


def test_a_missing_bucket_has_the_code_of_a_repository(bucket: Wire) -> None:
    error_of(bucket("GET", "/api/buckets/local/nothing"), 404, "RepoNotFound")
    error_of(bucket("DELETE", "/api/buckets/local/nothing"), 404, "RepoNotFound")


def test_a_private_bucket_is_401_without_a_token(bucket: Wire) -> None:
    bucket("PUT", "{one}/settings", json={"private": True})
    error_of(bucket("GET", "{one}/tree", token=None), 401, "RepoNotFound")
    error_of(bucket("GET", "{one}/tree", token=bucket.hub.add_user("stranger", role="read")), 404, "RepoNotFound")


def test_a_deleted_bucket_is_gone(bucket: Wire) -> None:
    assert bucket("DELETE", "{one}").status_code in (200, 204)
    error_of(bucket("GET", "{one}"), 404, "RepoNotFound")


def test_a_bucket_is_renamed_like_a_repository(bucket: Wire) -> None:
    new = f"local/b{uuid.uuid4().hex[:12]}"
    body = {"fromRepo": bucket.repo.repo_id, "toRepo": new, "type": "bucket"}
    assert bucket("POST", "/api/repos/move", json=body).status_code == 200
    assert bucket.get(f"/api/buckets/{new}")["id"] == new


def test_an_entry_of_a_bucket_has_its_hash_and_times(bucket: Wire, made: Upload) -> None:
    upload(bucket, made)
    batch(bucket, add("a.bin", made))
    (found,) = bucket.get("{one}/tree")
    assert found.keys() >= {"type", "path", "size", "xetHash", "mtime", "uploadedAt"}
    assert (found["type"], found["size"], found["xetHash"]) == ("file", len(made.raw), made.xet_hash)
    assert found["mtime"] == "2023-11-14T22:13:20.123Z"


def test_a_bucket_is_listed_recursively_without_folders(bucket: Wire, made: Upload) -> None:
    upload(bucket, made)
    batch(bucket, add("d/e/a.bin", made), add("b.bin", made))
    assert tree(bucket) == [("file", "b.bin"), ("file", "d/e/a.bin")]


def test_folders_of_a_bucket_are_listed_on_request(bucket: Wire, made: Upload) -> None:
    upload(bucket, made)
    batch(bucket, add("d/e/a.bin", made), add("b.bin", made))
    assert sorted(tree(bucket, "?recursive=false")) == [("directory", "d"), ("file", "b.bin")]


def test_a_prefix_of_a_bucket_is_text(bucket: Wire, made: Upload) -> None:
    upload(bucket, made)
    batch(bucket, *(add(path, made) for path in ("logs/a", "logs.json", "logs_old/b", "other")))
    assert {path for _, path in tree(bucket, "/logs")} == {"logs/a", "logs.json", "logs_old/b"}
    assert {path for _, path in tree(bucket, "/logs%2F")} == {"logs/a"}
    assert tree(bucket, "/nothing") == []


def test_a_bucket_is_listed_in_pages(bucket: Wire, made: Upload) -> None:
    upload(bucket, made)
    batch(bucket, *(add(f"{number}.bin", made) for number in range(3)))
    answer = bucket("GET", "{one}/tree?limit=2")
    rest = bucket("GET", answer.links["next"]["url"]).json()
    assert len(answer.json()) + len(rest) == 3


def test_paths_info_of_a_bucket_takes_json(bucket: Wire, made: Upload) -> None:
    upload(bucket, made)
    batch(bucket, add("a.bin", made))
    answer = bucket("POST", "{one}/paths-info", json={"paths": ["nothing", "a.bin"]})
    assert [(one["path"], one["xetHash"]) for one in answer.json()] == [("a.bin", made.xet_hash)]


def test_a_batch_counts_what_it_did(bucket: Wire, made: Upload) -> None:
    upload(bucket, made)
    found = batch(bucket, add("a.bin", made), add("b.bin", made), {"type": "deleteFile", "path": "a.bin"})
    assert found == {"success": True, "processed": 3, "succeeded": 3, "failed": []}
    assert tree(bucket) == [("file", "b.bin")]


def test_a_batch_that_fails_in_part_is_200(bucket: Wire, made: Upload) -> None:
    upload(bucket, made)
    bogus = {**add("bogus.bin", made), "xetHash": "1" * 64}
    found = batch(bucket, add("a.bin", made), bogus)
    assert (found["success"], found["succeeded"], [one["path"] for one in found["failed"]]) == (False, 1, ["bogus.bin"])
    assert tree(bucket) == [("file", "a.bin")]


def test_a_batch_that_fails_as_a_whole_is_422(bucket: Wire, made: Upload) -> None:
    found = batch(bucket, add("a.bin", made), status=422)
    assert found["failed"][0]["error"]
    assert found["failed"][0]["path"] == "a.bin"


def test_a_copy_takes_the_hash_from_its_source(bucket: Wire, wire: Wire, stored: Upload) -> None:
    line = {
        **add("copy.bin", stored),
        "type": "copyFile",
        "sourceRepoType": "dataset",
        "sourceRepoId": wire.repo.repo_id,
    }
    assert batch(bucket, line)["succeeded"] == 1
    answer = bucket("GET", bucket.web + "/resolve/copy.bin", allow_redirects=True)
    assert answer.content == stored.raw


def test_a_file_of_a_bucket_is_replaced_in_place(bucket: Wire, made: Upload) -> None:
    upload(bucket, made)
    other = Upload([b"other" * 100])
    upload(bucket, other)
    batch(bucket, add("a.bin", made))
    batch(bucket, add("a.bin", other))
    assert [one["xetHash"] for one in bucket.get("{one}/tree")] == [other.xet_hash]


def test_resolve_of_a_bucket_names_hash_size_and_token_route(bucket: Wire, made: Upload) -> None:
    upload(bucket, made)
    batch(bucket, add("d/a.bin", made))
    for path in ("d/a.bin", "d%2Fa.bin"):
        answer = bucket("HEAD", f"{bucket.web}/resolve/{path}")
        assert answer.headers["X-Xet-Hash"] == made.xet_hash
        assert answer.headers["X-Linked-Size"] == str(len(made.raw))
        assert answer.links["xet-auth"]["url"] == f"{bucket.hub.url}{bucket.one}/xet-read-token"


def test_a_missing_file_of_a_bucket_is_entry_not_found(bucket: Wire) -> None:
    error_of(bucket("GET", bucket.web + "/resolve/nothing"), 404, "EntryNotFound")


def test_the_empty_file_needs_no_upload_to_a_bucket(bucket: Wire) -> None:
    line = {"type": "addFile", "path": "empty", "xetHash": "0" * 64, "mtime": MTIME}
    assert batch(bucket, line)["succeeded"] == 1
    assert bucket.get("{one}/tree")[0]["size"] == 0
