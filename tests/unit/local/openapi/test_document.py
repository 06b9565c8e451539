"""The OpenAPI document describes every route, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from xethub_local import app as application
from xethub_local.local_store import LocalStore
from xethub_local.openapi.document import OPERATIONS, describe, described_routes


@pytest.fixture
def routes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Route]]:
    """The route table of the real application, from beneath its middleware."""
    tables: list[list[Route]] = []

    def keep_routes(*, routes: list[Route], **others: Any) -> Starlette:
        tables.append(routes)
        return Starlette(routes=routes, **others)

    monkeypatch.setattr(application, "Starlette", keep_routes)
    store = LocalStore(tmp_path)
    application.build_app(store)
    yield tables[0]
    store.close()


def test_each_route_has_a_schema_and_each_schema_a_route(routes: list[Route]) -> None:
    named = {name for _, name in described_routes(routes)}
    assert named - OPERATIONS.keys() == set(), "add a schema in the package openapi"
    assert OPERATIONS.keys() - named == set(), "no route is served by these any more"


def test_each_route_function_has_a_sentence(routes: list[Route]) -> None:
    operations = [operation for methods in describe(routes)["paths"].values() for operation in methods.values()]
    assert [operation for operation in operations if not operation["summary"].endswith(".")] == []


def test_each_route_that_is_no_page_is_described_with_its_methods(routes: list[Route]) -> None:
    paths = describe(routes)["paths"]
    others = [route.path for route in routes if not isinstance(route, Route)]
    assert others in ([], ["/_local"]), "only the answer to unknown control routes may be left out"
    for route in routes:
        if isinstance(route, Route) and ".pages" not in route.endpoint.__module__:
            path = re.sub(r":\w+}", "}", route.path)
            assert {method.upper() for method in paths[path]} >= route.methods, path


def test_no_path_is_described_twice_under_other_names(routes: list[Route]) -> None:
    # OpenAPI counts paths as one that differ only in the names of their parameters.
    shapes = ["/".join("{}" if "{" in part else part for part in path.split("/")) for path in describe(routes)["paths"]]
    assert sorted(set(shapes)) == sorted(shapes)
