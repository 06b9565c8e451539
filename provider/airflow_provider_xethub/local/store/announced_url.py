"""Where a data folder is being served: ``server.url`` in it, there while the server runs.

A server that was killed leaves the file behind; who reads it finds that nothing answers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FILE_NAME = "server.url"


@contextmanager
def announced(folder: Path, url: str) -> Iterator[None]:
    """Write the URL for as long as the block runs. Of two servers on one folder the later one is found.

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
    """Return the URL that was announced last; ``None`` where no server was, or it has stopped."""
    try:
        return (folder / FILE_NAME).read_text().strip() or None
    except FileNotFoundError:
        return None
