"""The refresh route that ``hf_xet`` is given: one of ours on loopback, behind which our own session asks the Hub.

The client would follow a redirect of the Hub's own route to any other origin, with the connection's secret headers, and
writes these headers into its log. This way it never has them, nor the Hub token; the next Xet token is checked like the
first one, redirects and the network's settings are those of every other request, and why there is none is known.
"""

from __future__ import annotations

import contextlib
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
from airflow_provider_xethub.xet.token import XetToken

log = logging.getLogger(__name__)

_SILENT_SECONDS = 10.0
"""How long a caller may take to send its request."""


class Route(NamedTuple):
    """A refresh route in the form that the client accepts."""

    host: str
    url: str
    headers: dict[str, str]


class Refresh:
    """Where the client gets the next Xet tokens of one transfer; it works for as long as this object lives.

    :param fetch: asks the Hub, in a thread of its own.
    :ivar failure: why there was no token when the client last asked; ``None`` if there was one.
    :ivar tokens: the Xet tokens that the client got, to be hidden.
    """

    def __init__(self, fetch: Callable[[], XetToken]) -> None:
        self._fetch = fetch
        self._turn = threading.Lock()
        self._key = secrets.token_urlsafe(32)
        self._status, self._body, self._answered = 503, b"{}", float("-inf")
        self.failure: XetHubError | None = None
        self.tokens: list[str] = []

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def route(self) -> Route | None:
        """Return what the client needs to ask here, or ``None`` if this worker lets nobody listen on loopback.

        The client writes every header into its log but this one.
        """
        relay = _of_this_process()
        return Route(relay.host, relay.serve(self), {"Authorization": f"Bearer {self._key}"}) if relay else None

    def answer(self, authorization: str) -> tuple[int, bytes]:
        """Return status and body for a request of the client, which does not repeat it after a 403.

        Who asks while the Hub is being asked gets the same answer: the client asks again after a minute.
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
        # Waits and retries were those of our own session.
        self._status, self._body = 403, b"{}"
        try:
            token = self._fetch()
        except XetHubError as error:
            self.failure = error
            return
        except Exception as error:
            kind = type(error).__name__
            self.failure = XetHubError(f"The next Xet token could not be fetched ({kind}). Let the task retry.")
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
        threading.Thread(target=self.serve_forever, name="xethub-token-relay", daemon=True).start()

    def server_bind(self) -> None:
        # Not HTTPServer's, which asks DNS for the name of the address.
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        log.debug("A request for the next Xet token broke off (%s).", type(sys.exc_info()[1]).__name__)

    def serve(self, refresh: Refresh) -> str:
        path = f"/xet-token/{next(self._numbers)}"
        self._served[path] = refresh
        return f"http://{self.host}:{self.server_address[1]}{path}"

    def answer(self, path: str, authorization: str) -> tuple[int, bytes]:
        refresh = self._served.get(path)
        return refresh.answer(authorization) if refresh else (401, b"{}")


class _Handler(BaseHTTPRequestHandler):
    server: _Relay
    timeout = _SILENT_SECONDS

    def do_GET(self) -> None:
        status, body = self.server.answer(self.path, self.headers.get("Authorization", ""))
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay quiet: the task's log is for the user."""


_relay: _Relay | None = None
_RELAY_LOCK = threading.Lock()


def _of_this_process() -> _Relay | None:
    global _relay
    with _RELAY_LOCK:
        if _relay is None:
            _relay = _started()
        return _relay


def _after_fork() -> None:
    # The child has the socket and not the thread; and another thread may have held the lock.
    global _relay, _RELAY_LOCK
    if _relay is not None:
        _relay.socket.close()
    _relay, _RELAY_LOCK = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def _started() -> _Relay | None:
    # An address of its own, so that a proxy can be left out for it alone: a Hub may be on loopback as well. Elsewhere
    # than on Linux only the usual one exists.
    pick = random.SystemRandom().randint
    own = f"127.{pick(1, 254)}.{pick(1, 254)}.{pick(1, 254)}"
    for host in (own, "127.0.0.1"):
        with contextlib.suppress(OSError):
            return _Relay(host)
    log.warning("Nothing can listen on loopback here: transfers end when the Xet token they begin with expires.")
    return None
