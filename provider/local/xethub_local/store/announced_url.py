"""The URL at which a data folder is served, in its file ``server.url`` while the server runs.

A killed server leaves the file behind; readers must expect that nothing answers at the URL.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FILE_NAME = "server.url"


@contextmanager
def announced(folder: Path, url: str) -> Iterator[None]:
    """Announce the URL until the ``with`` block ends. Of two servers on one folder, the later one wins.

    :raises OSError: the folder cannot be written.
    """
    path = folder / FILE_NAME
    new = folder / f".{FILE_NAME}.{os.getpid()}"
    new.write_text(f"{url}\n")
    new.replace(path)
    try:
        yield
    finally:
        if announced_url(folder) == url:
            with suppress(FileNotFoundError):
                path.unlink()


def announced_url(folder: Path) -> str | None:
    """Return the URL that was announced last, or ``None`` if no server is running."""
    try:
        return (folder / FILE_NAME).read_text().strip() or None
    except FileNotFoundError:
        return None
