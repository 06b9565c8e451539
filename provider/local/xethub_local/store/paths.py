"""Names of repositories, and the rule for paths in them, for every route that takes one."""

from __future__ import annotations

from xethub_local.repo import InvalidNameError, Repo, check_path
from xethub_local.store.errors import BadRequestError, HubError

MAX_NAME_BYTES = 255


def repository_name(repo: Repo) -> str:
    """Return the name under which a repository is stored, such as ``datasets/acme/corpus`` or ``models/acme/m``."""
    return f"{repo.repo_type}s/{repo.repo_id}"


def require_path(path: str) -> str:
    """Return ``path`` if it is allowed in a repository.

    :raises BadRequestError: it is ambiguous, or one of its names is too long for a file system.
    :raises HubError: 422, it would leave its folder on Windows.
    """
    if path.startswith("..\\"):
        raise HubError(422, f"path {path[:80]!r} in a repository is not valid: it climbs out of its folder.")
    try:
        check_path(path)
    except InvalidNameError as error:
        raise BadRequestError(str(error)) from error
    for name in path.split("/"):
        if len(name.encode()) > MAX_NAME_BYTES:
            raise BadRequestError(
                f"path {path[:80]!r}... in a repository is not valid: a name in it has over {MAX_NAME_BYTES} bytes."
            )
    return path
