"""Sets and reads whole trees of repositories and buckets at the local Hub, without a client."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_provider_xethub.xet.repo import Repo
from support.commit_builders import name_of
from xethub_local.metadata.commits import DeleteFile, PutRegular, PutXet
from xethub_local.server import LocalHub


def read_tree(hub: LocalHub, repo: Repo, revision: str = "main") -> dict[str, bytes]:
    """Return the contents of all files by path, without the file that every repository begins with."""
    name = name_of(repo)
    if repo.is_bucket:
        files = {file.path: file.xet_hash for file in hub.bucket_files.beneath(name)}
        return {path: b"".join(hub.content.read_file(each)) for path, each in files.items()}
    entries = hub.repositories.entries(name, hub.repositories.resolve(name, revision))
    return {
        entry.path: b"".join(hub.content.read_file(entry.xet_hash))
        if entry.xet_hash
        else hub.repositories.blob(entry.oid)
        for entry in entries
        if entry.kind != "directory" and entry.path != ".gitattributes"
    }


def set_tree(hub: LocalHub, repo: Repo, tree: Mapping[str, bytes], title: str = "set") -> str:
    """Make a repository have these files in one commit, binary ones in CAS; return the commit."""
    name = name_of(repo)
    changes: list[DeleteFile | PutRegular | PutXet] = [DeleteFile(path) for path in read_tree(hub, repo)]
    for path, content in tree.items():
        if b"\0" in content:
            stored = hub.content.add_plain(content, repository=name)
            changes.append(PutXet(path, stored.xet_hash, stored.sha256 or "", stored.size))
        else:
            changes.append(PutRegular(path, content))
    return hub.commits.commit(name, "main", changes, title=title).commit.id
