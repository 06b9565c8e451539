"""By which digest the content of a file is known: sha256, git blob id or Xet hash, whichever the Hub reports."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from airflow_provider_xethub.xet import native_client
from airflow_provider_xethub.xet.files.targets import digest_of, new_digest
from airflow_provider_xethub.xet.records import XetFile

SIZE = "size"
"""The kind of an empty file, whose size says it all."""

XET_HASH = "Xet hash"

KINDS = frozenset({"sha256", "git blob sha1", XET_HASH, SIZE})


class Identity(NamedTuple):
    """A content: its size, and the kind and value of a digest."""

    size: int
    kind: str
    value: str


def identity(file: XetFile) -> Identity | None:
    """Return what identifies the content of a file; ``None`` where the record has no digest."""
    if not file["size"]:
        return Identity(0, SIZE, "0")
    known = digest_of(file) or ((XET_HASH, file["xet_hash"]) if file["xet_hash"] else None)
    return Identity(file["size"], *known) if known else None


def content_digest(kind: str, size: int, blocks: Iterable[bytes]) -> str:
    """Compute the digest of a content of ``size`` bytes.

    :param kind: one of :data:`KINDS`.
    """
    if kind == SIZE:
        return str(size)
    if kind == XET_HASH:
        state = native_client.XetHash()
        try:
            for block in blocks:
                state.update(block)
            return state.hexdigest()
        finally:
            state.close()
    known = new_digest(kind, size)
    for block in blocks:
        known.update(block)
    return str(known.hexdigest())
