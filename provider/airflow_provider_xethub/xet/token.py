"""Xet tokens: read from the Hub's response, checked, and sealed for XCom.

A Xet token is an access token, its expiry and a CAS URL, for one scope, repository and revision. Pure: no I/O. Tokens
are requested in :mod:`airflow_provider_xethub.xet.hub.client`; the keys to seal them come from the hook.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import Any, Literal, NoReturn, Protocol, TypedDict, cast
from urllib.parse import urlsplit

import pendulum

from airflow_provider_xethub.exceptions import (
    XetInputError,
    XetTokenFormatError,
    XetTokenScopeError,
    XetTokenSealError,
    XetTokenTamperedError,
)
from airflow_provider_xethub.xet import recipient, urls
from airflow_provider_xethub.xet.repo import SCOPES, Repo, RepoType, Scope
from airflow_provider_xethub.xet.token_binding import TokenBinding, TokenBindingDict

SEALED_VERSION = 1
DOCUMENT_VERSION = 1
FRESH_MARGIN = 30.0
"""Seconds before expiry at which a token stops being fresh; the Hub's documents and hf-xet use the same 30."""

MAX_FIELD_CHARS = 64_000
"""Upper limit of ``accessToken`` and ``casUrl``, from the Hub's token documentation."""

_MAX_SEALED_CHARS = 4 * MAX_FIELD_CHARS
_MAX_CONN_ID_CHARS = 4000
_LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z; a larger exp is not seconds
_FIELDS = {
    "accessToken": "X-Xet-Access-Token",
    "exp": "X-Xet-Token-Expiration",
    "casUrl": "X-Xet-Cas-Url",
}


class _SealedTokenFields(TypedDict):
    xet_token: int
    scope: Scope
    repo: str
    cas_url: str
    expires_at: str
    conn_id: str | None
    sealed: str | None


class SealedTokenDict(_SealedTokenFields, total=False):
    """The XCom value of a Xet token: plain JSON, useless without the Fernet key.

    ``bound_to`` is only there if the token is bound, so that an older provider reads all others and refuses these.
    """

    bound_to: TokenBindingDict


class TokenDocument(TypedDict):
    """A Xet token in plain text, for a process that is not Airflow: what such a process needs to reach CAS.

    ``version`` is :data:`DOCUMENT_VERSION`; a reader refuses another one, and ignores fields that it does not know.
    ``endpoint`` is the URL of the Hub that issued the token, ``None`` where it is unknown; ``repo`` the ``hf://`` URI
    of ``repo_type``, ``repo_id`` and ``revision`` (``None`` for a bucket); ``cas_url`` and ``access_token`` are for
    requests to CAS. ``expires_at`` is the expiry by the clock of the Hub, in UTC, and ``expires_at_unix`` the same by
    the clock of this machine, in Unix seconds, as ``hf_xet`` takes it. ``renewed`` says whether a document with a new
    token replaces this one before it expires.
    """

    version: int
    endpoint: str | None
    repo: str
    repo_type: RepoType
    repo_id: str
    revision: str | None
    scope: Scope
    cas_url: str
    access_token: str
    expires_at: str
    expires_at_unix: int
    renewed: bool


class Fernet(Protocol):
    """The methods that sealing needs of ``cryptography.fernet.Fernet`` or ``MultiFernet``."""

    def encrypt(self, msg: bytes) -> bytes:
        """Encrypt and sign ``msg``."""

    def decrypt(self, msg: bytes) -> bytes:
        """Return the message that :meth:`encrypt` encrypted, or raise."""


