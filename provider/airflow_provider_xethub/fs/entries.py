"""Files and folders of the Hub, described as ``info`` and ``ls`` of fsspec describe them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.fs.errors import file_not_found_errors

if TYPE_CHECKING:
    from airflow_provider_xethub.fs.paths import HubPath
    from airflow_provider_xethub.xet.hub.client import Hub
    from airflow_provider_xethub.xet.hub.tree import Node

REMEMBERED = "is_remembered"
"""Key in the description of a folder that ``mkdir`` made and that the Hub does not know."""


def folder_info(name: str) -> dict[str, Any]:
    """Describe a folder.

    :param name: its path in the filesystem.
    """
    return {"name": name, "size": 0, "type": "directory"}


def get_info(hub: Hub, path: HubPath, *, expand: bool) -> dict[str, Any] | None:
    """Ask the Hub for a file or folder, and describe it; return ``None`` if it does not exist.

    :param expand: whether to ask for the last commit, too.
    :raises FileNotFoundError: the repository or the revision does not exist.
    """
    from airflow_provider_xethub.xet.hub import tree

    with file_not_found_errors():
        node = tree.get_node(hub, path.repo, path.path, expand=expand)
    return None if node is None else _info(path, node)


def list_folder(hub: Hub, path: HubPath) -> list[dict[str, Any]] | None:
    """Describe the files and folders in a folder; return ``None`` if it does not exist."""
    nodes = _nodes(hub, path, recursive=False)
    return None if nodes is None else [_info(path, node) for node in nodes]


def list_folders_below(hub: Hub, path: HubPath, name: str) -> dict[str, list[dict[str, Any]]]:
    """List a folder and all folders below it at once; return the descriptions by the folders' paths.

    :param name: the path of the folder in the filesystem.
    """
    nodes = _nodes(hub, path, recursive=True)
    listings: dict[str, list[dict[str, Any]]] = {name: []} if nodes else {}
    for node in nodes or ():
        info = _info(path, node)
        if node.is_folder:
            listings.setdefault(info["name"], [])
        listings.setdefault(info["name"].rpartition("/")[0], []).append(info)
    return listings


def _nodes(hub: Hub, path: HubPath, *, recursive: bool) -> list[Node] | None:
    from airflow_provider_xethub.xet.hub import tree

    try:
        return tree.list_folder(hub, path.repo, path.path, recursive=recursive)
    except LookupError:
        return None


def _info(path: HubPath, node: Node) -> dict[str, Any]:
    name = path.name_of(node.path)
    times = {"LastModified": node.modified} if node.modified else {}
    last = {"last_commit": node.commit} if node.commit else {}
    if node.is_folder:
        return {**folder_info(name), **times, **last}
    return {
        "name": name,
        "size": node.size,
        "type": "file",
        "xet_hash": node.xet_hash,
        "sha256": node.sha256,
        "blob_id": node.blob_id,
        "ETag": node.sha256 or node.xet_hash or node.blob_id,
        **times,
        **last,
    }
