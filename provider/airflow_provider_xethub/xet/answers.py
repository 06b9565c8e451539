"""Read responses of the Hub and of others: each text, number and identifier in them passes through here. Pure: no I/O.

Text for people, such as the title of a commit, is made storable: PostgreSQL and the triggerer's protocol refuse NUL or
half of a surrogate pair, which JSON allows. Identifiers, such as a path or a hash, are refused instead: with a replaced
character, they would identify something else.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, cast

from airflow_provider_xethub.xet.identifiers import COMMIT_ID, SHA256, UNSTORABLE
from airflow_provider_xethub.xet.records import XetFile, xet_file_record

MAX_TITLE = 1_000
"""Maximum length of a title or a name; longer ones are truncated."""

MAX_TEXT = 65_536
"""Maximum length of a description; longer ones are truncated."""

MAX_PATH_BYTES = 4096
MAX_INTEGER = 2**63 - 1

_MAX_DIGITS = 40
_UNFIT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_BREAKS = re.compile(r"[\t\n\r\u2028\u2029]+")
_NUMBER = re.compile(r"/([1-9][0-9]{0,9})/?\Z")
_BLOB_ID = re.compile(f"{COMMIT_ID.pattern}|{SHA256.pattern}")


class WrongAnswerError(ValueError):
    """A value in a response is wrong. The message says which one and what is expected, and never shows the value."""


class NotJSONError(WrongAnswerError):
    """A response is not JSON: something else answered, or it has lost something on its way."""


def parse(body: str | bytes) -> Any:
    """Return the value of a JSON document in UTF-8; NaN, infinity and overlong numbers are refused.

    :raises NotJSONError: it is not such a document.
    :raises WrongAnswerError: it is nested too deeply.
    """
    try:
        # json.loads would accept other encodings, and surrogates encoded in UTF-8.
        text = body.decode("utf-8") if isinstance(body, bytes) else body
        return json.loads(text, parse_constant=_constant, parse_float=_float, parse_int=_int)
    except RecursionError:
        raise WrongAnswerError("nested too deeply") from None
    except ValueError:
        raise NotJSONError("not JSON in UTF-8") from None


def _constant(_: str) -> None:
    raise ValueError


def _float(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError
    return number


def _int(text: str) -> int:
    # Python takes quadratic time for long numbers; no count or size needs this many digits.
    if len(text) > _MAX_DIGITS:
        raise ValueError
    return int(text)


def mapping(value: object, name: str) -> Mapping[str, Any]:
    """Return a JSON object.

    :param name: its name in the message; the same in the functions below.
    :raises WrongAnswerError: it has another type; the same in the functions below.
    """
    if not isinstance(value, Mapping):
        raise WrongAnswerError(f"{name} that is not an object")
    return value


def sequence(value: object, name: str) -> Sequence[Any]:
    """Return a JSON array."""
    if not isinstance(value, list):
        raise WrongAnswerError(f"{name} that is not a list")
    return value


def integer(value: object, name: str) -> int:
    """Return an integer from 0 to :data:`MAX_INTEGER`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_INTEGER:
        raise WrongAnswerError(f"{name} that is not an integer from 0 to 2^63-1")
    return value


def title(value: object) -> str:
    """Return text for people, on one line; empty where it is missing or not a string."""
    return text(_BREAKS.sub(" ", value) if isinstance(value, str) else "", MAX_TITLE)


def text(value: object, most: int = MAX_TEXT) -> str:
    """Return text for people; empty where it is missing or not a string."""
    if not isinstance(value, str):
        return ""
    fit = _UNFIT.sub("\ufffd", value)
    return fit if len(fit) <= most else f"{fit[: most - 1]}…"


def identifier(value: object, name: str) -> str:
    """Return an identifier: a string that every database can store."""
    if not isinstance(value, str) or not value:
        raise WrongAnswerError(f"{name} that is {'empty' if value == '' else 'not a string'}")
    if UNSTORABLE.search(value):
        raise WrongAnswerError(f"{name} that is not valid Unicode")
    return value


