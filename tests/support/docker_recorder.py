"""As much of the Docker Engine API as ``DockerOperator`` uses, on loopback: it keeps each request, and runs a function.

After the public reference of the Engine API, version 1.43. A container is what the test says; no image is pulled.
"""

from __future__ import annotations

import json
import re
import struct
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

Run = Callable[[dict[str, Any]], tuple[int, str]]
"""Runs a container, given the body of the request that created it; returns its exit status and what it printed."""


class DockerRecorder:
    """Serves on loopback while its context lasts.

    :param run: what every container does.
    :ivar url: for ``docker_url``.
    :ivar requests: method, path and body of each request so far.
    :ivar created: the bodies of the requests that created containers.
    """

    def __init__(self, run: Run) -> None:
        self.requests: list[str] = []
        self.created: list[dict[str, Any]] = []
        self._run = run
        self._started, self._ended = threading.Event(), threading.Event()
        self._status = 0
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                recorder._answer(self)

            do_POST = do_DELETE = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"tcp://127.0.0.1:{self._server.server_port}"

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self.requests.append(f"{request.command} {request.path} {body.decode()}")
        what = f"{request.command} {re.sub(r'^/v[0-9.]+', '', request.path).partition('?')[0]}"
        if what == "GET /_ping":
            self._send(request, 200, "OK")
        elif what == "GET /version":
            self._send(request, 200, {"ApiVersion": "1.43", "MinAPIVersion": "1.24", "Version": "24.0"})
        elif what == "GET /images/json":
            self._send(request, 200, [{"Id": "sha256:1"}])
        elif what == "POST /containers/create":
            self.created.append(json.loads(body))
            self._started.clear()
            self._ended.clear()
            self._send(request, 201, {"Id": "c1", "Warnings": []})
        elif what == "GET /containers/c1/json":
            self._send(request, 200, {"Id": "c1", "Config": {"Tty": False}})
        elif what == "POST /containers/c1/attach":
            self._attach(request)
        elif what == "POST /containers/c1/start":
            self._started.set()
            self._send(request, 204, None)
        elif what == "POST /containers/c1/wait":
            self._ended.wait(60)
            self._send(request, 200, {"StatusCode": self._status})
        elif what == "DELETE /containers/c1":
            self._send(request, 204, None)
        else:
            self._send(request, 404, {"message": f"not recorded: {what}"})

    def _attach(self, request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        request.wfile.flush()
        request.close_connection = True
        self._started.wait(60)
        self._status, printed = self._run(self.created[-1])
        output = printed.encode()
        if output:
            request.wfile.write(struct.pack(">BxxxL", 1, len(output)) + output)  # 1: standard output
        self._ended.set()

    @staticmethod
    def _send(request: BaseHTTPRequestHandler, status: int, value: object) -> None:
        text = value if isinstance(value, str) else json.dumps(value)
        body = b"" if value is None else text.encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def __enter__(self) -> DockerRecorder:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
