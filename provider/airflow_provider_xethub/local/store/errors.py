"""What a Hub route answers instead of a success.

The error codes are those that ``huggingface_hub`` 2.4 maps to its exceptions; without the code in
``X-Error-Code`` it cannot tell a missing repository from a missing file.
"""

from __future__ import annotations

from collections.abc import Mapping

REPOSITORY_NOT_FOUND = "Repository not found"
"""Word for word the Hub's: clients show an explanation of their own instead, unless the Hub says something else."""


class HubError(Exception):
    """An answer that is not a success.

    :param status: the HTTP status.
    :param message: the text of the answer, which some clients compare word for word. ``str()`` gives our own wording.
    :param code: the value of ``X-Error-Code``, where the Hub has one for this.
    :param headers: further headers of the answer.
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
    """400: the request itself is wrong."""

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
    """404: no file or folder of that path at that commit. Carries the commit, so that clients can remember it."""

    def __init__(self, repository: str, path: str, commit: str | None = None) -> None:
        super().__init__(
            404,
            f"{path!r} does not exist in {repository}" + (f" at commit {commit}." if commit else "."),
            "EntryNotFound",
            headers={"X-Repo-Commit": commit} if commit else {},
        )


class NothingToDeleteError(EntryNotFoundError):
    """404: a path to be deleted does not exist. Clients know the first words."""

    def __init__(self, repository: str, path: str, commit: str) -> None:
        super().__init__(repository, path, commit)
        self.message = f"A file with this name doesn't exist: {path!r} in {repository} at commit {commit}."


class ConflictError(HubError):
    """409: it exists already. A repository's answer must carry its ``url``, which clients read from it."""

    def __init__(self, message: str, **extra: object) -> None:
        super().__init__(409, message, extra=extra)
