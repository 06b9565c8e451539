"""Which files in CAS a revision has: what tokens of it may read.

The protocol limits a Xet token to a repository and a reference. CAS is asked by hash, and a commit lists files by path:
so the hashes of its folders are remembered, and a later commit that shares most folders costs next to nothing.
"""

from __future__ import annotations

from functools import lru_cache

from airflow_provider_xethub.local.metadata import trees
from airflow_provider_xethub.local.metadata.repositories import Repositories
from airflow_provider_xethub.local.store.errors import HubError

_REMEMBERED = 65_536


class RevisionFiles:
    """The files in CAS of all revisions. Its methods may be called from any thread."""

    def __init__(self, repositories: Repositories) -> None:
        self._repositories = repositories
        self._cached = lru_cache(_REMEMBERED)(self._load)

    def has(self, repository: str, revision: str, xet_hash: str) -> bool:
        """Return whether a file is in the commit that a revision means now; not where that does not exist."""
        try:
            left = [self._repositories.resolve(repository, revision).tree]
        except HubError:
            return False
        while left:
            hashes, below = self._cached(left.pop())
            if xet_hash in hashes:
                return True
            left += below
        return False

    def _load(self, tree: str) -> tuple[frozenset[str], tuple[str, ...]]:
        with self._repositories.db.read() as connection:
            return trees.xet_hashes(connection, tree)
