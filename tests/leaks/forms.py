"""The forms in which a credential may be written down: plain, encoded in a URL, in JSON, in base64, and reversed."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

FORMS = (
    "plain",
    "URL-encoded",
    "base64 at offset 0",
    "base64 at offset 1",
    "base64 at offset 2",
    "reversed",
    "JSON-escaped",
)
"""All of them. Base64 is looked for in both alphabets, JSON also inside of JSON."""

_NESTED = 3
"""How often JSON may be in JSON: the extras of a connection are JSON in JSON, and an XCom may contain both."""


def spellings(credential: str) -> Iterator[tuple[str, bytes]]:
    """Return each form with what to search for; a form that changes nothing is only ``plain``."""
    seen: set[bytes] = set()
    for form, text in _spellings(credential):
        if text not in seen:
            seen.add(text)
            yield form, text


def _spellings(credential: str) -> Iterator[tuple[str, bytes]]:
    plain = credential.encode()
    yield "plain", plain
    for encoded in (quote(credential, safe=""), quote(credential), quote_plus(credential)):
        yield "URL-encoded", encoded.encode()
    for offset in range(3):
        for text in _base64(plain, offset):
            yield f"base64 at offset {offset}", text
    yield "reversed", credential[::-1].encode()
    for is_ascii in (True, False):
        escaped = credential
        for _ in range(_NESTED):
            escaped = json.dumps(escaped, ensure_ascii=is_ascii)[1:-1]
            yield "JSON-escaped", escaped.encode()


def _base64(plain: bytes, offset: int) -> Iterator[bytes]:
    """Return what base64 of anything contains that has these bytes ``offset`` bytes after a multiple of three.

    The first and the last character may depend on the neighbours, so they are left out.
    """
    text = b"\0" * offset + plain
    whole = text[: len(text) // 3 * 3]
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        # Of the first group, what is known: four characters without an offset, two after one byte, one after two.
        yield encode(whole)[(0, 2, 3)[offset] :]
