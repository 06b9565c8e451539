"""List files and folders of a repository or a bucket as a filesystem does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_provider_xethub.exceptions import XetNotFoundError
from airflow_provider_xethub.xet import answers
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.repo import Repo


@dataclass(frozen=True)
class Node:
    """Describe a file or a folder.

    :param path: path in the repository.
    :param size: size in bytes; ``None`` for a folder.
    :param sha256: in hex, if the Hub reports it; not for inline files and files in buckets.
    :param xet_hash: in hex; ``None`` for inline files.
    :param blob_id: in hex; ``None`` for files in buckets.
    :param modified: time of the last change, if known.
    :param commit: ID of the commit of the last change, if it was requested.
    """

    path: str
    size: int | None
    sha256: str | None = None
    xet_hash: str | None = None
    blob_id: str | None = None
    modified: datetime | None = None
    commit: str | None = None

    @property
    def is_folder(self) -> bool:
        """Return whether this is a folder."""
        return self.size is None


def get_node(hub: Hub, repo: Repo, path: str, *, expand: bool = False) -> Node | None:
    """Return the file or folder at ``path``, or ``None``; the empty path is the root folder.

    A bucket may have a file and a folder with the same path; the file is returned.

    :param expand: include the commit of the last change. A bucket has none, and reports the time in any case.
    :raises XetNotFoundError: the repository or the revision does not exist.
    """
    if not path:
        _check_repo(hub, repo)
        return Node("", None)
    nodes = _nodes(hub, repo, hub.paths_info(repo, [path], expand=expand), path)
    if not nodes and repo.is_bucket and hub.tree(repo, path, recursive=False, enough=1):
        # A bucket has no folders, only paths.
        return Node(path, None)
    return nodes[0] if nodes else None


def list_folder(hub: Hub, repo: Repo, path: str, *, recursive: bool) -> list[Node]:
    """Return the content of a folder, sorted by path, a file before a folder of the same path.

    :param recursive: include the subfolders and their content.
    :raises XetNotFoundError: the repository, the revision or the folder does not exist.
    """
    nodes = _nodes(hub, repo, hub.tree(repo, path or None, recursive=recursive), path)
    if repo.is_bucket:
        if path and not nodes:
            raise XetNotFoundError(f"{path} does not exist in {repo}. Check the path.", status=404)
        nodes = [*_with_folders(nodes, path, recursive=recursive)]
    by_path = {(node.path, node.is_folder): node for node in nodes}
    return [by_path[each] for each in sorted(by_path)]


def _with_folders(nodes: Sequence[Node], path: str, *, recursive: bool) -> Iterator[Node]:
    """Yield the files and folders of a bucket, whose listing has only some folders or none.

    :param recursive: ``False`` skips the content of subfolders of ``path``.
    """
    depth = path.count("/") + 2 if path else 1
    for node in nodes:
        names = node.path.split("/")
        for length in range(depth, len(names)):
            if recursive or length == depth:
                yield Node("/".join(names[:length]), None)
        if recursive or len(names) <= depth:
            yield node


def _check_repo(hub: Hub, repo: Repo) -> None:
    if repo.is_bucket:
        hub.json("GET", repo.api_path, about=f"the request for {repo}")
    else:
        hub.latest_commits(repo)


def _nodes(hub: Hub, repo: Repo, entries: Sequence[Any], path: str) -> list[Node]:
    with hub.reading(f"the request for {path or 'all files'} in {repo}"):
        return [_node(entry, repo) for entry in entries]


def _node(entry: Any, repo: Repo) -> Node:
    kind = answers.kind(entry)
    last = answers.mapping(entry.get("lastCommit") or {}, "'lastCommit'")
    modified = answers.moment(last.get("date") or entry.get("mtime") or entry.get("uploadedAt"))
    commit = None if last.get("id") is None else answers.commit_id(last["id"])
    if kind == "directory":
        return Node(answers.path(entry.get("path")).rstrip("/"), None, modified=modified, commit=commit)
    file = answers.file_record(entry, repo.uri)
    return Node(file["path"], file["size"], file["sha256"], file["xet_hash"], file.get("blob_id"), modified, commit)
