"""The local Hub in the current process, in its own thread: for tests and notebooks.

::

    with LocalHub(tmp_path) as hub:
        hub.create_repo("acme/corpus", repo_type="dataset")
        HfApi(endpoint=hub.url, token=hub.token()).list_repo_files("acme/corpus", repo_type="dataset")
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import selectors
import socket
import threading
import time
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from xethub_local.app import build_app
from xethub_local.control.fault_middleware import CLOSE, IS_CLOSED
from xethub_local.control.faults import Faults
from xethub_local.control.request_log import RequestLog
from xethub_local.control.server_state import ServerState
from xethub_local.http.asgi import wait_for_disconnect
from xethub_local.http.protocol import BoundedHttpProtocol
from xethub_local.hub.hosts import is_loopback
from xethub_local.local_store import BUILT_IN_USER, LocalStore
from xethub_local.repo import Repo, RepoType, Scope
from xethub_local.store.access import EXCHANGED_TOKEN_LIFETIME, Role
from xethub_local.store.issuer import DEFAULT_LIFETIME, DEFAULT_SUBJECT, ISSUER_PATH, Algorithm
from xethub_local.store.paths import repository_name
from xethub_local.store.publishers import OWN_ISSUER, Publisher, Resource
from xethub_local.store.settings import Settings

_STOP_SECONDS = 10.0
_GRACE_SECONDS = 0.5
_BACKLOG = 256
_TURNS_TO_BEGIN = 10
"""Turns of the event loop after which an accepted connection was read and its request begun: about five."""


class LocalHub:
    """A Hub and a CAS over one data folder. A development server.

    Use it as a context manager, or call :meth:`start` and :meth:`close`.

    :param folder: data folder; content from an earlier run is served again.
    :param port: port to listen on. 0 picks a free one; :meth:`start` after :meth:`stop` uses the same port again.
    :param host: address to listen on.
    :param token_life: seconds that a new Xet token is valid; :attr:`token_life` changes it at run time.
    :param data_url_life: seconds that a new data URL is valid; :attr:`data_url_life` changes it at run time.
    :param clock_offset: seconds that its clock is ahead of this machine's; :attr:`clock_offset` changes it.
    :param exchanged_token_lifetime: seconds that a Hub token is valid that was exchanged for an ID token;
        :attr:`exchanged_token_lifetime` changes it.
    :param public_url: origin at which clients reach it, if it differs from the ``Host`` header they send.
    :param allowed_hosts: further host names that clients may use, beside this machine's own and that of ``public_url``.
    :param allowed_origins: origins whose pages may use the API in a browser, such as ``http://localhost:3000``; ``*``
        allows all. Default: none.
    :param discards: check the content that clients upload to CAS, and discard its bytes: for measurements with more
        data than the disk holds.
    :param write_token: a Hub token that the built-in user ``local`` may write with, for clients that cannot be told the
        random one, such as ``hf_only_for_tests``. It is not stored.
    :ivar access: users and tokens, :class:`~xethub_local.store.access.Access`.
    :ivar publishers: trusted publishers, :class:`~xethub_local.store.publishers.Publishers`.
    :ivar repositories: :class:`~xethub_local.metadata.repositories.Repositories`.
    :ivar content: content of CAS, :class:`~xethub_local.content.store.ContentStore`.
    :ivar scans: what is reported about scans of files, :class:`~xethub_local.metadata.scans.Scans`.
    :ivar faults: injected faults, :class:`~xethub_local.control.faults.Faults`.
    :ivar log: request log, :class:`~xethub_local.control.request_log.RequestLog`.
    :raises OSError: the folder cannot be written.
    :raises ValueError: an entry of ``allowed_origins`` is not an origin, or ``write_token`` is not of the form of one.
    """

    def __init__(
        self,
        folder: str | Path,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        token_life: int = 900,
        data_url_life: int = 900,
        clock_offset: float = 0.0,
        exchanged_token_lifetime: int = EXCHANGED_TOKEN_LIFETIME,
        public_url: str | None = None,
        allowed_hosts: Collection[str] = (),
        allowed_origins: Collection[str] = (),
        discards: bool = False,
        write_token: str | None = None,
    ) -> None:
        self.folder = Path(folder).absolute()
        self.host = host
        self.port = port
        self._public_url = public_url
        self._store = LocalStore(self.folder, token_life=token_life, discards=discards, write_token=write_token)
        self._store.access.settings = Settings(token_life, data_url_life, clock_offset, exchanged_token_lifetime)
        self.access = self._store.access
        self.publishers = self._store.publishers
        self.repositories = self._store.repositories
        self.commits = self._store.commits
        self.content = self._store.content
        self.bucket_files = self._store.bucket_files
        self.scans = self._store.scans
        self.faults = Faults()
        self.log = RequestLog()
        self._control = ServerState(self._store, self.faults, self.log, self.access.settings)
        app = build_app(
            self._store,
            public_url=public_url,
            hosts=(host, *allowed_hosts),
            any_address=not is_loopback(host),
            origins=allowed_origins,
            faults=self.faults,
            log=self.log,
        )
        self._app = _closable(app)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Endpoint of the Hub, without trailing slash.

        :raises RuntimeError: it was never started and has no port yet.
        """
        if not self.port:
            raise RuntimeError("The local Hub has no URL before it is started.")
        return self._public_url or _url(self.host, self.port)

    def start(self) -> LocalHub:
        """Start serving, and return once requests are answered. Do nothing if it is running already.

        :raises OSError: it cannot listen on the address, for example because the port is in use.
        :raises RuntimeError: the server stopped during its start.
        """
        if self._thread is not None:
            return self
        listener = _listen(self.host, self.port)
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            http=BoundedHttpProtocol,
            access_log=False,
            log_level="warning",
            log_config=None,
            lifespan="off",
            ws="none",
            server_header=False,
            date_header=False,  # the application sends the date of its own clock
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="xethub-local", daemon=True
        )
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                self._thread = None
                raise RuntimeError("The local Hub did not start.")
            time.sleep(0.005)
        return self

    def stop(self) -> None:
        """Stop serving; open requests get half a second to finish. The data, the port and the log stay.

        :raises RuntimeError: the server did not stop.
        """
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(_STOP_SECONDS)
        if self._thread.is_alive():
            raise RuntimeError(f"The local Hub did not stop within {_STOP_SECONDS:.0f} seconds.")
        self._server = self._thread = None

    def close(self) -> None:
        """Stop serving and close the data folder. It cannot be started again."""
        self.stop()
        self._store.close()

    def reset(self, *, data: bool = False) -> None:
        """Disarm all faults, clear the request log and the rules about scans, and restore the initial settings.

        Requests that were sent before are begun before, as :meth:`begin_waiting` says.

        :param data: also delete all repositories and buckets. Users and their Hub tokens stay.
        """
        self.begin_waiting()
        self._control.reset(data=data)

    def begin_waiting(self) -> None:
        """Return once all requests that have been sent are begun, also those of a client that is gone since.

        Else a request of one test, which the server had no time for, may meet the faults of the next test. Do nothing
        if it is not running.
        """
        # In a forked process there is no such thread.
        if self._server is not None and self._thread is not None and self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._server.begin_waiting(), self._server.loop).result()

    @property
    def token_life(self) -> int:
        """Seconds that a new Xet token is valid, at least 1."""
        return self.access.token_life

    @token_life.setter
    def token_life(self, seconds: int) -> None:
        self.access.token_life = seconds

    @property
    def data_url_life(self) -> int:
        """Seconds that a new data URL is valid; 0 or less issues expired ones."""
        return self.access.data_url_life

    @data_url_life.setter
    def data_url_life(self, seconds: int) -> None:
        self.access.data_url_life = seconds

    @property
    def clock_offset(self) -> float:
        """Seconds that the server's clock is ahead of this machine's; negative if it is behind."""
        return self.access.clock_offset

    @clock_offset.setter
    def clock_offset(self, seconds: float) -> None:
        self.access.clock_offset = seconds

    @property
    def exchanged_token_lifetime(self) -> int:
        """Seconds that a new exchanged token is valid, at least 1."""
        return self.access.exchanged_token_lifetime

    @exchanged_token_lifetime.setter
    def exchanged_token_lifetime(self, seconds: int) -> None:
        self.access.exchanged_token_lifetime = seconds

    def create_repo(self, repo_id: str, repo_type: RepoType = "model", private: bool = False) -> Repo:
        """Create a repository, or a bucket, as the built-in user ``local``.

        :raises ConflictError: it already exists.
        :raises InvalidNameError: the name is invalid.
        """
        repo = Repo(repo_id, repo_type)
        self.repositories.create(repository_name(repo), private=private, author=BUILT_IN_USER)
        return repo

    def token(self, role: Scope = "write") -> str:
        """Return a Hub token of the built-in user ``local``, which may read or write everything.

        :raises KeyError: the role is neither ``read`` nor ``write``.
        """
        return self._store.tokens[role]

    def add_user(
        self,
        name: str,
        *,
        role: Role,
        grants: dict[str, Scope] | None = None,
        token_name: str = "default",  # noqa: S107 - the name of a token
    ) -> str:
        """Add a user and return the Hub token.

        See :meth:`xethub_local.store.access.Access.add_user`.
        """
        return self.access.add_user(name, role=role, grants=grants, token_name=token_name)

    @property
    def issuer(self) -> str:
        """URL of the Hub's own issuer, the ``iss`` of :meth:`identity`.

        :raises RuntimeError: the Hub was never started and has no port yet.
        """
        return self.url + ISSUER_PATH

    def identity(
        self,
        sub: str = DEFAULT_SUBJECT,
        *,
        aud: str | list[str] | None = None,
        lifetime: float = DEFAULT_LIFETIME,
        algorithm: Algorithm = "RS256",
        **claims: Any,
    ) -> str:
        """Return an ID token of the Hub's own issuer, to exchange for a Hub token at ``/oauth/token``.

        :param sub: subject: who the token is for.
        :param aud: audience. Default: this Hub, :attr:`url`.
        :param lifetime: seconds that it is valid, by the Hub's clock; 0 or less makes an expired one.
        :param algorithm: ``RS256`` or ``ES256``.
        :param claims: further claims; ``None`` leaves out one that is set otherwise, such as ``iat``.
        :raises ValueError: the algorithm is not known, the lifetime is not a number, or a claim has no JSON form.
        """
        now = self.access.now()
        return self._store.issuer.identity(
            self.url, now, sub=sub, aud=aud, lifetime=lifetime, algorithm=algorithm, claims=claims
        )

    def publisher(
        self, repo: Repo | str, issuer: str | None = None, read_only: bool = False, **claims: str | int | bool
    ) -> Publisher:
        """Add a trusted publisher: whose ID tokens are exchanged for a Hub token of one repository, or of one user.

        :param repo: a repository; or, as in the request, ``acme/model``, ``datasets/acme/corpus`` or the name of a
            user, whose publishers may only read the gated repositories that the user has access to.
        :param issuer: the ``iss`` of its ID tokens. Default: this Hub's own, of :meth:`identity`.
        :param read_only: the exchanged token may only read.
        :param claims: at least one; all of them must be in the ID token, and equal.
        :raises ValueError: there is no such repository or user, it is a bucket, or a claim cannot be compared.
        """
        resource = _resource(repo)
        return self.publishers.add(
            resource, claims, issuer=OWN_ISSUER if issuer is None else issuer, read_only=read_only
        )

    def __enter__(self) -> LocalHub:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Server(uvicorn.Server):
    """Cancels unfinished requests on shutdown; uvicorn would report each of them as an error."""

    loop: asyncio.AbstractEventLoop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as usual, and keep the event loop."""
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets)

    async def begin_waiting(self) -> None:
        """Accept all connections that wait, of which uvloop accepts one each turn, and begin their requests."""
        with selectors.DefaultSelector() as selector:
            for listener in itertools.chain.from_iterable(server.sockets for server in self.servers):
                selector.register(listener, selectors.EVENT_READ)
            while selector.select(timeout=0):
                await asyncio.sleep(0)
        for _ in range(_TURNS_TO_BEGIN):
            await asyncio.sleep(0)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, wait briefly for open requests, and cancel the rest."""
        for each in sockets or ():
            # A process that was forked meanwhile has the listening socket too, and would keep the port.
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for server in self.servers:
            server.close()
        deadline = time.monotonic() + _GRACE_SECONDS
        while self.server_state.tasks and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        for task in list(self.server_state.tasks):
            task.cancel()
        await super().shutdown(sockets)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Allows the same port right after a stop, while old connections are still in TIME_WAIT.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _resource(repo: Repo | str) -> Resource:
    if isinstance(repo, str):
        return Resource.parse(repo)
    if repo.is_bucket:
        raise ValueError(f"Bucket {repo.repo_id} cannot have publishers: buckets are no resource of the exchange.")
    return Resource(repository=repository_name(repo))


def _url(host: str, port: int) -> str:
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{name}:{port}"


def _closable(app: ASGIApp) -> ASGIApp:
    """Let the application close a request's connection, and see that it is closed: ASGI has no call for it."""

    async def closable(scope: AsgiScope, receive: Receive, send: Send) -> None:
        cycle: Any = getattr(send, "__self__", None)
        functions = {CLOSE: lambda: cycle.transport.close(), IS_CLOSED: lambda: cycle.transport.is_closing()}
        try:
            await app({**scope, **functions}, receive, send)
        except asyncio.CancelledError:
            # The server is stopping. Once the connection is closed, uvicorn does not report the missing response.
            cycle.transport.abort()
            await wait_for_disconnect(receive)

    return closable
