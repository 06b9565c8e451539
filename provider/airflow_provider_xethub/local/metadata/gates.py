"""Gated repositories: everybody sees that they exist, and only who was let in may read their files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from airflow_provider_xethub.local.store.database import Database

GateMode = Literal["auto", "manual"]
GATE_MODES: tuple[str, ...] = get_args(GateMode)
Status = Literal["pending", "accepted", "rejected"]
STATUSES: tuple[str, ...] = get_args(Status)


@dataclass(frozen=True)
class AccessRequest:
    """A user who asked to be let in, or was. ``created`` in UNIX seconds."""

    user: str
    status: Status
    created: float


class Gates:
    """The gates of all repositories, and who is behind them."""

    def __init__(self, db: Database, clock: Callable[[], float]) -> None:
        self._db = db
        self._clock = clock

    def mode(self, repository: str) -> GateMode | None:
        """Return how users get in: at once, or when the owner accepts; ``None`` where there is no gate."""
        with self._db.read() as connection:
            row = connection.execute("SELECT mode FROM hub_gate WHERE repository = ?", (repository,)).fetchone()
        return row[0] if row else None

    def set_mode(self, repository: str, mode: GateMode | None) -> None:
        """Put a gate there, or take it away. Who was let in stays in."""
        with self._db.write() as connection:
            connection.execute("DELETE FROM hub_gate WHERE repository = ?", (repository,))
            if mode is not None:
                connection.execute("INSERT INTO hub_gate (repository, mode) VALUES (?, ?)", (repository, mode))

    def status(self, repository: str, user: str) -> Status | None:
        """Return what became of a user's request, or ``None`` where there was none."""
        with self._db.read() as connection:
            row = connection.execute(
                "SELECT status FROM hub_gate_request WHERE repository = ? AND user_name = ?", (repository, user)
            ).fetchone()
        return row[0] if row else None

    def set_status(self, repository: str, user: str, status: Status) -> None:
        """Record a user's request, or what became of it."""
        with self._db.write() as connection:
            connection.execute(
                "INSERT INTO hub_gate_request (repository, user_name, status, created) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (repository, user_name) DO UPDATE SET status = excluded.status",
                (repository, user, status, self._clock()),
            )

    def requests(self, repository: str, status: str) -> list[AccessRequest]:
        """Return the requests of that status, in order of user."""
        with self._db.read() as connection:
            rows = connection.execute(
                "SELECT user_name, status, created FROM hub_gate_request WHERE repository = ? AND status = ?"
                " ORDER BY user_name",
                (repository, status),
            ).fetchall()
        return [AccessRequest(*row) for row in rows]
