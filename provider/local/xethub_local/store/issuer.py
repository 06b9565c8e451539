"""The local Hub's own issuer of ID tokens: it stands for a cluster, a cloud or a CI system that knows its workloads.

Its keys lie in the data folder, readable by their owner only, so that identities outlive a restart of the server.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from xethub_local.store.folder import write_once
from xethub_local.store.settings import MAX_TOKEN_LIFE

Algorithm = Literal["RS256", "ES256"]
ISSUER_ALGORITHMS: tuple[str, ...] = get_args(Algorithm)
ISSUER_PATH = "/_issuer"
"""Path of the issuer's URL at the local Hub; its discovery document lies below."""

DEFAULT_SUBJECT = "airflow"
DEFAULT_LIFETIME = 600
_KEY_FILE = "issuer.keys"


class Issuer:
    """Signs ID tokens with RS256 or ES256.

    The keys are created, and the libraries imported, when they are first needed: each takes a tenth of a second, and
    most commands of ``xethub-local`` need neither.

    :param folder: data folder of the keys.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._loaded: tuple[dict[str, Any], dict[str, dict[str, Any]]] | None = None

    def sign(self, claims: Mapping[str, Any], algorithm: Algorithm = "RS256") -> str:
        """Return a JWT with these claims, exactly as they are.

        :raises ValueError: the algorithm is not known, or a claim has no JSON form.
        """
        if algorithm not in ISSUER_ALGORITHMS:
            raise ValueError(f"algorithm {algorithm!r} is not known; use {' or '.join(ISSUER_ALGORITHMS)}.")
        import jwt

        private, public = self._keys()
        try:
            payload = json.dumps(dict(claims), allow_nan=False).encode()
        except TypeError as error:
            raise ValueError(f"The claims of an ID token must have a JSON form: {error}.") from error
        # Not jwt.encode, which refuses the wrong types that a test may want to send.
        headers = {"typ": "JWT", "kid": public[algorithm]["kid"]}
        return jwt.PyJWS().encode(payload, private[algorithm], algorithm, headers)

    def identity(
        self,
        origin: str,
        now: float,
        *,
        sub: str = DEFAULT_SUBJECT,
        aud: str | list[str] | None = None,
        lifetime: float = DEFAULT_LIFETIME,
        algorithm: Algorithm = "RS256",
        claims: Mapping[str, Any] | None = None,
    ) -> str:
        """Return an ID token.

        :param origin: URL of the Hub, to which the token is sent.
        :param now: UNIX seconds.
        :param sub: subject: who the token is for.
        :param aud: audience. Default: ``origin``.
        :param lifetime: seconds that it is valid; 0 or less makes an expired one.
        :param claims: further claims; ``None`` leaves out one that is set otherwise, such as ``iat``.
        :raises ValueError: the algorithm is not known, the lifetime is not a number, or a claim has no JSON form.
        """
        if isinstance(lifetime, bool) or not isinstance(lifetime, (int, float)) or not abs(lifetime) <= MAX_TOKEN_LIFE:
            raise ValueError(f"lifetime must be a number of seconds, at most 10 years, not {str(lifetime)[:40]!r}.")
        begin = int(now)
        given: dict[str, Any] = {
            "iss": origin + ISSUER_PATH,
            "sub": sub,
            "aud": origin if aud is None else aud,
            "iat": begin,
            "nbf": begin,
            "exp": int(now + lifetime),
            "jti": secrets.token_hex(8),
            **(claims or {}),
        }
        return self.sign({name: value for name, value in given.items() if value is not None}, algorithm)

    def jwks(self) -> dict[str, Any]:
        """Return the public keys as a JWKS."""
        return {"keys": list(self._keys()[1].values())}

    def _keys(self) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        with self._lock:
            if self._loaded is None:
                stored = json.loads(write_once(self._folder / _KEY_FILE, _new_keys))
                private = {name: load_pem_private_key(pem.encode(), None) for name, pem in stored.items()}
                self._loaded = private, {name: _public(name, key) for name, key in private.items()}
            return self._loaded


def _new_keys() -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    new: dict[str, Any] = {
        "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
    }
    pems = {
        name: key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode() for name, key in new.items()
    }
    return json.dumps(pems).encode()


def _public(algorithm: str, private_key: Any) -> dict[str, Any]:
    from jwt.algorithms import ECAlgorithm, RSAAlgorithm

    library = RSAAlgorithm if algorithm == "RS256" else ECAlgorithm
    key: dict[str, Any] = library.to_jwk(private_key.public_key(), as_dict=True)
    key.pop("key_ops", None)  # RFC 7517, 4.3: not together with "use"
    kid = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    return {**key, "kid": kid, "alg": algorithm, "use": "sig"}
