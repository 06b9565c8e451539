"""The JavaScript client in a Node process of its own, driven from Python.

::

    with JavaScript(hub.url, hub.token()) as javascript:
        javascript.upload("datasets/acme/corpus", {"a.bin": b"..."})
        assert javascript.download("datasets/acme/corpus", "a.bin") == b"..."

Every call is the client's own: ``javascript.call("listCommits", repo=...)`` is its ``listCommits({repo, ...})``.
"""

from __future__ import annotations

import base64
import json
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from support import node_packages

FOLDER = Path(__file__).parent / "javascript"

Json = Any


class JavaScriptError(Exception):
    """What the client threw. ``kind`` is its class; ``status`` the HTTP status, ``None`` where it has none."""

    def __init__(self, error: dict[str, Json]) -> None:
        super().__init__(f"{error['kind']}: {error['message']} {error.get('cause') or ''}".rstrip())
        self.kind: str = error["kind"]
        self.message: str = error["message"]
        self.status: int | None = error.get("statusCode")
        self.data: Json = error.get("data")


class JavaScript:
    """A Node process with the client, bound to one Hub. Calls run one after the other.

    :param url: the Hub's endpoint.
    :param token: the Hub token that calls carry; ``accessToken=None`` in a call leaves it out.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        node_packages.install(FOLDER)
        self._defaults = {"hubUrl": url, "accessToken": token}
        self._scratch = tempfile.TemporaryDirectory(prefix="javascript-")
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            ["node", str(FOLDER / "client.mjs")],
            cwd=FOLDER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            encoding="utf-8",
        )

    def call(self, name: str, /, **params: Json) -> Json:
        """Call a function of the client and return what it returns; of a generator, a list of what it yields.

        :raises JavaScriptError: it threw.
        """
        result = self._ask({"call": name, "params": self._params(params)})
        return result["items"] if isinstance(result, dict) and result.keys() == {"items", "returned"} else result

    def steps(self, name: str, /, **params: Json) -> tuple[list[Json], Json]:
        """Call a generator function and return what it yields, and what it returns in the end."""
        result = self._ask({"call": name, "params": self._params(params)})
        return result["items"], result["returned"]

    def upload(self, repo: str, files: Mapping[str, bytes | Path], /, **params: Json) -> Json:
        """Upload files in one commit, as ``uploadFiles`` does, and return what it returns."""
        listed = [{"path": path, "content": blob(content)} for path, content in files.items()]
        return self.call("uploadFiles", repo=repo, files=listed, **params)

    def download(self, repo: str, path: str, /, **params: Json) -> bytes | None:
        """Download a file as ``downloadFile`` does; ``None`` where there is none."""
        found = self.call("downloadFile", repo=repo, path=path, **params)
        return None if found is None else self.read(found)

    def read(self, found: Json, start: int | None = None, end: int | None = None, *, how: str = "arrayBuffer") -> bytes:
        """Return a Blob's bytes, or those from ``start`` to ``end`` (excluded).

        :param how: ``arrayBuffer``, ``stream`` or ``text``.
        """
        into = Path(self._scratch.name) / "bytes"
        cut = {} if start is None else {"from": start, "to": end}
        self._ask({"read": found["$blob"], "how": how, "into": str(into), **cut})
        return into.read_bytes()

    def close(self) -> None:
        """End the process."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._stderr.close()
        self._scratch.cleanup()

    def _params(self, params: dict[str, Json]) -> dict[str, Json]:
        return {name: value for name, value in (self._defaults | params).items() if value is not None}

    def _ask(self, command: dict[str, Json]) -> Json:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self._stderr.seek(0)
            raise RuntimeError(f"The Node process ended:\n{self._stderr.read().decode(errors='replace')[-4000:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise JavaScriptError(answer["error"])
        return answer.get("result")

    def __enter__(self) -> JavaScript:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def blob(content: bytes | Path) -> Json:
    """Return what becomes a Blob in Node: bytes in memory, or a file on disk."""
    if isinstance(content, Path):
        return {"$file": str(content)}
    return {"$base64": base64.b64encode(content).decode()}
