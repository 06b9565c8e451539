"""One operation as the OpenAPI description knows it, and short ways to write JSON schemas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Schema = Mapping[str, Any]
Credential = Literal["hub", "xet", "signed", "none"]

JSON = "application/json"
LFS_JSON = "application/vnd.git-lfs+json"
NDJSON = "application/x-ndjson"
FORM = "application/x-www-form-urlencoded"
BINARY = "application/octet-stream"

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
ANYTHING: Schema = {}
BYTES: Schema = {"type": "string", "format": "binary"}
HASH: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
TIME: Schema = {"type": "string", "format": "date-time"}


def choice(*values: str) -> Schema:
    """Return the schema of one of these texts."""
    return {"type": "string", "enum": list(values)}


def listed(item: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": item}


def fields(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """Return the schema of an object; further fields are allowed."""
    schema: dict[str, Any] = {"type": "object", "properties": {**required, **(optional or {})}}
    return {**schema, "required": list(required)} if required else schema


@dataclass(frozen=True)
class Operation:
    """What the route's path and docstring do not tell.

    :param answer: schema of the success.
    :param media_type: of that success; empty where it has no body.
    :param status: statuses of a success; those with a body have all the same.
    :param bare: statuses of errors that have no body.
    :param body: schemas of the request body by media type.
    :param query: schemas of the query's parameters; none is required.
    :param headers: schemas of the request's headers; none is required.
    :param credential: what the request is authorised by.
    """

    answer: Schema = field(default_factory=dict)
    media_type: str = JSON
    status: tuple[int, ...] = (200,)
    bare: tuple[int, ...] = ()
    body: Mapping[str, Schema] = field(default_factory=dict)
    query: Mapping[str, Schema] = field(default_factory=dict)
    headers: Mapping[str, Schema] = field(default_factory=dict)
    credential: Credential = "hub"