def path(value: object, name: str = "a path") -> str:
    """Return a path in a repository; :func:`repo.check_path` checks whether it may be written to."""
    if len(identifier(value, name).encode()) > MAX_PATH_BYTES:
        raise WrongAnswerError(f"{name} of more than {MAX_PATH_BYTES} bytes")
    return str(value)


def commit_id(value: object, name: str = "a commit id") -> str:
    """Return the id of a commit: 40 hex digits."""
    return _matching(COMMIT_ID, value, name, "40 hex digits")


def sha256(value: object, name: str = "a sha256") -> str:
    """Return a sha256, or a Xet hash, which looks the same: 64 hex digits."""
    return _matching(SHA256, value, name, "64 hex digits")


def blob_id(value: object, name: str = "a blob id") -> str:
    """Return the id of a git blob: 40 hex digits, or 64 where git uses sha256."""
    return _matching(_BLOB_ID, value, name, "40 hex digits")


def _matching(pattern: re.Pattern[str], value: object, name: str, expected: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise WrongAnswerError(f"{name} that is not {expected}")
    return value


def xet_file(value: object) -> XetFile:
    """Return a file record from elsewhere, such as from XCom, with all of its values checked."""
    record = mapping(value, "a record")
    missing = sorted(name for name in ("path", "size", "sha256", "xet_hash", "repo") if name not in record)
    if missing:
        raise WrongAnswerError(f"no {', '.join(missing)}")
    checked: dict[str, Any] = {
        **record,
        "path": path(record["path"]),
        "size": integer(record["size"], "a size"),
        "repo": identifier(record["repo"], "'repo'"),
        "sha256": None if record["sha256"] is None else sha256(record["sha256"]),
        "xet_hash": None if record["xet_hash"] is None else sha256(record["xet_hash"], "a Xet hash"),
    }
    if record.get("blob_id") is not None:
        blob_id(record["blob_id"])
    for name in ("sample", "sealed_content", "local_path", "storage_uri"):
        if not isinstance(record.get(name, ""), str):
            raise WrongAnswerError(f"{name!r} that is not a string")
    return cast("XetFile", checked)


def discussion_number(value: object) -> int:
    """Return the number at the end of the URL or the reference of a pull request."""
    found = _NUMBER.search(identifier(value, "a pull request"))
    if found is None:
        raise WrongAnswerError("a pull request that has no number")
    return int(found[1])


def kind(entry: object) -> str:
    """Return the type of an entry in a listing, such as ``file`` or ``directory``."""
    return identifier(mapping(entry, "an entry").get("type"), "a type")


def file_record(entry: Mapping[str, Any], uri: str) -> XetFile:
    """Return the record of a file that a listing describes.

    :param uri: the URI of the repository.
    """
    lfs = entry.get("lfs")
    xet_hash = entry.get("xetHash")
    is_inline = lfs is None and entry.get("oid") is not None
    return xet_file_record(
        path(entry.get("path")),
        integer(entry.get("size"), "a size"),
        uri,
        sha256=None if lfs is None else sha256(mapping(lfs, "'lfs'").get("oid")),
        xet_hash=None if xet_hash is None else sha256(xet_hash, "a Xet hash"),
        blob_id=blob_id(entry["oid"]) if is_inline else None,
    )


def moment(value: object) -> datetime | None:
    """Return an ISO 8601 timestamp as a ``datetime``; ``None`` where it is missing."""
    if value is None or value == "":
        return None
    try:
        found = datetime.fromisoformat(identifier(value, "a timestamp").replace("Z", "+00:00"))
        # Timestamps are compared with each other, so each needs a time zone.
        return found if found.tzinfo else found.replace(tzinfo=timezone.utc)
    except (ValueError, OverflowError):
        raise WrongAnswerError("a timestamp that is not ISO 8601") from None


def is_storable(value: object) -> bool:
    """Return whether every database and the triggerer's protocol can store a value as JSON."""
    try:
        encoded = json.dumps(value, allow_nan=False, ensure_ascii=False)
        encoded.encode()
    except (TypeError, ValueError, RecursionError):
        return False
    return "\\u0000" not in encoded.replace("\\\\", "")
