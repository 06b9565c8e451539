"""What is there only while Airflow runs: environments, command lines, temporary files, arguments of triggers."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from stat import S_IMODE

from leaks.search import Piece
from support.celery_airflow import descendants

_SECONDS = 0.25
_LARGEST = 1 << 24
IN_MEMORY = Path("/dev/shm")
"""Where tokens are handed over."""


class Watch:
    """Looks again and again at the processes below one, and at folders and the database, until the block ends.

    :param pid: the process that started all others.
    :param folders: their files may be gone at any time.
    """

    def __init__(self, pid: int, folders: list[Path], database: Path) -> None:
        self._pid = pid
        self._folders = [*folders, IN_MEMORY]
        self._database = database
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_until_stopped, daemon=True)
        self._pieces: dict[tuple[str, bytes], Piece] = {}
        self._known: dict[str, tuple[int, int]] = {}
        self.processes: set[int] = set()
        self.unreadable: set[int] = set()
        self.rounds = 0

    def __enter__(self) -> Watch:
        if IN_MEMORY.is_dir():  # what others have there is not ours
            self._known = {str(path): _version(path) for path in IN_MEMORY.rglob("*") if path.is_file()}
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def pieces(self) -> list[Piece]:
        """Return everything that was seen, each content once."""
        return list(self._pieces.values())

    def has_seen(self, place: str, content: bytes) -> bool:
        """Return whether something in a place contained this."""
        return any(place == seen and content in each for seen, each in list(self._pieces))

    def _look_until_stopped(self) -> None:
        while not self._stop.is_set():
            begun = time.monotonic()
            self._look()
            self.rounds += 1
            # At most a third of one processor.
            self._stop.wait(max(_SECONDS, 2 * (time.monotonic() - begun)))

    def _look(self) -> None:
        for pid in [self._pid, *descendants(self._pid)]:
            self.processes.add(pid)
            for place, name in (("environments", "environ"), ("command lines", "cmdline")):
                try:
                    self._add(place, f"process {pid}", Path(f"/proc/{pid}/{name}").read_bytes())
                except PermissionError:  # without core dumps, only root may
                    self.unreadable.add(pid)
                except OSError:  # it has ended
                    continue
            for name, content in _nameless(pid):
                self._add("temporary files", name, content)
        for folder in self._folders:
            for path in folder.rglob("*"):
                with suppress(OSError):
                    version = _version(path)
                    if path.is_file() and self._known.get(str(path)) != version:
                        self._known[str(path)] = version
                        mode = path.stat().st_mode
                        self._add("temporary files", _named(str(path), mode), path.read_bytes()[:_LARGEST])
        with (
            suppress(sqlite3.Error),
            closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as connection,
        ):
            for row in connection.execute("SELECT * FROM trigger"):
                self._add("triggers", f"trigger {row[0]}", "\n".join(map(str, row)).encode())

    def _add(self, place: str, name: str, content: bytes) -> None:
        if content:
            self._pieces.setdefault((place, content), Piece(place, name, content))


def _version(path: Path) -> tuple[int, int]:
    with suppress(OSError):
        stat = path.stat()
        return stat.st_mtime_ns, stat.st_size
    return 0, 0


def _nameless(pid: int) -> Iterator[tuple[str, bytes]]:
    """Return the content of the open files of a process that have no name."""
    with suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                name = str(link.readlink())
                if name.endswith("(deleted)") and name.startswith("/") and (stat := link.stat()).st_size:
                    with link.open("rb") as file:
                        yield _named(f"{name} of process {pid}", stat.st_mode), file.read(_LARGEST)


def _named(name: str, mode: int) -> str:
    """Return the name of a file with who may read it."""
    return f"{name}, mode {S_IMODE(mode):04o}"
