"""Host names are compared without port and case."""

from __future__ import annotations

import pytest

from xethub_local.hub.hosts import is_loopback, plain_name


@pytest.mark.parametrize(
    ("host", "name"),
    [("a.b:1", "a.b"), ("A.b.", "a.b"), ("[::1]:9", "::1"), ("::1", "::1"), (" x ", "x"), ("x:", "x"), ("", "")],
)
def test_a_host_is_compared_without_port_and_case(host: str, name: str) -> None:
    assert plain_name(host) == name


def test_loopback_is_told_from_what_others_reach() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.9.9.9", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.com", "")))  # noqa: S104
