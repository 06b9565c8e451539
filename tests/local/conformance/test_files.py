"""Files of a repository: listed, described, resolved."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from support.hub_wire import Wire, error_of
from support.stored_content import Upload

FILE_INFO = "application/vnd.xet-fileinfo+json"


def pointer_of(made: Upload) -> bytes:
    return (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{made.file.sha256}\nsize {len(made.raw)}\n"
    ).encode()


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # noqa: S324 - as git does


def put_many(wire: Wire, count: int) -> None:
    lines = [
        {"key": "file", "value": {"path": f"f{number:04}", "content": "", "encoding": "utf-8"}}
        for number in range(count)
    ]
    assert wire.commit(*lines).status_code == 200


def test_a_tree_lists_one_folder(wire: Wire) -> None:
    wire.put("d/e/a.txt")
    found = {one["path"]: one["type"] for one in wire.get("{one}/tree/main")}
    assert found == {".gitattributes": "file", "d": "directory"}
    assert {one["path"]: one["type"] for one in wire.get("{one}/tree/main/d")} == {"d/e": "directory"}


def test_a_recursive_tree_lists_folders_too(wire: Wire) -> None:
    wire.put("d/e/a.txt")
    found = {one["path"]: one["type"] for one in wire.get("{one}/tree/main?recursive=true")}
    assert found == {".gitattributes": "file", "d": "directory", "d/e": "directory", "d/e/a.txt": "file"}


def test_an_entry_of_a_small_file_has_its_git_oid(wire: Wire) -> None:
    wire.put("d/a.txt", "abc")
    assert wire.get("{one}/tree/main/d") == [{"type": "file", "oid": git_oid(b"abc"), "size": 3, "path": "d/a.txt"}]


def test_an_entry_of_a_large_file_has_sha256_and_xet_hash(wire: Wire, stored: Upload) -> None:
    (found,) = wire.get("{one}/tree/main/d")
    pointer = pointer_of(stored)
    assert found == {
        "type": "file",
        "oid": git_oid(pointer),
        "size": len(stored.raw),
        "path": "d/a.bin",
        "lfs": {"oid": stored.file.sha256, "size": len(stored.raw), "pointerSize": len(pointer)},
        "xetHash": stored.xet_hash,
    }


def test_a_missing_folder_is_entry_not_found(wire: Wire) -> None:
    error_of(wire("GET", "{one}/tree/main/nothing"), 404, "EntryNotFound")


def test_an_expanded_tree_names_the_last_commit(wire: Wire) -> None:
    first = wire.put("d/a.txt")
    wire.put("b.txt")
    found = {one["path"]: one for one in wire.get("{one}/tree/main?expand=true")}
    assert found["d"]["lastCommit"]["id"] == first
    assert found["d"]["lastCommit"].keys() == {"id", "title", "date"}
    assert "lastCommit" not in wire.get("{one}/tree/main")[0]


def test_an_expanded_tree_reports_the_scan(wire: Wire) -> None:
    wire.put("a.txt")
    (found,) = (one for one in wire.get("{one}/tree/main?expand=true") if one["path"] == "a.txt")
    assert found["securityFileStatus"].keys() >= {"status", "avScan", "pickleImportScan"}


def test_a_page_of_a_tree_has_1000_entries(wire: Wire) -> None:
    put_many(wire, 1000)
    answer = wire("GET", "{one}/tree/main")
    assert len(answer.json()) == 1000
    (last,) = wire("GET", answer.links["next"]["url"]).json()
    assert last["path"] == "f0999"
    assert "next" not in wire("GET", answer.links["next"]["url"]).links


def test_a_page_of_an_expanded_tree_has_50_entries(wire: Wire) -> None:
    put_many(wire, 50)
    answer = wire("GET", "{one}/tree/main?expand=true")
    assert len(answer.json()) == 50
    assert len(wire("GET", answer.links["next"]["url"]).json()) == 1


@pytest.mark.parametrize("is_json", [True, False])
def test_paths_info_leaves_missing_paths_out(wire: Wire, is_json: bool) -> None:
    wire.put("d/a.txt")
    body: dict[str, Any] = {"paths": ["d", "nothing", "d/a.txt"]}
    sent: dict[str, Any] = {"json" if is_json else "data": body}
    answer = wire("POST", "{one}/paths-info/main", **sent)
    assert [one["path"] for one in answer.json()] == ["d", "d/a.txt"]


def test_paths_info_is_expanded_on_request(wire: Wire) -> None:
    head = wire.put("d/a.txt")
    (found,) = wire("POST", "{one}/paths-info/main", data={"paths": ["d"], "expand": "true"}).json()
    assert found["lastCommit"]["id"] == head


# --- resolve ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_resolve_names_the_commit_and_the_etag(wire: Wire, method: str) -> None:
    head = wire.put("a.txt", "abc")
    answer = wire(method, wire.web + "/resolve/main/a.txt")
    assert answer.headers["X-Repo-Commit"] == head
    assert answer.headers["ETag"] == f'"{git_oid(b"abc")}"'
    assert answer.headers["Content-Length"] == "3"


def test_resolve_of_a_large_file_names_its_hash_and_size(wire: Wire, stored: Upload) -> None:
    headers = wire("HEAD", wire.web + "/resolve/main/d/a.bin").headers
    assert headers["X-Xet-Hash"] == stored.xet_hash
    assert headers["X-Linked-Size"] == str(len(stored.raw))
    assert headers["X-Linked-Etag"] == f'"{stored.file.sha256}"'
    assert len(headers["X-Repo-Commit"]) == 40


def test_resolve_of_a_small_file_has_no_xet_hash(wire: Wire) -> None:
    wire.put("a.txt")
    headers = wire("HEAD", wire.web + "/resolve/main/a.txt").headers
    assert not {"X-Xet-Hash", "X-Linked-Size", "X-Linked-Etag"} & headers.keys()


def test_resolve_links_to_token_and_reconstruction(wire: Wire, stored: Upload) -> None:
    answer = wire("HEAD", wire.web + "/resolve/main/d/a.bin")
    commit = answer.headers["X-Repo-Commit"]
    token = wire.get(answer.links["xet-auth"]["url"])
    assert answer.links["xet-auth"]["url"] == f"{wire.hub.url}{wire.one}/xet-read-token/{commit}"
    url = answer.links["xet-reconstruction-info"]["url"]
    assert url == f"{token['casUrl']}/v1/reconstructions/{stored.xet_hash}"


def test_resolve_names_the_refresh_route(wire: Wire, stored: Upload) -> None:
    answer = wire("HEAD", wire.web + "/resolve/main/d/a.bin")
    assert answer.headers["X-Xet-Refresh-Route"] == answer.links["xet-auth"]["url"]


def test_resolve_describes_a_xet_file_instead_of_sending_it(wire: Wire, stored: Upload) -> None:
    headers = {"Accept": f"{FILE_INFO}, */*", "Range": "bytes=0-0"}
    answer = wire("GET", wire.web + "/resolve/main/d/a.bin", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith(FILE_INFO)
    assert (answer.headers["X-Xet-Hash"], answer.headers["X-Linked-Size"]) == (stored.xet_hash, str(len(stored.raw)))
    assert stored.raw not in answer.content


def test_resolve_of_a_large_file_redirects_to_storage(wire: Wire, stored: Upload) -> None:
    answer = wire("GET", wire.web + "/resolve/main/d/a.bin")
    assert (answer.status_code, answer.headers["X-Xet-Hash"]) == (302, stored.xet_hash)
    assert not answer.headers["Location"].startswith(wire.hub.url)


def test_resolve_of_a_small_file_redirects_to_its_cache(wire: Wire) -> None:
    wire.put("a.txt")
    answer = wire("GET", wire.web + "/resolve/main/a.txt")
    assert answer.status_code == 307
    assert answer.headers["Location"].startswith("/api/resolve-cache/datasets/")


@pytest.mark.parametrize("name", ["a.txt", "d/a.bin"])
def test_resolve_sends_the_bytes_in_the_end(wire: Wire, stored: Upload, name: str) -> None:
    wire.put("a.txt", "abc")
    answer = wire("GET", f"{wire.web}/resolve/main/{name}", allow_redirects=True)
    assert (answer.status_code, answer.content) == (200, b"abc" if name == "a.txt" else stored.raw)


def test_resolve_sends_a_range(wire: Wire) -> None:
    wire.put("a.txt", "abcdef")
    answer = wire("GET", wire.web + "/resolve/main/a.txt", headers={"Range": "bytes=1-2"}, allow_redirects=True)
    assert (answer.status_code, answer.content) == (206, b"bc")
    assert answer.headers["Content-Range"] == "bytes 1-2/6"
    assert wire("HEAD", wire.web + "/resolve/main/a.txt").headers["Accept-Ranges"] == "bytes"


def test_resolve_refuses_a_range_past_the_end(wire: Wire) -> None:
    wire.put("a.txt", "abcdef")
    answer = wire("GET", wire.web + "/resolve/main/a.txt", headers={"Range": "bytes=6-"}, allow_redirects=True)
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, "bytes */6")


def test_a_missing_file_is_told_from_a_missing_revision(wire: Wire) -> None:
    answer = wire("GET", wire.web + "/resolve/main/nothing")
    error_of(answer, 404, "EntryNotFound")
    error_of(wire("GET", wire.web + "/resolve/nowhere/a.txt"), 404, "RevisionNotFound")
    error_of(wire("GET", "/datasets/local/nothing/resolve/main/a.txt"), 404, "RepoNotFound")


def test_a_missing_file_names_the_commit(wire: Wire) -> None:
    head = wire.put("a.txt")
    assert wire("HEAD", wire.web + "/resolve/main/nothing").headers["X-Repo-Commit"] == head


def test_resolve_takes_every_kind_of_revision(wire: Wire) -> None:
    first = wire.put("a.txt", "1")
    wire.put("a.txt", "2")
    wire.put("a.txt", "3", query="?create_pr=1")
    wire("POST", "{one}/tag/main", json={"tag": "v2"})
    for revision, content in ((first, "1"), (first[:7], "1"), ("v2", "2"), ("main", "2"), ("refs%2Fpr%2F1", "3")):
        assert wire("GET", f"{wire.web}/resolve/{revision}/a.txt", allow_redirects=True).text == content


def test_models_have_no_prefix_in_their_urls(of: Callable[..., Wire]) -> None:
    model = of("model")
    model.put("a.txt", "abc")
    path = f"/{model.repo.repo_id}/resolve/main/a.txt"
    assert model("GET", path, allow_redirects=True).text == "abc"


def test_raw_returns_the_pointer_of_a_large_file(wire: Wire, stored: Upload) -> None:
    assert wire("GET", wire.web + "/raw/main/d/a.bin").content == pointer_of(stored)


def test_a_file_path_may_have_any_character(wire: Wire) -> None:
    name = "sub dir/é#%?.txt"
    wire.put(name, "abc")
    path = "/resolve/main/sub%20dir/%C3%A9%23%25%3F.txt"
    assert wire("GET", wire.web + path, allow_redirects=True).text == "abc"
    assert name in {one["path"] for one in wire.get("{one}/tree/main?recursive=true")}


def test_the_content_of_a_deleted_repository_is_gone(wire: Wire, stored: Upload, of: Callable[..., Wire]) -> None:
    namespace, name = wire.repo.repo_id.split("/")
    body = {"name": name, "organization": namespace, "type": "dataset"}
    wire("DELETE", "/api/repos/delete", json=body)
    wire("POST", "/api/repos/create", json=body)
    assert wire.put_large("d/a.bin", stored).status_code == 400
