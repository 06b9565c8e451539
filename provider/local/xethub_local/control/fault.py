"""One fault as a value: which requests go wrong, how often, and how.

A fault can be written as JSON, with the same fields as in Python.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from xethub_local.store.settings import check_clock_offset, check_data_url_life, check_token_life

MAX_PATTERN = 500
"""Maximum length of a regular expression, which is matched against every request."""

MAX_BODY = 1_000_000
_MAX_HEADERS = 50
_MAX_HEADER_VALUE = 8_000
_MAX_NAMES = 100
_MAX_COUNT = 1_000_000_000
_MAX_DELAY = 3_600.0
_MAX_RATE = 1_000_000_000_000
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
# The server sets these itself. A response with two of them, or with wrong ones, is not valid HTTP.
_OWN_HEADERS = frozenset({"connection", "content-length", "transfer-encoding"})


@dataclass(frozen=True)
class Fault:
    """One way to misbehave, on the requests that it matches.

    :param route: regular expression that matches all of ``METHOD path``; the path is percent-encoded as it arrived,
        without its query.
    :param times: how often to act; ``None`` means every time.
    :param skip: how many matching requests to let pass first.
    :param client: regular expression to search for in the user agent, such as ``hf_xet/``; other clients are not
        affected.
    :param delay: seconds to wait first.
    :param status: respond with this status instead of handling the request.
    :param headers: headers of that response; without ``status`` they are added to the real response.
    :param body: body of that response.
    :param fields: top-level fields to set in the JSON of the real response.
    :param without_fields: top-level fields to remove from the JSON of the real response.
    :param without_headers: headers to remove from the real response.
    :param drop: close the connection ``"before"`` (or ``True``) the request is handled, or in the ``"middle"`` of the
        response body.
    :param endless: send the headers of the real response, then no body (``"silent"`` or ``True``) or a space every
        half second (``"trickle"``), until the client disconnects or the server stops.
    :param lose_answer: handle the request, then respond with 500 or ``status``; with ``drop``, close the connection.
    :param corrupt: flip one byte in the middle of the response body.
    :param truncate: end the response body after this many bytes, as if it were complete.
    :param token_life: lifetime in seconds of a Xet token that this request issues.
    :param data_url_life: lifetime in seconds of data URLs that this request issues; they are expired at 0 or less.
    :param clock_offset: seconds that the server's clock is ahead during this request, in its ``Date`` and in the
        expiry of what it issues.
    :param bandwidth: bytes per second, in each direction, that all requests of this fault share.
    :param max_open: requests of this fault that may be open at a time; one more makes their link collapse, until at
        most half as many are open.
    :param collapse_after: seconds that more than ``max_open`` requests must have been open before that; seconds with
        fewer are subtracted.
    :param collapsed_bandwidth: bytes per second, in each direction, that requests share while the link has collapsed;
        connections that were open at that moment stay slow until they are closed. Default: 500,000.
    :raises ValueError: a field is not valid; the message names it.
    """

    route: str
    times: int | None = None
    skip: int = 0
    client: str | None = None
    delay: float = 0.0
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    without_fields: tuple[str, ...] = ()
    without_headers: tuple[str, ...] = ()
    drop: bool | Literal["before", "middle"] = False
    endless: bool | Literal["silent", "trickle"] = False
    lose_answer: bool = False
    corrupt: bool = False
    truncate: int | None = None
    token_life: int | None = None
    data_url_life: int | None = None
    clock_offset: float | None = None
    bandwidth: int | None = None
    max_open: int | None = None
    collapse_after: float = 0.0
    collapsed_bandwidth: int | None = None

    def __post_init__(self) -> None:
        for name, check in _CHECKS.items():
            value = getattr(self, name)
            if value is not None:
                check(name, value)
        if self.route is None:
            raise ValueError("route is missing: it selects the requests that go wrong, such as 'GET /api/.*'.")
        for name in ("without_fields", "without_headers"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check_combination()

    def _check_combination(self) -> None:
        given = [name for name in _DEFAULTS if getattr(self, name) != _DEFAULTS[name]]
        ways = [name for name in _WAYS if name in given]
        details = [name for name in given if name in _DETAILS]
        if not ways and not details and not self.headers and not self.delay:
            raise ValueError(
                f"the fault does not say what goes wrong; use one of delay, {', '.join(_WAYS + _DETAILS)}."
            )
        for name in ("collapse_after", "collapsed_bandwidth"):
            if name in given and self.max_open is None:
                raise ValueError(f"{name} needs max_open: with how many open requests the link collapses.")
        if self.body is not None and not {"status", "lose_answer"} & set(ways):
            raise ValueError("body needs a status: it is the body of the response that is sent instead.")
        if self.headers and {"drop", "endless"} & set(ways):
            details.insert(0, "headers")
        allowed = (["status", "lose_answer"], ["drop", "lose_answer"])
        if len(ways) > 1 and ways not in allowed:
            raise ValueError(f"{ways[0]} and {ways[1]} cannot be combined; use two faults, each with times.")
        if ways and details:
            raise ValueError(f"{ways[0]} and {details[0]} cannot be combined: {details[0]} changes the real response.")

    def to_json(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults, for JSON; a binary body becomes ``{"base64": …}``."""
        shown = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        return {name: _shown(value) for name, value in shown.items() if value != _DEFAULTS[name]}

    @classmethod
    def from_json(cls, value: Any) -> Fault:
        """Return the fault that a JSON object describes, see :meth:`to_json`.

        :raises ValueError: it is not an object, or a field is not known or not valid.
        """
        return cls(**fields_from_json(value))


