"""Digests of local files: remembered where the file has not changed, and computed otherwise.

They only decide whether a file has to be transferred. What is transferred is verified by digests that are computed.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from airflow_provider_xethub.xet.files.digest_memory import MIN_BYTES, DigestMemory, FileState

VERIFIED_SHARE = 1 / 256
"""Share of the remembered files that are read anyway, chosen at random, to verify the memory."""

VERIFIED_BYTES = 4 << 20
"""Bytes that are verified at least; in a smaller folder, everything is read."""

NEW_SECONDS = 3600.0
"""Seconds since its last change for which a file counts as new. What a task before this one has just made differs from
what the repository has under its name far more often than not."""

log = logging.getLogger(__name__)


class LocalContent(Protocol):
    """A local file whose digest is wanted, in the state in which it was found."""

    def __fspath__(self) -> str: ...

    @property
    def state(self) -> FileState:
        """What it is recognised by."""


class Found(NamedTuple):
    """The digests of files.

    :param digests: in the order of the files.
    :param recalled: numbers of the files that were not read, because they did not change.
    :param changed: numbers of the files that were not read, because they did; their digests are empty.
    """

    digests: list[str]
    recalled: Collection[int]
    changed: Collection[int] = ()


def digests_of(
    memory: DigestMemory | None,
    kind: str,
    files: Sequence[LocalContent],
    compute: Callable[[Sequence[int]], Sequence[str]],
    unread_from: int | None = None,
    there: Sequence[str | None] = (),
) -> Found:
    """Return the digests of files; only those are read that changed or are unknown, and a random sample of the rest.

    If a file of the sample has another digest than was remembered, the memory of the folder is dropped and every file
    is read.

    :param memory: ``None``: read all.
    :param kind: one of :data:`~airflow_provider_xethub.xet.files.digest_memory.KINDS`.
    :param compute: reads files, by their numbers, and returns their digests.
    :param unread_from: size in bytes from which a file is not read either that was written to since it was remembered,
        or is new: it will have another digest, and the upload computes it anyway. ``None``: all of them are read.
    :param there: the digests that the other side has, in the order of the files. If one of them was remembered for
        another file of the folder, or an earlier state of this one, the file was replaced since then, and counts as
        written to.
    """
    if memory is None or not files or sum(file.state.size for file in files) < MIN_BYTES:
        return Found(list(compute(range(len(files)))), ())
    began = time.time_ns()
    root = _root(files)
    remembered = memory.of(root, kind)
    recalled = {number: remembered.recall(file.state) for number, file in enumerate(files)}
    known = {number: digest for number, digest in recalled.items() if digest is not None}
    sample = _sample({number: files[number].state.size for number in known})
    changed = {
        number
        for number, file in enumerate(files)
        if unread_from is not None and file.state.size >= unread_from and number not in known
        if remembered.has_changed(file.state)
        or ((digest := there[number]) and remembered.has_seen(digest))
        or began - file.state.mtime_ns < NEW_SECONDS * 1e9
    }
    unknown = [number for number in range(len(files)) if number not in known and number not in changed]
    read = _computed(compute, sorted([*unknown, *sample]))
    wrong = [number for number in sample if read[number] != known[number] and _is_unchanged(files[number])]
    if wrong:
        log.warning(
            "The remembered digest of %s is wrong, so all of %s is read. If it happens again, set [xethub] "
            "digest_memory = False: the file system did not record a change of %d of %d verified files.",
            os.fspath(files[wrong[0]]),
            root,
            len(wrong),
            len(sample),
        )
        remembered.drop()
        read |= _computed(compute, [number for number in known if number not in sample])
    else:
        new = {files[number].state: digest for number, digest in read.items() if number not in known}
        settled = {file.state for file in map(files.__getitem__, read) if file.state in new and _is_unchanged(file)}
        used = [files[number].state for number in known]
        remembered.keep({state: new[state] for state in settled}, began, used)
    digests = [read[number] if number in read else known.get(number, "") for number in range(len(files))]
    return Found(digests, known.keys() - read.keys(), changed)


def recalled(
    memory: DigestMemory | None,
    kind: str,
    files: Sequence[LocalContent],
    compute: Callable[[Sequence[int]], Sequence[str]],
) -> dict[int, str]:
    """Return the remembered digests, by the number of the file; no other file is read than a random sample of them.

    Nothing where a digest of the sample is wrong: then the memory of the folder is dropped, unless that file is being
    changed.
    """
    if memory is None or sum(file.state.size for file in files) < MIN_BYTES:
        return {}
    remembered = memory.of(_root(files), kind)
    known = {number: digest for number, file in enumerate(files) if (digest := remembered.recall(file.state))}
    sample = sorted(_sample({number: files[number].state.size for number in known}))
    wrong = [number for number, digest in _computed(compute, sample).items() if known[number] != digest]
    if any(_is_unchanged(files[number]) for number in wrong):
        log.warning("A remembered digest of a file in %s is wrong, so all of them are compared again.", _root(files))
        remembered.drop()
    if wrong:
        return {}
    remembered.keep({}, time.time_ns(), [files[number].state for number in known])
    return known


def remember(memory: DigestMemory | None, kind: str, found: Sequence[tuple[LocalContent, str]], began_ns: int) -> None:
    """Remember digests that were computed during an upload.

    :param found: files that have not changed since they were found, with their digests.
    :param began_ns: when reading began, on the clock ``time.time_ns``.
    """
    if memory is not None and found and sum(file.state.size for file, _ in found) >= MIN_BYTES:
        remembered = memory.of(_root([file for file, _ in found]), kind)
        remembered.keep({file.state: digest for file, digest in found}, began_ns)


def _root(files: Sequence[LocalContent]) -> Path:
    """Return the folder that all files are in."""
    folders = {os.path.dirname(file) for file in files}  # noqa: PTH120 - pathlib takes ten times as long
    return Path(os.path.commonpath([os.path.abspath(folder) for folder in folders]))  # noqa: PTH100


def _sample(sizes: Mapping[int, int]) -> set[int]:
    """Choose which remembered files are read; each byte has the same chance."""
    total = sum(sizes.values())
    verified = max(VERIFIED_SHARE * total, VERIFIED_BYTES)
    return {number for number in sizes if random.random() * total < verified}  # noqa: S311 - not against an attacker


def _computed(compute: Callable[[Sequence[int]], Sequence[str]], numbers: Sequence[int]) -> dict[int, str]:
    return dict(zip(numbers, compute(numbers), strict=True))


def _is_unchanged(file: LocalContent) -> bool:
    try:
        return FileState.at(file) == file.state
    except OSError:
        return False
