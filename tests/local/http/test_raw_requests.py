"""Proper HTTP with contents that no client sends: broken JSON, paths, queries and ranges, in thousands.

An answer always comes, below 500; no file outside of a repository is ever read; memory stays bounded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from support.hub_process import HubProcess
from support.raw_http import HANG_SECONDS, SECRET, answer, attacked_hub, many, request_text

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with attacked_hub(tmp_path_factory.mktemp("hub") / "data") as running:
        yield running


# -- NDJSON

_SHA = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_LINES: list[Any] = [
    {"key": "header", "value": {"summary": "s", "description": "d", "parentCommit": ""}},
    {"key": "file", "value": {"path": "x/y.txt", "content": "aGk=", "encoding": "base64"}},
    {"key": "lfsFile", "value": {"path": "z.bin", "algo": "sha256", "oid": _SHA, "size": 0}},
    {"key": "deletedFile", "value": {"path": "a/b.txt"}},
    {"key": "deletedFolder", "value": {"path": "a/"}},
]
_BATCH_LINES: list[Any] = [
    {"type": "addFile", "path": "x", "xetHash": "0" * 64, "mtime": 1, "contentType": "t"},
    {"type": "copyFile", "path": "x", "xetHash": "0" * 64, "sourceRepoType": "bucket", "sourceRepoId": "acme/corpus"},
    {"type": "deleteFile", "path": "x"},
]
_ODD_PATHS = ["", "/", "..", "a/../b", "a//b", "\x00", "\ud800", "\\", "a" * 5000, ".git/x", "é\u0301", "%2e%2e"]
_ODD_NUMBERS = [10**400, -(10**30), 1e308, float("nan"), float("inf"), -0.0]
_ODD_TEXTS = st.sampled_from(_ODD_PATHS) | st.text(max_size=30)
_ODD_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from(_ODD_NUMBERS),
    st.floats(),
    _ODD_TEXTS,
    st.lists(st.integers(), max_size=2),
    st.dictionaries(_ODD_TEXTS, st.integers(), max_size=2),
)


@st.composite
def _mutated(draw: st.DrawFn, lines: list[dict[str, object]]) -> bytes:
    """Return lines of which some fields, keys or bytes are wrong."""
    chosen = [json.loads(json.dumps(line)) for line in [lines[0], *draw(st.lists(st.sampled_from(lines), max_size=4))]]
    for line in chosen:
        place = line["value"] if "value" in line and draw(st.booleans()) else line
        for field in draw(st.lists(st.sampled_from([*place]), max_size=2, unique=True)):
            place[field] = draw(_ODD_VALUES)
        if draw(st.integers(0, 9)) == 0:
            place[draw(_ODD_TEXTS)] = draw(_ODD_VALUES)
    escaped = draw(st.booleans())
    text = "\n".join(json.dumps(line, ensure_ascii=escaped) for line in chosen).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.binary(max_size=8)) + text[at + draw(st.integers(0, 8)) :]
    return text


@many
@given(body=_mutated(_LINES), kind=st.sampled_from(["datasets", "models", "spaces"]), create_pr=st.booleans())
def test_a_mutated_commit_is_made_or_refused(hub: HubProcess, body: bytes, kind: str, create_pr: bool) -> None:
    _post(hub, f"/api/{kind}/acme/corpus/commit/main{'?create_pr=1' if create_pr else ''}", body)


@many
@given(body=_mutated(_BATCH_LINES))
def test_a_mutated_bucket_batch_is_made_or_refused(hub: HubProcess, body: bytes) -> None:
    _post(hub, "/api/buckets/acme/corpus/batch", body)


def test_the_repositories_can_be_read_after_all_these_commits(hub: HubProcess) -> None:
    for kind in ("datasets", "models", "spaces"):
        listed = requests.get(f"{hub.url}/api/{kind}/acme/corpus/tree/main?recursive=1&expand=1", timeout=HANG_SECONDS)
        assert listed.status_code == 200
        for entry in listed.json():
            if entry["type"] == "file":
                path = quote(entry["path"], safe="")
                web = "" if kind == "models" else f"/{kind}"
                found = requests.get(f"{hub.url}{web}/acme/corpus/resolve/main/{path}", timeout=HANG_SECONDS)
                assert found.status_code == 200, entry
                assert len(found.content) == entry["size"]


# -- JSON

_JSON_ROUTES = """
    POST /api/repos/create
    DELETE /api/repos/delete
    POST /api/repos/move
    PUT /api/datasets/acme/corpus/settings
    POST /api/datasets/acme/corpus/branch/new
    POST /api/datasets/acme/corpus/tag/main
    POST /api/datasets/acme/corpus/super-squash/main
    POST /api/datasets/acme/corpus/preupload/main
    POST /api/datasets/acme/corpus/paths-info/main
    POST /api/datasets/acme/corpus/commit/main
    POST /api/datasets/acme/corpus/duplicate
    POST /api/datasets/acme/corpus/discussions
    POST /api/datasets/acme/corpus/lfs-files/duplicate
    POST /api/datasets/acme/corpus/lfs-objects/verify
    POST /datasets/acme/corpus.git/info/lfs/objects/batch
    PUT /api/buckets/acme/corpus/settings
    POST /api/buckets/acme/corpus/paths-info
    POST /api/buckets/acme/corpus/batch
    PATCH /_local/settings
    POST /_local/faults
    POST /_local/reset
    POST /v1/telemetry
