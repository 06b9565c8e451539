"""The state of a running local Hub: its data folder, faults, request log and settings, and how to reset them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xethub_local.control.faults import Faults
from xethub_local.control.request_log import RequestLog
from xethub_local.store.settings import Settings

if TYPE_CHECKING:
    from xethub_local.local_store import LocalStore


@dataclass(frozen=True)
class ServerState:
    """The data folder of a running server, and what the server keeps in memory only.

    :param initial_settings: the settings that :meth:`reset` restores.
    """

    store: LocalStore
    faults: Faults
    log: RequestLog
    initial_settings: Settings

    def reset(self, *, data: bool = False) -> int:
        """Switch off all faults, forget requests, transfers and rules about scans, and restore the initial settings.

        :param data: also delete all repositories and buckets with their access to files in CAS. Users and their Hub
            tokens are kept, and so are the bytes in CAS, which can no longer be read.
        :return: the number of repositories that were deleted.
        """
        self.faults.clear()
        self.store.scans.clear()
        self.store.access.settings = self.initial_settings
        names = [repository.name for repository in self.store.repositories.find_all()] if data else []
        with self.store.db.write():
            for name in names:
                self.store.repositories.delete(name)
                self.store.content.forget_repository(name)
        self.log.clear()
        return len(names)
