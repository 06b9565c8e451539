"""An operation of the OpenAPI document, and shorthands for JSON schemas."""

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
    """Return the schema of a string that is one of these values."""
    return {"type": "string", "enum": list(values)}


def listed(item: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": item}


def fields(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """Return the schema of an object, which may have additional fields."""
    schema: dict[str, Any] = {"type": "object", "properties": {**required, **(optional or {})}}
    return {**schema, "required": list(required)} if required else schema


@dataclass(frozen=True)
class Operation:
    """The parts of an operation that do not follow from the path and the docstring of its route.

    :param response: schema of the body of a successful response.
    :param media_type: media type of that body; empty if there is none.
    :param status: statuses of success; all responses with a body have the same schema.
    :param errors_without_body: statuses of errors whose response has no body.
    :param body: schemas of the request body, by media type.
    :param query: schemas of the query parameters, all of them optional.
    :param headers: schemas of the request headers, all of them optional.
    :param credential: the credential that authorises the request.
    """

    response: Schema = field(default_factory=dict)
    media_type: str = JSON
    status: tuple[int, ...] = (200,)
    errors_without_body: tuple[int, ...] = ()
    body: Mapping[str, Schema] = field(default_factory=dict)
    query: Mapping[str, Schema] = field(default_factory=dict)
    headers: Mapping[str, Schema] = field(default_factory=dict)
    credential: Credential = "hub"
