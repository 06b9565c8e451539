"""Xorb grants: upload a xorb to a URL that authorises itself, then commit it.

hf-xet 1.8 tries them before it posts the xorb itself. They save the bytes of a xorb that is stored already, and find
bytes that changed on the way before they are looked at.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode

from airflow_provider_xethub.local.content.incoming_xorb import IncomingXorb
from airflow_provider_xethub.local.formats import FormatError, xorb

CHECKSUM_ALGORITHM = "crc64nvme"


@dataclass(frozen=True)
class XorbGrant:
    """What an upload URL is good for: these bytes of a xorb, for this repository.

    :param grant_id: names the upload when it is committed; it authorises nothing.
    :param length: bytes of the serialized xorb.
    :param checksum: their CRC-64/NVME.
    """

    grant_id: str
    repository: str
    length: int
    checksum: int

    def to_query(self) -> str:
        """Return the query that says so; sign it, for whoever can write it can upload."""
        return urlencode(
            {
                "grant": self.grant_id,
                "repository": self.repository,
                "length": self.length,
                CHECKSUM_ALGORITHM: self.checksum,
            }
        )

    @classmethod
    def from_query(cls, query: str) -> XorbGrant:
        """Return the grant of a query whose signature was verified."""
        said = parse_qs(query)
        (grant_id,), (repository,) = said["grant"], said["repository"]
        return cls(grant_id, repository, int(said["length"][0]), int(said[CHECKSUM_ALGORITHM][0]))

    def check(self, incoming: IncomingXorb) -> None:
        """Compare the checksum of what arrived with the one of what was announced.

        :raises FormatError: they differ.
        """
        if incoming.checksum != self.checksum:
            raise FormatError(
                f"Xorb {incoming.xorb_hash} is refused: the {CHECKSUM_ALGORITHM} of its bytes is {incoming.checksum}, "
                f"its grant is for {self.checksum}. They changed on the way; send them again."
            )


def parse_request(body: bytes | bytearray, max_length: int) -> tuple[int, int]:
    """Return length and checksum that a client asks a grant for.

    Source: the body that hf-xet 1.8 sends, whose checksum is a decimal string.

    :param max_length: bytes that a serialized xorb may have.
    :raises FormatError: it is not such a body, or the length is impossible.
    """
    try:
        asked = json.loads(body)
        length, algorithm, value = asked["length"], asked["checksum"]["algo"], asked["checksum"]["value"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FormatError(
            'A grant is asked for with {"length": 38, "checksum": {"algo": "crc64nvme", "value": "2745…"}}.'
        ) from error
    if not isinstance(length, int) or isinstance(length, bool) or not 0 < length <= max_length:
        raise FormatError(f"The length of a xorb is a number from 1 to {max_length}.")
    if algorithm != CHECKSUM_ALGORITHM:
        raise FormatError(f"The checksum of a xorb is its {CHECKSUM_ALGORITHM}; others are not known here.")
    if not (isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 20):
        raise FormatError(f"The {CHECKSUM_ALGORITHM} of a xorb is a decimal number, written as a string.")
    if int(value) >= 1 << 64:
        raise FormatError(f"The {CHECKSUM_ALGORITHM} of a xorb has 64 bits.")
    return length, int(value)


@dataclass(frozen=True)
class UncommittedXorb:
    """An upload under a grant: complete, checked and on the disk, and not visible before it is committed."""

    incoming: IncomingXorb
    found: xorb.Xorb
    repository: str
    forget_at: float


class UncommittedXorbs:
    """Uploads that wait for their commit. All methods may be called from any thread.

    A restart forgets them, and the client asks for new grants; the files that are left then are deleted like those of
    any upload that was cut off.

    :param now: the time of the server, UNIX seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._waiting: dict[str, UncommittedXorb] = {}

    def add(self, grant_id: str, upload: UncommittedXorb) -> None:
        """Keep an upload until it is committed or its time is over; another one under its grant is replaced."""
        with self._lock:
            replaced = self._waiting.pop(grant_id, None)
            self._waiting[grant_id] = upload
        if replaced is not None:
            replaced.incoming.discard()

    def take(self, grant_id: str, repository: str, xorb_hash: str) -> UncommittedXorb | None:
        """Return an upload, and forget it: the caller stores and discards it. ``None`` where there is no such one."""
        with self._lock:
            upload = self._waiting.get(grant_id)
            if upload is None or (upload.repository, upload.incoming.xorb_hash) != (repository, xorb_hash):
                return None
            return self._waiting.pop(grant_id)

    def discard_forgotten(self) -> None:
        """Delete the uploads whose time is over."""
        now = self._now()
        with self._lock:
            forgotten = [grant_id for grant_id, upload in self._waiting.items() if upload.forget_at <= now]
            uploads = [self._waiting.pop(grant_id) for grant_id in forgotten]
        for upload in uploads:
            upload.incoming.discard()
