"""The hook of a filesystem, and the range readers that it keeps open."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_xethub.hooks.xethub import XetHubConnection
    from airflow_provider_xethub.xet.cas.ranges import Ranges
    from airflow_provider_xethub.xet.repo import Repo


@dataclass(frozen=True)
class _Opened:
    hook: XetHubConnection
    process_id: int = field(default_factory=os.getpid)
    ranges: dict[Repo, Ranges] = field(default_factory=dict)


class OpenHook:
    """The hook of a connection and its range readers, opened when they are first used in a process.

    Airflow keeps a filesystem for the life of the process, and may have made it before a fork.

    :param conn_id: the Airflow connection.
    """

    def __init__(self, conn_id: str) -> None:
        self._conn_id = conn_id
        self._lock = threading.Lock()
        self._opened: _Opened | None = None

    def _open(self) -> _Opened:
        from airflow_provider_xethub.hooks.xethub import XetHubConnection

        with self._lock:
            if self._opened is None or self._opened.process_id != os.getpid():
                self._opened = _Opened(XetHubConnection(self._conn_id))
            return self._opened

    @property
    def hook(self) -> XetHubConnection:
        """The hook of this process."""
        return self._open().hook

    def ranges(self, repo: Repo) -> Ranges:
        """Return the range reader of a repository: one for all of its files and threads."""
        from airflow_provider_xethub.xet.cas import ranges as cas_ranges
        from airflow_provider_xethub.xet.cas import session as cas

        opened = self._open()
        hook = opened.hook

        def access(refused: cas.CasAccess | None) -> cas.CasAccess:
            token = hook.refresh_token(refused.token) if refused else hook.get_token(repo, "read")
            return hook.cas_access()(token)

        with self._lock:
            return opened.ranges.setdefault(repo, cas_ranges.Ranges(access))
