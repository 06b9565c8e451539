"""The query of a list of repositories: every filter is applied, or rejected by name; none is ignored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from starlette.datastructures import QueryParams

from xethub_local.store.errors import BadRequestError

Summary = Mapping[str, Any]

_PAGING = frozenset({"limit", "cursor"})
_MORE = frozenset({"full", "cardData", "expand", "expand[]"})
_SORTS = ("lastModified", "createdAt", "downloads", "likes", "trendingScore", "id")
_ALWAYS = frozenset({"_id", "id", "modelId"})
# The fields that huggingface_hub 2.4 names for models, datasets and Spaces; the real Hub answers 400 to others.
_FIELDS = (
    "author baseModels cardData childrenModelCount citation config createdAt datasets description disabled downloads "
    "downloadsAllTime evalResults gated gguf inference inferenceProviderMapping lastModified library_name likes "
    "mainSize mask_token model-index models paperswithcode_id pipeline_tag private region resourceGroup runtime "
    "safetensors sdk sha siblings spaces subdomain tags transformersInfo trendingScore usedStorage widgetData"
)
_EXPANDABLE = frozenset(_FIELDS.split())


def filter_of(query: QueryParams) -> Callable[[Summary], bool]:
    """Return a function that says whether a repository, described in full, matches the query.

    :raises BadRequestError: the query has a filter that the local Hub does not support.
    """
    checks = [_CHECKS[name](query.getlist(name)) for name in query if name in _CHECKS]
    known = {*_CHECKS, *_PAGING, *_MORE, "sort", "direction"}
    for name in query:
        if name not in known:
            raise BadRequestError(
                f"The local Hub cannot filter by {name[:80]!r}. Use one of {', '.join(sorted(known))}."
            )
    return lambda summary: all(check(summary) for check in checks)


def in_order(query: QueryParams, found: Iterable[Summary]) -> list[Summary]:
    """Return repositories sorted by ``sort`` and ``direction``, descending by default; unchanged without ``sort``.

    :raises BadRequestError: ``sort`` or ``direction`` is not known.
    """
    sort, direction = query.get("sort"), query.get("direction", "-1")
    if direction not in ("-1", "1"):
        raise BadRequestError(f"The query parameter direction must be -1 or 1, not {direction[:40]!r}.")
    if sort is None:
        return [*found]
    if sort not in _SORTS:
        raise BadRequestError(f"The local Hub cannot sort by {sort[:80]!r}. Use one of {', '.join(_SORTS)}.")
    return sorted(found, key=lambda summary: summary.get(sort, 0), reverse=direction == "-1")


def expanded(query: QueryParams, summary: Summary) -> Summary:
    """Return only the fields that ``expand`` names, or all fields if the query has no ``expand``.

    :raises BadRequestError: no repository has such a field.
    """
    names = {*query.getlist("expand"), *query.getlist("expand[]")}
    if unknown := sorted(names - _EXPANDABLE):
        raise BadRequestError(f"The query parameter expand names {unknown[0][:40]!r}, which no repository has.")
    return {name: value for name, value in summary.items() if name in names | _ALWAYS} if names else summary


def _has_tags(values: list[str]) -> Callable[[Summary], bool]:
    wanted = {tag.strip() for value in values for tag in value.split(",") if tag.strip()}
    return lambda summary: wanted <= {*summary["tags"]}


def _is(field: str) -> Callable[[list[str]], Callable[[Summary], bool]]:
    return lambda values: lambda summary: summary.get(field) in values


def _contains(values: list[str]) -> Callable[[Summary], bool]:
    return lambda summary: all(value.lower() in summary["id"].lower() for value in values)


def _is_gated(values: list[str]) -> Callable[[Summary], bool]:
    if any(value.lower() not in ("true", "false", "1", "0", "auto", "manual") for value in values):
        raise BadRequestError("The query parameter gated must be true or false.")
    wanted = values[-1].lower()
    if wanted in ("auto", "manual"):
        return lambda summary: bool(summary["gated"] == wanted)
    return lambda summary: bool(summary["gated"]) == (wanted in ("true", "1"))


def _nothing(_: list[str]) -> Callable[[Summary], bool]:
    return lambda _: False  # the local Hub runs no models: none is warm, and none has an inference provider


_CHECKS: Mapping[str, Callable[[list[str]], Callable[[Summary], bool]]] = {
    "author": _is("author"),
    "filter": _has_tags,
    "gated": _is_gated,
    "inference": _nothing,
    "inference_provider": _nothing,
    "library": _is("library_name"),
    "pipeline_tag": _is("pipeline_tag"),
    "search": _contains,
    "tags": _has_tags,
}
