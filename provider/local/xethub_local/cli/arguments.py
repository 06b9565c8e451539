"""The arguments of ``xethub-local``: repositories, paths in them, grants, the data folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xethub_local.repo import REPO_TYPES, SCOPES, InvalidNameError, Repo, Scope, check_path
from xethub_local.store.paths import repository_name

if TYPE_CHECKING:
    from xethub_local.local_store import LocalStore

REPO_SYNTAX = "TYPE:NAMESPACE/NAME"
USER_PREFIX = "user:"
RESOURCE_SYNTAX = f"{REPO_SYNTAX}|{USER_PREFIX}NAME"
REPO_PATH_SYNTAX = f"{REPO_SYNTAX}[@REVISION][:PATH]"


class CommandError(Exception):
    """The command failed; the message says in one line why, and what to do. Exit status 1."""


class UsageError(CommandError):
    """The command line is not valid. Exit status 2."""


@dataclass(frozen=True)
class RepoPath:
    """A repository at a revision, and a path in it; an empty path means the whole repository.

    :param is_folder: whether the path was written with a trailing slash, and so means a folder.
    """

    repo: Repo
    path: str = ""
    is_folder: bool = False

    @property
    def name(self) -> str:
        """The name of the repository in the store, such as ``datasets/acme/corpus``."""
        return repository_name(self.repo)

    def __str__(self) -> str:
        return repo_text(self.repo) + (f":{self.path}" if self.path else "")


def repo_argument(text: str) -> Repo:
    """Parse ``dataset:acme/corpus``.

    :raises UsageError: the argument has another form.
    """
    repo_type, colon, repo_id = text.partition(":")
    if not colon or repo_type not in REPO_TYPES:
        raise UsageError(f"{text!r} is not of the form {REPO_SYNTAX}, where TYPE is one of {', '.join(REPO_TYPES)}.")
    try:
        return Repo(repo_id, repo_type)  # type: ignore[arg-type]
    except InvalidNameError as error:
        raise UsageError(str(error)) from error


def repo_path_argument(text: str) -> RepoPath:
    """Parse ``dataset:acme/corpus@v1:photos/adelie.jpg``. Names and revisions contain no colon, names no ``@``.

    :raises UsageError: the argument has another form.
    """
    repo_type, colon, rest = text.partition(":")
    location, _, path = rest.partition(":")
    repo_id, at, revision = location.partition("@")
    if at and not revision:
        raise UsageError(f"{text!r} is not of the form {REPO_PATH_SYNTAX}: the revision after '@' is missing.")
    repo = repo_argument(f"{repo_type}{colon}{repo_id}")
    try:
        repo = repo.at(revision) if at else repo
        if path.rstrip("/"):
            check_path(path.rstrip("/"))
    except InvalidNameError as error:
        raise UsageError(str(error)) from error
    return RepoPath(repo, path.rstrip("/"), path.endswith("/"))


def grant_argument(text: str) -> tuple[str, Scope]:
    """Parse ``datasets/acme/corpus=write``.

    :raises UsageError: the argument has another form.
    """
    where, equals, scope = text.partition("=")
    if not equals or scope not in SCOPES:
        raise UsageError(f"--grant {text!r} is not of the form WHERE=read or WHERE=write.")
    return where, "write" if scope == "write" else "read"


def repo_text(repo: Repo) -> str:
    """Return a repository as it is written on the command line, such as ``dataset:acme/corpus@main``."""
    revision = "" if repo.is_bucket else f"@{repo.revision}"
    return f"{repo.repo_type}:{repo.repo_id}{revision}"


@contextmanager
def opened_store(folder: Path, *, must_exist: bool = True) -> Iterator[LocalStore]:
    """Open a data folder, which a server may be using at the same time.

    :param must_exist: do not create a new folder.
    :raises CommandError: the folder is not one of a local Hub, or the block fails with an error of the Hub.
    """
    from xethub_local.local_store import LocalStore
    from xethub_local.store.database import FILE_NAME
    from xethub_local.store.errors import HubError, RepoNotFoundError

    if must_exist and not (folder / FILE_NAME).exists():
        raise CommandError(f"there is no local Hub in the folder {folder}. Choose its folder with --folder.")
    store = LocalStore(folder)
    try:
        yield store
    except RepoNotFoundError as error:
        raise CommandError(
            f"repository {error.repository} does not exist in {folder}. Create it with: xethub-local create-repo. "
            "List the repositories with: xethub-local ls"
        ) from error
    except HubError as error:
        raise CommandError(str(error)) from error
    finally:
        store.close()
