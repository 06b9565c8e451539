"""What controls a running local Hub: its faults, its settings, what it remembers of requests, and a fresh start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_xethub.local.control.faults import Faults
from airflow_provider_xethub.local.control.request_log import RequestLog
from airflow_provider_xethub.local.store.settings import Settings

if TYPE_CHECKING:
    from airflow_provider_xethub.local.local_store import LocalStore


@dataclass(frozen=True)
class Control:
    """The parts of a running server that are no data, and the data.

    :param first_settings: what :meth:`reset` goes back to.
    """

    store: LocalStore
    faults: Faults
    log: RequestLog
    first_settings: Settings

    def reset(self, *, data: bool = False) -> int:
        """Disarm all faults, forget requests, counters and transfers, and go back to the first settings.

        :param data: also delete all repositories and buckets, and what they may read in CAS. Users and their Hub
            tokens stay, and so do the bytes in CAS, which nobody can read then.
        :return: how many repositories were deleted.
        """
        self.faults.clear()
        self.store.access.settings = self.first_settings
        names = [repository.name for repository in self.store.repositories.find_all()] if data else []
        with self.store.db.write():
            for name in names:
                self.store.repositories.delete(name)
                self.store.content.forget_repository(name)
        self.log.clear()
        return len(names)
