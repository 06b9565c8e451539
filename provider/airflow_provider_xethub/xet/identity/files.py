"""An ID token in a file that something else keeps fresh: the kubelet, SPIRE or a Vault agent."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from airflow_provider_xethub.exceptions import XetIdentityError
from airflow_provider_xethub.xet.identity.jwt import MAX_CHARS

_REMEDY = "Check that it is mounted on this worker, and what should write it."


class FileIdentity:
    """The ID token in a file, read anew each time.

    :param path: absolute path, from the administrator's list and never from a connection: see :func:`choose`.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.name = f"file {path}"

    def id_token(self, audience: str) -> str:  # noqa: ARG002 - who writes the file chooses the audience
        """Return the content of the file.

        :raises XetIdentityError: it is missing, unreadable, too large, not a regular file or not text.
        """
        try:
            content = _read(self._path)
        except FileNotFoundError:
            raise XetIdentityError(f"The identity file {self._path} is missing. {_REMEDY}") from None
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else type(error).__name__
            raise XetIdentityError(f"The identity file {self._path} cannot be read: {reason}. {_REMEDY}") from None
        if content is None:
            raise XetIdentityError(f"The identity file {self._path} is not a regular file. {_REMEDY}")
        if len(content) > MAX_CHARS:
            raise XetIdentityError(
                f"The identity file {self._path} is larger than {MAX_CHARS >> 10} KiB: it is no ID token. Nothing was "
                f"sent. {_REMEDY}"
            )
        # Anything that is not ASCII is refused as no JWT.
        return content.decode("ascii", "replace")


def choose(named: str, allowed: Sequence[str]) -> FileIdentity:
    """Return the identity of a file that a connection names, if the administrator allows it.

    What is read is the path of the list, so that nothing in the connection decides which file that is at the time.

    :param named: path in the connection.
    :param allowed: paths in the administrator's list.
    :raises XetIdentityError: it is not in the list.
    """
    if "\0" not in named and Path(named).is_absolute():
        for path in allowed:
            # A kubelet's files are symbolic links, and it replaces their targets: only the two of now can be compared.
            if Path(path).is_absolute() and os.path.realpath(path) == os.path.realpath(named):
                return FileIdentity(path)
    raise XetIdentityError(
        f"The identity file {named!r:.200} is not allowed. Ask the administrator to add it to [xethub] identity_files, "
        "as an absolute path, or name one that is listed there."
    )


def _read(path: str) -> bytes | None:
    """Return the content, up to one byte more than is allowed; ``None`` for a folder, FIFO, socket or device."""
    # Before it is opened: opening a device can have an effect.
    if not stat.S_ISREG(Path(path).stat().st_mode):
        return None
    # Not blocking: in the meantime it may have become a FIFO that nobody writes to.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        content = b""
        while len(content) <= MAX_CHARS and (piece := os.read(descriptor, MAX_CHARS + 1 - len(content))):
            content += piece
        return content
    finally:
        os.close(descriptor)
