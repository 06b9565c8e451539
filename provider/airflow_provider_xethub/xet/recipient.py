"""Sealing a token to a recipient: a process that made an X25519 key and opens it without Airflow (``xethub-token``).

The result is a compact JWE (RFC 7516) with ECDH-ES on X25519 (RFC 8037) and A256GCM. Its protected header has the names
of the algorithms, a public key that is made for this one value, and the thumbprint (RFC 7638) of the recipient's; the
token and all that it is bound to are encrypted. Pure: no I/O.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping

from airflow_provider_xethub.exceptions import XetInputError

TYPE = "xethub-token+jwe"
"""The ``typ`` of the protected header; ``xethub-token`` opens nothing else."""

_MAX_KEY_CHARS = 2000
_MAX_PLAIN_BYTES = 150_000  # a token and a CAS URL of 64,000 characters each
_PRIVATE = frozenset({"d", "k", "p", "q", "dp", "dq", "qi", "oth"})
_HOW = "Make one with xethub-token new-key"


def public_key(recipient: object) -> dict[str, str]:
    """Return the public key of a recipient as a JWK with nothing else in it.

    :param recipient: a JWK of type OKP on X25519, as object or as JSON, or its ``x``: 32 bytes in base64url.
    :raises XetInputError: it is something else, or contains a private key. The message never contains it.
    """
    jwk = recipient
    if isinstance(recipient, str):
        text = recipient.strip()
        if len(text) > _MAX_KEY_CHARS:
            raise XetInputError(f"recipient has more than {_MAX_KEY_CHARS} characters, so it is not a key. {_HOW}.")
        jwk = {"kty": "OKP", "crv": "X25519", "x": text}
        if not text:
            raise XetInputError(f"recipient is empty; it must be a public key. {_HOW}, and pass what it prints.")
        if text.startswith("{"):
            try:
                jwk = json.loads(text)
            except (ValueError, RecursionError):
                raise XetInputError(
                    "recipient is not a JWK in JSON. Pass recipient=<task>.output, or add | tojson to the template."
                ) from None
    if not isinstance(jwk, Mapping):
        raise XetInputError(
            f"recipient must be a public key (a JWK or a string), not {type(recipient).__name__}. {_HOW}."
        )
    if _PRIVATE & set(jwk):
        raise XetInputError(
            "recipient contains a private key, which must stay where it was made. Throw it away and make a new one; "
            "pass only what xethub-token new-key prints."
        )
    if (jwk.get("kty"), jwk.get("crv")) != ("OKP", "X25519"):
        raise XetInputError(f"recipient is not a key on X25519 (kty OKP, crv X25519). {_HOW}.")
    x = jwk.get("x")
    if not isinstance(x, str) or len(_decode(x)) != 32:
        raise XetInputError(f"recipient is not a public key: 32 bytes in base64url, 43 characters. {_HOW}.")
    return {"kty": "OKP", "crv": "X25519", "x": base64.urlsafe_b64encode(_decode(x)).rstrip(b"=").decode()}


def seal(payload: bytes, recipient: object) -> str:
    """Return a compact JWE that only the holder of the recipient's private key opens.

    :param payload: what to encrypt.
    :param recipient: as for :func:`public_key`.
    :raises XetInputError: it is not a usable public key, or the extra ``recipient`` is not installed.
    """
    key = public_key(recipient)
    if len(payload) > _MAX_PLAIN_BYTES:
        raise XetInputError(f"The token has more than {_MAX_PLAIN_BYTES} bytes, more than a recipient would open.")
    try:
        from joserfc import jwe
        from joserfc.jwk import OKPKey
    except ImportError:
        raise XetInputError(
            "Sealing to a recipient needs joserfc. Install airflow-provider-xethub[recipient] on the workers."
        ) from None
    header = {"alg": "ECDH-ES", "enc": "A256GCM", "typ": TYPE, "cty": "json", "kid": thumbprint(key)}
    registry = jwe.JWERegistry(algorithms=["ECDH-ES", "A256GCM"])
    registry.max_ciphertext_length = 2 * _MAX_PLAIN_BYTES
    try:
        return jwe.encrypt_compact(header, payload, OKPKey.import_key({**key}), registry=registry)
    except ValueError:
        # X25519 with such a point has the same result for every sender: anyone could open it (RFC 7748, section 6.1).
        raise XetInputError(
            f"recipient is not a public key that anyone made (a point of small order). {_HOW}."
        ) from None


def thumbprint(key: Mapping[str, str]) -> str:
    """Return the SHA-256 thumbprint of a public key (RFC 7638), by which a recipient knows its own."""
    required = {name: key[name] for name in ("crv", "kty", "x")}
    digest = hashlib.sha256(json.dumps(required, sort_keys=True, separators=(",", ":")).encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def is_sealed(value: object) -> bool:
    """Return whether a value looks like the result of :func:`seal`."""
    if not isinstance(value, str) or value.count(".") != 4:
        return False
    try:
        header = json.loads(_decode(value.partition(".")[0]))
    except (ValueError, RecursionError):
        return False
    return isinstance(header, dict) and header.get("typ") == TYPE


def _decode(text: str) -> bytes:
    """Decode base64url, with or without padding; empty if it is something else."""
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
