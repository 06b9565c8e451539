"""Xorb grants: a client uploads a xorb to a signed URL, and then commits it.

hf-xet 1.8 tries them before it posts a xorb directly. They avoid uploading a xorb that is already stored, and detect
bytes that changed in transit before they are parsed.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, urlencode

from xethub_local.content.incoming_xorb import IncomingXorb
from xethub_local.formats import FormatError, xorb

CHECKSUM_ALGORITHM = "crc64nvme"


@dataclass(frozen=True)
class XorbGrant:
    """What an upload URL authorises: uploading specific bytes of a xorb for one repository.

    :param grant_id: identifies the upload in its commit; it does not authorise anything.
    :param length: length of the serialized xorb in bytes.
    :param checksum: CRC-64/NVME of these bytes.
    """

    grant_id: str
    repository: str
    length: int
    checksum: int

    def to_query(self) -> str:
        """Return the query of the upload URL. The caller signs it, because it authorises an upload."""
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
        """Parse the grant in a query whose signature was verified."""
        fields = parse_qs(query)
        (grant_id,), (repository,) = fields["grant"], fields["repository"]
        return cls(grant_id, repository, int(fields["length"][0]), int(fields[CHECKSUM_ALGORITHM][0]))

    def check(self, incoming: IncomingXorb) -> None:
        """Compare the checksum of the uploaded bytes with the announced one.

        :raises FormatError: they differ.
        """
        if incoming.checksum != self.checksum:
            raise FormatError(
                f"Xorb {incoming.xorb_hash} is refused: the {CHECKSUM_ALGORITHM} of its bytes is {incoming.checksum}, "
                f"but its grant is for {self.checksum}. They changed in transit; send them again."
            )


def parse_request(body: bytes | bytearray, max_length: int) -> tuple[int, int]:
    """Parse the length and the checksum in a request for a grant.

    Source: the body that hf-xet 1.8 sends, with the checksum as a decimal string.

    :param max_length: maximum length of a serialized xorb in bytes.
    :raises FormatError: the body is malformed, or the length is out of range.
    """
    try:
        request = json.loads(body)
        length, algorithm, value = request["length"], request["checksum"]["algo"], request["checksum"]["value"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FormatError(
            'Request a grant with {"length": 38, "checksum": {"algo": "crc64nvme", "value": "2745…"}}.'
        ) from error
    if not isinstance(length, int) or isinstance(length, bool) or not 0 < length <= max_length:
        raise FormatError(f"The length of a xorb must be a whole number from 1 to {max_length}.")
    if algorithm != CHECKSUM_ALGORITHM:
        raise FormatError(f"The checksum of a xorb must be {CHECKSUM_ALGORITHM}; no other algorithm is supported.")
    if not (isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 20):
        raise FormatError(f"The {CHECKSUM_ALGORITHM} of a xorb must be a decimal number in a string.")
    if int(value) >= 1 << 64:
        raise FormatError(f"The {CHECKSUM_ALGORITHM} of a xorb must fit into 64 bits.")
    return length, int(value)


@dataclass(frozen=True)
class UncommittedXorb:
    """An upload with a grant: complete, checked and on disk, but not visible until it is committed.

    ``expires_at`` in UNIX seconds of the server's clock.
    """

    incoming: IncomingXorb
    found: xorb.Xorb
    repository: str
    expires_at: float


class UncommittedXorbs:
    """Uploads that wait for their commit. All methods may be called from any thread.

    They are lost in a restart; the client then requests new grants, and the files left behind are deleted like those of
    any interrupted upload.

    :param now: returns the time of the server's clock, UNIX seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._waiting: dict[str, UncommittedXorb] = {}

    def add(self, grant_id: str, upload: UncommittedXorb) -> None:
        """Keep an upload until it is committed or expires. It replaces an earlier upload with the same grant."""
        with self._lock:
            replaced = self._waiting.pop(grant_id, None)
            self._waiting[grant_id] = upload
        if replaced is not None:
            replaced.incoming.discard()

    def take(self, grant_id: str, repository: str, xorb_hash: str) -> UncommittedXorb | None:
        """Remove and return an upload, which the caller stores and discards; ``None`` if there is none."""
        with self._lock:
            upload = self._waiting.get(grant_id)
            if upload is None or (upload.repository, upload.incoming.xorb_hash) != (repository, xorb_hash):
                return None
            return self._waiting.pop(grant_id)

    def discard_expired(self) -> None:
        """Delete expired uploads."""
        now = self._now()
        with self._lock:
            expired = [grant_id for grant_id, upload in self._waiting.items() if upload.expires_at <= now]
            uploads = [self._waiting.pop(grant_id) for grant_id in expired]
        for upload in uploads:
            upload.incoming.discard()
