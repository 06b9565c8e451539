"""The Hugging Face cache as a test sees it: every name, link, mode and content, and what the client makes of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.repo import Repo
    from xethub_local.server import LocalHub

MODEL = {
    "README.md": b"# A model\n",
    "config.json": b'{"model_type": "bert"}',
    "code/model.py": b"print(1)\n",
    "code/again.py": b"print(1)\n",
    "empty.txt": b"",
    "it's 100% [odd] ü #1.txt": b"odd\n",
}
"""Inline files; two have the same content."""


def tree(root: Path) -> dict[str, Any]:
    """Return everything below a folder: kind, mode, and the target of a link or the content of a file.

    The mode of a listing is left out: the client lets only its own user read it, and a cache may be shared. Of the
    references to a shared blob, which are appended each time, only the set counts.
    """
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        name, mode = path.relative_to(root).as_posix(), oct(path.lstat().st_mode)
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))  # noqa: PTH115 - as it is written
        elif path.is_dir():
            found[name] = ("folder", mode)
        elif name.endswith(".refs"):
            found[name] = ("file", mode, set(path.read_text().split()))
        else:
            found[name] = ("file", None if "/trees/" in name else mode, path.read_bytes())
    return found


def client_download(hub: LocalHub, repo: Repo, cache: Path, **options: Any) -> str:
    """Let ``huggingface_hub`` fill a cache, and return the folder of the snapshot.

    One file at a time: two of its threads that create the store of shared blobs at once may share nothing.
    """
    from huggingface_hub import snapshot_download

    return snapshot_download(
        repo.repo_id,
        repo_type=repo.repo_type,
        cache_dir=cache,
        endpoint=hub.url,
        token=hub.token("read"),
        **{"revision": repo.revision, "max_workers": 1, **options},
    )


def offline(cache: Path, repo: Repo, **options: Any) -> Path:
    """Return the snapshot that ``huggingface_hub`` finds without a network; it raises where files are missing."""
    from huggingface_hub import snapshot_download

    given = {"repo_type": repo.repo_type, "revision": repo.revision, "cache_dir": cache, **options}
    return Path(snapshot_download(repo.repo_id, local_files_only=True, **given))
