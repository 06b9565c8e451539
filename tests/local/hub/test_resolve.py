"""What resolve and raw answer: conditions, ranges, headers, and nothing that a browser would run."""

from __future__ import annotations

import hashlib
import json
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.utils.tqdm import disable_progress_bars

from xethub_local.server import LocalHub

disable_progress_bars()

REPO = "acme/files"
BINARY = b"\0" + random.Random(1).randbytes(199_999)
TEXT = b"0123456789" * 10
SCRIPT = b"<!doctype html><script>document.title = 'run'</script>"
CONTENT = {"a.bin": BINARY, "a.txt": TEXT, "empty.txt": b"", "page.html": SCRIPT, "page.svg": SCRIPT}
IDENTITY = {"Accept-Encoding": "identity"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("hub")) as server:
        server.create_repo(REPO, "dataset")
        HfApi(endpoint=server.url, token=server.token()).create_commit(
            REPO,
            [CommitOperationAdd(path, content) for path, content in CONTENT.items()],
            commit_message="files",
            repo_type="dataset",
        )
        yield server


def url(hub: LocalHub, path: str, *, route: str = "resolve") -> str:
    return f"{hub.url}/datasets/{REPO}/{route}/main/{path}"


def get(hub: LocalHub, path: str, *, route: str = "resolve", **headers: str) -> requests.Response:
    sent = IDENTITY | {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.get(url(hub, path, route=route), headers=sent, timeout=20)


@pytest.mark.parametrize("route", ["resolve", "raw"])
@pytest.mark.parametrize("path", CONTENT)
def test_what_the_caller_has_is_not_sent_again(hub: LocalHub, path: str, route: str) -> None:
    whole = get(hub, path, route=route)
    etag = whole.headers["etag"]
    assert whole.status_code == 200
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        answer = get(hub, path, route=route, If_None_Match=known)
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    for known in ('"other"', etag.strip('"')):
        assert get(hub, path, route=route, If_None_Match=known).content == whole.content


def test_another_commit_has_another_entity_tag(hub: LocalHub) -> None:
    api = HfApi(endpoint=hub.url, token=hub.token())
    for content in (b"one\n", b"two\n"):
        api.upload_file(path_or_fileobj=content, path_in_repo="new.txt", repo_id=REPO, repo_type="dataset")
        answer = get(hub, "new.txt", If_None_Match=get(hub, "a.txt").headers["etag"])
        assert (answer.status_code, answer.content) == (200, content)
    answer = get(hub, "new.txt", If_Match='"something else"')
    assert answer.status_code == 412
    assert "does not match If-Match" in answer.json()["error"]
    assert get(hub, "new.txt", If_Match=get(hub, "new.txt").headers["etag"]).status_code == 200


@pytest.mark.parametrize("path", ["a.bin", "a.txt"])
def test_if_range_guards_a_range(hub: LocalHub, path: str) -> None:
    etag, content = get(hub, path).headers["etag"], CONTENT[path]
    part = get(hub, path, Range="bytes=10-19", If_Range=etag)
    assert (part.status_code, part.content) == (206, content[10:20])
    for stale in ('"old"', f"W/{etag}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        whole = get(hub, path, Range="bytes=10-19", If_Range=stale)
        assert (whole.status_code, whole.content) == (200, content)
        assert "content-range" not in whole.headers


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("0-0", 0, 1), ("10-", 10, None), ("-7", -7, None), ("5-999999999", 5, None), ("-999999999", 0, None)],
)
@pytest.mark.parametrize("path", ["a.bin", "a.txt"])
def test_a_range_gives_those_bytes(hub: LocalHub, path: str, asked: str, start: int, end: int | None) -> None:
    answer, content = get(hub, path, Range=f"bytes={asked}"), CONTENT[path]
    expected = content[start:end]
    first = len(content) + start if start < 0 else start
    assert (answer.status_code, answer.content) == (206, expected)
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(expected) - 1}/{len(content)}"


@pytest.mark.parametrize("path", ["a.bin", "a.txt"])
def test_a_range_behind_the_end_is_416_and_nonsense_is_ignored(hub: LocalHub, path: str) -> None:
    size = len(CONTENT[path])
    behind = get(hub, path, Range=f"bytes={size}-")
    assert (behind.status_code, behind.headers["content-range"]) == (416, f"bytes */{size}")
    for nonsense in ("bytes=9-1", "pages=1-2", "bytes=", "bytes=a-b"):
        assert get(hub, path, Range=nonsense).status_code == 200


