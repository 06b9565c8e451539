"""Create a data folder, and files in it that the first process writes."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def make_private(folder: Path) -> None:
    """Create a folder that only its owner can enter, because it holds private repositories. Keep an existing one.

    :raises OSError: it cannot be created.
    """
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):  # another process created it first
            folder.mkdir(mode=0o700)


def write_once(path: Path, make: Callable[[], bytes]) -> bytes:
    """Return the content of ``path``; if it is missing, first write the result of ``make``, readable by its owner only.

    If several processes start on one folder, one of them writes and all return the same content.

    :raises OSError: the folder cannot be read or written.
    """
    if not path.exists():
        # A hard link is created atomically, and only by the first process.
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as new:
            new.write(make())
            new.flush()
            os.fchmod(new.fileno(), 0o600)
            with contextlib.suppress(FileExistsError):
                os.link(new.name, path)
    return path.read_bytes()
