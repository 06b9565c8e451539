"""``hf_xet``, the native client of CAS, in this process: its import, the names it takes, and hashes of local bytes.

It is imported when the first transfer or hash needs it, never before: it starts threads and opens a log file.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from airflow_provider_xethub.exceptions import XetInputError, XetTransferError
from airflow_provider_xethub.xet.process import threads

_ENVIRONMENT = {"HF_XET_LOG_DEST": os.devnull, "RUST_LOG": "warn"}

_HEAPS = ("MALLOC_ARENA_MAX", -8)
_KEPT = ("MALLOC_TRIM_THRESHOLD_", -1)
_LARGE = ("MALLOC_MMAP_THRESHOLD_", -3)
"""Settings of the GNU C library: the variable of each, and its number in ``mallopt``."""


def prepare() -> None:
    """Set the environment variables that the client reads once, when it is imported.

    Without them, a log file for each process grows in HOME. Variables that are set already stay as they are.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


@cache
def share_heaps() -> None:
    """Let the threads of this process share heaps, unless the environment says otherwise: one for two cores.

    The GNU C library gives each of the client's threads one of its own, up to eight for each core, and each keeps what
    its thread has freed. On two cores, a download of 1 GiB took 310 instead of 390 MB with one, and the same time. An
    upload would take three percent longer, and hardly less memory. It must be called before the first thread begins: a
    heap that is there stays in use.
    """
    _set(_HEAPS, max(1, len(os.sched_getaffinity(0)) // 2) if hasattr(os, "sched_getaffinity") else 1)


@cache
def limit_heaps() -> None:
    """Let threads return what they have freed to the system at once, unless the environment says otherwise.

    After one large block was freed, the GNU C library keeps up to 64 MB at the end of each heap, which
    :func:`release_memory` does not reach: each batch of 10,000 files left 10 MB behind. This is only for work in
    batches: 200 downloads of 1 MiB took 5 MB less with it, but five percent more of the processor.
    """
    _set(_KEPT, 128 << 10)  # its default
    _set(_LARGE, 32 << 20)  # the largest value, which it also gets when such a block was freed


def _set(setting: tuple[str, int], value: int) -> None:
    name, number = setting
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    is_set = name in os.environ or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if mallopt is not None and not is_set:
        mallopt(number, value)


def native_path(path: Path) -> str:
    """Return the path of a local file as the client takes it.

    :raises XetInputError: its name is not UTF-8; the client cannot open it.
    """
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise XetInputError(
            f"The name of the local file {text!r} is not valid UTF-8, so the client of CAS cannot open it. Rename it."
        ) from None
    return text


def xet_hashes(paths: Sequence[Path]) -> list[str]:
    """Return the Xet hashes that these files would get in CAS, without sending anything.

    :raises OSError: a file cannot be read.
    """
    prepare()
    names = [native_path(path) for path in paths]
    from hf_xet import hash_files

    return [info.hash for info in threads.interruptible(lambda: hash_files(names))]


def release_memory() -> None:
    """Return memory that the client has freed to the system.

    Its transfers run in threads of their own, whose heaps the C library keeps: without this, ten uploads of 5,000 files
    each leave 450 MB resident, and with it 50 MB. Only the GNU C library has such a call.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class XetHash:
    """Compute the Xet hash of bytes in memory, with the interface of a ``hashlib`` digest and without a file.

    The client only hashes files: it reads the bytes from a pipe.
    """

    def __init__(self) -> None:
        prepare()
        reading, self._writing = os.pipe()
        self._is_open = True
        self._hashes: list[str] = []
        self._failure: list[BaseException] = []
        self._thread = threading.Thread(target=self._hash, args=(reading,), name="xethub-hash", daemon=True)
        threads.begin(self._thread)

    def _hash(self, reading: int) -> None:
        from hf_xet import hash_files

        try:
            self._hashes.append(hash_files([f"/dev/fd/{reading}"])[0].hash)
        except BaseException as error:
            self._failure.append(error)
        finally:
            os.close(reading)  # ends a blocked write

    def update(self, data: bytes | memoryview) -> None:
        """Add the next bytes."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._writing, rest) :]
        except BrokenPipeError:
            if not self._failure:
                self._thread.join()

    def hexdigest(self) -> str:
        """Return the hash of all bytes; no more may be added.

        :raises XetTransferError: the client failed to compute it.
        """
        self.close()
        self._thread.join()
        if not self._hashes:
            raise XetTransferError(f"The Xet hash could not be computed on this worker: {self._failure[0]}.")
        return self._hashes[0]

    def close(self) -> None:
        """Stop the computation, also if the hash was not requested."""
        if self._is_open:
            self._is_open = False
            os.close(self._writing)
