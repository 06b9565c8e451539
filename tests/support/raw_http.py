"""HTTP by the byte, for requests that no client library would send, and the server that they are sent to."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import requests
from hypothesis import HealthCheck, Phase, settings

from support.examples import examples
from support.hub_process import HubProcess
from xethub_local.local_store import LocalStore
from xethub_local.metadata.commits import PutRegular

HANG_SECONDS = 30
MAX_MEMORY = 400 * 1024**2
SECRET = b"only outside of the repository"

many = settings(
    max_examples=examples(300),
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)


@contextlib.contextmanager
def attacked_hub(folder: Path) -> Iterator[HubProcess]:
    """A server with a repository of each type ``acme/corpus``, which must end with a clean log and little memory."""
    store = LocalStore(folder)
    for kind in ("datasets", "models", "spaces", "buckets"):
        store.repositories.create(f"{kind}/acme/corpus")
        if kind != "buckets":
            store.commits.commit(f"{kind}/acme/corpus", "main", [PutRegular("a/b.txt", b"0123456789")], title="s")
    store.close()
    for place in (folder, folder.parent):
        (place / "secret.txt").write_bytes(SECRET)
    with HubProcess(folder) as hub:
        yield hub
        assert "Traceback" not in hub.error_text()
        peak = hub.memory("VmHWM")
        print(f"\n{len(hub.served())} requests reached the application; memory {peak >> 20} MiB at most")
        assert peak < MAX_MEMORY


def request_text(hub: HubProcess, method: str, target: str, body: bytes = b"", **headers: str) -> bytes:
    """Return a request as its bytes, with a write token; an underscore in a header's name stands for a hyphen."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{authorization(hub)}{lines}"
    return head.encode("latin-1", "replace") + b"Content-Length: %d\r\n\r\n" % len(body) + body


def authorization(hub: HubProcess) -> str:
    """Return the header line of a write token."""
    return f"Authorization: Bearer {hub.tokens['write']}\r\n"


def answer(hub: HubProcess, request: bytes) -> tuple[int, bytes]:
    """Return the status of the answer, which must come, and all of its bytes."""
    text = exchange(hub, request, half_close=False)
    status = re.match(rb"HTTP/1\.1 (\d{3}) ", text)
    assert status, (request[:300], text[:300])
    return int(status[1]), text


def exchange(hub: HubProcess, request: bytes, *, half_close: bool = True) -> bytes:
    """Send bytes, if wanted say that they are all, and return what comes until the server hangs up."""
    text = bytearray()
    # A server may stop listening to nonsense before its end.
    gone = (BrokenPipeError, ConnectionResetError)
    with socket.create_connection(address(hub), timeout=HANG_SECONDS) as connection:
        with contextlib.suppress(*gone):
            connection.sendall(request)
        with contextlib.suppress(OSError):
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(*gone):
            while piece := connection.recv(65_536):
                text += piece
    return bytes(text)


def address(hub: HubProcess) -> tuple[str, int]:
    """Return host and port."""
    host, port = hub.url.removeprefix("http://").split(":")
    return host, int(port)


def expect_it_serves(hub: HubProcess) -> None:
    """Ask something harmless."""
    assert requests.get(f"{hub.url}/api/datasets/acme/corpus", timeout=HANG_SECONDS).status_code == 200
