"""Cards of models and datasets: the YAML block at the start of ``README.md``, and what the Hub derives from it.

Rules and error texts follow ``huggingface_hub`` and the Hub's documentation; fields not named here may hold any value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import yaml

PATH = "README.md"
MAX_BYTES = 10 * 1024 * 1024
_MAX_METADATA = 1024 * 1024
NO_METADATA = "empty or missing yaml metadata in repo card"

_BLOCK = re.compile(r"\A\s*---[^\S\n]*\r?\n(.*?)(?:\r?\n)?---[^\S\n]*(?:\r?\n|\Z)", re.DOTALL)
_STRINGS = ("license_name", "license_link", "pipeline_tag", "library_name", "pretty_name", "title", "emoji", "sdk")
_LISTS = ("model-index", "configs", "widget")
# Fields whose tags get the field name as a prefix: most for datasets, some for models.
_PREFIXED = {
    "models": ("datasets", "license", "base_model"),
    "datasets": (
        "task_categories",
        "task_ids",
        "language",
        "license",
        "size_categories",
        "multilinguality",
        "language_creators",
        "annotations_creators",
        "source_datasets",
    ),
    "spaces": ("license",),
}
_PREFIXES = {"datasets": "dataset"}
_PLAIN = {"models": ("library_name", "pipeline_tag", "language"), "datasets": (), "spaces": ("sdk",)}


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Loads dates as strings, because cards are returned as JSON."""


_Loader.yaml_implicit_resolvers = {
    first: [(name, expression) for name, expression in resolvers if name != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True)
class Card:
    """The metadata of a card; a commit of a card with ``errors`` is refused."""

    data: dict[str, Any] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def string(self, name: str) -> str | None:
        """Return a field if it is a string, else ``None``."""
        found = self.data.get(name)
        return found if isinstance(found, str) else None

    def tags(self, kind: str) -> list[str]:
        """Return the tags by which listings can be filtered, for ``models``, ``datasets`` or ``spaces``."""
        plain = [each for name in _PLAIN.get(kind, ()) for each in _strings(self.data.get(name))]
        prefixed = [
            f"{_PREFIXES.get(name, name)}:{each}"
            for name in _PREFIXED.get(kind, ())
            for each in _strings(self.data.get(name))
        ]
        return [*dict.fromkeys((*plain, *_strings(self.data.get("tags")), *prefixed, "region:us"))]


@lru_cache(256)
def read(text: str) -> Card:
    """Parse the card at the start of a text; without a YAML block it is empty."""
    block = _BLOCK.match(text)
    if block is None or not block[1].strip():
        return Card(warnings=(NO_METADATA,))
    if len(block[1]) > _MAX_METADATA:
        return Card(errors=(f"The metadata has over {_MAX_METADATA} characters.",))
    try:
        found = yaml.load(block[1], _Loader)  # noqa: S506 - a safe loader
        _check_size(found)
        json.dumps(found, allow_nan=False)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        return Card(errors=(f"Invalid YAML: {str(error)[:500]}",))
    if not isinstance(found, dict):
        return Card(errors=("The metadata must be an object.",))
    data = {str(name): value for name, value in found.items()}
    return Card(data, tuple(_errors(data)))


def _check_size(found: object) -> None:
    """Refuse a value that YAML aliases make too large."""
    left, waiting = _MAX_METADATA, [found]
    while waiting:
        value = waiting.pop()
        left -= 1 + (len(value) if isinstance(value, str) else 0)
        if left < 0:
            raise ValueError("the metadata is too large")
        waiting += value if isinstance(value, list) else [*value, *value.values()] if isinstance(value, dict) else []


def _errors(data: dict[str, Any]) -> Iterable[str]:
    for name in _STRINGS:
        if data.get(name) is not None and not isinstance(data[name], str):
            yield f'"{name}" must be a string'
    for name in _LISTS:
        if data.get(name) is not None and not isinstance(data[name], list):
            yield f'"{name}" must be an array'
    for name in ("license", "language", "base_model", "datasets"):
        found = data.get(name)
        items = found if isinstance(found, list) else [found]
        if found is not None and not all(isinstance(item, str) for item in items):
            yield f'"{name}" must be a string or an array of strings'
    tags = data.get("tags")
    if tags is not None and not isinstance(tags, list):
        yield '"tags" must be an array'
    elif any(not isinstance(tag, str) for tag in tags or ()):
        yield '"tags" must only contain strings'


def _strings(found: object) -> list[str]:
    return [each for each in (found if isinstance(found, list) else [found]) if isinstance(each, str)]
