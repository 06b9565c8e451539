"""The content of inline files as it travels through XCom: sealed, for workers that have a token and no connection.

A record names the digest of its file, but nothing confirms a record: whoever can edit an XCom could replace the content
of a ``config.json`` and its digest together. So the content is encrypted and signed with the key that seals tokens,
together with what it is the content of: repository and revision, commit, path, size and git blob id. Pure: no I/O.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_xethub.exceptions import (
    XetHubError,
    XetTokenError,
    XetTokenExpiredError,
    XetTokenScopeError,
    XetTokenSealError,
    XetTokenTamperedError,
)
from airflow_provider_xethub.xet.files.targets import new_digest
from airflow_provider_xethub.xet.message_text import shortened
from airflow_provider_xethub.xet.records import XetFile
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.token import Fernet

MAX_FILE_BYTES = 10 << 20
"""Largest file whose content a record carries: the Hub stores no larger one inline."""

LIFE = 24 * 3600.0
"""Seconds for which sealed content is accepted, so that the content of an old listing cannot be put in a new one."""

MAX_NAMED = 10
"""Files that an error names."""

# Tokens and samples are sealed with the same keys: the prefix keeps one from being used as the other.
_PREFIX = b"xethub content 1\n"
_MAX_CHARS = 2 * MAX_FILE_BYTES  # compressed content in base64, and what it is bound to


@dataclass(frozen=True)
class _Refusal:
    """Why a worker does not accept sealed content.

    :param order: the lowest one is reported where files are refused for several reasons.
    """

    order: int
    error: type[XetTokenError]
    cause: str
    remedy: str


_CHANGED = _Refusal(
    0,
    XetTokenTamperedError,
    "sealed for another file or version",
    "Find out who edits XComs, then list again.",
)
_ELSEWHERE = _Refusal(
    1,
    XetTokenScopeError,
    "sealed for another repository or revision",
    "List and fetch the token with the same repo_id, repo_type and revision.",
)
_SEVERAL = _Refusal(
    2,
    XetTokenTamperedError,
    "sealed at several commits",
    "List all files in one task, or give revision a commit. If one task listed them, find out who edits XComs.",
)
_UNOPENED = _Refusal(
    3,
    XetTokenSealError,
    "its content does not open here",
    "Give all workers the same Fernet key. If they have it, the seal is broken: list the files again.",
)
_EXPIRED = _Refusal(
    4,
    XetTokenExpiredError,
    f"sealed more than {LIFE / 3600:.0f} hours ago",
    "Clear the task that listed it, and the one that fetched the token.",
)
_FIELDS = {"blob_id", "commit", "path", "repo", "sealed_at", "size"}


class _RefusedError(Exception):
    def __init__(self, refusal: _Refusal) -> None:
        self.refusal = refusal


def is_inline(file: XetFile) -> bool:
    """Whether a listing says that the repository itself stores this file; an LFS pointer has no ``blob_id``."""
    return bool(file["size"] and file.get("blob_id") and not file["xet_hash"])


def seal(file: XetFile, content: bytes, commit: str, fernet: Fernet, now: float | None = None) -> XetFile:
    """Return the record of an inline file with its sealed content.

    :param file: its record; ``repo`` is the revision that was asked for.
    :param content: its content, verified.
    :param commit: the commit that it was read from.
    :param now: Unix seconds; the local clock when ``None``.
    """
    bound = {
        **_bound(file),
        "repo": file["repo"],
        "commit": commit,
        "sealed_at": int(time.time() if now is None else now),
    }
    header = json.dumps(bound, sort_keys=True).encode()
    sealed = fernet.encrypt(b"".join((_PREFIX, header, b"\n", zlib.compress(content))))
    return {**file, "sealed_content": sealed.decode("ascii")}


def _bound(file: XetFile) -> dict[str, Any]:
    return {"path": file["path"], "size": file["size"], "blob_id": file.get("blob_id")}


def has_digests(file: XetFile, content: bytes) -> bool:
    """Whether content has each digest that the record of an inline file names."""
    for kind, wanted in (("git blob sha1", file["blob_id"]), ("sha256", file["sha256"])):
        digest = new_digest(kind, len(content))
        digest.update(content)
        if wanted and digest.hexdigest() != wanted:
            return False
    return True


def check(files: Sequence[XetFile], repo: Repo, fernets: Sequence[Fernet], now: float | None = None) -> None:
    """Refuse sealed content that is not that of these files, before any of it is written.

    :param files: records with ``sealed_content``.
    :param repo: the repository and revision that the seal of the token confirms.
    :param fernets: the keys of this worker; may be empty.
    :param now: Unix seconds; the local clock when ``None``.
    :raises XetTokenTamperedError: a record was changed since it was sealed, or content of several commits was mixed.
    :raises XetTokenScopeError: the content is of another repository or revision.
    :raises XetTokenSealError: no key here opens it.
    :raises XetTokenExpiredError: it was sealed too long ago.
    """
    refused: dict[_Refusal, list[str]] = {}
    by_commit: dict[str, list[str]] = {}
    for file in files:
        try:
            bound, _ = _open(file, repo, fernets, now)
        except _RefusedError as error:
            refused.setdefault(error.refusal, []).append(file["path"])
        else:
            by_commit.setdefault(str(bound["commit"]), []).append(file["path"])
    if len(by_commit) > 1:
        refused[_SEVERAL] = [path for paths in by_commit.values() for path in paths]
    if refused:
        refusal = min(refused, key=lambda each: each.order)
        raise _error(refusal, refused[refusal], repo)


def read(file: XetFile, repo: Repo, fernets: Sequence[Fernet], now: float | None = None) -> bytes:
    """Return the content of a file whose record carries it, verified.

    :param repo, fernets, now: as for :func:`check`.
    :raises XetTokenError: as :func:`check` does for one file.
    """
    try:
        return _open(file, repo, fernets, now)[1]
    except _RefusedError as error:
        raise _error(error.refusal, [file["path"]], repo) from None


def commit_of(file: XetFile, repo: Repo, fernets: Sequence[Fernet]) -> str:
    """Return the commit that the content of a file was sealed at, of a record that :func:`check` accepted."""
    return str(_open(file, repo, fernets, None)[0]["commit"])


def _error(refusal: _Refusal, paths: Sequence[str], repo: Repo) -> XetHubError:
    others = f": {shortened(paths, MAX_NAMED)}" if len(paths) > 1 else ""
    return refusal.error(
        f"{shortened(paths, 1)} refused: {refusal.cause}. {refusal.remedy} Nothing was written. Refused content of "
        f"{repo}{others}."
    )


def _open(file: XetFile, repo: Repo, fernets: Sequence[Fernet], now: float | None) -> tuple[Mapping[str, Any], bytes]:
    bound, packed = _decrypt(file["sealed_content"], fernets)
    is_bound = set(bound) == _FIELDS and all(bound[name] == value for name, value in _bound(file).items())
    if not (is_bound and is_inline(file)):
        raise _RefusedError(_CHANGED)
    if not _is_of(bound, repo):
        raise _RefusedError(_ELSEWHERE)
    content = _unpack(packed, file["size"])
    if len(content) != file["size"] or not has_digests(file, content):
        raise _RefusedError(_CHANGED)
    if not isinstance(bound["sealed_at"], int) or (time.time() if now is None else now) - bound["sealed_at"] > LIFE:
        raise _RefusedError(_EXPIRED)
    return bound, content


def _decrypt(sealed: str, fernets: Sequence[Fernet]) -> tuple[Mapping[str, Any], bytes]:
    for fernet in fernets if len(sealed) <= _MAX_CHARS else ():
        try:
            content = fernet.decrypt(sealed.encode("ascii"))
        except Exception:  # noqa: S112 - sealed with another key, or edited
            continue
        # The content may be anything that was ever encrypted with this key.
        header, _, packed = content.removeprefix(_PREFIX).partition(b"\n")
        try:
            bound = json.loads(header) if content.startswith(_PREFIX) else None
        except (ValueError, RecursionError):
            break
        if isinstance(bound, dict):
            return bound, packed
        break
    raise _RefusedError(_UNOPENED)


def _is_of(bound: Mapping[str, Any], repo: Repo) -> bool:
    """Whether content is of this repository, and of this revision, by its name or because that is the commit."""
    if bound["repo"] == repo.uri:
        return True
    try:
        return Repo.from_uri(bound["repo"]).at(str(bound["commit"])) == repo
    except XetHubError:
        return False


def _unpack(packed: bytes, size: int) -> bytes:
    """Decompress, but never to more than one byte beyond the size in the record."""
    try:
        return zlib.decompressobj().decompress(packed, size + 1)
    except zlib.error:
        raise _RefusedError(_CHANGED) from None