@pytest.mark.parametrize("route", ["resolve", "raw"])
@pytest.mark.parametrize("path", CONTENT)
def test_head_says_what_get_would(hub: LocalHub, path: str, route: str) -> None:
    each_time = {"date", "x-request-id"}
    for accept in ("*/*", "application/vnd.xet-fileinfo+json, */*"):
        answers = [
            requests.request(method, url(hub, path, route=route), headers=IDENTITY | {"Accept": accept}, timeout=20)
            for method in ("GET", "HEAD")
        ]
        get_headers, head_headers = (
            {name: value for name, value in answer.headers.lower_items() if name not in each_time} for answer in answers
        )
        assert head_headers == get_headers
        assert answers[1].content == b""
    ranged = requests.head(url(hub, path, route=route), headers={"Range": "bytes=0-0"}, timeout=20)
    assert (ranged.status_code, ranged.headers.get("content-range")) == (200, None)


def test_who_asks_for_the_xet_file_info_gets_no_bytes(hub: LocalHub) -> None:
    kind = "application/vnd.xet-fileinfo+json"
    answer = get(hub, "a.bin", Range="bytes=0-0", Accept=f"{kind}, */*")
    assert (answer.status_code, answer.headers["content-type"], answer.json()) == (200, kind, {})
    assert answer.headers["x-linked-size"] == "200000"
    assert answer.headers["x-linked-etag"] == f'"{hashlib.sha256(BINARY).hexdigest()}"'
    assert len(answer.headers["x-xet-hash"]) == 64
    assert {link["rel"] for link in answer.links.values()} == {"xet-auth", "xet-reconstruction-info"}
    assert "Accept" in answer.headers["vary"]
    assert get(hub, "a.txt", Accept=f"{kind}, */*").content == TEXT


@pytest.mark.parametrize("route", ["resolve", "raw"])
@pytest.mark.parametrize("path", CONTENT)
def test_no_browser_runs_what_a_file_says(hub: LocalHub, path: str, route: str) -> None:
    headers = get(hub, path, route=route).headers
    assert headers["content-type"] in ("application/octet-stream", "text/plain; charset=utf-8")
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]
    assert "allow" not in headers["content-security-policy"]
    assert headers["content-disposition"].startswith("attachment;" if route == "resolve" else "inline;")


@pytest.mark.parametrize(
    ("path", "ascii_name"),
    [
        ("d/plain.txt", "plain.txt"),
        ('q"uo;te.txt', "q_uo;te.txt"),
        ("é 日.txt", "_ _.txt"),
        ("100%41.txt", "100_41.txt"),
    ],
)
def test_the_name_to_save_under_is_said_safely(hub: LocalHub, path: str, ascii_name: str) -> None:
    HfApi(endpoint=hub.url, token=hub.token()).upload_file(
        path_or_fileobj=b"named", path_in_repo=path, repo_id=REPO, repo_type="dataset"
    )
    quoted = requests.utils.quote(path.encode())  # type: ignore[attr-defined]
    disposition = get(hub, quoted).headers["content-disposition"]
    name = requests.utils.quote(path.rpartition("/")[2].encode(), safe="")  # type: ignore[attr-defined]
    assert disposition == f"attachment; filename*=UTF-8''{name}; filename=\"{ascii_name}\";"
    bare = requests.get(url(hub, quoted), params={"noContentDisposition": "1"}, timeout=20)
    assert "content-disposition" not in bare.headers


def test_a_reader_who_goes_away_ends_the_sending(hub: LocalHub) -> None:
    whole = random.Random(2).randbytes(48 * 1024 * 1024)
    stored = hub.content.add_plain(whole, repository=f"datasets/{REPO}")
    line = {"path": "big.bin", "algo": "sha256", "oid": stored.sha256, "size": len(whole)}
    body = '{"key":"header","value":{"summary":"big"}}\n' + json.dumps({"key": "lfsFile", "value": line})
    requests.post(
        f"{hub.url}/api/datasets/{REPO}/commit/main",
        data=body,
        headers={"Authorization": f"Bearer {hub.token()}"},
        timeout=20,
    ).raise_for_status()
    hub.log.clear()
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        reader.connect((hub.host, hub.port))
        reader.sendall(f"GET /datasets/{REPO}/resolve/main/big.bin HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert reader.recv(1000).startswith(b"HTTP/1.1 200")
    deadline = time.monotonic() + 30
    while not (logged := hub.log.requests("GET .*/big.bin")) and time.monotonic() < deadline:
        time.sleep(0.02)
    # Pieces are read as the reader takes them: most of the file never was.
    assert logged[0].bytes_out < len(whole) / 2
    if Path("/proc/self/fd").exists():
        while (left := _open_xorbs(hub.folder)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert left == []


def _open_xorbs(folder: Path) -> list[Path]:
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = link.readlink()
        except OSError:
            continue
        if target.is_relative_to(folder) and "xorb" in str(target.relative_to(folder)):
            found.append(target)
    return found
