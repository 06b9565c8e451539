"""A CAS on loopback, without a Hub around it."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import uvicorn
from starlette.applications import Starlette

from xethub_local.cas.routes import routes
from xethub_local.content.store import ContentStore
from xethub_local.store.access import Access
from xethub_local.store.database import Database

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Scope = Literal["read", "write"]


@dataclass
class RunningCas:
    """A CAS on loopback, with what it is made of and what it was asked."""

    repository: ClassVar[str] = "datasets/acme/corpus"
    other_repository: ClassVar[str] = "models/acme/other"

    app: Starlette
    content: ContentStore
    access: Access
    db: Database
    base_path: str
    port: int = 0
    requests: list[tuple[str, str, int]] = field(default_factory=list)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return self.origin + self.base_path

    def token(self, scope: Scope = "write", repository: str = repository, *, age: float = 0) -> str:
        """Issue a Xet token, ``age`` seconds ago."""
        now = self.access.clock
        self.access.clock = lambda: now() - age
        try:
            (identity,) = self.access.identities()
            return self.access.issue_xet_token(identity, scope, repository, "main")[0]
        finally:
            self.access.clock = now

    def operation(self, scope: Scope = "write", repository: str = repository, **changes: object) -> dict[str, object]:
        """Return the arguments that an operation of ``hf_xet.XetSession`` takes."""
        given = {
            "endpoint": self.url,
            "token": self.token(scope, repository),
            "token_expiry_unix_secs": int(time.time()) + 900,
        }
        return {**given, **changes}

    def count(self, method: str, part_of_path: str) -> int:
        return sum(m == method and part_of_path in path for m, path, _ in self.requests)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.requests.append((scope["method"], scope["path"], message["status"]))
            await send(message)

        await self.app(scope, receive, note)


@contextlib.contextmanager
def running_cas(folder: Path) -> Iterator[RunningCas]:
    db = Database(folder)
    access = Access(db, secrets.token_bytes(32))
    access.add_user("acme", role="write")
    with db.write() as connection:
        connection.executemany(
            "INSERT INTO hub_repository (name, id, private, created) VALUES (?, ?, 0, 0)",
            [(RunningCas.repository, "1"), (RunningCas.other_repository, "2")],
        )
    content = ContentStore(folder, db)
    base_path = f"/cas/{secrets.token_hex(4)}"
    cas = RunningCas(Starlette(routes=routes(content, access, base_path=base_path)), content, access, db, base_path)
    listener = socket.create_server(("127.0.0.1", 0))
    cas.port = listener.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(cas, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield cas
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        listener.close()
        db.close()
