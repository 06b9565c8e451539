"""Error responses of the Hub routes.

The error codes are those that ``huggingface_hub`` 2.4 maps to its exceptions. Without ``X-Error-Code`` it cannot
distinguish a missing repository from a missing file.
"""

from __future__ import annotations

from collections.abc import Mapping

REPOSITORY_NOT_FOUND = "Repository not found"
"""Exactly the real Hub's text: clients replace it with an explanation of their own, and show any other text."""


class HubError(Exception):
    """An error response.

    :param status: HTTP status.
    :param message: text of the response, which some clients compare; ``str()`` may give a wording of our own.
    :param code: value of ``X-Error-Code``, if the Hub has one for this error.
    :param headers: further headers of the response.
    :param extra: further fields of the JSON body.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})


class BadRequestError(HubError):
    """400: the request is invalid."""

    def __init__(self, message: str) -> None:
        super().__init__(400, message)


class RepoNotFoundError(HubError):
    """404: the repository does not exist, or this credential cannot see it."""

    def __init__(self, repository: str) -> None:
        super().__init__(
            404,
            REPOSITORY_NOT_FOUND,
            "RepoNotFound",
        )
        self.repository = repository

    def __str__(self) -> str:
        return f"Repository {self.repository} does not exist here, or the Hub token cannot see it. Create it first."


class RevisionNotFoundError(HubError):
    """404: no branch, tag, commit or pull request of that name."""

    def __init__(self, repository: str, revision: str) -> None:
        super().__init__(
            404,
            f"Invalid rev id: {revision}. {repository} has no branch, tag, commit or pull request of that name.",
            "RevisionNotFound",
        )
        self.repository, self.revision = repository, revision

    def __str__(self) -> str:
        return f"Revision {self.revision!r} does not exist in {self.repository}."


class EntryNotFoundError(HubError):
    """404: there is no file or folder at that path in that commit. The response names the commit, for client caches."""

    def __init__(self, repository: str, path: str, commit: str | None = None) -> None:
        super().__init__(
            404,
            f"{path!r} does not exist in {repository}" + (f" at commit {commit}." if commit else "."),
            "EntryNotFound",
            headers={"X-Repo-Commit": commit} if commit else {},
        )


class NothingToDeleteError(EntryNotFoundError):
    """404: a path to delete does not exist. Clients recognise the first words of the message."""

    def __init__(self, repository: str, path: str, commit: str) -> None:
        super().__init__(repository, path, commit)
        self.message = f"A file with this name doesn't exist: {path!r} in {repository} at commit {commit}."


class ConflictError(HubError):
    """409: it already exists. For a repository, the response must have its ``url``, which clients read."""

    def __init__(self, message: str, **extra: object) -> None:
        super().__init__(409, message, extra=extra)
