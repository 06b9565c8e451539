"""Gated repositories: everyone may see them, but only users with granted access may read their files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from xethub_local.store.database import Database

GateMode = Literal["auto", "manual"]
GATE_MODES: tuple[str, ...] = get_args(GateMode)
Status = Literal["pending", "accepted", "rejected"]
STATUSES: tuple[str, ...] = get_args(Status)


@dataclass(frozen=True)
class AccessRequest:
    """A user's request for access, with its status. ``created`` in UNIX seconds."""

    user: str
    status: Status
    created: float


class Gates:
    """The gates of all repositories, with their access requests."""

    def __init__(self, db: Database, clock: Callable[[], float]) -> None:
        self._db = db
        self._clock = clock

    def mode(self, repository: str) -> GateMode | None:
        """Return whether requests are accepted automatically or by the owner; ``None`` without a gate."""
        with self._db.read() as connection:
            row = connection.execute("SELECT mode FROM hub_gate WHERE repository = ?", (repository,)).fetchone()
        return row[0] if row else None

    def set_mode(self, repository: str, mode: GateMode | None) -> None:
        """Add, change or remove the gate of a repository. Granted access is kept."""
        with self._db.write() as connection:
            connection.execute("DELETE FROM hub_gate WHERE repository = ?", (repository,))
            if mode is not None:
                connection.execute("INSERT INTO hub_gate (repository, mode) VALUES (?, ?)", (repository, mode))

    def status(self, repository: str, user: str) -> Status | None:
        """Return the status of a user's request, or ``None`` if there is none."""
        with self._db.read() as connection:
            row = connection.execute(
                "SELECT status FROM hub_gate_request WHERE repository = ? AND user_name = ?", (repository, user)
            ).fetchone()
        return row[0] if row else None

    def set_status(self, repository: str, user: str, status: Status) -> None:
        """Add a user's request, or change its status."""
        with self._db.write() as connection:
            connection.execute(
                "INSERT INTO hub_gate_request (repository, user_name, status, created) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (repository, user_name) DO UPDATE SET status = excluded.status",
                (repository, user, status, self._clock()),
            )

    def requests(self, repository: str, status: str) -> list[AccessRequest]:
        """Return the requests with that status, sorted by user."""
        with self._db.read() as connection:
            rows = connection.execute(
                "SELECT user_name, status, created FROM hub_gate_request WHERE repository = ? AND status = ?"
                " ORDER BY user_name",
                (repository, status),
            ).fetchall()
        return [AccessRequest(*row) for row in rows]
