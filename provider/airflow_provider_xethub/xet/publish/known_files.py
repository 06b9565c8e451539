"""Which files of an upload the branch is known to have, without asking the Hub about each of them.

The Hub is asked for the newest commits and about a random sample; the rest is known from the last upload, if the branch
is still where that left it. Files that are new or changed, inline or empty, are asked about as if nothing were known.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence

from airflow_provider_xethub.exceptions import XetHubError, XetNotFoundError
from airflow_provider_xethub.xet.files.commit_memory import MAX_COMMITS, MAX_FILES, CommitMemory, Place
from airflow_provider_xethub.xet.files.digest_memory import DigestMemory
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.hub.preupload import BATCH_SIZE, UploadMode
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.records import XetCommitResult

MIN_FILES = BATCH_SIZE + 1
"""Files from which on asking about them takes more requests than asking for the commits."""

VERIFIED_FILES = 32
"""Files of each batch about which the Hub is asked although they are known, chosen at random."""

_RULES = (".gitattributes", ".gitignore")
"""Files that say how the Hub stores others."""

AskModes = Callable[[Sequence[str]], Mapping[str, UploadMode]]

log = logging.getLogger(__name__)


def is_worthwhile(request: CommitRequest) -> bool:
    """Return whether an upload is to be remembered."""
    return MIN_FILES <= len(request.files) <= MAX_FILES and not request.create_pr and not request.repo.is_bucket


class KnownFiles:
    """What the branch has, as far as it is known when an upload begins.

    :param memory: where this is remembered.
    :param request: with all files.
    :param gitignore: the content of the ``.gitignore`` that is published with the files.
    """

    def __init__(self, memory: DigestMemory, hub: Hub, request: CommitRequest, gitignore: str | None) -> None:
        self._memory = memory
        self._hub = hub
        self._request = request
        first = next(iter(request.files))["path"]
        self._place = Place(hub.endpoint, request.repo.uri, gitignore, first.rpartition("/")[0])
        self._known = CommitMemory.load(memory, self._place)
        self._used: set[str] = set()
        wanted = self._known.commits if self._known is not None else ()
        try:
            here = [commit["oid"] for commit in hub.latest_commits(request.repo, max(len(wanted), 1))]
        except XetNotFoundError:
            here = []  # the request about the files says what is missing
        self._head = here[0] if here else None
        if tuple(here) != wanted:
            self._known = None

    @property
    def is_known(self) -> bool:
        """Whether anything is known."""
        return self._known is not None

    def of(self, digests: Mapping[str, str]) -> dict[str, str]:
        """Return the Xet hashes of those files that the branch has with these digests, by path.

        :param digests: sha256 of local files, by path in the repository.
        """
        known = self._known
        if known is None:
            return {}
        return {
            path: there.xet_hash
            for path, sha256 in digests.items()
            if (there := known.get(path)) is not None and there.sha256 == sha256
        }

    def verified(self, there: Mapping[str, str], digests: Mapping[str, str], ask: AskModes) -> bool:
        """Return whether the Hub says the same about a random sample; otherwise nothing is known any more.

        :raises XetHubError: it does not, and earlier batches relied on what was known.

        :param there: what :meth:`of` returned.
        :param digests: as for :meth:`of`.
        :param ask: asks the Hub how it stores files, by their paths.
        """
        paths = random.sample(list(there), min(VERIFIED_FILES, len(there)))
        modes = ask(paths)
        is_right = all(modes[path] == UploadMode(False, digests[path], False) for path in paths)
        if is_right:
            found = self._hub.get_files(self._request.repo.at(self._head or ""), paths)
            right = [(path, digests[path], there[path]) for path in paths]
            is_right = [(file["path"], file["sha256"], file["xet_hash"]) for file in found] == right
        if is_right:
            self._used |= there.keys()
            return True
        self._known = None
        self._memory.store(self._place.name, b"", b"")
        about = f"The Hub does not say about {self._request.repo} what was remembered of the last upload"
        if self._used:
            raise XetHubError(f"{about}. Let the task retry: it asks about all files. Nothing was committed.")
        log.warning("%s, so it is asked about all files.", about)
        return False

    def remember(self, result: XetCommitResult) -> None:
        """Keep what the branch has after the upload."""
        request = self._request
        if self._head is None or result["pull_request"]:
            return
        unchanged = set(result["unchanged"])
        changed = [file["path"] for file in result["files"] if file["path"] not in unchanged]
        if any(path.endswith("/") or path.rpartition("/")[2] in _RULES for path in [*changed, *request.delete]):
            return
        made = [commit["oid"] for commit in reversed(result["commits"])]
        if self._head in made:  # a retry found what its killed try had committed before the Hub was asked
            made = made[: made.index(self._head)]
        commits = (*made, self._head)
        stored = [
            (file["path"], file["sha256"], file["xet_hash"])
            for file in result["files"]
            if file["sha256"] and file["xet_hash"] and file["size"] and "blob_id" not in file
        ]
        is_known = not made and len(self._used) == len(stored)
        if is_known or len(stored) < MIN_FILES or len(commits) > MAX_COMMITS or result["oid"] != commits[0]:
            return
        kept = CommitMemory(commits)
        for path, sha256, xet_hash in stored:
            kept.add(path, sha256, xet_hash)
        kept.store(self._memory, self._place)
