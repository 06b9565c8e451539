"""Secrets of a connection, and the check that a text has none of them."""

from __future__ import annotations

from collections.abc import Iterable

HEADER = "proxy-key-5e1f0c"
PROXY_PASSWORD = "door-9b2e47d1"


def assert_absent(secrets: Iterable[str], text: str) -> None:
    assert secrets
    for secret in secrets:
        assert secret not in text
        # Not in two halves or as a prefix either.
        assert secret[: len(secret) // 2 + 4] not in text
