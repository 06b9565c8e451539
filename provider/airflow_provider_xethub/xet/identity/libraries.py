"""The libraries of the clouds: which extra installs them, and what of their errors and logs may be shown."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_xethub.exceptions import XetIdentityError

_JWT = re.compile(r"eyJ[\w-]+(\.[\w-]*)*")
_MAX_CHARS = 300


@contextmanager
def of_extra(extra: str, package: str) -> Iterator[None]:
    """Import a library in this block.

    :param extra: what installs it, of this provider.
    :param package: its name, for the message.
    :raises XetIdentityError: it is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise XetIdentityError(
            f"Identity {extra} needs {package}, which is not installed: install airflow-provider-xethub[{extra}] on "
            f"this worker and the triggerer ({error})."
        ) from None


class _NotHere(logging.Filter):
    """Drops debug messages of a thread while it is in :func:`quiet`."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: set[int] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.DEBUG or threading.get_ident() not in self.threads


_not_here = _NotHere()


@contextmanager
def quiet(*packages: str) -> Iterator[None]:
    """Keep debug messages of libraries out of the log in this block: they show whole responses, tokens included."""
    for name in list(logging.root.manager.loggerDict):
        # Each logger, as a filter sees nothing of the loggers below it, and a level may be set on any of them.
        if name.startswith(tuple(f"{each}." for each in packages)):
            logging.getLogger(name).addFilter(_not_here)
    _not_here.threads.add(threading.get_ident())
    try:
        yield
    finally:
        _not_here.threads.discard(threading.get_ident())


def shown(error: object) -> str:
    """Return the message of a library on one line, without anything that looks like a token.

    These errors repeat what a service responded, so they are shown this way and never chained.
    """
    text = _JWT.sub("***", " ".join(str(error).split()))
    return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}…"
