"""The rule for paths inside repositories, as every route that takes one applies it."""

from __future__ import annotations

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.local.store.errors import BadRequestError, HubError
from airflow_provider_xethub.xet.repo import check_path

MAX_NAME_BYTES = 255


def require_path(path: str) -> str:
    """Return ``path`` if it may be used in a repository.

    A backslash is a character like others at the Hub, except where a path begins with two dots and one.

    :raises BadRequestError: it could mean another place, or no file system could hold one of its names.
    :raises HubError: 422, it would climb out of a folder on Windows.
    """
    if path.startswith("..\\"):
        raise HubError(422, f"path {path[:80]!r} in a repository is not valid: it climbs out of its folder.")
    try:
        check_path(path.replace("\\", "_"))
    except XetInputError as error:
        raise BadRequestError(str(error)) from error
    for name in path.split("/"):
        if len(name.encode()) > MAX_NAME_BYTES:
            raise BadRequestError(
                f"path {path[:80]!r}... in a repository is not valid: a name in it has over {MAX_NAME_BYTES} bytes."
            )
    return path
