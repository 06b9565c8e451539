"""The folder in which the client of CAS caches what is stored there: without it, a retry sends everything again."""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from airflow_provider_xethub.exceptions import XetDestinationError
from airflow_provider_xethub.xet.message_text import os_reason

log = logging.getLogger(__name__)

SIZE_LIMIT = "1gb"
"""Largest size of the cache for each CAS; 1 GB covers about 900 GB of content. The client's own default is 16 GB. It
enforces the limit when an operation starts."""

_CANDIDATES = 8
# Of hf-xet 1.8: chunks of finished uploads, and xorbs of unfinished ones. Uploads that are running have folders beside
# the latter, which stay.
_RECORDS = ("*/shard-cache/*.mdb", "*/staging/shard-session/xorb_metadata/*.mdb")


def folder(configured: str = "") -> Path | None:
    """Return the folder to set for the client; ``None`` where the client's own default is writable.

    :param configured: the administrator's choice; it overrides the client's ``HF_XET_CACHE``, ``HF_HOME``, ``HOME``.
    :raises XetDestinationError: neither that folder nor one below the folder for temporary files is writable.
    """
    chosen = location(configured)
    return chosen if configured or chosen != _default_folder(os.environ) else None


def location(configured: str = "") -> Path:
    """Return the folder of the cache, whether it is the client's own default or not.

    :param configured: as for :func:`folder`.
    :raises XetDestinationError: as for :func:`folder`.
    """
    wanted = Path(configured).expanduser() if configured else _default_folder(os.environ)
    why = "HOME is not set" if wanted is None else _write_problem(wanted)
    if wanted is not None and why is None:
        return wanted
    # Shared by all tasks: a retry needs what the previous attempt cached. Other users may have created some of them.
    above = Path(tempfile.gettempdir())
    for number in range(_CANDIDATES):
        instead = above / f"xethub-cache-{os.getuid()}{f'-{number}' if number else ''}"
        if (why_not_there := _write_problem(instead, private=True)) is None:
            break
    else:
        try:
            instead = Path(tempfile.mkdtemp(prefix="xethub-cache-"))
        except OSError as error:
            raise XetDestinationError(
                "No folder for the cache of the CAS client is writable on this worker. Set [xethub] cache_folder to a "
                f"writable one. Tried {wanted or 'its default'} ({why}) and {instead} ({why_not_there or error}). "
                "Nothing was sent."
            ) from error
    log.warning(
        "%s cannot be the cache of the CAS client on this worker (%s); using %s. Set [xethub] cache_folder.",
        wanted or "The default folder",
        why,
        instead,
    )
    return instead


def forget(folder: Path | None, xorb: str | None = None) -> bool:
    """Delete what the client has recorded about content that CAS stores, and return whether there was anything.

    A record can be wrong: a proxy that answers an upload with its sign-in page and status 200 makes the client record
    content that CAS never got. From then on, every upload of that content would be refused. Without the records, the
    client only sends more than it has to. It deletes such files itself when they become too many, also while other
    processes use the folder.

    :param folder: as for the client; ``None`` for its own default.
    :param xorb: only records that name this xorb, by its hash in hex. ``None``: all.
    """
    wanted = folder or _default_folder(os.environ)
    if wanted is None:
        return False
    # In hex, the client prints a hash as four numbers, each of which is stored with its last byte first.
    stored = b"".join(bytes.fromhex(xorb[at : at + 16])[::-1] for at in range(0, 64, 16)) if xorb else b""
    is_any = False
    try:
        records = [path for pattern in _RECORDS for path in wanted.glob(pattern)]
    except OSError as error:  # a disk that fails; the error of the upload says more
        log.debug("%s could not be listed: %s", wanted, error)
        return False
    for path in records:
        try:
            if stored in path.read_bytes():
                path.unlink()
                is_any = True
        except OSError as error:  # another process was faster, or may not be disturbed
            log.debug("%s could not be deleted: %s", path, error)
    return is_any


def _default_folder(environment: Mapping[str, str]) -> Path | None:
    """Return the default folder of hf-xet 1.8."""
    if cache := environment.get("HF_XET_CACHE"):
        return Path(cache)
    if home := environment.get("HF_HOME"):
        return Path(home, "xet")
    try:
        above = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # this user has no home folder
        return None
    return above / "huggingface" / "xet"


def _write_problem(path: Path, *, private: bool = False) -> str | None:
    """Create the folder if it is missing, and return why it is not writable; ``None`` where it is.

    :param private: refuse a folder that belongs to another user, or that others can write.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, **({"mode": 0o700} if private else {}))
        found = path.lstat()
        if private and not (stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022):
            return "other users can write to it"
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        return os_reason(error)
    return None
