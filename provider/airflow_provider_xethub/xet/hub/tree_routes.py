"""How the tree of a repository or a bucket is requested, and which entries of the answer are meant. No I/O.

A bucket has paths and no folders. The Hub matches the path of its tree as text: ``logs`` also finds ``logs.json`` and
``logs_old/x``. It lists recursively unless ``recursive=false``, and a recursive answer holds files only (comments in
``huggingface_hub`` 2.4, ``hf_api.py`` and ``hf_file_system.py``). So a folder is requested with its slash, and what
does not lie in it is dropped, whatever the Hub makes of that slash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from airflow_provider_xethub.xet.repo import Repo


def request(repo: Repo, path: str | None, *, recursive: bool) -> tuple[str, dict[str, str] | None]:
    """Return the URL path and the query parameters that list the folder ``path``; everything where it is ``None``."""
    if not repo.is_bucket:
        url = f"{repo.api_path}/tree/{repo.quoted_revision}" + (f"/{quote(path)}" if path else "")
        return url, {"recursive": "true"} if recursive else None
    # The slash is encoded, as huggingface_hub does it: one at the end of a URL gets lost on the way.
    url = f"{repo.api_path}/tree" + (f"/{quote(path.rstrip('/') + '/', safe='')}" if path else "")
    return url, {"recursive": "true" if recursive else "false"}


def inside(repo: Repo, path: str | None, entries: Sequence[Any]) -> list[Any]:
    """Return the entries that lie in the folder ``path``, and malformed ones, so that their reader refuses them."""
    if not path:
        return list(entries)
    folder = path.rstrip("/")
    start = f"{folder}/" if repo.is_bucket else ""
    return [entry for entry in entries if (at := _path(entry)) is None or (at.startswith(start) and at != folder)]


def _path(entry: Any) -> str | None:
    path = entry.get("path") if isinstance(entry, Mapping) else None
    return path.rstrip("/") if isinstance(path, str) else None
