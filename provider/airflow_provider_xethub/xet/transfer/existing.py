"""Which files of a download exist already with the same content, so that they are skipped."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from airflow_provider_xethub.exceptions import XetDestinationError
from airflow_provider_xethub.xet import native_client
from airflow_provider_xethub.xet.files.content_identity import XET_HASH
from airflow_provider_xethub.xet.files.digest_memory import DigestMemory, FileState
from airflow_provider_xethub.xet.files.targets import Target, digest, digest_of, state_of
from airflow_provider_xethub.xet.message_text import os_reason
from airflow_provider_xethub.xet.transfer import digests
from airflow_provider_xethub.xet.transfer.remembered import digests_of


class _Candidate(NamedTuple):
    """A target whose final path has a file of the same size, the state of that file, and its wanted digest."""

    target: Target
    state: FileState
    wanted: str

    def __fspath__(self) -> str:
        return str(self.target.path)


def equal(targets: Sequence[Target], memory: DigestMemory | None) -> set[Path]:
    """Return the final paths that already hold their file; none where no digest is known.

    :param memory: remembers digests of files that did not change; ``None``: all are read.
    :raises XetHubError: a path cannot exist, for example because a name is too long.
    """
    by_kind: dict[str, list[_Candidate]] = {}
    for target in targets:
        kind, value = digest_of(target.file) or (XET_HASH, target.file["xet_hash"])
        if value and (state := state_of(target)) and state.size == target.file["size"]:
            by_kind.setdefault(kind, []).append(_Candidate(target, state, value))
    return {path for kind, candidates in by_kind.items() for path in _equal(kind, candidates, memory)}


def _equal(kind: str, candidates: Sequence[_Candidate], memory: DigestMemory | None) -> set[Path]:
    found = digests_of(memory, kind, candidates, partial(_computed, kind, candidates)).digests
    return {file.target.path for file, digest in zip(candidates, found, strict=True) if digest == file.wanted}


def _computed(kind: str, candidates: Sequence[_Candidate], numbers: Sequence[int]) -> list[str]:
    chosen = [candidates[number] for number in numbers]
    if kind == XET_HASH:
        try:
            return native_client.xet_hashes([file.target.path for file in chosen]) if chosen else []
        except OSError as error:  # it does not say which of them
            raise _unreadable(chosen[0].target.path.parent, error) from error
    return digests.each(partial(_digest, kind), chosen)


def _digest(kind: str, file: _Candidate) -> str:
    try:
        return digest(file.target.path, kind, file.state.size)
    except OSError as error:
        raise _unreadable(file.target.path, error) from error


def _unreadable(path: Path, error: OSError) -> XetDestinationError:
    return XetDestinationError(
        f"{path} cannot be read on this worker, to compare it: {os_reason(error)}. Correct that, or remove the file. "
        "Nothing was downloaded."
    )
