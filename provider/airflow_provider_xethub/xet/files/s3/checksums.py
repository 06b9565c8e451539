"""The checksums that S3 keeps of objects, of those that can be computed quickly on this worker.

Source: "Checking object integrity for data uploads in Amazon S3". The checksum of an object is the base64 of its bytes
in network order. One with a dash is computed from the checksums of the parts, and says nothing about the whole.
"""

from __future__ import annotations

import base64
import importlib.util
import zlib
from collections.abc import Callable, Mapping
from typing import Any

COMPOSITE = "COMPOSITE"
"""Type of a checksum that is computed from those of the parts."""

_FIELDS = {"ChecksumCRC64NVME": ("crc64nvme", 8), "ChecksumCRC32C": ("crc32c", 4), "ChecksumCRC32": ("crc32", 4)}


class Checksum:
    """A checksum that content is compared with while it arrives.

    :param name: the algorithm, for messages.
    :param wanted: the value that the storage has.
    """

    def __init__(self, name: str, update: Callable[[bytes, int], int], width: int, wanted: str) -> None:
        self.name = name
        self._update = update
        self._width = width
        self._wanted = wanted
        self._value = 0

    def update(self, block: bytes) -> None:
        """Take the next bytes."""
        self._value = self._update(block, self._value)

    def is_met(self) -> bool:
        """Return whether the bytes so far have the checksum."""
        return base64.b64encode(self._value.to_bytes(self._width, "big")).decode() == self._wanted


def can_compare() -> bool:
    """Return whether this worker computes checksums of whole objects quickly enough, which are then worth a request."""
    return importlib.util.find_spec("awscrt") is not None


def of_part(content: bytes | bytearray) -> str:
    """Return the CRC32 of a part, which S3 compares with what arrived."""
    try:
        from awscrt.checksums import crc32
    except ImportError:
        crc32 = zlib.crc32
    return base64.b64encode(crc32(content).to_bytes(4, "big")).decode()


def of_object(head: Mapping[str, Any]) -> Checksum | None:
    """Return a checksum of the whole object that the response to a HEAD has, if this worker computes it quickly.

    That takes the Python package ``awscrt``, which uses the instructions of the processor.
    """
    if head.get("ChecksumType") == COMPOSITE:
        return None
    try:
        from awscrt import checksums
    except ImportError:
        return None
    for field, (name, width) in _FIELDS.items():
        update = getattr(checksums, name, None)
        if update and (wanted := head.get(field)) and "-" not in wanted:
            return Checksum(name.upper(), update, width, wanted)
    return None


def was_compared(answer: Mapping[str, Any]) -> bool:
    """Return whether the client compared a checksum of the response to a GET."""
    # The client wraps a body whose checksum it compares.
    return type(answer["Body"]).__name__ == "StreamingChecksumBody"
