"""The local Hub as a single test sees it: one user with write access to one empty namespace."""

from __future__ import annotations

import json
import os
import secrets
from typing import TYPE_CHECKING, Any

from xethub_local.control.fault import Fault
from xethub_local.control.faults import Faults
from xethub_local.control.logged_request import LoggedRequest
from xethub_local.control.request_log import RequestLog
from xethub_local.metadata.buckets import BucketFile
from xethub_local.metadata.commits import PutRegular, PutXet
from xethub_local.metadata.history import Commit
from xethub_local.metadata.scans import Scans
from xethub_local.metadata.upload_modes import GITATTRIBUTES, SAMPLE_BYTES, lfs_rules, upload_mode
from xethub_local.repo import Repo, RepoType
from xethub_local.server import LocalHub
from xethub_local.store.errors import EntryNotFoundError
from xethub_local.store.issuer import DEFAULT_SUBJECT
from xethub_local.store.paths import repository_name
from xethub_local.store.publishers import Publisher

if TYPE_CHECKING:
    import pytest

__all__ = ["Fault", "HubOfOneTest", "IsolatedHub"]

_DIRECT = "127.0.0.1,localhost"


class IsolatedHub:
    """A local Hub in which one test has a namespace of its own; the value of the fixture ``xethub``.

    :ivar url: endpoint of the Hub.
    :ivar token: a Hub token with write access to :attr:`namespace` only.
    :ivar namespace: empty at first, and deleted after the test.
    :ivar faults: injected faults, :class:`~xethub_local.control.faults.Faults`.
    :ivar scans: what is reported about scans of files, :class:`~xethub_local.metadata.scans.Scans`.
    :ivar log: request log, :class:`~xethub_local.control.request_log.RequestLog`.
    :ivar server: the local Hub itself, :class:`~xethub_local.server.LocalHub`.
    """

    def __init__(self, server: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
        server.reset()  # a test that used the server directly may have left it in any state
        self.server = server
        self.namespace = f"test-{secrets.token_hex(6)}"
        self.url: str = server.url
        self.token: str = server.add_user(self.namespace, role="write")
        self.faults: Faults = server.faults
        self.scans: Scans = server.scans
        self.log: RequestLog = server.log
        self._publishers: list[str] = []
        self._monkeypatch = monkeypatch
        for name in ("NO_PROXY", "no_proxy"):
            # Clients would send even loopback requests to a proxy named in the environment.
            given = os.environ.get(name)
            monkeypatch.setenv(name, f"{given},{_DIRECT}" if given else _DIRECT)

    def connect(self, conn_id: str = "xethub_default", **fields: Any) -> str:
        """Define an Airflow connection to this Hub in an environment variable, until the test ends.

        :param fields: connection fields to override, such as ``password=""`` or ``extra={"timeout": 1}``.
        :return: ``conn_id``.
        """
        value = {"conn_type": "xethub", "host": self.url, "password": self.token, **fields}
        self._monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(value))
        return conn_id

    def create_repo(self, name: str, repo_type: RepoType = "model", private: bool = False) -> Repo:
        """Create a repository, or a bucket, in :attr:`namespace`; its only file is ``.gitattributes``.

        :raises ConflictError: it already exists.
        :raises InvalidNameError: the name is invalid.
        """
        return self.server.create_repo(f"{self.namespace}/{name}", repo_type, private)

    def put(self, repo: Repo, path: str, content: bytes | str) -> None:
        """Commit one file. As on the Hub, the commit carries small text files itself; others go to CAS.

        :raises RepoNotFoundError: the repository does not exist.
        :raises BadRequestError: the path is invalid.
        """
        data = content.encode() if isinstance(content, str) else content
        name = repository_name(repo)
        self.server.repositories.get(name)
        if repo.is_bucket:
            stored = self.server.content.add_plain(data, repository=name)
            now = self.server.access.now()
            file = BucketFile(path, stored.size, stored.xet_hash, int(now * 1000), now)
            self.server.bucket_files.put(name, file)
            return
        change: PutRegular | PutXet = PutRegular(path, data)
        if upload_mode(len(data), data[:SAMPLE_BYTES], self._is_lfs(repo, path)) != "regular":
            stored = self.server.content.add_plain(data, repository=name)
            change = PutXet(path, stored.xet_hash, stored.sha256 or "", stored.size)
        self.server.commits.commit(name, repo.revision, [change], title=f"Put {path}", author=self.namespace)

    def files(self, repo: Repo) -> list[str]:
        """Return the sorted paths of all files, without the ``.gitattributes`` of new repositories.

        :raises RepoNotFoundError: the repository does not exist.
        """
        name = repository_name(repo)
        if repo.is_bucket:
            self.server.repositories.get(name)
            return sorted(file.path for file in self.server.bucket_files.beneath(name))
        entries = self.server.repositories.entries(name, self._head(repo))
        return sorted(entry.path for entry in entries if entry.kind != "directory" and entry.path != GITATTRIBUTES)

    def read(self, repo: Repo, path: str) -> bytes:
        """Return the content of a file.

        :raises EntryNotFoundError: the file does not exist.
        :raises RepoNotFoundError: the repository does not exist.
        """
        name = repository_name(repo)
        if repo.is_bucket:
            self.server.repositories.get(name)
            found = self.server.bucket_files.get(name, path)
            if found is None:
                raise EntryNotFoundError(name, path)
            xet_hash: str | None = found.xet_hash
        else:
            entry = self.server.repositories.entry(name, self._head(repo), path)
            if entry.kind == "directory":
                raise EntryNotFoundError(name, path)
            xet_hash = entry.xet_hash
        if xet_hash is None:
            return self.server.repositories.blob(entry.oid)
        return b"".join(self.server.content.read_file(xet_hash))

    def commits(self, repo: Repo) -> list[Commit]:
        """Return the commits of a repository's revision, newest first; the last one is the initial commit."""
        return self.server.repositories.commits(repository_name(repo), repo.revision)

    def identity(self, sub: str = DEFAULT_SUBJECT, **claims: Any) -> str:
        """Return an ID token of the Hub's own issuer; see :meth:`LocalHub.identity`."""
        return self.server.identity(sub, **claims)

    def publisher(
        self, repo: Repo | str, issuer: str | None = None, read_only: bool = False, **claims: str | int | bool
    ) -> Publisher:
        """Add a trusted publisher of a repository or user, which is removed after the test.

        See :meth:`LocalHub.publisher`.
        """
        added = self.server.publisher(repo, issuer, read_only, **claims)
        self._publishers.append(added.id)
        return added

    def requests(self, route: str = ".*", **only: Any) -> list[LoggedRequest]:
        """Return the requests of this test; see :meth:`RequestLog.requests`."""
        return self.log.requests(route, **only)

    @property
    def token_life(self) -> int:
        """Seconds that a new Xet token is valid, at least 1. The next test starts with 900 again."""
        return self.server.token_life

    @token_life.setter
    def token_life(self, seconds: int) -> None:
        self.server.token_life = seconds

    @property
    def data_url_life(self) -> int:
        """Seconds that a new data URL is valid. The next test starts with 900 again."""
        return self.server.data_url_life

    @data_url_life.setter
    def data_url_life(self, seconds: int) -> None:
        self.server.data_url_life = seconds

    @property
    def clock_offset(self) -> float:
        """Seconds that the server's clock is ahead. The next test starts with 0 again."""
        return self.server.clock_offset

    @clock_offset.setter
    def clock_offset(self, seconds: float) -> None:
        self.server.clock_offset = seconds

    @property
    def exchanged_token_lifetime(self) -> int:
        """Seconds that a new exchanged token is valid, at least 1. The next test starts with 3,600 again."""
        return self.server.exchanged_token_lifetime

    @exchanged_token_lifetime.setter
    def exchanged_token_lifetime(self, seconds: int) -> None:
        self.server.exchanged_token_lifetime = seconds

    def close(self, *, keep: bool = False) -> None:
        """Reset the server and delete the test's user.

        :param keep: do not delete the repositories in its namespace.
        """
        self.server.start()  # the test may have stopped it
        self.server.reset()
        for publisher_id in self._publishers:
            self.server.publishers.remove(publisher_id)
        self.server.access.revoke(self.namespace)
        if not keep:
            for repository in self.server.repositories.find_all():
                if repository.repo_id.startswith(f"{self.namespace}/"):
                    self.server.repositories.delete(repository.name)
                    self.server.content.forget_repository(repository.name)

    def _head(self, repo: Repo) -> Commit:
        self.server.repositories.get(repository_name(repo))
        return self.server.repositories.resolve(repository_name(repo), repo.revision)

    def _is_lfs(self, repo: Repo, path: str) -> bool | None:
        rules = self.server.repositories.find(self._head(repo), GITATTRIBUTES)
        text = self.server.repositories.blob(rules.oid).decode(errors="replace") if rules else ""
        return lfs_rules(text)(path)


HubOfOneTest = IsolatedHub
"""Alias of :class:`IsolatedHub`, its name in release 0.1.0."""