_WAYS = ("status", "drop", "lose_answer", "endless")
_DETAILS = (
    *("fields", "without_fields", "without_headers", "corrupt", "truncate"),
    *("token_life", "data_url_life", "clock_offset"),
    *("bandwidth", "max_open", "collapse_after", "collapsed_bandwidth"),
)
_DEFAULTS: dict[str, Any] = {
    each.name: each.default_factory() if callable(each.default_factory) else each.default
    for each in dataclasses.fields(Fault)
}
_DEFAULTS["route"] = None


def fields_from_json(value: Any) -> dict[str, Any]:
    """Return the fields of a fault that a JSON object has, as the constructor takes them, without checking them.

    :raises ValueError: it is not an object, or a field is not known.
    """
    if not isinstance(value, dict):
        raise ValueError(f"a fault must be a JSON object, not {type(value).__name__}.")
    unknown = sorted(set(value) - set(_DEFAULTS))
    if unknown:
        raise ValueError(f"field {unknown[0][:40]!r} is not known; a fault has {', '.join(_DEFAULTS)}.")
    found = {"route": None, **value}
    if isinstance(found.get("body"), dict):
        found["body"] = _from_base64(found["body"])
    return found


def _from_base64(value: dict[str, Any]) -> bytes:
    text = value.get("base64")
    if set(value) != {"base64"} or not isinstance(text, str):
        raise ValueError('body must be a string or {"base64": "…"}.')
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"body is not base64: {error}.") from error


def _shown(value: Any) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_pattern(name: str, value: object) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_PATTERN:
        raise ValueError(f"{name} must be a regular expression of 1 to {MAX_PATTERN} characters.")
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{name} is not a regular expression: {error}.") from error


def _check_count(name: str, value: object, least: int = 0) -> None:
    if not _is_whole(value) or not least <= value <= _MAX_COUNT:  # type: ignore[operator]
        raise ValueError(f"{name} must be a whole number of at least {least}, not {_quoted(value)}.")


def _check_times(name: str, value: object) -> None:
    _check_count(name, value, least=1)


def _check_rate(name: str, value: object) -> None:
    if not _is_whole(value) or not 1 <= value <= _MAX_RATE:  # type: ignore[operator]
        raise ValueError(f"{name} must be a whole number of bytes per second, at least 1, not {_quoted(value)}.")


