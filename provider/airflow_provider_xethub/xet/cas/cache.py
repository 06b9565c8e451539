"""Where the client of CAS remembers what is stored there: without it, a retry sends everything again."""

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
"""How large the cache may get, for each CAS; one GB remembers about 900 GB of content. The client's own limit is 16 GB,
and it keeps it when an operation begins."""


_CANDIDATES = 8


def folder(configured: str = "") -> Path | None:
    """Return the folder that the client must be told to use; ``None`` where its own choice will do.

    :param configured: the administrator's choice; it wins over the client's ``HF_XET_CACHE``, ``HF_HOME``, ``HOME``.
    :raises XetDestinationError: neither that folder nor one in the folder for temporary files can be written.
    """
    wanted = Path(configured).expanduser() if configured else _own_choice(os.environ)
    why = "there is no HOME" if wanted is None else _why_not(wanted)
    if why is None:
        return wanted if configured else None
    # Not one for each task: a retry needs what the try before it has written. Others can be quicker to make them.
    above = Path(tempfile.gettempdir())
    for number in range(_CANDIDATES):
        instead = above / f"xethub-cache-{os.getuid()}{f'-{number}' if number else ''}"
        if (why_not_there := _why_not(instead, private=True)) is None:
            break
    else:
        try:
            instead = Path(tempfile.mkdtemp(prefix="xethub-cache-"))
        except OSError as error:
            raise XetDestinationError(
                f"The client of CAS has no folder for its cache on this worker: {wanted or 'its own'} ({why}), "
                f"{instead} ({why_not_there or error}). Nothing was sent. Set [xethub] cache_folder to one that can be "
                "written."
            ) from error
    log.warning(
        "%s cannot be the cache of the client of CAS on this worker (%s); it is %s instead. Set [xethub] cache_folder.",
        wanted or "Its own folder",
        why,
        instead,
    )
    return instead


def _own_choice(environment: Mapping[str, str]) -> Path | None:
    """Return the folder that hf-xet 1.8 takes by itself."""
    if cache := environment.get("HF_XET_CACHE"):
        return Path(cache)
    if home := environment.get("HF_HOME"):
        return Path(home, "xet")
    try:
        above = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # this user has none
        return None
    return above / "huggingface" / "xet"


def _why_not(path: Path, *, private: bool = False) -> str | None:
    """Make the folder where it is missing, and say why it cannot be written; ``None`` where it can.

    :param private: refuse one that somebody else has made, or can write.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, **({"mode": 0o700} if private else {}))
        found = path.lstat()
        if private and not (stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022):
            return "somebody else can write it"
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        return os_reason(error)
    return None
