"""The world of one run: a local Hub with empty repositories, folders, a connection, and everything that was printed."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from airflow_provider_xethub.xet.hub import client
from airflow_provider_xethub.xet.publish import commit
from airflow_provider_xethub.xet.repo import Repo
from simulation.model import Model, Tree
from support.commit_builders import name_of
from support.repository_trees import read_tree
from support.secret_values import HEADER
from xethub_local.server import LocalHub

CONNECTION = {"timeout": 2, "stall_timeout": 1, "secret_headers": json.dumps({"X-Proxy-Key": HEADER})}
"""A stalled server costs a second or two, not half a minute."""

COMMIT_TIMEOUT = 3.0
RETRY_BUDGET = 6.0
"""For the same reason: seconds that a commit may take, and that the retries of one request may take."""


class World:
    """Repositories and folders that only one plan uses, at a Hub that other plans use, too.

    :param hub: it is running.
    :param folder: an empty folder for everything that this world writes.
    :param log: the file that the standard output and error of this process go to.
    :param repositories: ``{"name", "type"}`` of each, as in a plan.
    """

    def __init__(self, hub: LocalHub, folder: Path, log: Path, repositories: Iterable[Mapping[str, Any]]) -> None:
        self.hub = hub
        self.folder = folder
        self.log = log
        self.model = Model()
        self.repos: list[Repo] = []
        self.heads: dict[str, str | None] = {}
        self.temporary = folder / "temporary"
        self.temporary.mkdir(parents=True)
        self._log_position = log.stat().st_size
        self._earlier_tokens = set(hub.access.issued_xet_tokens())
        self._environment = {
            "AIRFLOW_CONN_XETHUB_DEFAULT": self._connection(),
            "TMPDIR": str(self.temporary),
            # One plan must not find what another one made the client record.
            "HF_XET_CACHE": str(folder / "cache"),
        }
        for each in repositories:
            made = hub.create_repo(each["name"], each["type"])
            repo = Repo(made.repo_id, made.repo_type)
            self.repos.append(repo)
            self.heads[name_of(repo)] = None if repo.is_bucket else self._commits(repo)[0]
            self.model.trees[name_of(repo)] = {}

    def __enter__(self) -> World:
        self._before = {name: os.environ.get(name) for name in self._environment}
        os.environ.update(self._environment)
        self._tempdir, tempfile.tempdir = tempfile.tempdir, str(self.temporary)
        self._limits = vars(commit)["COMMIT_TIMEOUT"], client.RETRY_BUDGET
        vars(commit)["COMMIT_TIMEOUT"], vars(client)["RETRY_BUDGET"] = COMMIT_TIMEOUT, RETRY_BUDGET
        return self

    def __exit__(self, *_: object) -> None:
        tempfile.tempdir = self._tempdir
        vars(commit)["COMMIT_TIMEOUT"], vars(client)["RETRY_BUDGET"] = self._limits
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def _connection(self) -> str:
        value = {"conn_type": "xethub", "host": self.hub.url, "password": self.hub.token(), "extra": CONNECTION}
        return json.dumps(value)

    def secrets(self) -> set[str]:
        """Return every credential that exists in this world."""
        return {self.hub.token("write"), HEADER, *self.hub.access.issued_xet_tokens()} - self._earlier_tokens

    def printed(self) -> str:
        """Return what was printed and logged since the last call."""
        sys.stdout.flush()
        with self.log.open("rb") as file:
            file.seek(self._log_position)
            found = file.read()
        self._log_position += len(found)
        return found.decode(errors="replace")

    def _commits(self, repo: Repo) -> list[str]:
        return [commit.id for commit in self.hub.repositories.commits(name_of(repo), "main")]

    def new_trees(self, repo: Repo) -> list[Tree]:
        """Return the tree of each commit that was made since the last call, oldest first; of a bucket, its content."""
        name = name_of(repo)
        if repo.is_bucket:
            return [read_tree(self.hub, repo)]
        commits = self._commits(repo)
        known = self.heads[name]
        new = commits[: commits.index(known)] if known in commits else commits
        self.heads[name] = commits[0]
        return [read_tree(self.hub, repo, commit) for commit in reversed(new)]


def resident_memory() -> int:
    """Return the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def files_below(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files below a folder, hidden ones too."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items()}