def _check_status(name: str, value: object) -> None:
    if not _is_whole(value) or not 200 <= value <= 599:  # type: ignore[operator]
        raise ValueError(f"{name} must be an HTTP status from 200 to 599, not {_quoted(value)}.")


def _check_delay(name: str, value: object) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not 0 <= value <= _MAX_DELAY:  # type: ignore[operator]
        raise ValueError(f"{name} must be from 0 to {_MAX_DELAY:.0f} seconds, not {_quoted(value)}.")


def _check_headers(name: str, value: object) -> None:
    if not isinstance(value, Mapping) or len(value) > _MAX_HEADERS:
        raise ValueError(f"{name} must be an object of at most {_MAX_HEADERS} strings.")
    for header, text in value.items():
        _check_header_name(name, header)
        is_sendable = isinstance(text, str) and len(text) <= _MAX_HEADER_VALUE
        if not is_sendable or not re.fullmatch(r"[\t\x20-\x7e\x80-\xff]*", text):
            raise ValueError(f"{name}: the value of {header} must be one line of Latin-1 characters.")


def _check_header_name(name: str, header: object) -> None:
    if not isinstance(header, str) or not _HEADER_NAME.fullmatch(header):
        raise ValueError(f"{name}: {_quoted(header)} is not a valid header name.")
    if header.lower() in _OWN_HEADERS:
        raise ValueError(f"{name}: the server sets {header} itself; use drop, truncate or endless.")


def _check_body(name: str, value: object) -> None:
    if not isinstance(value, (bytes, str)) or len(value) > MAX_BODY:
        raise ValueError(f"{name} must be a string or bytes, with at most {MAX_BODY:,} characters or bytes.")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{name} contains a lone surrogate: {error}.") from error


def _check_fields(name: str, value: object) -> None:
    if not isinstance(value, Mapping) or len(value) > _MAX_NAMES or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{name} must be an object of at most {_MAX_NAMES} fields.")
    try:
        size = len(json.dumps(dict(value), ensure_ascii=False).encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{name} cannot be written as JSON: {error}.") from error
    if size > MAX_BODY:
        raise ValueError(f"{name} must be at most {MAX_BODY:,} bytes of JSON.")


def _check_names(name: str, value: object) -> None:
    if not isinstance(value, (list, tuple)) or len(value) > _MAX_NAMES:
        raise ValueError(f"{name} must be a list of at most {_MAX_NAMES} names.")
    for each in value:
        if not isinstance(each, str) or len(each) > MAX_PATTERN:
            raise ValueError(f"{name}: {_quoted(each)} is not a valid name.")


def _check_header_names(name: str, value: object) -> None:
    _check_names(name, value)
    for each in value:  # type: ignore[attr-defined]
        _check_header_name(name, each)


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, not {_quoted(value)}.")


def _one_of(*words: str) -> Callable[[str, object], None]:
    def check(name: str, value: object) -> None:
        if not isinstance(value, bool) and value not in words:
            raise ValueError(f"{name} {_quoted(value)} is not known; use {' or '.join(map(repr, words))}.")

    return check


def _quoted(value: object) -> str:
    return repr(value)[:60]


_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "route": _check_pattern,
    "times": _check_times,
    "skip": _check_count,
    "client": _check_pattern,
    "delay": _check_delay,
    "status": _check_status,
    "headers": _check_headers,
    "body": _check_body,
    "fields": _check_fields,
    "without_fields": _check_names,
    "without_headers": _check_header_names,
    "drop": _one_of("before", "middle"),
    "endless": _one_of("silent", "trickle"),
    "lose_answer": _check_flag,
    "corrupt": _check_flag,
    "truncate": _check_count,
    "token_life": lambda _, value: check_token_life(value),
    "data_url_life": lambda _, value: check_data_url_life(value),
    "clock_offset": lambda _, value: check_clock_offset(value),
    "bandwidth": _check_rate,
    "max_open": _check_times,
    "collapse_after": _check_delay,
    "collapsed_bandwidth": _check_rate,
}
