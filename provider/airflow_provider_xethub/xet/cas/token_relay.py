"""The refresh route for ``hf_xet``: a server on loopback that fetches new Xet tokens with this provider's own session.

The client would follow a redirect of the Hub's route to any origin, with the secret headers of the connection, and it
logs these headers. With the relay it never has them, nor the Hub token. Each new Xet token is checked like the first,
redirects and network settings are those of every other request, and the reason of a failure is known.
"""

from __future__ import annotations

import contextlib
import contextvars
import hmac
import itertools
import json
import logging
import os
import random
import secrets
import socketserver
import sys
import threading
import time
import weakref
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from airflow_provider_xethub.exceptions import XetHubError
from airflow_provider_xethub.xet.process import threads
from airflow_provider_xethub.xet.token import XetToken

log = logging.getLogger(__name__)

_REQUEST_TIMEOUT = 10.0
"""Seconds within which a caller must send its request."""


class Route(NamedTuple):
    """A refresh route in the form that the client expects."""

    host: str
    url: str
    headers: dict[str, str]


class Refresh:
    """The source of new Xet tokens for one transfer, for as long as this object lives.

    :param fetch: requests a token from the Hub; runs in another thread.
    :ivar failure: why the last request of the client got no token; ``None`` if it got one.
    :ivar tokens: the newest Xet tokens that the client got, to be removed from messages.
    """

    def __init__(self, fetch: Callable[[], XetToken]) -> None:
        self._fetch = fetch
        self._context = contextvars.copy_context()
        self._turn = threading.Lock()
        self._key = secrets.token_urlsafe(32)
        self._status, self._body, self._answered = 503, b"{}", float("-inf")
        self.failure: XetHubError | None = None
        self.tokens: list[str] = []

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def route(self) -> Route | None:
        """Return the route for the client, or ``None`` if this worker does not allow listening on loopback.

        ``Authorization`` is the one header that the client does not log.
        """
        relay = _relay_of_process()
        return Route(relay.host, relay.serve(self), {"Authorization": f"Bearer {self._key}"}) if relay else None

    def answer(self, authorization: str) -> tuple[int, bytes]:
        """Return status and body for a request of the client, which does not retry after a 403.

        Requests that arrive while the Hub is being asked get the same response: the client retries after a minute.
        """
        if not hmac.compare_digest(authorization.encode(), f"Bearer {self._key}".encode()):
            return 401, b"{}"
        asked = time.monotonic()
        with self._turn:
            if self._answered < asked:
                self._ask()
                self._answered = time.monotonic()
            return self._status, self._body

    def _ask(self) -> None:
        # The session of the Hub has retried already.
        self._status, self._body = 403, b"{}"
        try:
            token = self._context.run(self._fetch)  # traced as a part of the transfer
        except XetHubError as error:
            self.failure = error
            return
        except Exception as error:
            kind = type(error).__name__
            self.failure = XetHubError(f"A new Xet token could not be fetched ({kind}). Let the task retry.")
            return
        self.failure = None
        self.tokens = [*self.tokens[-3:], token.access_token]
        body = {"accessToken": token.access_token, "exp": token.local_expiry, "casUrl": token.cas_url}
        self._status, self._body = 200, json.dumps(body).encode()


class _Relay(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, host: str) -> None:
        super().__init__((host, 0), _Handler)
        self.host = host
        self._served: weakref.WeakValueDictionary[str, Refresh] = weakref.WeakValueDictionary()
        self._numbers = itertools.count(1)
        threads.begin(threading.Thread(target=self.serve_forever, name="xethub-token-relay", daemon=True))

    def server_bind(self) -> None:
        # HTTPServer's own method would look up the address in DNS.
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        log.debug("A request for a new Xet token was cut off (%s).", type(sys.exc_info()[1]).__name__)

    def serve(self, refresh: Refresh) -> str:
        path = f"/xet-token/{next(self._numbers)}"
        self._served[path] = refresh
        return f"http://{self.host}:{self.server_address[1]}{path}"

    def answer(self, path: str, authorization: str) -> tuple[int, bytes]:
        refresh = self._served.get(path)
        return refresh.answer(authorization) if refresh else (401, b"{}")


class _Handler(BaseHTTPRequestHandler):
    server: _Relay
    timeout = _REQUEST_TIMEOUT

    def do_GET(self) -> None:
        status, body = self.server.answer(self.path, self.headers.get("Authorization", ""))
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing: the task log is for the user."""


_relay: _Relay | None = None
_RELAY_LOCK = threading.Lock()


def _relay_of_process() -> _Relay | None:
    global _relay
    with _RELAY_LOCK:
        if _relay is None:
            _relay = _start()
        return _relay


def _after_fork() -> None:
    # The child process has the socket but not the thread, and another thread may have held the lock.
    global _relay, _RELAY_LOCK
    if _relay is not None:
        _relay.socket.close()
    _relay, _RELAY_LOCK = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def _start() -> _Relay | None:
    # A separate address, so that it alone can be excluded from a proxy: a Hub may be on loopback too. Systems other
    # than Linux only have 127.0.0.1.
    pick = random.SystemRandom().randint
    own = f"127.{pick(1, 254)}.{pick(1, 254)}.{pick(1, 254)}"
    for host in (own, "127.0.0.1"):
        with contextlib.suppress(OSError):
            return _Relay(host)
    log.warning("This worker cannot listen on loopback: transfers end when the Xet token that they start with expires.")
    return None
