"""ID tokens, JWTs in which an OpenID Connect issuer says who someone is: checking those that clients send.

The checks are those of OpenID Connect Core 1.0, section 3.1.3.7, as far as they concern the receiver of a token. What
the real Hub checks beyond "signature, audience, claims" is not documented: which algorithms it accepts, that it has no
tolerance for clocks, and that it ignores ``iat`` are guesses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jwt

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures with a key pair. ``none`` and those with a shared secret would let anyone sign."""
MAX_TOKEN_BYTES = 16 * 1024
_MAX_TIME = 1e15  # not beyond what a float can hold, and not infinite
_REQUIRED = ("iss", "sub", "aud", "exp")


class IdTokenError(ValueError):
    """The ID token is not valid. The text is for the author of a test: a Hub does not tell its clients."""


def issuer_of(token: str) -> str:
    """Return the issuer that a token claims to have, without checking anything else.

    :raises IdTokenError: it is not a JWT, or names no issuer.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise IdTokenError(f"it has more than {MAX_TOKEN_BYTES:,} characters")
    issuer = _decode(token, None, {"verify_signature": False}).get("iss")
    if not isinstance(issuer, str) or not issuer:
        raise IdTokenError("it names no issuer")
    return issuer


def verified_claims(token: str, keys: Mapping[str, Any], *, issuer: str, audience: str, now: float) -> dict[str, Any]:
    """Check the signature, issuer, audience and times of a token, and return its claims.

    :param keys: the issuer's JWKS.
    :param audience: one of the token's audiences must be exactly this.
    :param now: UNIX seconds.
    :raises KeyError: the JWKS has no key with the id that the token names; the issuer may have a new one.
    :raises IdTokenError: any check failed.
    """
    key = _key_of(token, keys)
    # PyJWT compares times with this machine's clock, and this server has one of its own.
    own_checks = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}
    claims = _decode(token, key, {**own_checks, "require": list(_REQUIRED)})
    if claims["iss"] != issuer:
        raise IdTokenError(f"its issuer is not {issuer}")
    if not isinstance(claims["sub"], str) or not claims["sub"]:
        raise IdTokenError("its subject is not a string")
    named = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    if audience not in named:
        raise IdTokenError(f"its audience is {claims['aud']!r}, not {audience!r}")
    if not _is_time(claims["exp"]) or claims["exp"] <= now:
        raise IdTokenError("it has expired")
    if "nbf" in claims and (not _is_time(claims["nbf"]) or claims["nbf"] > now):
        raise IdTokenError("it is not valid yet")
    return claims


def _key_of(token: str, keys: Mapping[str, Any]) -> jwt.PyJWK:
    """Return the key that a token names, or the only key of an issuer whose tokens name none."""
    try:
        kid = jwt.get_unverified_header(token).get("kid")
        usable = [key for key in jwt.PyJWKSet.from_dict(dict(keys)).keys if key.public_key_use in (None, "sig")]
    except (jwt.PyJWTError, AttributeError, TypeError, ValueError) as error:
        raise IdTokenError(f"its header, or the keys of its issuer, cannot be read: {error}") from error
    if kid is None and len(usable) == 1:
        return usable[0]
    found = [key for key in usable if key.key_id == kid and kid is not None]
    if not found:
        raise KeyError(kid)
    return found[0]


def _decode(token: str, key: jwt.PyJWK | None, options: dict[str, Any]) -> dict[str, Any]:
    try:
        claims: dict[str, Any] = jwt.decode(token, key, algorithms=list(ALGORITHMS), options=options)  # type: ignore[arg-type]
    except (jwt.PyJWTError, TypeError, ValueError, RecursionError) as error:
        raise IdTokenError(str(error)) from error
    return claims


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _MAX_TIME
