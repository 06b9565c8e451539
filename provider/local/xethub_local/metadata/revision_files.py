"""Find out whether a revision contains a file in CAS, so that tokens for it may read the file.

The protocol limits a Xet token to a repository and a revision. CAS requests name files by hash, but commits list them
by path. So the hashes in each folder are cached, and later commits that share most folders need little work.
"""

from __future__ import annotations

from functools import lru_cache

from xethub_local.metadata import trees
from xethub_local.metadata.repositories import Repositories
from xethub_local.store.errors import HubError

_CACHED_FOLDERS = 65_536


class RevisionFiles:
    """The files of all revisions that are in CAS. All methods may be called from any thread."""

    def __init__(self, repositories: Repositories) -> None:
        self._repositories = repositories
        self._cached = lru_cache(_CACHED_FOLDERS)(self._load)

    def has(self, repository: str, revision: str, xet_hash: str) -> bool:
        """Return whether a revision currently contains a file; ``False`` if the revision does not exist."""
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