"""
_BAD_JSON = {
    "lists without end": b"[" * 100_000,
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a number of many digits": b'{"size":' + b"9" * 100_000 + b',"files":[],"objects":[]}',
    "a large exponent": b'{"size":1e999,"files":[{"path":"a","size":1e400}],"objects":[{"oid":"a","size":1e400}]}',
    "no number": b'{"size":NaN,"private":NaN,"files":[{"path":"x","size":Infinity}],"paths":[NaN],"token_life":NaN}',
    "half a character": b'{"name":"\\ud800","tag":"\\udfff","title":"\\ud800","files":[{"path":"\\ud800"}]}',
    "half a character in UTF-8": b'{"name":"\xed\xa0\x80","paths":["\xed\xa0\x80"]}',
    "a key twice": b'{"name":"a/b","name":1,"files":1,"files":[],"paths":"x","paths":[1]}',
    "another encoding": '{"name":"a/b","paths":["a"]}'.encode("utf-16"),
    "a mark in front": b'\xef\xbb\xbf{"name":"a/b"}',
    "not UTF-8": b'{"name":"\xff\xfe"}',
    "NUL": b'{"name":"a\\u0000b/c","paths":["\\u0000"],"tag":"\\u0000","files":[{"path":"\\u0000","size":1}]}',
    "a list": b"[1,2]",
    "nothing": b"",
    "blanks": b" \n" * 1000,
    "a form": b"paths=%ff&paths=a&expand=%00&=&&==&a[]=1",
    "compressed": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
}
_MEDIA_TYPES = [
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "",
    "\xff;=;",
]


@pytest.mark.parametrize("body", _BAD_JSON.values(), ids=_BAD_JSON)
def test_bad_json_breaks_no_route_that_takes_json(hub: HubProcess, body: bytes) -> None:
    for line in _JSON_ROUTES.strip().splitlines():
        method, path = line.split()
        for media_type in _MEDIA_TYPES:
            status, _ = answer(hub, request_text(hub, method, path, body, Content_Type=media_type))
            assert status < 500, (method, path, media_type, status)


# -- paths, queries, ranges

_PATHS = """
    /datasets/acme/corpus/resolve/main/{}
    /datasets/acme/corpus/raw/main/{}
    /datasets/acme/corpus/resolve/{}/a/b.txt
    /datasets/acme/corpus/tree/main/{}
    /datasets/acme/corpus/commit/{}
    /acme/corpus/resolve/main/{}
    /{}/corpus/resolve/main/a/b.txt
    /buckets/acme/corpus/resolve/{}
    /api/datasets/acme/corpus/tree/main/{}
    /api/datasets/acme/corpus/tree/{}
    /api/datasets/acme/corpus/revision/{}
    /api/datasets/acme/corpus/commits/{}
    /api/datasets/acme/corpus/xet-read-token/{}
    /api/datasets/acme/corpus/discussions/{}
    /api/buckets/acme/corpus/tree/{}
    /api/datasets/acme/{}
    /api/datasets/{}/corpus
    /api/{}/acme/corpus
    /cas/{}/v1/shards
    /_local/{}
    /_local/transfers/{}
    /_local/assets/{}
    /{}
