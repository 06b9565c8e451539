"""What no client should send is answered with an error that says so, and never with a 5xx."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
from urllib.parse import quote

import pytest
import requests

from support.hub_calls import HEADER
from xethub_local.server import LocalHub


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/agent-harnesses", 404),
        ("GET", "/api/nothing/at/all/here", 404),
        ("PATCH", "/api/repos/create", 405),
        ("GET", "/api/models/acme%2F/x", 404),
        ("GET", "/api/models/%FF/x", 400),
        ("GET", "/api/datasets/{repo}/tree/main?cursor=x", 400),
        ("GET", "/api/datasets/{repo}/tree/main?cursor=%FF", 400),
        ("GET", "/api/datasets/{repo}/tree/main?limit=-1", 400),
        ("GET", "/api/datasets/{repo}/discussions/x", 404),
        ("GET", "/api/datasets/{repo}/discussions/99999999999999999999", 404),
        ("GET", "/api/datasets/{repo}/discussions?p=9999999999999999", 200),
        ("GET", "/api/datasets/{repo}/commits/main?cursor=99999999999999999999", 400),
        ("GET", "/api/datasets/{repo}/user-access-request/none", 404),
        ("GET", "/api/files", 404),
    ],
)
def test_nonsense_has_a_json_error(hub: LocalHub, repo: str, method: str, path: str, status: int) -> None:
    url = hub.url + path.format(repo=repo)
    answer = requests.request(method, url, headers=authorization(hub), timeout=20)
    assert answer.status_code == status
    assert answer.headers["x-request-id"]
    if status >= 400:
        assert answer.json()["error"]
        assert answer.headers["x-error-message"]


PATHS = (
    "..%2F..%2Fsigning.key",
    "%2e%2e/%2e%2e/signing.key",
    "a/../b",
    "%2Fetc%2Fpasswd",
    "a%00b",
    "a%0Ab",
    ".git/config",
    "d/.GIT/config",
    "a//b",
    "a%2F%2Fb",
    "./a",
    "x" * 256,
    "d/" + "%C3%A9" * 128,
    "/".join(["y"] * 2100),
)


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
@pytest.mark.parametrize(
    "route",
    [
        "/datasets/{repo}/resolve/main/{path}",
        "/datasets/{repo}/raw/main/{path}",
        "/api/datasets/{repo}/tree/main/{path}",
        "/api/buckets/acme/strict/tree/{path}",
        "/buckets/acme/strict/resolve/{path}",
    ],
)
def test_a_url_that_means_another_place_is_400(hub: LocalHub, repo: str, route: str, path: str) -> None:
    if not hub.repositories.find_all("buckets"):
        hub.create_repo("acme/strict", "bucket")
    line = f"GET {route.format(repo=repo, path=path)} HTTP/1.1\r\nhost: {hub.url[7:]}\r\nconnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", hub.port), timeout=20) as connection:  # no client tidies the path up
        connection.sendall(line.encode())
        assert connection.makefile("rb").readline().split()[1] == b"400"


def test_a_backslash_is_a_character_like_others_except_where_a_path_climbs_with_it(hub: LocalHub, repo: str) -> None:
    for path, status in (("a\\b", 200), ("f/..\\..\\c", 200), ("..\\d", 422)):
        change = {"key": "file", "value": {"path": path, "content": "x", "encoding": "utf-8"}}
        url, body = f"{hub.url}/api/datasets/{repo}/commit/main", f"{HEADER}\n{json.dumps(change)}"
        assert requests.post(url, data=body, headers=authorization(hub), timeout=20).status_code == status
        url = f"{hub.url}/datasets/{repo}/resolve/main/{quote(path)}"
        assert requests.get(url, timeout=20).status_code == status


@pytest.mark.parametrize("path", ["", "../a", "/a", "a/../b", "a\0b", ".git/x", ".Git", "a//b", "x" * 256, "a\n"])
def test_a_path_in_a_body_that_means_another_place_is_400(hub: LocalHub, repo: str, path: str) -> None:
    base = f"{hub.url}/api/datasets/{repo}"
    added = {"key": "file", "value": {"path": path, "content": "", "encoding": "utf-8"}}
    deleted = {"key": "deletedFile", "value": {"path": path}}
    asked: list[tuple[str, str]] = [
        ("commit/main", f"{HEADER}\n{json.dumps(added)}"),
        ("commit/main", f"{HEADER}\n{json.dumps(deleted)}"),
        ("preupload/main", json.dumps({"files": [{"path": path, "size": 1}]})),
    ]
    if path.strip("/") == path and path:  # a slash at either end is a matter of taste here
        asked.append(("paths-info/main", json.dumps({"paths": [path]})))
    for route, body in asked:
        answer = requests.post(f"{base}/{route}", data=body, headers=authorization(hub), timeout=20)
        assert answer.status_code == 400, (route, answer.text)


FIELDS = {
    "/api/repos/create": ("name", "organization", "type", "private", "visibility"),
    "/api/repos/move": ("fromRepo", "toRepo", "type"),
    "/api/datasets/{repo}/settings": ("private", "visibility", "gated"),
    "/api/datasets/{repo}/duplicate": ("repository", "private", "visibility"),
    "/api/datasets/{repo}/branch/dev": ("startingPoint", "overwrite"),
    "/api/datasets/{repo}/tag/main": ("tag", "message"),
    "/api/datasets/{repo}/super-squash/main": ("message",),
    "/api/datasets/{repo}/preupload/main": ("files", "gitIgnore", "gitAttributes"),
    "/api/datasets/{repo}/paths-info/main": ("paths",),
    "/api/datasets/{repo}/lfs-files/duplicate": ("target", "files"),
    "/api/datasets/{repo}/discussions": ("title", "description", "pullRequest"),
    "/api/datasets/{repo}/user-access-request/grant": ("user",),
    "/api/buckets/acme/typed": ("private", "visibility"),
}
VALID: dict[str, object] = {
    "name": "typed",
    "fromRepo": "acme/a",
    "toRepo": "acme/b",
    "repository": "acme/c",
    "tag": "t",
    "files": [],
    "target": {"name": "acme/a"},
    "title": "t",
}
WRONG = (3, 1.5, "\u2603 no such thing", [[1]], {"a": 1})


@pytest.mark.parametrize(("route", "field"), [(route, field) for route, fields in FIELDS.items() for field in fields])
def test_a_field_of_the_wrong_type_is_400_and_named(hub: LocalHub, repo: str, route: str, field: str) -> None:
    others = {"private", "visibility", "gated", "type", "overwrite", "pullRequest", "files", "paths", "target"}
    takes_text = field not in others
    method = "PUT" if route.endswith("settings") else "POST"
    for wrong in WRONG:
        if (takes_text and isinstance(wrong, str)) or (field == "target" and isinstance(wrong, dict)):
            continue
        body = {**VALID, field: wrong}
        answer = requests.request(
            method, hub.url + route.format(repo=repo), json=body, headers=authorization(hub), timeout=20
        )
        assert (answer.status_code, f"'{field}'" in answer.json()["error"]) == (400, True), (wrong, answer.text)


@pytest.mark.parametrize("size", [True, -1, 1.0, "1", None])
def test_a_size_that_is_no_number_of_bytes_is_400(hub: LocalHub, repo: str, size: object) -> None:
    url, body = f"{hub.url}/api/datasets/{repo}/preupload/main", {"files": [{"path": "a", "size": size}]}
    answer = requests.post(url, json=body, headers=authorization(hub), timeout=20)
    assert (answer.status_code, "'size'" in answer.json()["error"]) == (400, True)


BODIES = {
    "not JSON": b"{",
    "no object": b"[]",
    "too deep": b"[" * 100_000,
    "too deep inside": b'{"paths":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "a float too large": b'{"paths": [], "x": 1e999}',
    "an integer too large": b'{"paths": [], "x": 123456789012345678901}',
    "an integer far too large": b'{"paths": [], "x": ' + b"9" * 5000 + b"}",
    "not a number": b'{"paths": [], "x": NaN}',
    "infinity": b'{"paths": [], "x": -Infinity}',
    "half a character": b'{"paths": ["\\ud800"]}',
    "half a character in UTF-8": b'{"paths": ["\xed\xa0\x80"]}',
    "UTF-16": '{"paths": []}'.encode("utf-16"),
    "not UTF-8": b'{"paths": ["\xff"]}',
}


@pytest.mark.parametrize("what", BODIES)
@pytest.mark.parametrize("route", ["preupload/main", "paths-info/main", "tag/main", "discussions", "commit/main"])
def test_a_broken_json_body_is_400(hub: LocalHub, repo: str, route: str, what: str) -> None:
    headers = {**authorization(hub), "Content-Type": "application/json"}
    url = f"{hub.url}/api/datasets/{repo}/{route}"
    answer = requests.post(url, data=BODIES[what], headers=headers, timeout=20)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_a_body_without_an_end_is_cut_off(hub: LocalHub, repo: str) -> None:
    url = f"{hub.url}/api/datasets/{repo}/paths-info/main"
    answer = requests.post(url, data=itertools.repeat(b" " * 1_000_000, 40), headers=authorization(hub), timeout=60)
    assert answer.status_code == 413


@pytest.mark.parametrize("head", [b"GET /", b"GET / HTTP/1.1\r\nhost: x\r\nx-long: ", b"GET / HTTP/1.1\r\nhost: x\r\n"])
def test_a_head_without_an_end_is_cut_off(hub: LocalHub, head: bytes) -> None:
    more = b"x: y\r\n" * 10_000 if head.endswith(b"host: x\r\n") else b"a" * 60_000
    sent = 0
    with socket.create_connection(("127.0.0.1", hub.port), timeout=20) as connection:
        connection.sendall(head)
        with contextlib.suppress(ConnectionError):
            while sent < 100_000_000:
                connection.sendall(more)
                sent += len(more)
    assert sent < 100_000_000
    assert requests.get(hub.url, headers={"x-long": "a" * 30_000}, timeout=20).status_code == 200


def test_a_head_that_is_too_large_is_answered_431(hub: LocalHub) -> None:
    with socket.create_connection(("127.0.0.1", hub.port), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nx-long: " + b"a" * 66_000)
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 431 ")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head
    assert json.loads(body)["error"]


def authorization(hub: LocalHub) -> dict[str, str]:
    return {"Authorization": f"Bearer {hub.token()}"}
