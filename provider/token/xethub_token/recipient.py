"""The key of a recipient, and what it opens: a JWE (ECDH-ES on X25519, A256GCM) with a Xet token in it.

A JWE is confidential, but not signed: whoever knows the public key can make one. It opens only here, and it cannot be
changed on the way; who sealed it is as certain as the channel that brought it. So compare what it is for with what you
expect: ``repo`` and ``scope`` of :meth:`RecipientKey.open`.

In Python, no file is needed, and the private half dies with the process::

    key = RecipientKey.generate()
    print(key.public)  # the XCom of this task; a later task seals a token to it
    token = key.open(sealed, repo="hf://datasets/acme/corpus@main", scope="read")
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import stat
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NoReturn

TYPE = "xethub-token+jwe"
"""The ``typ`` of the protected header: this and nothing else that may have been encrypted for the key."""

VERSION = 1
"""The version of the JSON object that is read; fields that it does not know are kept."""

MAX_SEALED_CHARS = 256_000
"""Longest JWE that is read. A Xet token and a CAS URL have up to 64,000 characters each."""

_MAX_HEADER_CHARS = 4_000
_MAX_KEY_FILE_BYTES = 4_000
_ALG, _ENC = "ECDH-ES", "A256GCM"


class TokenError(Exception):
    """A key or a sealed token cannot be used; the message says why, and never contains a secret."""


class RecipientKey:
    """A one-time X25519 key: its public half may go through XCom, its private half stays with this process.

    Make one for each token. A key that is used again opens every token that was ever sealed to it, by anyone who
    finds both.
    """

    def __init__(self, private: Mapping[str, Any]) -> None:
        from joserfc.jwk import OKPKey

        if private.get("kty") != "OKP" or private.get("crv") != "X25519" or not isinstance(private.get("d"), str):
            raise TokenError("This is not the private key of a recipient. Make one with xethub-token new-key.")
        try:
            self._key = OKPKey.import_key({name: private[name] for name in ("kty", "crv", "x", "d")})
            # Touches both halves: a key whose halves do not belong together opens nothing.
            thumbprint = self._key.thumbprint()
            derived = self._key.private_key.public_key().public_bytes_raw()
        except Exception:
            # The error of the library may repeat its input.
            raise TokenError("The private key is damaged. Make a new one with xethub-token new-key.") from None
        if derived != _decode(str(private["x"])):
            raise TokenError("The private key is damaged: its halves differ. Make a new one with xethub-token new-key.")
        self.id = thumbprint

    @classmethod
    def generate(cls) -> RecipientKey:
        """Make a new key, in memory only."""
        from joserfc.jwk import OKPKey

        return cls(OKPKey.generate_key("X25519").as_dict(private=True))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RecipientKey:
        """Read a key that :meth:`save` wrote.

        :raises TokenError: the file is missing, readable by others, or not a key.
        """
        try:
            # Not through a link, and without waiting for the writer of a pipe.
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(handle, "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise TokenError(f"The key {path} is not a regular file.")
                if mode := stat.S_IMODE(status.st_mode) & 0o077:
                    raise TokenError(
                        f"The key {path} is open to others (mode {mode | 0o600:04o}). Make a new one; nobody else may "
                        "read it."
                    )
                text = file.read(_MAX_KEY_FILE_BYTES + 1)
        except OSError as error:
            raise TokenError(f"Cannot read the key {path}: {error.strerror}. Make one with new-key.") from None
        key = _json_object(text) if len(text) <= _MAX_KEY_FILE_BYTES else None
        if key is None:
            raise TokenError(f"{path} is not the private key of a recipient. Make one with xethub-token new-key.")
        return cls(key)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the private key to a new file that only this user can read (mode 0600).

        :raises TokenError: the file exists, or cannot be written.
        """
        write_private(path, json.dumps(self._key.as_dict(private=True)).encode(), replace=False)

    @property
    def public(self) -> dict[str, str]:
        """The public key as a JWK: what Airflow seals a token to. It is no secret."""
        jwk = self._key.as_dict(private=False)
        return {name: str(jwk[name]) for name in ("kty", "crv", "x")}

    def open(
        self, sealed: str, *, repo: str | None = None, scope: str | None = None, now: float | None = None
    ) -> dict[str, Any]:
        """Open a sealed token, and return the JSON object in it.

        :param sealed: the JWE, in compact form.
        :param repo: refuse a token for another repository or revision, such as ``hf://datasets/acme/corpus@main``.
        :param scope: refuse a token of another scope; a write token may read.
        :param now: Unix seconds; the local clock when ``None``.
        :raises TokenError: it is not a sealed token, is sealed to another key, was changed, has expired, or is for
            something else.
        """
        from joserfc import jwe

        sealed = sealed.strip()
        header = _header(sealed)
        if header.get("kid") != self.id:
            raise TokenError(
                "The token is sealed to another key. Give Airflow the public key that belongs to this private key, "
                "and fetch a new token."
            )
        registry = jwe.JWERegistry(algorithms=[_ALG, _ENC])
        registry.max_protected_header_length = _MAX_HEADER_CHARS
        registry.max_ciphertext_length = MAX_SEALED_CHARS
        try:
            plain = jwe.decrypt_compact(sealed, self._key, registry=registry).plaintext
        except Exception:
            # The library's message may be any; after each of them, it did not open.
            raise TokenError("The sealed token was changed or truncated. Fetch a new one.") from None
        token = _json_object(plain or b"")
        if token is None:
            raise TokenError("The sealed value is not a Xet token. Seal it with XetTokenOperator(recipient=...).")
        _check(token, repo, scope, time.time() if now is None else now)
        return token

    def __repr__(self) -> str:
        return f"<RecipientKey {self.id}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("The private key of a recipient cannot be pickled. It stays with the process that made it.")