"""
_ODD_PARTS = r"""
    .. . %2e%2e %2E%2e%2F ..%5c %252e %2f %5c \ / // %00 % %zz %ff %c0%af %ed%a0%80 %0a %0d%0a %e2%80%ae %20 + ~ ;
    a b.txt main refs%2Fpr%2F1 secret.txt hub.sqlite3 signing.key etc passwd
"""
_METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE"]
_PARTS = st.one_of(
    st.lists(st.sampled_from([*_ODD_PARTS.split(), "\xe9", "a" * 3000]), max_size=8).map("".join),
    st.binary(max_size=20).map(lambda raw: "".join(f"%{byte:02x}" for byte in raw)),
)


@settings(many, max_examples=many.max_examples * 4)
@given(path=st.sampled_from(_PATHS.split()), part=_PARTS, method=st.sampled_from(_METHODS))
def test_no_path_leads_out_of_a_repository(hub: HubProcess, path: str, part: str, method: str) -> None:
    if method == "DELETE" and path.startswith("/api/"):
        method = "GET"  # there is nothing to find in a repository that is gone
    status, text = answer(hub, request_text(hub, method, path.format(part)))
    assert status < 500, (method, path, part)
    for secret in (SECRET, b"SQLite format", b"root:"):
        assert secret not in text


_QUERIED = """
    / /datasets/acme/corpus /datasets/acme/corpus/commits/main /api/datasets /api/datasets/acme/corpus
    /api/datasets/acme/corpus/tree/main /api/datasets/acme/corpus/commits/main /api/datasets/acme/corpus/discussions
    /api/buckets/acme /api/buckets/acme/corpus/tree /_local/requests
"""
_NAMES = "limit cursor recursive expand p search author blobs since status route"
_VALUES = ["", "0", "-1", "9" * 18, "9" * 19, "9" * 5000, "1e9", "%ff", "%00", "true", "(a+)+$", "%0d%0aX:y"]
_QUERIES = st.lists(st.tuples(st.sampled_from(_NAMES.split()), st.sampled_from(_VALUES)), max_size=5)


@many
@given(path=st.sampled_from(_QUERIED.split()), query=_QUERIES)
def test_absurd_query_parameters_also_repeated_ones_are_answered(
    hub: HubProcess, path: str, query: list[tuple[str, str]]
) -> None:
    target = f"{path}?{'&'.join(f'{name}={value}' for name, value in query)}"
    assert answer(hub, request_text(hub, "GET", target))[0] < 500, target


_RANGES = st.one_of(
    st.sampled_from(["0-0", "-0", "9999999999999999999999-", "5-1", "-", "0-1,2-3", "0-1,0-1", ","]),
    st.just(",".join(f"{number}-{number}" for number in range(3000))),
    st.just(",".join(["0-"] * 10_000)),
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=40),
)


@many
@given(value=_RANGES, kind=st.sampled_from(["resolve", "raw"]))
def test_absurd_ranges_are_answered_with_no_more_than_the_file(hub: HubProcess, value: str, kind: str) -> None:
    target = f"/datasets/acme/corpus/{kind}/main/.gitattributes"
    status, text = answer(hub, request_text(hub, "GET", target, Range=f"bytes={value}"))
    assert status < 500, value
    assert len(text) < 100_000


def _post(hub: HubProcess, path: str, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {hub.tokens['write']}", "Content-Type": "application/x-ndjson"}
    said = requests.post(hub.url + path, data=body, headers=headers, timeout=HANG_SECONDS)
    assert said.status_code < 500, (body, said.text)
    if said.status_code >= 400 and said.status_code != 422:
        assert said.json()["error"]
