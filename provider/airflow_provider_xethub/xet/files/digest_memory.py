"""Remembers the digests of local files, so that a file that has not changed since need not be read again.

A file is recognised by its device, inode, size, mtime and ctime. The kernel sets ctime at each change of the content,
and no program can set it back, unlike mtime; only root can, with the clock of the machine. As in git, a digest is not
kept if the file changed shortly before it was read: the next change might get the same time.

Neither names nor contents are stored. There is one file for each folder that was transferred, replaced as a whole, in a
folder that only this user can read or write. Whatever is wrong with it, digests are computed as if it were not there.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from airflow_provider_xethub.xet.files import file_systems

log = logging.getLogger(__name__)

TRUSTED = frozenset({"ext2", "ext3", "ext4", "f2fs", "jfs", "tmpfs", "xfs", "zfs"})
"""File systems of this machine whose inodes stay the same and whose ctime is that of the last change.

Network file systems set ctime by the clock of another machine and cache it, and overlays change the inode of a file
when it is first written. btrfs is missing because the devices of its subvolumes are not those in the list of mounts."""

SETTLED_SECONDS = 60.0
"""A file that changed later than this before it was read is not remembered.

More than the resolution of ctime on any of these file systems (1 s), and longer than Linux lets a program change the
content through a memory map without a new ctime (35 s by default, ``vm.dirty_expire_centisecs``)."""

MIN_BYTES = 64 << 20
"""Bytes below which reading is as fast as remembering, unless there are thousands of files that come from a disk."""

MAX_ENTRIES = 300_000
"""Digests that are kept for one folder; those that were not used for the longest time go first. They take 80 MB of
memory while they are compared, and 23 MB on disk."""

MAX_BYTES = 128 << 20
"""Bytes of all files of the memory; the one that was not used for the longest time goes first."""

MAX_AGE_DAYS = 90
"""Days after which a digest that was not used is forgotten."""

KINDS = ("sha256", "git blob sha1", "Xet hash")
"""Kinds of digests, by the number that stands for them."""

_MAGIC = b"xethub digests 1\n"
_KEY = struct.Struct("<QQB")
"""Device, inode, and number of the kind."""
_STATE = struct.Struct("<QQBqqq")
"""The same with size, mtime and ctime."""
_REST = struct.Struct("<I32s")
"""The day on which it was last used, and the digest. Records are kept as bytes, which take a third of the memory."""
_RECORD_BYTES = _STATE.size + _REST.size
_LENGTHS = (32, 20, 32)
_NAME_BYTES = 16
_DAY = 86_400
_LOCK_SECONDS = 1.0
_POLL_SECONDS = 0.02
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_OPEN_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_PART = ".new"
_LOCK = "lock"


class FileState(NamedTuple):
    """What a file is recognised by.

    :param device, inode: which file it is.
    :param size: bytes.
    :param mtime_ns, ctime_ns: times of the last changes of its content and of its inode, in nanoseconds.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @property
    def content(self) -> tuple[int, int, int]:
        """Size and times, which another content would change, whichever file it is."""
        return self.size, self.mtime_ns, self.ctime_ns

    @classmethod
    def of(cls, status: os.stat_result) -> FileState:
        """Return the state of a file, from what the system says about it."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> FileState:
        """Return the state of the file that is at a path now.

        :raises OSError: there is none.
        """
        return cls.of(os.stat(path))  # noqa: PTH116 - of many files, pathlib takes twice as long


_Records = dict[bytes, bytes]
"""Records by their keys."""


class DigestMemory:
    """The digests that this user remembers on this machine.

    :param folder: returns the folder in which the memory has a private one, called only when it is needed; ``None``
        where there is none.
    """

    def __init__(self, folder: Callable[[], Path | None]) -> None:
        self._folder = folder

    def of(self, root: Path, kind: str) -> FolderMemory:
        """Return the digests of one kind of the files below ``root``; those that are wrong or damaged are left out."""
        memory = FolderMemory(self, root, kind)
        memory.load()
        return memory

    @contextmanager
    def opened(self) -> Iterator[int | None]:
        """Open the private folder; ``None`` where there is none that can be trusted."""
        handle: int | None = None
        try:
            try:
                handle = self._open()
            except OSError as error:
                log.debug("No digests are remembered: %s", error)
            yield handle
        finally:
            if handle is not None:
                os.close(handle)

    def load(self, name: str, magic: bytes) -> bytes | None:
        """Return what :meth:`store` kept; ``None`` where there is nothing, or it is damaged.

        :param magic: begins the file, and says what it holds.
        """
        with self.opened() as folder:
            return None if folder is None else _content(folder, name, magic)

    def store(self, name: str, magic: bytes, body: bytes) -> None:
        """Replace a file of the private folder; an empty ``body`` removes it. Without the folder, do nothing."""
        with self.opened() as folder:
            if folder is None:
                return
            try:
                with _locked(folder) as is_locked:
                    if is_locked and body:
                        _replace(folder, name, magic, [body])
                        _make_room(folder, name)
                    elif is_locked:
                        with suppress(FileNotFoundError):
                            os.unlink(name, dir_fd=folder)
            except OSError as error:
                log.info("What the Hub has was not remembered: %s", error)

    def _open(self) -> int | None:
        above = self._folder()
        if above is None:
            return None
        path = above / f"xethub-digests-{os.geteuid()}"
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        handle = os.open(path, _OPEN_FOLDER)
        found = os.fstat(handle)
        is_private = found.st_uid == os.geteuid() and not found.st_mode & 0o077
        if is_private and file_systems.by_device().get(found.st_dev) in file_systems.LOCAL:
            return handle
        os.close(handle)
        if is_private:
            log.info("No digests are remembered in %s: other machines may use its file system, too.", path)
        else:
            log.warning("No digests are remembered in %s: other users can read or write it. Remove it.", path)
        return None


class FolderMemory:
    """The digests of one kind of the files below one folder.

    :param memory: where they are kept.
    :param root: the folder.
    :param kind: one of :data:`KINDS`.
    """

    def __init__(self, memory: DigestMemory, root: Path, kind: str) -> None:
        self._memory = memory
        self._kind = KINDS.index(kind)
        self._root = root
        self._name: str | None = None
        self._trusted: frozenset[int] = frozenset()
        self._records: _Records = {}
        self._seen: set[bytes] | None = None

    def load(self) -> None:
        """Read what was remembered."""
        try:
            status = self._root.stat()
        except OSError:
            return
        self._trusted = frozenset(
            device for device, file_system in file_systems.by_device().items() if file_system in TRUSTED
        )
        identity = f"{status.st_dev}:{status.st_ino}".encode()
        self._name = hashlib.sha256(identity).hexdigest()[: 2 * _NAME_BYTES]
        with self._memory.opened() as folder:
            if folder is not None:
                self._records = _read(folder, self._name)

    def recall(self, state: FileState) -> str | None:
        """Return the digest of a file; ``None`` where it is unknown, or the file has changed."""
        if state.device not in self._trusted:
            return None
        known = self._state(state)
        record = self._records.get(known[: _KEY.size])
        if record is None or not record.startswith(known):
            return None
        return self._digest(record).hex()

    def has_changed(self, state: FileState) -> bool:
        """Return whether the file is known, and was written to since."""
        if state.device not in self._trusted:
            return False
        known = self._state(state)
        record = self._records.get(known[: _KEY.size])
        return record is not None and not record.startswith(known)

    def has_seen(self, digest: str) -> bool:
        """Return whether a file of this folder had this digest when it was remembered, whatever became of it."""
        if self._seen is None:
            own = (record for record in self._records.values() if record[_KEY.size - 1] == self._kind)
            self._seen = {self._digest(record) for record in own}
        return bytes.fromhex(digest) in self._seen

    def _digest(self, record: bytes) -> bytes:
        _, digest = _REST.unpack_from(record, _STATE.size)
        return bytes(digest[: _LENGTHS[self._kind]])

    def _state(self, state: FileState) -> bytes:
        return _STATE.pack(state.device, state.inode, self._kind, state.size, state.mtime_ns, state.ctime_ns)

    def keep(self, found: Mapping[FileState, str], began_ns: int, used: Sequence[FileState] = ()) -> None:
        """Remember digests, unless the files changed shortly before they were read.

        :param found: by the state that each file had before and after it was read.
        :param began_ns: when reading began, on the clock ``time.time_ns``.
        :param used: files whose remembered digests were used; :meth:`recall` returned them.
        """
        latest = began_ns - int(SETTLED_SECONDS * 1e9)
        today = began_ns // 10**9 // _DAY
        new: _Records = {}
        for state, digest in found.items():
            if state.device in self._trusted and max(state.mtime_ns, state.ctime_ns) < latest:
                known = self._state(state)
                new[known[: _KEY.size]] = known + _REST.pack(today, bytes.fromhex(digest))
        for known in map(self._state, used):
            record = self._records[known[: _KEY.size]]
            if _day(record) != today:
                new[known[: _KEY.size]] = known + _REST.pack(today, record[_STATE.size + 4 :])
        if new:
            self._change(lambda records: _limited(records | new, today))

    def drop(self) -> None:
        """Forget everything about this folder."""
        self._records, self._seen = {}, None
        self._change(lambda _: {})

    def _change(self, change: Callable[[_Records], _Records]) -> None:
        """Replace the file, with what other tasks have written meanwhile."""
        with self._memory.opened() as folder:
            if folder is None or self._name is None:
                return
            try:
                with _locked(folder) as is_locked:
                    if not is_locked:
                        log.debug("Another task holds the lock of the remembered digests; these are not kept.")
                        return
                    records = change(_read(folder, self._name))
                    _replace(folder, self._name, _MAGIC, list(records.values()))
                    _make_room(folder, self._name)
            except OSError as error:
                log.info("The digests of %s were not remembered: %s", self._root, error)


def _day(record: bytes) -> int:
    return int(_REST.unpack_from(record, _STATE.size)[0])


def _limited(records: _Records, today: int) -> _Records:
    kept = {key: record for key, record in records.items() if _day(record) >= today - MAX_AGE_DAYS}
    if len(kept) > MAX_ENTRIES:
        newest = sorted(kept.items(), key=lambda item: _day(item[1]), reverse=True)
        kept = dict(newest[:MAX_ENTRIES])
    return kept


def _read(folder: int, name: str) -> _Records:
    body = _content(folder, name, _MAGIC)
    if body is None:
        return {}
    if len(body) % _RECORD_BYTES:
        log.info("The remembered digests are damaged. They are computed again.")
        return {}
    return {body[at : at + _KEY.size]: body[at : at + _RECORD_BYTES] for at in range(0, len(body), _RECORD_BYTES)}


def _content(folder: int, name: str, magic: bytes) -> bytes | None:
    """Return a file without its beginning; ``None`` where it does not exist, or has another checksum."""
    try:
        handle = os.open(name, _OPEN_FILE, dir_fd=folder)
        with open(handle, "rb") as file:  # noqa: PTH123 - an open file
            data = file.read(MAX_BYTES)
    except OSError:
        return None
    start = len(magic) + hashlib.sha256().digest_size
    body = data[start:]
    if data.startswith(magic) and data[len(magic) : start] == hashlib.sha256(body).digest():
        return body
    log.info("The remembered digests are damaged, or of another version. They are computed again.")
    return None


def _replace(folder: int, name: str, magic: bytes, parts: Sequence[bytes]) -> None:
    """Replace a file; a reader, or a task that is killed meanwhile, leaves the old or the new content."""
    body = b"".join(parts)
    with suppress(FileNotFoundError):
        os.unlink(name + _PART, dir_fd=folder)
    try:
        handle = os.open(name + _PART, _OPEN_NEW, 0o600, dir_fd=folder)
        with open(handle, "wb") as file:  # noqa: PTH123 - an open file
            file.write(magic + hashlib.sha256(body).digest())
            file.write(body)
        os.rename(name + _PART, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(name + _PART, dir_fd=folder)
        raise


def _make_room(folder: int, but: str) -> None:
    """Remove the files that were not written for the longest time, until all together are small enough."""
    with os.scandir(folder) as entries:
        found = [(entry.stat(follow_symlinks=False), entry.name) for entry in entries if entry.name != _LOCK]
    total = sum(status.st_size for status, _ in found)
    for status, name in sorted(found, key=lambda item: item[0].st_mtime_ns):
        if total <= MAX_BYTES:
            return
        if name != but:
            os.unlink(name, dir_fd=folder)
            total -= status.st_size


@contextmanager
def _locked(folder: int) -> Iterator[bool]:
    """Hold the lock of all writers; the kernel releases that of a killed process."""
    handle = os.open(_LOCK, _OPEN_LOCK, 0o600, dir_fd=folder)
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    yield False
                    return
                time.sleep(_POLL_SECONDS)
        yield True
    finally:
        os.close(handle)
