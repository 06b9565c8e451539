"""The tables of what the local Hub has and leaves out: complete, by the client's own requests, and true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

import huggingface_hub
import pytest
import requests

from support.hub_routes import PAGE, REPOSITORY, described, left_out, page, pattern, requested
from xethub_local.server import LocalHub


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("hub")) as running:
        for kind in ("model", "dataset", "space", "bucket"):
            running.create_repo(REPOSITORY, kind)  # type: ignore[arg-type]
        yield running


@pytest.fixture(scope="module")
def paths(hub: LocalHub) -> Any:
    return described(hub)


@pytest.fixture(scope="module")
def routes(paths: Any) -> list[re.Pattern[str]]:
    """What the server itself says that it serves."""
    return [pattern(path) for path in paths]


def test_everything_that_the_client_asks_for_is_there_or_in_the_table(routes: list[re.Pattern[str]]) -> None:
    asked, table = requested(), left_out()
    assert len(asked) > 80
    unknown = {
        template: path
        for template, examples in asked.items()
        for path in examples
        if not any(route.fullmatch(path) for route in (*routes, *table.values()))
    }
    assert not unknown


def test_the_table_names_nothing_that_is_there_and_nothing_that_nobody_asks_for(routes: list[re.Pattern[str]]) -> None:
    asked = [*chain.from_iterable(requested().values())]
    for written, route in left_out().items():
        meant = [path for path in asked if route.fullmatch(path)]
        assert meant, f"{written} is no route of the real Hub that a client asks for"
        assert not [path for path in meant if any(served.fullmatch(path) for served in routes)], written


def test_a_route_that_is_left_out_says_so(hub: LocalHub) -> None:
    headers = {"Authorization": f"Bearer {hub.token()}"}
    for path in chain.from_iterable(requested().values()):
        if not any(route.fullmatch(path) for route in left_out().values()):
            continue
        for method in ("GET", "POST"):
            answer = requests.request(method, hub.url + path, headers=headers, timeout=10)
            assert (answer.status_code, answer.headers.get("X-Error-Code")) == (404, None), (method, path)
            assert answer.json()["error"] == f"The local Hub has no route {method} {path}."


def test_the_page_lists_the_routes_that_there_are(paths: Any) -> None:
    """``PYTHONPATH=tests .venv/bin/python -m support.hub_routes`` writes it."""
    shown = PAGE.read_text()
    if f"`huggingface_hub` {huggingface_hub.__version__} requests" not in shown:
        pytest.skip("the page is about the version of constraints.txt")
    assert shown == page(paths)
    served = [path for path in paths if not path.startswith("/_local/")]
    assert shown.count("\n| `") == len(served) > 70
