"""The output of ``xethub-local``: for people on a terminal, for programs in a pipe.

In a pipe each row is one line with tab-separated columns, without headings or colours; numbers and times are in full.
Names and titles may contain control characters, which a terminal would interpret; they are printed as escapes.
``rich`` is imported only if the output is a terminal.
"""

from __future__ import annotations

import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, TextIO

from xethub_local.display import age_text, size_text

if TYPE_CHECKING:
    from rich.console import Console

_PROGRESS_FROM_BYTES = 8_000_000
# Control characters, lone surrogates, private and unassigned code points, line and paragraph separators.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})
# Marks that change the order in which a terminal shows the rest of a line.
_REORDERING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class Size:
    """A cell of bytes: ``1.23 MB`` on a terminal, ``1234567`` in a pipe."""

    size: int


@dataclass(frozen=True)
class Moment:
    """A cell of UNIX seconds: ``3 days ago`` on a terminal, ``2026-01-01T00:00:00Z`` in a pipe."""

    seconds: float


Cell = str | int | Size | Moment


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, empty: str) -> None:
    """Print rows as a table.

    :param columns: the headings, shown on a terminal only.
    :param empty: the text to show on a terminal if there are no rows.
    """
    rows = list(rows)
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(map(_plain, row)))
        return
    from rich.table import Table
    from rich.text import Text

    console = _console(sys.stdout)
    if not rows:
        console.print(safe_text(empty), markup=False, highlight=False)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        is_number = isinstance(rows[0][index], (int, Size))
        table.add_column(column, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_pretty(cell)) for cell in row))
    console.print(table)


def print_text(text: str) -> None:
    """Print text without wrapping, because people copy lines from it. Lines that end with a colon are headings."""
    lines = list(map(safe_text, text.split("\n")))
    if not sys.stdout.isatty():
        print("\n".join(lines), flush=True)
        return
    console = _console(sys.stdout)
    for line in lines:
        style = "bold" if line.endswith(":") else None
        console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on a terminal; yield a function to call with the number of bytes of each step.

    Pipes and small transfers get none. It is written to standard error, because data may go to standard output.
    """
    if total < _PROGRESS_FROM_BYTES or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    shown = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=_console(sys.stderr),
        transient=True,
    )
    with shown:
        task = shown.add_task(safe_text(what), total=total)
        yield lambda count: shown.advance(task, count)


def confirmed(question: str) -> bool:
    """Ask for confirmation on a terminal; every answer but yes means no."""
    try:
        return input(f"{safe_text(question)} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def safe_text(text: str) -> str:
    r"""Return a string in which characters that a terminal would interpret are escapes such as ``\x1b``.

    File names and commit titles may contain them.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in _UNSAFE_CATEGORIES or character in _REORDERING
        else character
        for character in text
    )


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream)


def _plain(cell: Cell) -> str:
    if isinstance(cell, Size):
        return str(cell.size)
    if isinstance(cell, Moment):
        return f"{datetime.fromtimestamp(cell.seconds, tz=timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
    # A title may contain tabs and line breaks, which separate columns and rows here.
    return safe_text(" ".join(str(cell).split()))


def _pretty(cell: Cell) -> str:
    if isinstance(cell, Size):
        return size_text(cell.size)
    if isinstance(cell, Moment):
        return age_text(time.time() - cell.seconds)
    return f"{cell:,}" if isinstance(cell, int) else safe_text(cell)
