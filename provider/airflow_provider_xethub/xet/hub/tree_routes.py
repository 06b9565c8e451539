"""Build the request for the tree of a repository or a bucket, and select the entries that belong to a folder. No I/O.

A bucket has paths but no folders. The Hub treats the path of its tree as a prefix: ``logs`` also matches ``logs.json``
and ``logs_old/x``. It lists recursively unless ``recursive=false``, and a recursive response contains only files
(comments in ``huggingface_hub`` 2.4, ``hf_api.py`` and ``hf_file_system.py``). So the request has a slash after the
folder, and entries outside of the folder are dropped, however the Hub interprets that slash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from airflow_provider_xethub.xet.repo import Repo


def request(repo: Repo, path: str | None, *, recursive: bool) -> tuple[str, dict[str, str] | None]:
    """Return the URL path and the query parameters that list the folder ``path``; ``None``: everything."""
    if not repo.is_bucket:
        url = f"{repo.api_path}/tree/{repo.quoted_revision}" + (f"/{quote(path)}" if path else "")
        return url, {"recursive": "true"} if recursive else None
    # The slash is encoded, as in huggingface_hub: a slash at the end of a URL may be removed on the way.
    url = f"{repo.api_path}/tree" + (f"/{quote(path.rstrip('/') + '/', safe='')}" if path else "")
    return url, {"recursive": "true" if recursive else "false"}


def inside(repo: Repo, path: str | None, entries: Sequence[Any]) -> list[Any]:
    """Return the entries in the folder ``path``, and malformed ones, so that their reader rejects them."""
    if not path:
        return list(entries)
    folder = path.rstrip("/")
    start = f"{folder}/" if repo.is_bucket else ""
    return [entry for entry in entries if (at := _path(entry)) is None or (at.startswith(start) and at != folder)]


def _path(entry: Any) -> str | None:
    path = entry.get("path") if isinstance(entry, Mapping) else None
    return path.rstrip("/") if isinstance(path, str) else None
