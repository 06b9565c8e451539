"""What only ``huggingface_hub`` knows about its cache: where it is, the names in it, and its optional parts.

The optional parts are private to the library (2.4): the store of blobs that several repositories share
(``<cache>/blobs``), the listing of a commit (``trees/<commit>.json``), and the tag for backup programs. Where a version
of the library has them elsewhere, they are left out: the library reads a cache without them as well.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.xet.identifiers import SHA256

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.repo import Repo

log = logging.getLogger(__name__)

_SHARED = "blobs"
_SHARING = threading.Lock()
_PREFIX = re.compile(r"[0-9a-f]{2}")


def default_folder() -> str:
    """Return the cache of this worker, by the rules of the library (``HF_HUB_CACHE``, ``HF_HOME``)."""
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)


def repo_folder(repo: Repo) -> str:
    """Return the name of a repository's folder, such as ``models--acme--m``."""
    from huggingface_hub.file_download import repo_folder_name

    return str(repo_folder_name(repo_id=repo.repo_id, repo_type=repo.repo_type))


def links_supported(root: Path) -> bool:
    """Return whether snapshots consist of symbolic links; ``HF_HUB_DISABLE_SYMLINKS`` forbids them."""
    from huggingface_hub.file_download import are_symlinks_supported

    return bool(are_symlinks_supported(root))


def tag(root: Path) -> None:
    """Write the file ``CACHEDIR.TAG``, by which backup programs skip the cache."""
    if os.path.lexists(root / "CACHEDIR.TAG"):
        return
    with _optional("CACHEDIR.TAG"):
        from huggingface_hub._local_folder import _create_cachedir_tag

        _create_cachedir_tag(root)


def write_tree(storage: Path, commit: str, entries: Sequence[Mapping[str, Any]]) -> None:
    """Write the listing of a commit, by which the library knows offline whether a snapshot is complete.

    :param storage: the folder of the repository; its ``trees`` must not be a symbolic link.
    :param entries: all entries of the Hub's listing.
    """
    path = storage / "trees" / f"{commit}.json"
    with _optional("the listing of the commit"):
        from huggingface_hub._tree_cache import TREE_CACHE_FORMAT_VERSION, TreeCacheEntry, write_tree_cache

        files = {}
        for entry in entries:
            if entry.get("type") == "file":
                lfs = entry.get("lfs") or {}
                files[entry["path"]] = TreeCacheEntry(
                    entry["size"], entry["oid"], lfs.get("oid"), lfs.get("size"), entry.get("xetHash")
                )
        wanted = {
            "format_version": TREE_CACHE_FORMAT_VERSION,
            "files": {name: file.to_json() for name, file in files.items()},
        }
        if _read_json(path) == wanted:
            return
        write_tree_cache(str(storage), commit, files)
        # The library creates it for its own user only, but a cache may be shared.
        path.chmod(path.parent.stat().st_mode & 0o666)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def shared_blob(root: Path, blob: Path) -> Path | None:
    """Return the file in the store of shared blobs that a blob is a link to; ``None`` if it leads elsewhere."""
    target = Path(os.path.normpath(blob.parent / blob.readlink()))
    return target if _is_in_store(root, target) else None


def _is_in_store(root: Path, target: Path) -> bool:
    prefix = target.parent
    return (
        prefix.parent == root / _SHARED
        and SHA256.fullmatch(target.name) is not None
        and prefix.name == target.name[:2]
        and _PREFIX.fullmatch(prefix.name) is not None
        and not any(each.is_symlink() for each in (root / _SHARED, prefix, target))
        and target.is_file()
    )


def find_shared(root: Path, xet_hash: str, size: int) -> Path | None:
    """Return the file of the store with this Xet hash, not verified; ``None`` if there is none."""
    found: Path | None = None
    with _optional("the store of shared blobs"):
        from huggingface_hub.utils._shared_blobs import has_shared_blob, shared_blob_path

        if has_shared_blob(xet_hash=xet_hash, cache_dir=root, expected_size=size):
            found = Path(shared_blob_path(root, xet_hash))
    return found


def link_shared(root: Path, blob: Path, xet_hash: str, size: int) -> bool:
    """Make a blob a link to the file with this Xet hash in the store; return whether it now is one."""
    is_linked = False
    with _optional("the store of shared blobs"):
        from huggingface_hub.utils._shared_blobs import try_link_from_shared_store

        is_linked |= try_link_from_shared_store(
            blob_path=str(blob), xet_hash=xet_hash, cache_dir=root, expected_size=size
        )
    return is_linked


def share(root: Path, blob: Path, xet_hash: str, size: int) -> None:
    """Move a verified blob into the store, unless ``HF_HUB_DISABLE_SHARED_BLOBS`` is set, and leave a link."""
    with _optional("the store of shared blobs"):
        from huggingface_hub.utils._shared_blobs import publish_blob_to_shared_store, shared_blobs_enabled

        if shared_blobs_enabled():
            # Two threads that create the store at once remove each other's marker, and then share nothing.
            with _SHARING:
                # What the store has is not verified, so it is replaced.
                publish_blob_to_shared_store(
                    blob_path=str(blob), xet_hash=xet_hash, cache_dir=root, expected_size=size, replace_existing=True
                )


def abandoned_links(blob: Path) -> Iterator[Path]:
    """Return the temporary links to the store that a killed process left; call it with the blob locked."""
    return blob.parent.glob(f".{blob.name}.????????.shared")


@contextmanager
def _optional(what: str) -> Iterator[None]:
    try:
        yield
    except (ImportError, AttributeError, TypeError, KeyError, ValueError) as error:
        log.debug("%s was left out of the cache, because this huggingface_hub keeps it differently: %s", what, error)
