"""Discussions and pull requests, with their events.

Both share one sequence of numbers per repository. A pull request is a discussion with a base: the branch into which its
own branch, ``refs/pr/N``, is to be merged.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from xethub_local.metadata.history import PULLS
from xethub_local.store.database import Database
from xethub_local.store.errors import BadRequestError, HubError

EventType = Literal["comment", "status-change", "title-change", "commit"]
_COLUMNS = "number, title, description, author, base, status, created"


@dataclass(frozen=True)
class Discussion:
    """A discussion, or a pull request if ``base`` names a branch. ``created`` in UNIX seconds."""

    number: int
    title: str
    description: str
    author: str
    base: str
    status: str
    created: float

    @property
    def is_pull_request(self) -> bool:
        """Whether this is a pull request."""
        return bool(self.base)

    @property
    def ref(self) -> str:
        """The full name of a pull request's branch."""
        return f"{PULLS}{self.number}"


@dataclass(frozen=True)
class DiscussionEvent:
    """An event in a discussion. ``data`` has the Hub's fields for its type."""

    id: str
    type: EventType
    author: str
    created: float
    data: dict[str, Any]


class Discussions:
    """The discussions of all repositories of one local Hub."""

    def __init__(self, db: Database, clock: Callable[[], float]) -> None:
        self._db = db
        self._clock = clock

    def open(
        self, name: str, title: str, description: str, author: str, base: str = "", status: str = "open"
    ) -> Discussion:
        """Open a discussion, or a pull request into ``base``; its description is the first comment."""
        with self._db.write() as connection:
            (last,) = connection.execute(
                "SELECT coalesce(max(number), 0) FROM hub_discussion WHERE repository = ?", (name,)
            ).fetchone()
            opened = Discussion(last + 1, title, description, author, base, status, self._clock())
            connection.execute(
                f"INSERT INTO hub_discussion (repository, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                (name, opened.number, title, description, author, base, opened.status, opened.created),
            )
            if description:
                self.comment(name, opened.number, author, description)
        return opened

    def find_all(self, name: str) -> list[Discussion]:
        """Return the discussions and pull requests of a repository, oldest first."""
        with self._db.read() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM hub_discussion WHERE repository = ? ORDER BY number",  # noqa: S608
                (name,),
            ).fetchall()
        return [Discussion(*row) for row in rows]

    def get(self, name: str, number: int) -> Discussion:
        """Return a discussion or pull request.

        :raises HubError: 404, there is none with that number.
        """
        with self._db.read() as connection:
            row = connection.execute(
                f"SELECT {_COLUMNS} FROM hub_discussion WHERE repository = ? AND number = ?",  # noqa: S608
                (name, number),
            ).fetchone()
        if row is None:
            raise HubError(404, f"{name} has no pull request or discussion {number}.")
        return Discussion(*row)

    def find(self, name: str, number: int) -> Discussion | None:
        """Return a discussion or pull request, or ``None``."""
        return next((one for one in self.find_all(name) if one.number == number), None)

    def events(self, name: str, number: int) -> list[DiscussionEvent]:
        """Return the events of a discussion, oldest first."""
        with self._db.read() as connection:
            rows = connection.execute(
                "SELECT id, type, author, created, data FROM hub_discussion_event"
                " WHERE repository = ? AND number = ? ORDER BY position",
                (name, number),
            ).fetchall()
        return [
            DiscussionEvent(event_id, kind, author, created, json.loads(data))
            for event_id, kind, author, created, data in rows
        ]

    def comment(self, name: str, number: int, author: str, text: str) -> DiscussionEvent:
        """Add a comment."""
        return self._add(name, number, "comment", author, _comment(text, edited=False, hidden=False))

    def change_comment(
        self, name: str, number: int, comment: str, *, text: str | None = None, hidden: bool = False
    ) -> DiscussionEvent:
        """Replace the text of a comment, or hide it permanently.

        :raises HubError: 404, there is no such comment.
        :raises BadRequestError: it is hidden.
        """
        with self._db.write() as connection:
            found = next(
                (one for one in self.events(name, number) if one.id == comment and one.type == "comment"), None
            )
            if found is None:
                raise HubError(404, f"Discussion {number} of {name} has no comment {comment!r}.")
            if found.data["hidden"]:
                raise BadRequestError(f"Comment {comment!r} is hidden and cannot be changed.")
            data = _comment("" if text is None else text, edited=not hidden, hidden=hidden)
            connection.execute(
                "UPDATE hub_discussion_event SET data = ? WHERE repository = ? AND number = ? AND id = ?",
                (json.dumps(data), name, number, comment),
            )
        return replace(found, data=data)

    def set_title(self, name: str, number: int, author: str, title: str) -> DiscussionEvent:
        """Change the title."""
        with self._db.write() as connection:
            old = self.get(name, number).title
            connection.execute(
                "UPDATE hub_discussion SET title = ? WHERE repository = ? AND number = ?", (title, name, number)
            )
            return self._add(name, number, "title-change", author, {"from": old, "to": title})

    def set_status(
        self, name: str, number: int, author: str, status: str, merge_commit: str | None = None
    ) -> DiscussionEvent:
        """Set the status: ``open``, ``closed`` or ``merged``. Opening a draft publishes it.

        :param merge_commit: id of the merge commit.
        :raises BadRequestError: it is already merged.
        """
        with self._db.write() as connection:
            self.require_unmerged(name, number)
            connection.execute(
                "UPDATE hub_discussion SET status = ? WHERE repository = ? AND number = ?", (status, name, number)
            )
            data = {"status": status} | ({"mergeCommitId": merge_commit} if merge_commit else {})
            return self._add(name, number, "status-change", author, data)

    def commit(self, name: str, number: int, author: str, title: str, oid: str) -> DiscussionEvent:
        """Record a commit to a pull request."""
        return self._add(name, number, "commit", author, {"subject": title, "oid": oid})

    def require_unmerged(self, name: str, number: int) -> Discussion:
        """Return a discussion, after checking that it is not merged.

        :raises HubError: 404, there is none with that number.
        :raises BadRequestError: it is merged.
        """
        discussion = self.get(name, number)
        if discussion.status == "merged":
            raise BadRequestError(f"Pull request {number} of {name} is already merged.")
        return discussion

    def _add(self, name: str, number: int, kind: EventType, author: str, data: dict[str, Any]) -> DiscussionEvent:
        event = DiscussionEvent(secrets.token_hex(12), kind, author, self._clock(), data)
        with self._db.write() as connection:
            connection.execute(
                "INSERT INTO hub_discussion_event (repository, number, position, id, type, author, created, data)"
                " SELECT ?, ?, 1 + coalesce(max(position), 0), ?, ?, ?, ?, ? FROM hub_discussion_event"
                " WHERE repository = ? AND number = ?",
                (name, number, event.id, kind, author, event.created, json.dumps(data), name, number),
            )
        return event


def _comment(text: str, *, edited: bool, hidden: bool) -> dict[str, Any]:
    return {"edited": edited, "hidden": hidden, "latest": {"raw": text}}
