"""Read ID tokens, and refuse those that must not be sent. Pure: no I/O.

The signature is not verified: only the Hub, which knows the issuer's keys, decides on that. What is checked here
protects the token: it is sent only to the server that it was issued for, and only if it is a JWT at all, so that no
other secret can be sent in its place.

Source: RFC 7519 (JWT), RFC 7515 (the compact form of three parts), and OpenID Connect Core 1.0, section 2 (claims of an
ID token).
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, NoReturn

from airflow_provider_xethub.exceptions import XetIdentityError
from airflow_provider_xethub.xet.message_text import duration

MAX_CHARS = 16 << 10
"""Longest ID token that is accepted. Those of Kubernetes and of the clouds have 1 to 4 KB."""

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_LATEST = 1e11
"""Unix seconds; a later expiry is a mistake, and could overflow a clock."""

_NOT_FOR_PUBLISHERS = frozenset({"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "nonce", "at_hash", "c_hash", "sid"})
"""Claims that messages name elsewhere, or that differ in each token, so that no publisher can require them."""

_MAX_CLAIMS = 16
_MAX_VALUE = 160


@dataclass(frozen=True)
class IdToken:
    """An ID token that :func:`check` has accepted for one audience.

    :param text: the token itself, a secret.
    :param audience: the only server that it may be sent to.
    :param claims: what it says; not verified.
    :param expires_at: Unix seconds.
    """

    text: str = field(repr=False)
    audience: str
    claims: Mapping[str, Any] = field(repr=False)
    expires_at: float

    def __reduce__(self) -> NoReturn:
        raise TypeError("An ID token cannot be pickled. Read the identity again where it is needed.")

    @property
    def issuer(self) -> str:
        """The claim ``iss``, in a form that may be shown."""
        return _shown(self.claims["iss"])

    @property
    def subject(self) -> str:
        """The claim ``sub``, in a form that may be shown."""
        return _shown(self.claims["sub"])

    @property
    def described(self) -> str:
        """What a trusted publisher can require: issuer, subject and other claims, for a message."""
        others = [
            f"{name:.60}={_shown(value)}"
            for name, value in sorted(self.claims.items())
            if name not in _NOT_FOR_PUBLISHERS and isinstance(value, (str, int, float)) and name.isprintable()
        ]
        more = f" and {len(others) - _MAX_CLAIMS} more" if len(others) > _MAX_CLAIMS else ""
        text = f"issuer {self.issuer}, subject {self.subject}"
        return f"{text}, other claims: {', '.join(others[:_MAX_CLAIMS])}{more}" if others else text


def check(text: str, audience: str, source: str, now: float | None = None) -> IdToken:
    """Return an ID token that may be sent to ``audience``.

    :param text: what an identity returned; whitespace around it is ignored.
    :param audience: URL of the Hub that it would be sent to, without a slash at the end.
    :param source: the name of the identity, for messages.
    :param now: Unix seconds. Default: the clock of this worker.
    :raises XetIdentityError: it is not an ID token, is not for this audience alone, or has expired. The message does
        not show it.
    """
    text = text.strip() if isinstance(text, str) else ""
    if not text:
        raise XetIdentityError(f"Identity {source} has no ID token: it is empty. Check what should write it.")
    if len(text) > MAX_CHARS:
        raise XetIdentityError(
            f"Identity {source} has no ID token: it is longer than {MAX_CHARS >> 10} KiB. Nothing was sent. Check that "
            "it is the right one."
        )
    claims = _claims(text)
    if claims is None:
        raise XetIdentityError(
            f"Identity {source} has no ID token: it is not a signed JWT with the claims iss, sub, aud and exp. Nothing "
            "was sent. Check that it is the right one."
        )
    of = claims["aud"]
    audiences = of if isinstance(of, list) else [of]
    if audiences != [audience]:
        shown = ", ".join(_shown(each) for each in audiences[:3]) or "nobody"
        more = " One for several audiences is refused: each could use it at the others." if len(audiences) > 1 else ""
        raise XetIdentityError(
            f"The ID token of {source} is for {shown}, not for {audience}: not sent. Have it issued with the audience "
            f"{audience} alone, or correct the host of the connection.{more}"
        )
    expires_at = float(claims["exp"])
    now = time.time() if now is None else now
    if expires_at <= now:
        since = datetime.fromtimestamp(expires_at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        raise XetIdentityError(
            f"The ID token of {source} expired {duration(now - expires_at)} ago ({since}): not sent. What writes it "
            "has to renew it: the kubelet, SPIRE, the Vault agent or your CI. Check that, and the clock of this worker."
        )
    return IdToken(text, audience, claims, expires_at)


def _claims(text: str) -> dict[str, Any] | None:
    """Return the claims of a signed JWT that has all that an ID token must have; ``None`` for anything else."""
    if not _COMPACT.fullmatch(text):
        return None
    header, payload, _ = text.split(".")
    try:
        algorithm, claims = _json(header).get("alg"), _json(payload)
    except (ValueError, RecursionError, AttributeError):
        return None
    audience, expiry = claims.get("aud"), claims.get("exp")
    is_complete = (
        isinstance(algorithm, str)
        and algorithm.lower() != "none"
        and all(isinstance(claims.get(name), str) and claims[name] for name in ("iss", "sub"))
        and isinstance(audience, (str, list))
        and all(isinstance(each, str) for each in audience)
        and isinstance(expiry, (int, float))
        and not isinstance(expiry, bool)
        and 0 < expiry < _LATEST
    )
    return claims if is_complete else None


def _json(part: str) -> dict[str, Any]:
    value = json.loads(
        base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)), object_pairs_hook=_unique, parse_constant=_refuse
    )
    if not isinstance(value, dict):
        raise ValueError
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that is there twice: the Hub might read the other one."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError
    return value


def _refuse(_: str) -> NoReturn:
    raise ValueError


def _shown(value: object) -> str:
    """Return a claim for a message: quoted, on one line, and short."""
    text = repr(value)
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}…"
