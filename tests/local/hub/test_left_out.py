"""The table of what the local Hub leaves out: complete, by the client's own requests, and without what is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import requests

from xethub_local.metadata.repositories import RESERVED_NAMESPACES
from xethub_local.server import LocalHub

_PAGE = Path(__file__).parents[3] / "docs" / "local-hub.md"
_CLIENT = Path(huggingface_hub.__file__).parent
_REQUEST = re.compile(r'f"\{[^{}"]*endpoint[^{}"]*\}(/(?:api|oauth)/[^"?]*)', re.IGNORECASE)
_HOLE = re.compile(r"\{[^{}]*\}")
_REPOSITORY = "acme/corpus"
# Where the client puts a path together from other parts than the repository's type and id.
_UNUSUAL = {
    "/api/buckets/{}/{}": "/api/buckets/acme/corpus",
    "/api/{}/discussions/{}/{}": "/api/datasets/acme/corpus/discussions/1/merge",
    "/api/{}s/{}/xet-{}-token": "/api/datasets/acme/corpus/xet-read-token/main",
    "/api/{}/{}/duplicate": "/api/datasets/acme/corpus/duplicate",
}
_GIT = ["git-upload-pack", "git-receive-pack", "info/refs", "info/lfs/locks", "info/lfs/locks/verify"]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("hub")) as running:
        for kind in ("model", "dataset", "space", "bucket"):
            running.create_repo(_REPOSITORY, kind)  # type: ignore[arg-type]
        yield running


@pytest.fixture(scope="module")
def routes(hub: LocalHub) -> list[re.Pattern[str]]:
    """What the server itself says that it serves."""
    described = requests.get(f"{hub.url}/_local/openapi.json", timeout=10).json()["paths"]
    return [_pattern(path) for path in described]


def left_out() -> dict[str, re.Pattern[str]]:
    """Return the routes of the table, as they are written."""
    section = _PAGE.read_text().partition("## What it leaves out")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    return {route: _pattern(route) for row in rows for route in re.findall(r"`(/[^`]+)`", row)}


def requested() -> dict[str, str]:
    """Return the paths that the client asks for, with made-up values, by what its source says."""
    found = {}
    for file in _CLIENT.rglob("*.py"):
        for source in _REQUEST.findall(file.read_text()):
            template = _HOLE.sub("{}", source)
            path = template.replace("/tree/{}{}", "/tree/{}").replace("/tree{}", "/tree")
            path = re.sub(r"^/api/\{\}s/\{\}", f"/api/datasets/{_REPOSITORY}", path)
            path = re.sub(r"^/api/(models|datasets|spaces|buckets)/\{\}", rf"/api/\1/{_REPOSITORY}", path)
            found[template] = _UNUSUAL.get(template, path.replace("{}", "x"))
    return found | {f"git: {each}": f"/{_REPOSITORY}.git/{each}" for each in _GIT}


def test_everything_that_the_client_asks_for_is_there_or_in_the_table(routes: list[re.Pattern[str]]) -> None:
    asked, table = requested(), left_out()
    assert len(asked) > 80
    unknown = {
        template: path
        for template, path in asked.items()
        if not any(route.fullmatch(path) for route in (*routes, *table.values()))
    }
    assert not unknown


def test_the_table_names_nothing_that_is_there_and_nothing_that_nobody_asks_for(routes: list[re.Pattern[str]]) -> None:
    asked = requested().values()
    for written, route in left_out().items():
        meant = [path for path in asked if route.fullmatch(path)]
        assert meant, f"{written} is no route of the real Hub that a client asks for"
        assert not [path for path in meant if any(served.fullmatch(path) for served in routes)], written


def test_a_route_that_is_left_out_says_so(hub: LocalHub) -> None:
    headers = {"Authorization": f"Bearer {hub.token()}"}
    for path in requested().values():
        if not any(route.fullmatch(path) for route in left_out().values()):
            continue
        for method in ("GET", "POST"):
            answer = requests.request(method, hub.url + path, headers=headers, timeout=10)
            assert (answer.status_code, answer.headers.get("X-Error-Code")) == (404, None), (method, path)
            assert answer.json()["error"] == f"The local Hub has no route {method} {path}."


def _pattern(route: str) -> re.Pattern[str]:
    """Return what a route matches: parts in braces, and ``…`` for everything that follows."""
    text = re.escape(route.removesuffix("…")).replace(r"\{kind\}", "(models|datasets|spaces)")
    text = text.replace(r"\{namespace\}", f"(?!({'|'.join(RESERVED_NAMESPACES)})/)[^/]+").replace(r"\{path\}", ".+")
    return re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", text) + ("(/.*)?" if route.endswith("…") else ""))
