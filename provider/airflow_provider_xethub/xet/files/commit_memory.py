"""Remembers which files in CAS a repository has at a commit, so that the Hub need not be asked about each of them.

A commit never changes: its id is a digest of all that it contains. So what is remembered holds as long as the branch is
at that commit, whatever happened to branch and repository in between; and it is of no use as soon as it is at another.

The files are in the folder of :mod:`~airflow_provider_xethub.xet.files.digest_memory`, and hold no names, either.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from airflow_provider_xethub.xet.files.digest_memory import DigestMemory

MAX_FILES = 100_000
"""Files that are remembered of one upload; of more, none are. They take 30 MB of memory, and 8 MB on disk."""

MAX_COMMITS = 20
"""Commits of one upload; of more, nothing is remembered."""

_MAGIC = b"xethub commit 1\n"
_HEADER = struct.Struct("<I")
_RECORD = struct.Struct("<16s32s32s")


class Stored(NamedTuple):
    """How a repository has a file that is in CAS: sha256 and Xet hash, in hex."""

    sha256: str
    xet_hash: str


@dataclass(frozen=True)
class Place:
    """What was uploaded, and where to.

    :param endpoint: of the Hub.
    :param repo: the ``hf://`` URI of the repository and branch.
    :param gitignore: the content of the ``.gitignore`` that is published with the files.
    :param folder: the folder in the repository of the first file, so that uploads to several folders have one each.
    """

    endpoint: str
    repo: str
    gitignore: str | None
    folder: str

    @property
    def name(self) -> str:
        """The name of its file."""
        identity = json.dumps([self.endpoint, self.repo, self.gitignore, self.folder])
        return "c" + hashlib.sha256(identity.encode()).hexdigest()[:31]


class CommitMemory:
    """What a repository has at a commit.

    :param commits: the newest commits of the branch, newest first, at which all of this is true. The last one is that
        at which the Hub was asked; those before it were made by the upload.
    """

    def __init__(self, commits: Sequence[str] = ()) -> None:
        self.commits = tuple(commits)
        self._files: dict[bytes, bytes] = {}

    def add(self, path: str, sha256: str, xet_hash: str) -> None:
        """Remember a file."""
        key = _key(path)
        self._files[key] = _RECORD.pack(key, bytes.fromhex(sha256), bytes.fromhex(xet_hash))

    def get(self, path: str) -> Stored | None:
        """Return how a file is stored; ``None`` where that is unknown."""
        record = self._files.get(_key(path))
        return None if record is None else Stored(record[16:48].hex(), record[48:].hex())

    def store(self, memory: DigestMemory, place: Place) -> None:
        """Keep it for the next upload."""
        header = json.dumps(self.commits).encode()
        memory.store(place.name, _MAGIC, b"".join([_HEADER.pack(len(header)), header, *self._files.values()]))

    @classmethod
    def load(cls, memory: DigestMemory, place: Place) -> CommitMemory | None:
        """Return what was kept; ``None`` where there is nothing, or it is damaged."""
        body = memory.load(place.name, _MAGIC)
        if body is None:
            return None
        try:
            start = _HEADER.size + _HEADER.unpack_from(body)[0]
            found = cls(json.loads(body[_HEADER.size : start]))
            found._files = {record[:16]: record for record in _records(body, start)}
        except (ValueError, TypeError, struct.error):
            return None
        return found


def _records(body: bytes, start: int) -> Iterator[bytes]:
    return (body[at : at + _RECORD.size] for at in range(start, len(body), _RECORD.size))


def _key(path: str) -> bytes:
    return hashlib.blake2b(path.encode(), digest_size=16).digest()
