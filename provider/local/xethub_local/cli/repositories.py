"""``xethub-local create-repo``, ``ls``, ``tokens`` and ``add-user``, which work on the data folder itself."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from xethub_local.cli.arguments import (
    RepoPath,
    UsageError,
    grant_argument,
    opened_store,
    repo_argument,
    repo_path_argument,
)
from xethub_local.cli.output import Cell, Moment, Size, print_table, print_text
from xethub_local.store.paths import repository_name

if TYPE_CHECKING:
    from xethub_local.local_store import LocalStore
    from xethub_local.metadata.repositories import Repository


def create_repo(options: argparse.Namespace) -> None:
    """Create a repository.

    :raises CommandError: the repository exists already.
    """
    repo = repo_argument(options.repo)
    with opened_store(options.folder, must_exist=False) as store:
        store.repositories.create(repository_name(repo), private=options.private)
    print_text(f"Created {repo.uri}")


def list_content(options: argparse.Namespace) -> None:
    """List all repositories, or the files of one.

    :raises CommandError: the repository, revision or path does not exist.
    """
    repo_path = repo_path_argument(options.path) if options.path is not None else None
    with opened_store(options.folder) as store:
        if repo_path is None:
            rows = [_repository_row(store, repository) for repository in store.repositories.find_all()]
            columns = ["Repository", "Visibility", "Files", "Size", "Changed"]
            empty = "No repositories yet. Create one with: xethub-local create-repo dataset:acme/corpus"
        else:
            rows = [_file_row(file) for file in files_of(store, repo_path)]
            columns = ["Size", "Stored", "Xet hash", "Path"]
            empty = f"{repo_path} is empty."
    print_table(columns, rows, empty=empty)


def files_of(store: LocalStore, repo_path: RepoPath) -> list[Any]:
    """Return the files at or below a path, sorted by path: tree entries, or files of a bucket.

    A bucket may have a file and a folder of the same path; with a trailing slash the path means the folder.

    :raises HubError: the repository, revision or path does not exist.
    """
    from xethub_local.store.errors import EntryNotFoundError

    name = store.repositories.get(repo_path.name).name
    if repo_path.repo.is_bucket:
        found = store.bucket_files.beneath(name, repo_path.path)
        if repo_path.path and not found:
            raise EntryNotFoundError(name, repo_path.path)
        file = [each for each in found if each.path == repo_path.path]
        inside = [each for each in found if each.path != repo_path.path]
        return (inside or file) if repo_path.is_folder else (file or inside)
    commit = store.repositories.resolve(name, repo_path.repo.revision)
    return [entry for entry in store.repositories.entries(name, commit, repo_path.path) if entry.kind != "directory"]


def tokens(options: argparse.Namespace) -> None:
    """Print all users, their Hub tokens and what these grant access to."""
    with opened_store(options.folder) as store:
        rows: list[list[Cell]] = [
            [
                identity.user,
                identity.token_name,
                identity.role,
                store.access.hub_token(identity.user, identity.token_name),
                ", ".join(f"{where}={scope}" for where, scope in identity.grants.items()),
            ]
            for identity in store.access.identities()
        ]
    print_table(["User", "Token", "Role", "Hub token", "Grants"], rows, empty="")


def add_user(options: argparse.Namespace) -> None:
    """Add or change a user, and print the Hub token.

    :raises UsageError: a grant is not valid.
    """
    grants = dict(map(grant_argument, options.grant))
    with opened_store(options.folder, must_exist=False) as store:
        try:
            token = store.access.add_user(options.user, role=options.role, grants=grants)
        except ValueError as error:
            raise UsageError(str(error)) from error
    print_text(token)


def _repository_row(store: LocalStore, repository: Repository) -> list[Cell]:
    files = [*_current_files(store, repository)]
    if repository.kind == "buckets":
        changed = max((file.uploaded for file in files), default=repository.created)
    else:
        changed = store.repositories.resolve(repository.name, "main").created
    return [
        f"{repository.kind.removesuffix('s')}:{repository.repo_id}",
        "private" if repository.private else "public",
        len(files),
        Size(sum(file.size for file in files)),
        Moment(changed),
    ]


def _current_files(store: LocalStore, repository: Repository) -> Iterator[Any]:
    if repository.kind == "buckets":
        return iter(store.bucket_files.beneath(repository.name))
    head = store.repositories.resolve(repository.name, "main")
    entries = store.repositories.entries(repository.name, head)
    return (entry for entry in entries if entry.kind != "directory")


def _file_row(file: Any) -> list[Cell]:
    return [Size(file.size), "xet" if file.xet_hash else "inline", file.xet_hash or "-", file.path]
