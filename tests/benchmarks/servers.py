"""The servers of the benchmark, each in a process of its own: a local Hub whose answers are late, and an S3.

Started as a script, this is such a server. It ends with the benchmark: it watches its standard input.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.fast_s3 import fast_s3
from benchmarks.profiles import Profile
from xethub_local.control.presets import PRESETS

REPO, REPO_TYPE = "bench/data", "dataset"
BUCKET = "bench"
KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
_FIRST_BYTE = "first-byte"
_CAS_ROUTES = ".* /cas/.*"
_MOST_LOST = 150
_BORNE, _COLLAPSE_SECONDS = 4, 2
"""How many open requests for content a crowded link bears, and for how many seconds it bears more."""
_DATA_ROUTE = re.compile(rb"/(?:uploads|xorbs?)/")


@dataclass(frozen=True)
class Asked:
    """What a Hub was asked since the last :meth:`HubServer.forget`."""

    hub_requests: int
    cas_requests: int
    commits: int
    bytes_in: int
    bytes_out: int


class _Server:
    def __init__(self, environment: Mapping[str, str], *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.servers", *arguments],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"The server {arguments[0]} did not start.")
        self.said: dict[str, Any] = json.loads(line)
        self.url: str = self.said["url"]

    def stop(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(30)

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class HubServer(_Server):
    """A local Hub with one empty repository.

    :param folder: for its data.
    :param discards: check what arrives in CAS, and keep no bytes of it.
    :param more: so many further repositories, see :func:`repository`.
    :param profile: seconds by which the answer to each request is late, those to the transfer client too, and how many
        requests to CAS lose their connection.
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], profile: Profile, *, discards: bool = False, more: int = 0
    ) -> None:
        super().__init__(environment, "hub", str(folder), json.dumps({"discards": discards, "more": more}))
        self.token: str = self.said["token"]
        self._folder = folder
        self._crowded = profile.crowded
        # A server's first answers are slower than all others: some of its modules are imported then.
        files = [{"path": "warm.bin", "size": 1, "sample": ""}]
        for _ in range(2):
            self._ask("POST", f"/api/{REPO_TYPE}s/{REPO}/preupload/main", {"files": files})
            self.operation("write")
        if profile.delay:
            self._control("POST", "faults", {"route": ".*", "delay": profile.delay})
        if profile.lost:
            for number in range(_MOST_LOST):
                lost = {
                    "route": _CAS_ROUTES,
                    "skip": profile.lost * (number + 1) - number,
                    "times": 1,
                    "drop": "before",
                }
                self._control("POST", "faults", lost)

    def crowd(self) -> None:
        """Let requests for content share a link that collapses under many of them; one that has not collapsed yet."""
        self.uncrowd()
        link = {"bandwidth": self._crowded, "max_open": _BORNE, "collapse_after": _COLLAPSE_SECONDS}
        self._control("POST", "faults", {"route": PRESETS["crowded-link"].fault.route, **link})

    def uncrowd(self) -> None:
        """Let everything pass again."""
        self._control("DELETE", "faults")

    def forget(self) -> None:
        """Forget what was asked so far."""
        self._control("DELETE", "requests")
        (self._folder / _FIRST_BYTE).unlink(missing_ok=True)

    def asked(self) -> Asked:
        """Return what was asked."""
        hub = cas = commits = bytes_in = bytes_out = 0
        for counter in self._control("GET", "counters")["counters"]:
            # Telemetry belongs to a transfer, wherever it goes.
            is_cas = " /cas/" in counter["route"] or "telemetry" in counter["route"]
            cas += counter["requests"] * is_cas
            hub += counter["requests"] * (not is_cas)
            if "/commit/" in counter["route"] and counter["route"].startswith("POST"):
                commits += counter["requests"] - counter["errors"]
            bytes_in += counter["bytes_in"]
            bytes_out += counter["bytes_out"]
        return Asked(hub, cas, commits, bytes_in, bytes_out)

    def routes(self) -> dict[str, int]:
        """Return how often each route was asked."""
        return {counter["route"]: counter["requests"] for counter in self._control("GET", "counters")["counters"]}

    def first_byte(self) -> float | None:
        """Return when the first byte of a file's content arrived, on the clock ``time.monotonic``."""
        try:
            return float((self._folder / _FIRST_BYTE).read_text())
        except FileNotFoundError:
            return None

    def operation(self, scope: str) -> dict[str, Any]:
        """Return the endpoint and the Xet token that an operation of the bare client takes."""
        token = self._ask("GET", f"/api/{REPO_TYPE}s/{REPO}/xet-{scope}-token/main")
        return {"endpoint": token["casUrl"], "token": token["accessToken"], "token_expiry_unix_secs": token["exp"]}

    def _control(self, method: str, name: str, body: object = None) -> Any:
        return self._ask(method, f"/_local/{name}", body)

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(
            self.url + path,
            method=method,
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
            data=None if body is None else json.dumps(body).encode(),
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None


@dataclass(frozen=True)
class ObjectStore:
    """An S3 server with one bucket. It is never late.

    :param url: its endpoint; empty: there is none.
    """

    url: str = ""

    def fill(self, folder: Path) -> None:
        """Put the files of a folder into the bucket."""
        client = self.client()
        for path in folder.iterdir():
            client.upload_file(str(path), BUCKET, f"in/{path.name}")

    def client(self) -> Any:
        import boto3

        return boto3.client(
            "s3", endpoint_url=self.url, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1"
        )


@contextmanager
def object_store(folder: Path, environment: Mapping[str, str], *, quick: bool) -> Iterator[ObjectStore]:
    """Run an S3 server that is not the limit; with ``quick`` moto's, which nobody has to build.

    :param folder: a missing folder, for its objects.
    """
    if quick:
        with _Server(environment, "s3") as moto:
            store = ObjectStore(moto.url)
            store.client().create_bucket(Bucket=BUCKET)
            yield store
    else:
        folder.mkdir()
        try:
            with fast_s3(folder, BUCKET, KEY, SECRET, environment) as url:
                yield ObjectStore(url)
        finally:
            shutil.rmtree(folder)  # the next case has objects of its own


class _FirstByte:
    """Writes down when the first byte of a file's content arrives."""

    def __init__(self, app: Any, path: Path) -> None:
        self._app = app
        self._path = path

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] in ("PUT", "POST") and _DATA_ROUTE.search(scope["raw_path"]):
            receive = self._noting(receive)
        await self._app(scope, receive, send)

    def _noting(self, receive: Any) -> Any:
        async def noting() -> Any:
            message = await receive()
            if message.get("body") and not self._path.exists():
                self._path.write_text(repr(time.monotonic()))
            return message

        return noting


def repository(number: int) -> str:
    """Return the name of a further repository."""
    return f"bench/more-{number:05}"


def _serve_hub(folder: Path, *, discards: bool, more: int) -> None:
    from xethub_local.server import LocalHub

    hub = LocalHub(folder, discards=discards)
    hub._app = _FirstByte(hub._app, folder / _FIRST_BYTE)
    for name in (REPO, *map(repository, range(more))):
        hub.create_repo(name, REPO_TYPE)  # type: ignore[arg-type]
    with hub:
        print(json.dumps({"url": hub.url, "token": hub.token("write")}), flush=True)
        sys.stdin.read()


def _serve_s3() -> None:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    print(json.dumps({"url": f"http://127.0.0.1:{port}"}), flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    if sys.argv[1] == "hub":
        _serve_hub(Path(sys.argv[2]), **json.loads(sys.argv[3]))
    else:
        _serve_s3()