def write_private(path: str | os.PathLike[str], content: bytes, *, replace: bool) -> None:
    """Write a file that only this user can read (mode 0600), at once: nobody sees a part of it.

    :param replace: replace a file that exists.
    :raises TokenError: it cannot be written, or exists already.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.urandom(6).hex()}")
    try:
        # O_EXCL follows no link and takes over no file of somebody else; the mode holds from the first byte.
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            if replace:
                temporary.replace(target)
            else:
                os.link(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        raise TokenError(f"{path} exists. Choose another name, or delete it if nothing needs it.") from None
    except OSError as error:
        raise TokenError(f"Cannot write {path}: {error.strerror}.") from None


def _header(sealed: str) -> dict[str, Any]:
    """Return the protected header of a JWE, after checking what can be checked without the key."""
    if not sealed:
        raise TokenError("There is no sealed token: the input is empty. Give it the XCom value of the token task.")
    if len(sealed) > MAX_SEALED_CHARS:
        raise TokenError(f"The input has more than {MAX_SEALED_CHARS} characters, so it is not a sealed token.")
    if sealed.startswith(("{", "[")):
        raise TokenError(
            "This is JSON, not a token that is sealed to a recipient. Fetch it with XetTokenOperator(recipient=...)."
        )
    parts = sealed.split(".")
    if len(parts) == 1 and sealed.startswith("gAAAA"):
        raise TokenError("This is sealed for Airflow's workers. Fetch a token with XetTokenOperator(recipient=...).")
    header = _json_object(_decode(parts[0])) if len(parts) == 5 and len(parts[0]) <= _MAX_HEADER_CHARS else None
    if header is None:
        raise TokenError("The input is not a sealed token (a compact JWE of five parts). Check that it is complete.")
    if (found := (header.get("alg"), header.get("enc"))) != (_ALG, _ENC) or parts[1] or {"zip", "crit"} & set(header):
        raise TokenError(f"The token is not sealed with {_ALG} and {_ENC} but with {found!r:.100}. It is refused.")
    if header.get("typ") != TYPE:
        raise TokenError(f"The input is a JWE, but not a sealed Xet token: its type is {header.get('typ')!r:.100}.")
    return header


def _check(token: Mapping[str, Any], repo: str | None, scope: str | None, now: float) -> None:
    if token.get("version") != VERSION:
        raise TokenError(f"The token has version {token.get('version')!r:.20}, not {VERSION}. Update xethub-token.")
    names = ("access_token", "cas_url", "repo", "scope", "expires_at")
    if missing := [name for name in names if not isinstance(token.get(name), str) or not token[name]]:
        raise TokenError(f"The sealed value is not a Xet token: it lacks {', '.join(missing)}. Fetch a new one.")
    if repo is not None and token["repo"] != repo:
        raise TokenError(f"The token is for {token['repo']:.300}, not for {repo}. It is refused.")
    if scope is not None and token["scope"] != scope and token["scope"] != "write":
        raise TokenError(f"The token is a {token['scope']:.20} token for {token['repo']:.300}; {scope} is needed.")
    try:
        expiry = datetime.strptime(token["expires_at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        raise TokenError("The sealed value is not a Xet token: its expires_at is not a time.") from None
    if expiry.timestamp() <= now:
        raise TokenError(
            f"The token for {token['repo']:.300} expired at {token['expires_at']}. Fetch it closer to its use, with a "
            "new key."
        )


def _decode(text: str) -> bytes:
    """Decode base64url without padding; empty if it is something else."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""


def _json_object(text: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
