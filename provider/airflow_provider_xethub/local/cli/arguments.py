"""What the arguments of ``xethub-local`` mean: repositories, places in them, the data folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.repo import REPO_TYPES, SCOPES, Repo, Scope, check_path

if TYPE_CHECKING:
    from airflow_provider_xethub.local.local_store import LocalStore

REPO_SYNTAX = "TYPE:NAMESPACE/NAME"
PLACE_SYNTAX = f"{REPO_SYNTAX}[@REVISION][:PATH]"


class CommandError(Exception):
    """The command cannot be carried out: what went wrong and what to do, in one line. Exit status 1."""


class UsageError(CommandError):
    """The command line itself is wrong. Exit status 2."""


@dataclass(frozen=True)
class Place:
    """A repository at a revision, and a path in it; the empty path is the whole repository.

    :param is_folder: the path was written with a slash at its end, and means a folder.
    """

    repo: Repo
    path: str = ""
    is_folder: bool = False

    @property
    def name(self) -> str:
        """The repository as the store names it, such as ``datasets/acme/corpus``."""
        return store_name(self.repo)

    def __str__(self) -> str:
        return shown(self.repo) + (f":{self.path}" if self.path else "")


def repo_argument(text: str) -> Repo:
    """Read ``dataset:acme/corpus``.

    :raises UsageError: it is something else.
    """
    repo_type, colon, repo_id = text.partition(":")
    if not colon or repo_type not in REPO_TYPES:
        raise UsageError(f"{text!r} is not of the form {REPO_SYNTAX}, where TYPE is one of {', '.join(REPO_TYPES)}.")
    try:
        return Repo(repo_id, repo_type)  # type: ignore[arg-type]
    except XetInputError as error:
        raise UsageError(str(error)) from error


def place_argument(text: str) -> Place:
    """Read ``dataset:acme/corpus@v1:photos/adelie.jpg``. No name or revision can hold a colon, no name an ``@``.

    :raises UsageError: it is something else.
    """
    repo_type, colon, rest = text.partition(":")
    location, _, path = rest.partition(":")
    repo_id, at, revision = location.partition("@")
    if at and not revision:
        raise UsageError(f"{text!r} is not of the form {PLACE_SYNTAX}: the revision after '@' is missing.")
    repo = repo_argument(f"{repo_type}{colon}{repo_id}")
    try:
        repo = repo.at(revision) if at else repo
        if path.rstrip("/"):
            check_path(path.rstrip("/"))
    except XetInputError as error:
        raise UsageError(str(error)) from error
    return Place(repo, path.rstrip("/"), path.endswith("/"))


def grant_argument(text: str) -> tuple[str, Scope]:
    """Read ``datasets/acme/corpus=write``.

    :raises UsageError: it is something else.
    """
    where, equals, scope = text.partition("=")
    if not equals or scope not in SCOPES:
        raise UsageError(f"--grant {text!r} is not of the form WHERE=read or WHERE=write.")
    return where, "write" if scope == "write" else "read"


def store_name(repo: Repo) -> str:
    """Return the store's name of a repository, such as ``datasets/acme/corpus``; models have a prefix here too."""
    return f"{repo.repo_type}s/{repo.repo_id}"


def shown(repo: Repo, *, with_revision: bool = True) -> str:
    """Return a repository the way that the commands take it, such as ``dataset:acme/corpus@main``."""
    revision = f"@{repo.revision}" if with_revision and not repo.is_bucket else ""
    return f"{repo.repo_type}:{repo.repo_id}{revision}"


@contextmanager
def opened_store(folder: Path, *, must_exist: bool = True) -> Iterator[LocalStore]:
    """Open a data folder, also one that a server is using.

    :param must_exist: refuse to make a new one.
    :raises CommandError: there is none, or what is done in it fails with an error of the Hub.
    """
    from airflow_provider_xethub.local.local_store import LocalStore
    from airflow_provider_xethub.local.store.database import FILE_NAME
    from airflow_provider_xethub.local.store.errors import HubError, RepoNotFoundError

    if must_exist and not (folder / FILE_NAME).exists():
        raise CommandError(f"there is no local Hub in the folder {folder}. Choose its folder with --folder.")
    store = LocalStore(folder)
    try:
        yield store
    except RepoNotFoundError as error:
        raise CommandError(
            f"Repository {error.repository} does not exist in {folder}. See what does with: "
            "xethub-local ls. Create it with: xethub-local create-repo"
        ) from error
    except HubError as error:
        raise CommandError(str(error)) from error
    finally:
        store.close()
