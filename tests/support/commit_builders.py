"""Files that are in CAS, and commits of them, for the tests of commits."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.publish import commit
from airflow_provider_xethub.xet.publish.commit import CommitRequest, UploadMode
from airflow_provider_xethub.xet.records import XetCommitResult, XetFile
from airflow_provider_xethub.xet.repo import Repo
from xethub_local.server import LocalHub


def name_of(repo: Repo) -> str:
    return f"{repo.repo_type}s/{repo.repo_id}"


def client(hub: LocalHub, **options: Any) -> Hub:
    return Hub(hub.url, hub.token(), credential="connection 'xethub_default'", **options)


def record(repo: Repo, path: str, content: bytes, **changes: Any) -> XetFile:
    """The record of a file, as an upload returns it, without any upload."""
    values: Any = {
        "path": path,
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "xet_hash": "ab" * 32,
        "repo": repo.uri,
        "sample": base64.b64encode(content[:512]).decode(),
    }
    values |= changes
    return values


def in_cas(hub: LocalHub, repo: Repo, files: Mapping[str, bytes]) -> list[XetFile]:
    """Records of files that are in CAS."""
    stored = {path: hub.content.add_plain(content, repository=name_of(repo)) for path, content in files.items()}
    return [record(repo, path, content, xet_hash=stored[path].xet_hash) for path, content in files.items()]


def publish(
    hub: LocalHub, repo: Repo, files: Mapping[str, bytes] | None = None, *, by: Hub | None = None, **options: Any
) -> XetCommitResult:
    """Commit files, asking the Hub first how it stores them."""
    by = by or client(hub)
    contents = dict(files or {})
    options.setdefault("message", "a commit")
    request = CommitRequest(repo, in_cas(hub, repo, contents), **options)
    modes = commit.upload_modes(by, repo, request.files, create_pr=request.create_pr)
    return commit.publish(by, request, modes, lambda _: contents)


def request(repo: Repo, **options: Any) -> CommitRequest:
    """A commit without files, which ``hook.publish`` and its likes add, with a key that finds it again."""
    return CommitRequest(repo, (), **{"message": "many", "idempotency_key": "k", **options})


def titles(hub: LocalHub, repo: Repo, revision: str = "main") -> list[str]:
    """The titles of the commits that tests made, newest first."""
    return [each.title for each in hub.repositories.commits(name_of(repo), revision)][:-1]


def tree(hub: LocalHub, repo: Repo, revision: str = "main") -> set[str]:
    """The paths of all files but the one that every repository begins with."""
    name = name_of(repo)
    entries = hub.repositories.entries(name, hub.repositories.resolve(name, revision))
    return {entry.path for entry in entries if entry.kind != "directory"} - {".gitattributes"}


BINARY = bytes(range(256)) * 8
ANYWHERE = Repo("acme/corpus", "dataset")
FILE = record(ANYWHERE, "a.bin", BINARY)
THROUGH_CAS = {"a.bin": UploadMode(False, None, False)}
