"""A bucket on a Hub in memory: which requests its changes take, and what follows from each answer, in a millisecond."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from airflow_provider_xethub.xet.records import XetFile
from airflow_provider_xethub.xet.repo import Repo
from support.commit_builders import record
from support.memory_hub import Entry, MemoryHub, RefusedError, Sent

BUCKET = Repo("acme/held", "bucket")
BATCH = f"POST {BUCKET.api_path}/batch"
"""The route of its changes."""


class MemoryBucket(MemoryHub):
    """A client, and its Hub, which has one bucket.

    :ivar held: the Xet hash of each of its files, by path.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.held: dict[str, str] = {}
        self._sizes: dict[str, int] = {}

    def uploaded(self, path: str, content: bytes = b"") -> XetFile:
        """Have a file in CAS, and return its record. Default: the content is the path."""
        content = content or path.encode()
        xet_hash = hashlib.sha256(content).hexdigest()
        self._sizes[xet_hash] = len(content)
        return record(BUCKET, path, content, xet_hash=xet_hash)

    def hold(self, *paths: str) -> list[XetFile]:
        """Have files in the bucket, and return their records."""
        files = [self.uploaded(path) for path in paths]
        self.held |= {file["path"]: str(file["xet_hash"]) for file in files}
        return files

    def batches(self) -> list[list[dict[str, Any]]]:
        """The changes of each request so far."""
        return [each.lines for each in self.sent if str(each) == BATCH]

    def routes(self) -> list[str]:
        """The requests since the last time, as in a repository."""
        return [route.replace(f"{BUCKET.api_path}/", "/") for route in super().routes()]

    # --- the Hub

    def _answer(self, sent: Sent) -> object:
        route = sent.path.removeprefix(f"{BUCKET.api_path}/")
        if (sent.method, route) == ("POST", "batch"):
            return self._batch(sent)
        if (sent.method, route) == ("POST", "paths-info"):
            return list(self._entries(path for path in sent.options["json"]["paths"] if path in self.held))
        kind, _, folder = route.partition("/")
        assert (sent.method, kind) == ("GET", "tree"), str(sent)
        inside = [path for path in self.held if path.startswith(unquote(folder))]
        if sent.options["params"] != {"recursive": "true"}:
            inside = [path for path in inside if "/" not in path.removeprefix(unquote(folder))]
        return list(self._entries(inside))

    def _batch(self, sent: Sent) -> object:
        failed = []
        for change in sent.lines:
            path = change["path"]
            if change["type"] == "deleteFile":
                if self.held.pop(path, None) is None:
                    failed.append({"path": path, "error": "not there"})
            elif change["xetHash"] in self._sizes:
                self.held[path] = change["xetHash"]
            else:
                failed.append({"path": path, "error": "not in CAS"})
        answer = {"success": not failed, "failed": failed}
        if len(failed) == len(sent.lines):
            raise RefusedError(422, answer)
        return answer

    def _entries(self, paths: Any) -> Iterator[Entry]:
        for path in paths:
            xet_hash = self.held[path]
            yield {"type": "file", "path": path, "size": self._sizes[xet_hash], "xetHash": xet_hash}
