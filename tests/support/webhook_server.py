"""The endpoint for webhooks as Airflow's API server has it: its application mounted in another, served by uvicorn."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
import uvicorn
from fastapi import FastAPI

from airflow_provider_xethub.plugins.xethub import XetHubPlugin

SECRET = "webhook-7d1f0a93c5e2"


@contextmanager
def endpoint(apps: list[dict[str, Any]] | None = None) -> Iterator[str]:
    """Serve what the plugin adds now, or these ``apps`` of it, and yield the endpoint's URL."""
    api_server = FastAPI()
    for each in XetHubPlugin().fastapi_apps if apps is None else apps:
        api_server.mount(each["url_prefix"], each["app"])
    listener = socket.create_server(("127.0.0.1", 0))
    # Its log is what a test may want to see; a broken connection must not be reported as a failure of the application.
    config = uvicorn.Config(api_server, log_config=None, log_level="info", access_log=True, lifespan="off")
    logging.getLogger("uvicorn.access").propagate = True  # a local Hub in this process turns it off
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/xethub/webhook"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def post(url: str, body: Any, *, secret: str | None = SECRET, **headers: str) -> requests.Response:
    """Send a body as the Hub does; bytes as they are, anything else as JSON, a generator in chunks."""
    if secret is not None:
        headers["X-Webhook-Secret"] = secret
    data = body if isinstance(body, bytes) or hasattr(body, "__next__") else json.dumps(body).encode()
    return requests.post(url, data=data, headers=headers, timeout=60)


def raw(url: str, *parts: bytes, finish: bool = False) -> bytes:
    """Send these bytes, and return all that comes until the server hangs up; ``finish`` ends the sending first."""
    host, _, port = url.split("/")[2].partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(b"".join(parts))
        if finish:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return received
