"""The server's own OpenAPI document describes every route, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
from jsonschema import Draft202012Validator

from xethub_local.openapi.document import PATH
from xethub_local.server import LocalHub


def test_it_is_served_without_a_credential_and_its_schemas_are_schemas(tmp_path: Path) -> None:
    with LocalHub(tmp_path) as hub:
        answer = requests.get(hub.url + PATH, timeout=10)
    assert answer.status_code == 200
    description = answer.json()
    assert description["openapi"] == "3.1.0"
    assert PATH in description["paths"]
    schemas = [*_schemas(description)]
    assert len(schemas) > 200
    for schema in schemas:
        Draft202012Validator.check_schema(schema)


def _schemas(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "schema":
                yield inner
            else:
                yield from _schemas(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _schemas(inner)