@dataclass(frozen=True)
class XetToken:
    """A Xet token.

    :param repo: its repository and revision.
    :param scope: ``read`` or ``write``; write supersedes read.
    :param cas_url: base URL of CAS, without a trailing slash.
    :param expires_at: when it expires, by the server's clock (UTC, whole seconds).
    :param conn_id: the Airflow connection it was fetched with, if any.
    :param skew: server clock minus local clock, in seconds, measured when the token was fetched.
    :param access_token: the secret. Never shown by ``repr``.
    :param binding: the tasks that may use it; ``None`` for all.
    """

    repo: Repo
    scope: Scope
    cas_url: str
    expires_at: pendulum.DateTime
    conn_id: str | None = None
    skew: float = 0.0
    access_token: str = field(repr=False, default="", compare=False)
    binding: TokenBinding | None = None

    def serialize(self) -> NoReturn:
        """Refuse to become an XCom value: Airflow calls this, and would otherwise store all fields in plain text.

        :raises XetInputError: always.
        """
        raise XetInputError(
            "A Xet token must not be returned from a task in plain text. Return hook.seal_token(token)."
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError("A Xet token cannot be pickled. Seal it with hook.seal_token(token).")

    @property
    def local_expiry(self) -> int:
        """The expiry in Unix seconds by the *local* clock, which ``hf_xet`` uses."""
        return int(self.expires_at.int_timestamp - self.skew)

    def seconds_left(self, now: float | None = None) -> float:
        """Return the seconds until expiry; negative once expired."""
        return self.local_expiry - (time.time() if now is None else now)

    def is_fresh(self, margin: float = FRESH_MARGIN, now: float | None = None) -> bool:
        """Return whether more than ``margin`` seconds are left."""
        return self.seconds_left(now) > margin

    def to_document(self, endpoint: str | None, *, renewed: bool) -> TokenDocument:
        """Return the token in plain text, for a process that is not Airflow; never for an XCom or a log.

        :param endpoint: the URL of the Hub that issued it, if it is known.
        :param renewed: whether a document with a new token will replace this one.
        """
        return {
            "version": DOCUMENT_VERSION,
            "endpoint": endpoint,
            "repo": self.repo.uri,
            "repo_type": self.repo.repo_type,
            "repo_id": self.repo.repo_id,
            "revision": None if self.repo.is_bucket else self.repo.revision,
            "scope": self.scope,
            "cas_url": self.cas_url,
            "access_token": self.access_token,
            "expires_at": _to_iso(self.expires_at),
            "expires_at_unix": self.local_expiry,
            "renewed": renewed,
        }

    def check(self, scope: Scope, repo: Repo | None = None) -> None:
        """Refuse a token for another use; a write token may read.

        :raises XetTokenScopeError: scope, repository or revision differ; the message names them.
        """
        check_use(self.scope, self.repo, scope, repo)


def check_use(has: Scope, has_repo: Repo, scope: Scope, repo: Repo | None) -> None:
    """Check whether a token may be used for a scope and a repository: the only such rule.

    :raises XetTokenScopeError: scope, repository or revision differ; the message names them.
    """
    if scope == "write" and has != "write":
        raise XetTokenScopeError(
            f"a read token for {has_repo} cannot upload. Fetch it with scope='write' in its XetTokenOperator."
        )
    if repo is not None and repo != has_repo:
        raise XetTokenScopeError(
            f"the token is for {has_repo}, not for {repo}. Fetch one for {repo}, or leave out repo_id, repo_type and "
            "revision to use those of the token."
        )


def parse_answer(
    repo: Repo,
    scope: Scope,
    *,
    endpoint: str,
    body: str,
    headers: Mapping[str, str],
    received_at: float,
    conn_id: str | None = None,
) -> XetToken:
    """Create a token from the Hub's response, in its JSON form, its header form, or both.

    :param endpoint: the Hub's URL; decides whether a plain-http CAS URL is trusted.
    :param body: the body of the response.
    :param headers: the headers of the response; names in any case.
    :param received_at: local Unix time when the response arrived; with the ``Date`` header it gives the clock skew.
    :raises XetTokenFormatError: a field is missing, wrong or contradictory; the message names it, never its value.
    """
    where = f"the {scope} token request for {repo}"
    values = _read_fields(body, {name.lower(): value for name, value in headers.items()}, where)
    access_token = _check_text("accessToken", values["accessToken"], where)
    cas_url = check_cas_url(_check_text("casUrl", values["casUrl"], where), endpoint, where)
    skew = _skew(headers, received_at)
    exp = values["exp"]
    if isinstance(exp, bool) or not isinstance(exp, int):
        raise _format_error("has a field 'exp' that is not a whole number of Unix seconds", where)
    if exp <= received_at + skew:
        raise _format_error("has a field 'exp' that lies in the past", where)
    if exp > _LAST_SECOND:
        raise _format_error("has a field 'exp' that is not a time in Unix seconds", where)
    return XetToken(repo, scope, cas_url, pendulum.from_timestamp(exp), conn_id, skew, access_token)


def _read_fields(body: str, headers: Mapping[str, str], where: str) -> dict[str, Any]:
    """Read each field from the JSON object or its header; where both exist, they must agree."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        parsed = None
    in_body = parsed if isinstance(parsed, dict) else {}
    values: dict[str, Any] = {}
    for name, header in _FIELDS.items():
        from_body = in_body.get(name)
        from_header: Any = headers.get(header.lower())
        if name == "exp" and from_header is not None:
            if not (from_header.isascii() and from_header.isdigit() and len(from_header) <= 20):
                raise _format_error(f"has a header {header!r} that is not whole Unix seconds", where)
            from_header = int(from_header)
        if from_body is None and from_header is None:
            raise _format_error(f"lacks the field {name!r}", where, f" The header {header!r} is missing as well.")
        if from_body is not None and from_header is not None and from_body != from_header:
            raise _format_error(f"contradicts itself in {name!r}", where, f" The header {header!r} differs.")
        values[name] = from_header if from_body is None else from_body
    return values


def _check_text(name: str, value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise _format_error(f"has a field {name!r} that is not a non-empty string", where)
    if len(value) > MAX_FIELD_CHARS:
        raise _format_error(f"has a field {name!r} of more than {MAX_FIELD_CHARS} characters", where)
    # The value becomes part of a header or URL, where hf-xet panics on a newline.
    if not all("!" <= char <= "~" for char in value):
        raise _format_error(f"has a field {name!r} with whitespace, a control or non-ASCII character", where)
    return value


def check_cas_url(cas_url: str, endpoint: str, where: str) -> str:
    """Return the CAS URL without a trailing slash, if it may receive an access token.

    Only https URLs may, and plain http where the Hub itself uses plain http (a local Hub).

    :raises XetTokenFormatError: any other scheme, no host, or user, query or fragment parts.
    """
    problem = None
    try:
        parts = urlsplit(cas_url)
        _ = parts.port
    except ValueError:
        problem = "is not a URL"
    else:
        if found := urls.flaw(cas_url):
            problem = f"has {found}"
        elif parts.scheme != "https" and not (parts.scheme == "http" and urlsplit(endpoint).scheme == "http"):
            problem = f"has the scheme {parts.scheme[:16]!r}; only https is trusted for a Hub at {endpoint}"
        elif not parts.hostname:
            problem = "names no host"
        elif "@" in parts.netloc or "?" in cas_url or "#" in cas_url:
            problem = "has a user, query or fragment part"
    if problem:
        raise _format_error(f"has a field 'casUrl' that {problem}", where)
    return cas_url.rstrip("/")


def _format_error(problem: str, where: str, more: str = "") -> XetTokenFormatError:
    """Return the error for a token response that breaks the protocol."""
    return XetTokenFormatError(
        f"The Hub's token response {problem}. Check that the connection's host is a Hub with Xet storage, and that no "
        f"proxy changes its responses.{more} This was the response to {where}."
    )


def _skew(headers: Mapping[str, str], received_at: float) -> float:
    """Return the seconds by which the server's clock is ahead of the local clock; 0 where it is unknown."""
    date = next((value for name, value in headers.items() if name.lower() == "date"), "")
    seconds = unix_seconds(date)
    # The header has truncated seconds: the middle of that second is the best estimate.
    return 0.0 if seconds is None else seconds + 0.5 - received_at


def unix_seconds(http_date: str) -> float | None:
    """Return the Unix seconds of an HTTP date, which is in UTC without a zone; ``None`` for another string."""
    try:
        moment = parsedate_to_datetime(http_date)
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


@dataclass(frozen=True)
class SealedToken:
    """A Xet token as it travels through XCom. ``sealed`` is ``None`` where there was no key to seal it.

    Anyone who can write the XCom can change the other fields: they are claims. Compare them, but do not use them before
    :meth:`open` has confirmed them.
    """

    scope: Scope
    repo: Repo
    cas_url: str
    expires_at: pendulum.DateTime
    conn_id: str | None
    sealed: str | None
    binding: TokenBinding | None = None

    @classmethod
    def seal(cls, token: XetToken, fernet: Fernet | None) -> SealedToken:
        """Seal ``token``; without a key, the value is only a reference and contains no token (fails closed)."""
        reference = cls(token.scope, token.repo, token.cas_url, token.expires_at, token.conn_id, None, token.binding)
        if fernet is None:
            return reference
        payload = {**reference._clear(), "access_token": token.access_token}
        sealed = fernet.encrypt(json.dumps(payload, sort_keys=True).encode()).decode("ascii")
        return replace(reference, sealed=sealed)

    def _clear(self) -> dict[str, Any]:
        return {
            "xet_token": SEALED_VERSION,
            "scope": self.scope,
            "repo": self.repo.uri,
            "cas_url": self.cas_url,
            "expires_at": _to_iso(self.expires_at),
            "conn_id": self.conn_id,
            **({"bound_to": self.binding.to_xcom()} if self.binding else {}),
        }

    def to_xcom(self) -> SealedTokenDict:
        """Return the XCom value."""
        return cast("SealedTokenDict", {**self._clear(), "sealed": self.sealed})

    @classmethod
    def from_xcom(cls, value: object) -> SealedToken:
        """Read an XCom value, without opening it.

        :raises XetInputError: ``value`` is not a token (for instance a deleted XCom, which is ``None``).
        :raises XetTokenTamperedError: it is a token without the shape that this provider writes.
        """
        if recipient.is_sealed(value):
            raise XetInputError(
                "token is sealed to a recipient: only the process that made the key opens it, with xethub-token. Give "
                "this task the output of a XetTokenOperator without recipient."
            )
        if not isinstance(value, Mapping) or "xet_token" not in value:
            raise XetInputError(
                f"token is not the output of a XetTokenOperator but {type(value).__name__}. Pass token=<task>.output."
            )
        if value["xet_token"] != SEALED_VERSION:
            raise XetInputError("token was written by another version of the provider. Fetch it again.")
        try:
            scope = value["scope"]
            if scope not in SCOPES or set(value) - {"bound_to"} != set(_SealedTokenFields.__annotations__):
                raise ValueError
            sealed, conn_id, cas_url = value["sealed"], value["conn_id"], value["cas_url"]
            if not (sealed is None or (isinstance(sealed, str) and len(sealed) <= _MAX_SEALED_CHARS)):
                raise ValueError
            if not (conn_id is None or (isinstance(conn_id, str) and len(conn_id) <= _MAX_CONN_ID_CHARS)):
                raise ValueError
            if not (isinstance(cas_url, str) and len(cas_url) <= MAX_FIELD_CHARS):
                raise ValueError
            repo, expires_at = Repo.from_uri(value["repo"]), _from_iso(value["expires_at"])
            binding = TokenBinding.from_xcom(value["bound_to"]) if "bound_to" in value else None
        except (KeyError, TypeError, ValueError):
            raise XetTokenTamperedError(
                "the XCom value of the token is damaged: it is not what XetTokenOperator wrote. Fetch a new token."
            ) from None
        return cls(cast("Literal['read', 'write']", scope), repo, cas_url, expires_at, conn_id, sealed, binding)

    def open(self, fernets: Sequence[Fernet], now: float | None = None) -> XetToken:
        """Confirm the claims with the first key that fits, and return the access token unless it has expired.

        :param fernets: the keys of this worker, in order of preference; may be empty.
        :param now: Unix seconds; the local clock when ``None``.
        :returns: the token; an expired one is confirmed, but has no ``access_token``.
        :raises XetTokenSealError: it contains no token, or no key here opens it. Its claims are unconfirmed.
        :raises XetTokenTamperedError: a claim differs from what was sealed.
        """
        if self.sealed is None:
            raise XetTokenSealError("No Fernet key where the token was fetched, or it was edited")
        payload = next(filter(None, (_decrypt(fernet, self.sealed) for fernet in fernets)), None)
        if payload is None:
            raise XetTokenSealError(
                "Another Fernet key sealed the token, or it is broken"
                if fernets
                else "No Fernet key on this worker to open the token with"
            )
        claims, access_token = self._clear(), payload.get("access_token")
        # The message has names only: the payload may be anything that was ever encrypted with this key.
        changed = [name for name, claim in claims.items() if payload.get(name) != claim]
        if changed or len(payload) != len(claims) + 1 or not isinstance(access_token, str) or not access_token:
            what = f" ({', '.join(changed)})" if changed else ""
            raise XetTokenTamperedError(
                f"the XCom value of the token was changed after it was sealed{what}. It is refused; find out who "
                "writes to that XCom, then fetch a new token."
            )
        token = XetToken(
            self.repo,
            self.scope,
            self.cas_url,
            self.expires_at,
            self.conn_id,
            access_token=access_token,
            binding=self.binding,
        )
        return token if token.seconds_left(now) > 0 else replace(token, access_token="")

    def check_claims(self, scope: Scope, repo: Repo) -> None:
        """Refuse a token that does not open here and whose claims differ from the arguments of the task.

        :param scope, repo: what the task needs, never taken from the token.
        :raises XetTokenTamperedError: it claims another repository or revision.
        :raises XetTokenScopeError: it claims to be a read token, but the task writes.
        """
        if self.repo != repo:
            raise XetTokenTamperedError(
                f"the token says it is for {self.repo}, but this task names {repo}, and no seal confirms the token. It "
                "is refused. Give this task the repo_id, repo_type and revision of its token task; if they are the "
                "same, find out who writes to that XCom."
            )
        check_use(self.scope, repo, scope, repo)


def _decrypt(fernet: Fernet, sealed: str) -> dict[str, Any] | None:
    try:
        payload = json.loads(fernet.decrypt(sealed.encode("ascii")))
    except Exception:
        # InvalidToken of cryptography, which is not imported here; after any error, it did not open.
        return None
    return payload if isinstance(payload, dict) else None


def _to_iso(moment: pendulum.DateTime) -> str:
    return moment.in_timezone("UTC").format("YYYY-MM-DD[T]HH:mm:ss[Z]")


def _from_iso(text: str) -> pendulum.DateTime:
    if len(text) != len("2026-11-20T12:15:00Z"):
        raise ValueError
    moment = pendulum.from_format(text, "YYYY-MM-DD[T]HH:mm:ss[Z]", tz="UTC")
    if _to_iso(moment) != text:
        raise ValueError
    return moment
