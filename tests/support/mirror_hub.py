"""A Hub in memory for mirrors: with a bucket, a ``.gitignore``, and the commits of pull requests."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, cast

from airflow_provider_xethub.xet import native_client
from airflow_provider_xethub.xet.files.digest_memory import DigestMemory
from airflow_provider_xethub.xet.files.found_files import FoundFiles, SourceFile, open_local
from airflow_provider_xethub.xet.files.mirror.plan import rules
from airflow_provider_xethub.xet.publish.mirror import Mirror
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.records import XetPublishResult, XetTransfer
from airflow_provider_xethub.xet.repo import Repo
from support.builders import write
from support.commit_builders import record
from support.memory_hub import REPO, Entry, MemoryHub, Sent, is_inline, publish

BUCKET = Repo("acme/store", "bucket")
SENT: XetTransfer = {"files": 7, "bytes": 6, "bytes_sent": 5, "bytes_deduplicated": 4, "seconds": 3.0}
"""The figures of each upload."""

_REQUEST = ("repo", "delete", "message", "description", "parent_commit", "create_pr", "idempotency_key", "atomic")
_RULES = ("protect", "max_delete_share", "path_in_repo", "allow_empty")


class MirrorHub(MemoryHub):
    """A client, and its Hub.

    :param folder: where the sources of mirrors are written.
    :ivar bucket: the files of :data:`BUCKET` by path.
    :ivar gitignore: what the ``.gitignore`` of the repository excludes: a pattern.
    :ivar published: what mirrors published: files, and requests with deletions.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.bucket: dict[str, bytes] = {}
        self.gitignore = ""
        self.published: list[tuple[Collection[SourceFile], CommitRequest]] = []
        self._folder = folder
        self._numbers = itertools.count()

    def mirror(self, contents: Mapping[str, bytes], *, memory: DigestMemory | None = None, **options: Any) -> Mirror:
        """Return a mirror of a source.

        :param contents: the source, by path in the repository.
        :param options: those of the request, and the arguments of ``rules``.
        """
        folder = write(self._folder / str(next(self._numbers)), dict(contents))
        files = FoundFiles()
        for path in contents:
            files.add(open_local(folder / path, path))
        limits = {name: options.pop(name) for name in _RULES if name in options}
        request = CommitRequest(**{"repo": REPO, "files": (), "message": "mine", **options})
        return Mirror(self, files, request, rules(**limits), self.publish, memory)

    def publish(self, files: Collection[SourceFile], request: CommitRequest) -> XetPublishResult:
        """Publish what a mirror found."""
        self.published.append((files, request))
        contents = {file.path_in_repo: file.path.read_bytes() for file in files}  # type: ignore[union-attr]
        if not request.repo.is_bucket:
            done = publish(self, contents, **{name: getattr(request, name) for name in _REQUEST})
            return {**done, "transfer": SENT}
        self.bucket |= contents
        for path in request.delete:
            del self.bucket[path]
        return {
            "oid": "",
            "url": f"{self.endpoint}{request.repo.web_path}",
            "repo": request.repo.uri,
            "title": request.message,
            "description": request.description,
            "files": [record(request.repo, path, content) for path, content in contents.items()],
            "deleted": list(request.delete),
            "unchanged": [],
            "created": True,
            "pull_request": None,
            "pull_request_number": None,
            "commits": [],
            "transfer": SENT,
        }

    def paths(self) -> list[tuple[list[str], list[str]]]:
        """Which files were published, and which deleted, each time."""
        return [([file.path_in_repo for file in files], list(request.delete)) for files, request in self.published]

    def add(self, files: Mapping[str, bytes | None], description: str, title: str = "mine") -> str:
        """Commit with a description, and return the id of the commit."""
        oid = self.commit(files, title)
        main = self.branches["main"]
        main[0] = replace(main[0], description=description)
        return oid

    # --- the Hub

    def _answer(self, sent: Sent) -> object:
        kind = str(sent).split("/")[1]
        if sent.path.startswith(BUCKET.api_path):
            return self._answer_of_bucket(sent)
        if kind == "preupload":
            return self._modes(sent.options["json"])
        answer = super()._answer(sent)
        if kind != "discussions":
            return answer
        number = str(sent).split("/")[2]
        own = [each.oid for each in self.branches[f"refs/pr/{number}"] if each not in self.branches["main"]]
        return {**cast("Any", answer), "events": [{"type": "commit", "data": {"oid": oid}} for oid in own]}

    def _modes(self, asked: Mapping[str, Any]) -> object:
        excluded = asked.get("gitIgnore", self.gitignore).strip()
        paths = [file["path"] for file in asked["files"]]
        return {
            "files": [
                {
                    "path": path,
                    "uploadMode": "regular" if is_inline(path) else "lfs",
                    "oid": self.current("main", path),
                    "shouldIgnore": fnmatch(path, excluded),
                }
                for path in paths
            ]
        }

    def _answer_of_bucket(self, sent: Sent) -> object:
        method, route = sent.method, sent.path.removeprefix(BUCKET.api_path)
        if (method, route) == ("POST", "/paths-info"):
            asked = sent.options["json"]["paths"]
            return [_stored(path, self.bucket[path]) for path in asked if path in self.bucket]
        assert method == "GET", str(sent)
        assert route.startswith("/tree"), str(sent)
        return [_stored(path, content) for path, content in self.bucket.items()]


def _stored(path: str, content: bytes) -> Entry:
    """A file, as the Hub lists it in a bucket."""
    state = native_client.XetHash()
    state.update(content)
    return {"type": "file", "path": path, "size": len(content), "xetHash": state.hexdigest()}
