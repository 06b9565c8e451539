"""Remembered digests: never of a file that may have changed, never from anybody else, and never in the way."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import signal
import stat
import threading
import time
from contextlib import contextmanager

import pytest

from airflow_provider_xethub.xet.files import digest_memory, file_systems
from airflow_provider_xethub.xet.files.digest_memory import DigestMemory, FileState
from airflow_provider_xethub.xet.files.found_files import open_local
from airflow_provider_xethub.xet.transfer import remembered
from airflow_provider_xethub.xet.transfer.remembered import digests_of
from support.failing_disk import fail_at


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def settle(*paths):
    """Wait until the clock of files has passed the last change."""
    newest = max(path.stat().st_ctime_ns for path in paths)
    while time.time_ns() <= newest + 10_000_000:
        time.sleep(0.002)


@pytest.fixture(autouse=True)
def on_a_local_disk(monkeypatch, tmp_path):
    """This machine may have its temporary files in an overlay."""
    device = tmp_path.stat().st_dev
    monkeypatch.setattr(file_systems, "by_device", lambda: {device: "ext4"})
    monkeypatch.setattr(digest_memory, "SETTLED_SECONDS", 0.0)
    monkeypatch.setattr(remembered, "MIN_BYTES", 0)
    monkeypatch.setattr(remembered, "VERIFIED_BYTES", 0)
    monkeypatch.setattr(remembered, "VERIFIED_SHARE", 0.0)


@pytest.fixture
def cache(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


@pytest.fixture
def private(cache):
    """The private folder below the cache."""
    return cache / f"xethub-digests-{os.geteuid()}"


@pytest.fixture
def memory(cache):
    return DigestMemory(lambda: cache)


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    paths = [folder / f"{number}.bin" for number in range(8)]
    for path in paths:
        path.write_bytes(os.urandom(100))
    settle(*paths)
    return paths


def upload(memory, paths, kind="sha256", meanwhile=None):
    """Return the names of the files that were read; all digests must be right."""
    contents = [open_local(path, path.name) for path in paths]
    read = []

    def compute(numbers):
        read.extend(contents[number].path.name for number in numbers)
        digests = [sha256(contents[number].path) for number in numbers]
        if meanwhile:
            meanwhile()
        return digests

    found = digests_of(memory, kind, contents, compute)
    if not meanwhile:
        assert found.digests == [sha256(path) for path in paths]
    assert {path.name for number, path in enumerate(paths) if number not in found.recalled} == set(read)
    return sorted(read)


def all_names(files):
    return [path.name for path in files]


BEGAN = 1_700_000_000 * 10**9
DAY = 86_400 * 10**9
ONE, OTHER = "ab" * 32, "cd" * 32


@pytest.fixture
def state(tmp_path):
    """Returns the state of a file that nobody reads."""
    device = tmp_path.stat().st_dev
    return lambda inode=1, mtime=0, ctime=0: FileState(device, inode, 100, mtime, ctime)


# --- what has changed -------------------------------------------------------------------------------------------------


def test_a_file_is_read_once_while_it_does_not_change(memory, files):
    assert upload(memory, files) == all_names(files)
    assert upload(memory, files) == []
    assert upload(None, files) == all_names(files)


def test_only_a_known_file_is_known_to_have_changed(memory, files, tmp_path):
    upload(memory, files)
    folder = memory.of(files[0].parent, "sha256")
    before = FileState.of(files[0].stat())
    assert not folder.has_changed(before)
    written_with_old_times(files[0])
    assert folder.has_changed(FileState.of(files[0].stat()))
    (tmp_path / "unknown").write_bytes(b"new")
    assert not folder.has_changed(FileState.of((tmp_path / "unknown").stat()))


def test_of_an_unknown_file_system_no_change_is_known(memory, files, monkeypatch):
    upload(memory, files)
    written_with_old_times(files[0])
    monkeypatch.setattr(file_systems, "by_device", dict)
    assert not memory.of(files[0].parent, "sha256").has_changed(FileState.of(files[0].stat()))


def test_a_digest_that_a_file_had_is_known_whatever_became_of_the_file(memory, tmp_path, state):
    blob = "12" * 20
    memory.of(tmp_path, "git blob sha1").keep({state(): blob}, BEGAN)
    memory.of(tmp_path, "sha256").keep({state(): ONE}, BEGAN)
    sha256s, blobs = memory.of(tmp_path, "sha256"), memory.of(tmp_path, "git blob sha1")
    assert [sha256s.has_seen(each) for each in (ONE, OTHER, f"{blob:0<64}")] == [True, False, False]
    assert [blobs.has_seen(each) for each in (blob, "34" * 20, ONE[:40])] == [True, False, False]
    assert (sha256s.recall(state()), blobs.recall(state())) == (ONE, blob)


def test_what_was_dropped_is_unknown_at_once(memory, tmp_path, state):
    memory.of(tmp_path, "sha256").keep({state(): ONE}, BEGAN)
    known = memory.of(tmp_path, "sha256")
    assert known.has_seen(ONE)
    known.drop()
    assert (known.recall(state()), known.has_changed(state(1, 5)), known.has_seen(ONE)) == (None, False, False)
    assert memory.of(tmp_path, "sha256").recall(state()) is None


def test_each_kind_of_digest_is_remembered_on_its_own(memory, files):
    upload(memory, files)
    assert upload(memory, files, "Xet hash") == all_names(files)
    assert upload(memory, files, "Xet hash") == upload(memory, files) == []


def written_with_old_times(path):
    before = path.stat()
    path.write_bytes(os.urandom(100))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced_by_a_rename(path):
    before = path.stat()
    other = path.with_name("new")
    other.write_bytes(os.urandom(100))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(path)


def removed_and_created_again(path):
    """The file system may give the new file the inode of the old one."""
    before = path.stat()
    path.unlink()
    path.write_bytes(os.urandom(100))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def written_through_another_name(path):
    other = path.with_name("link")
    other.hardlink_to(path)
    other.write_bytes(os.urandom(100))
    other.unlink()


@pytest.mark.parametrize(
    "change",
    [written_with_old_times, replaced_by_a_rename, removed_and_created_again, written_through_another_name],
)
def test_a_changed_file_is_read_again_though_its_size_and_mtime_are_the_same(memory, files, change):
    upload(memory, files)

    change(files[3])
    settle(files[3])

    assert upload(memory, files) == ["3.bin"]
    assert upload(memory, files) == []


def test_two_names_of_one_file_share_its_digest(memory, files):
    upload(memory, files)
    link = files[0].with_name("link.bin")
    link.hardlink_to(files[0])  # which changes its ctime
    settle(link)

    assert upload(memory, [files[0]]) == ["0.bin"]
    assert upload(memory, [link]) == []


def test_a_file_that_changed_shortly_before_is_not_remembered(memory, files, monkeypatch):
    monkeypatch.setattr(digest_memory, "SETTLED_SECONDS", 60.0)
    upload(memory, files)
    assert upload(memory, files) == all_names(files)


@pytest.mark.parametrize(("mtime", "ctime", "known"), [(-1, -1, ONE), (0, -1, None), (-1, 0, None)])
def test_a_file_has_to_be_unchanged_for_longer_than_a_minute(memory, tmp_path, state, monkeypatch, mtime, ctime, known):
    monkeypatch.setattr(digest_memory, "SETTLED_SECONDS", 60.0)
    latest = BEGAN - 60 * 10**9
    found = state(1, latest + mtime, latest + ctime)
    memory.of(tmp_path, "sha256").keep({found: ONE}, BEGAN)
    assert memory.of(tmp_path, "sha256").recall(found) == known


def test_a_file_that_changes_while_it_is_read_is_not_remembered(memory, files):
    upload(memory, files, meanwhile=lambda: files[2].write_bytes(os.urandom(100)))
    settle(files[2])

    assert upload(memory, files) == ["2.bin"]


def test_files_from_the_future_are_not_remembered(memory, files, monkeypatch):
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() - 3600 * 10**9)
    upload(memory, files)
    assert upload(memory, files) == all_names(files)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "overlay", "btrfs", "fuse.s3fs", "9p", "virtiofs", ""])
def test_only_known_local_file_systems_are_trusted(memory, files, tmp_path, monkeypatch, kind):
    upload(memory, files)
    monkeypatch.setattr(file_systems, "by_device", lambda: {tmp_path.stat().st_dev: kind})
    assert upload(memory, files) == all_names(files)


def test_an_unknown_file_system_is_not_trusted(memory, files, monkeypatch):
    upload(memory, files)
    monkeypatch.setattr(file_systems, "by_device", dict)  # as on macOS
    assert upload(memory, files) == all_names(files)


def test_devices_come_from_the_list_of_mounts(tmp_path):
    known = tmp_path / "mountinfo"
    known.write_text(
        "1 0 254:1 / / rw - ext4 /dev/vda rw\n2 1 0:9 / /a\\040b rw shared:1 master:2 - nfs4 host:/x rw\n"
        "3 1 0:7 / /x rw - xfs none rw\n4 1 0:7 / /y rw - fuse none rw\n"
    )
    assert file_systems.of_path(tmp_path, str(known)) == "ext4"
    assert _real_by_device(str(known)) == {os.makedev(254, 1): "ext4", os.makedev(0, 9): "nfs4", os.makedev(0, 7): ""}
    assert _real_by_device(str(tmp_path / "missing")) == {}


_real_by_device = file_systems.by_device


# --- verification -----------------------------------------------------------------------------------------------------


def plant(memory, path):
    """Remember a wrong digest, as if the file system had not recorded a change."""
    planted = memory.of(path.parent, "sha256")
    planted.keep({FileState.of(path.stat()): "ab" * 32}, time.time_ns())


def test_a_wrong_digest_in_the_sample_drops_the_memory_of_the_folder(memory, files, monkeypatch, caplog):
    upload(memory, files)
    plant(memory, files[5])
    monkeypatch.setattr(remembered, "VERIFIED_SHARE", 1.0)

    assert upload(memory, files) == all_names(files)
    assert f"The remembered digest of {files[5]} is wrong, so all of {files[5].parent} is read." in caplog.text

    monkeypatch.setattr(remembered, "VERIFIED_SHARE", 0.0)
    assert upload(memory, files) == all_names(files)
    assert upload(memory, files) == []


def test_who_writes_the_memory_as_this_user_hides_a_change_outside_of_the_sample(memory, files, monkeypatch):
    """docs/security.md says so: the sample finds what a file system gets wrong, and is no defence against anybody."""
    upload(memory, files)
    files[5].write_bytes(os.urandom(100))
    settle(files[5])
    plant(memory, files[5])
    monkeypatch.setattr(remembered, "_sample", lambda sizes: {4})
    contents = [open_local(path, path.name) for path in files]
    found = digests_of(memory, "sha256", contents, lambda numbers: [sha256(files[number]) for number in numbers])
    assert found.digests[5] == "ab" * 32
    assert found.digests[4] == sha256(files[4])


def test_the_rest_is_read_too_if_a_part_of_the_sample_is_wrong(memory, files, monkeypatch):
    upload(memory, files)
    for path in files:
        plant(memory, path)
    monkeypatch.setattr(remembered, "_sample", lambda sizes: {5})
    assert upload(memory, files) == all_names(files)


def test_the_sample_is_a_small_share_of_a_large_folder_and_all_of_a_small_one(monkeypatch):
    monkeypatch.undo()
    many = dict.fromkeys(range(100_000), 1 << 20)
    assert 200 < len(remembered._sample(many)) < 600  # 390 on average; beyond 9 standard deviations
    assert remembered._sample(dict.fromkeys(range(500), 1000)) == set(range(500))
    assert remembered._sample({}) == set()


def test_small_uploads_do_not_touch_the_memory(memory, files, cache, monkeypatch):
    monkeypatch.setattr(remembered, "MIN_BYTES", 10_000)
    upload(memory, files)
    assert not list(cache.iterdir())


# --- the files of the memory ------------------------------------------------------------------------------------------


def test_nobody_else_can_read_it_and_it_holds_no_names(memory, files, private):
    before = os.umask(0)
    try:
        upload(memory, files)
    finally:
        os.umask(before)
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in private.iterdir()} == {0o600}
    written = b"".join(path.read_bytes() + path.name.encode() for path in private.iterdir())
    assert not [name for name in ("in", *all_names(files)) if len(name) > 2 and name.encode() in written]


def data_of(private):
    [path] = [path for path in private.iterdir() if path.name != "lock"]
    return path


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:40],
        lambda data: data[:-1],
        lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
        lambda data: data.replace(b"digests 1", b"digests 9"),
        lambda data: os.urandom(5000),
    ],
)
def test_a_damaged_file_is_started_anew(memory, files, private, damage, caplog):
    caplog.set_level("INFO")
    upload(memory, files)
    path = data_of(private)
    path.write_bytes(damage(path.read_bytes()))

    assert upload(memory, files) == all_names(files)
    assert set(caplog.messages) == {
        "The remembered digests are damaged, or of another version. They are computed again."
    }
    assert upload(memory, files) == []


def test_a_file_of_another_length_is_started_anew(memory, files, private, caplog):
    caplog.set_level("INFO")
    upload(memory, files)
    memory.store(data_of(private).name, digest_memory._MAGIC, b"no record")
    assert upload(memory, files) == all_names(files)
    assert set(caplog.messages) == {"The remembered digests are damaged. They are computed again."}
    assert upload(memory, files) == []


def test_a_folder_that_others_can_write_is_not_used(memory, files, private, caplog):
    upload(memory, files)
    private.chmod(0o770)

    assert upload(memory, files) == all_names(files)
    assert set(caplog.messages) == {
        f"No digests are remembered in {private}: other users can read or write it. Remove it."
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can create a folder of another user")
def test_a_folder_of_another_user_is_not_used(memory, files, private, caplog):
    upload(memory, files)
    os.chown(private, 12345, -1)

    assert upload(memory, files) == all_names(files)
    assert "other users can read or write it" in caplog.text


def test_links_are_not_followed(memory, files, private, tmp_path):
    upload(memory, files)
    moved = private.rename(tmp_path / "moved")
    private.symlink_to(moved)
    assert upload(memory, files) == all_names(files)

    private.unlink()
    private.mkdir(0o700)
    (private / data_of(moved).name).symlink_to(data_of(moved))
    assert upload(memory, files) == all_names(files)


def test_a_cache_that_other_machines_share_is_not_used(files, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    shared = DigestMemory(lambda: tmp_path)
    monkeypatch.setattr(file_systems, "LOCAL", frozenset())
    upload(shared, files)
    assert upload(shared, files) == all_names(files)
    assert set(caplog.messages) == {
        f"No digests are remembered in {tmp_path}/xethub-digests-{os.geteuid()}: other machines may use its file "
        "system, too."
    }


@pytest.mark.parametrize("folder", [None, "missing", "file"])
def test_without_a_folder_everything_is_read(files, tmp_path, folder):
    (tmp_path / "file").touch()
    memory = DigestMemory(lambda: folder and tmp_path / folder)
    assert upload(memory, files) == upload(memory, files) == all_names(files)


def test_without_a_folder_the_working_directory_does_not_take_its_place(memory, files, private, monkeypatch):
    memory.store(*KEPT)
    upload(memory, files)
    monkeypatch.chdir(private)
    before = {path.name: path.stat().st_ctime_ns for path in private.iterdir()}
    nowhere = DigestMemory(lambda: None)

    nowhere.store("other", *KEPT[1:])
    assert nowhere.load(*KEPT[:2]) is None
    assert upload(nowhere, files) == all_names(files)
    assert {path.name: path.stat().st_ctime_ns for path in private.iterdir()} == before


def test_of_a_folder_that_is_gone_nothing_is_remembered(memory, files, tmp_path, caplog):
    caplog.set_level("INFO")
    upload(memory, files)
    state = FileState.of(files[0].stat())
    gone = memory.of(tmp_path / "gone", "sha256")
    gone.keep({state: "ab" * 32}, time.time_ns())
    gone.drop()
    assert gone.recall(state) is None
    assert memory.of(tmp_path / "gone", "sha256").recall(state) is None
    assert not caplog.messages


def test_a_file_that_goes_away_after_it_was_read_is_not_remembered(memory, files):
    state = FileState.of(files[0].stat())
    upload(memory, files, meanwhile=files[0].unlink)
    assert memory.of(files[0].parent, "sha256").recall(state) is None
    assert upload(memory, files[1:]) == []


def test_without_a_memory_or_for_a_few_bytes_nothing_is_recalled(memory, files, monkeypatch):
    contents = [open_local(path, path.name) for path in files]
    upload(memory, files)
    known = {number: sha256(path) for number, path in enumerate(files)}
    assert remembered.recalled(memory, "sha256", contents, lambda _: []) == known
    assert remembered.recalled(None, "sha256", contents, lambda _: []) == {}
    monkeypatch.setattr(remembered, "MIN_BYTES", 801)
    assert remembered.recalled(memory, "sha256", contents, lambda _: []) == {}


KEPT = ("kept", b"magic\n", b"what the Hub has")


def test_what_is_kept_comes_back_until_it_is_removed(memory):
    memory.store(*KEPT)
    assert memory.load(*KEPT[:2]) == KEPT[2]
    assert memory.load("kept", b"other\n") is None
    for _ in range(2):
        memory.store(*KEPT[:2], b"")
        assert memory.load(*KEPT[:2]) is None


def test_a_file_has_the_same_name_in_all_versions(memory, tmp_path, private, state):
    memory.of(tmp_path, "sha256").keep({state(): ONE}, BEGAN)
    root = tmp_path.stat()
    assert data_of(private).name == hashlib.sha256(f"{root.st_dev}:{root.st_ino}".encode()).hexdigest()[:32]


def test_what_is_larger_than_all_of_the_memory_may_be_is_not_read(memory, private, monkeypatch):
    memory.store(*KEPT)
    size = (private / "kept").stat().st_size
    for most, expected in ((size, KEPT[2]), (size - 1, None)):
        monkeypatch.setattr(digest_memory, "MAX_BYTES", most)
        assert memory.load(*KEPT[:2]) == expected


def test_what_a_killed_task_left_is_replaced_and_a_link_is_no_file_of_the_memory(memory, private, caplog):
    caplog.set_level("INFO")
    memory.store("first", *KEPT[1:])
    (private / "kept.new").write_bytes(b"half")
    (private / "link").symlink_to("missing")
    memory.store(*KEPT)
    assert memory.load(*KEPT[:2]) == KEPT[2]
    assert not caplog.messages


def test_a_file_that_cannot_be_created_is_reported_as_that(memory, monkeypatch, caplog):
    caplog.set_level("INFO")
    fail_at(monkeypatch, os, "open", "kept.new", errno.ENOSPC)
    memory.store(*KEPT)
    assert caplog.messages == ["What the Hub has was not remembered: [Errno 28] No space left on device: 'kept.new'"]


def test_without_a_folder_or_its_lock_or_room_nothing_is_kept(memory, private, monkeypatch, caplog):
    import fcntl

    nowhere = DigestMemory(lambda: None)
    nowhere.store(*KEPT)
    assert nowhere.load(*KEPT[:2]) is None

    monkeypatch.setattr(digest_memory, "_LOCK_SECONDS", 0.05)
    memory.store("lock is made", *KEPT[1:])
    with (private / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        memory.store(*KEPT)
    assert memory.load(*KEPT[:2]) is None

    caplog.set_level("INFO")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        memory.store(*KEPT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "What the Hub has was not remembered: " in caplog.text
    assert memory.load(*KEPT[:2]) is None


def test_a_full_disk_costs_the_memory_and_nothing_else(memory, files, private, caplog):
    caplog.set_level("INFO")
    upload(memory, files[:4])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, limits[1]))
    try:
        assert upload(memory, files) == all_names(files[4:])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caplog.messages == [f"The digests of {files[0].parent} were not remembered: [Errno 27] File too large"]
    assert sorted(path.suffix for path in private.iterdir()) == ["", ""]
    assert upload(memory, files) == all_names(files[4:])


def test_the_oldest_entries_go_first(memory, files, monkeypatch):
    monkeypatch.setattr(digest_memory, "MAX_ENTRIES", 6)
    upload(memory, files[:4])
    a_day_later(monkeypatch)
    upload(memory, files[4:])
    assert upload(memory, files[4:]) == []
    assert len(upload(memory, files[:4])) == 2


def test_of_too_many_digests_those_of_the_last_days_stay(memory, tmp_path, state, monkeypatch):
    monkeypatch.setattr(digest_memory, "MAX_ENTRIES", 2)
    for day, inode in enumerate((2, 3, 1)):
        memory.of(tmp_path, "sha256").keep({state(inode): ONE}, BEGAN + day * DAY)
    known = memory.of(tmp_path, "sha256")
    assert [known.recall(state(inode)) for inode in (1, 2, 3)] == [ONE, None, ONE]


def test_a_digest_is_forgotten_when_it_was_not_used_for_more_than_90_days(memory, tmp_path, state):
    for day, expected in ((0, ONE), (90, ONE), (91, None)):
        memory.of(tmp_path, "sha256").keep({state(day + 1 if day else 1): ONE}, BEGAN + day * DAY)
        assert memory.of(tmp_path, "sha256").recall(state()) == expected


def a_day_later(monkeypatch, days=1):
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + days * 86_400 * 10**9)


def test_what_is_used_stays_and_what_is_not_used_for_long_goes(memory, files, monkeypatch):
    upload(memory, files)
    a_day_later(monkeypatch, 80)
    upload(memory, files[:4])
    a_day_later(monkeypatch, 80)
    upload(memory, files[:1])  # writes again
    assert upload(memory, files) == all_names(files[4:])


def test_the_oldest_folders_go_first(memory, files, tmp_path, private, monkeypatch):
    upload(memory, files)
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.bin").write_bytes(b"x")
    settle(other / "x.bin")
    monkeypatch.setattr(digest_memory, "MAX_BYTES", 400)
    upload(memory, [other / "x.bin"])

    assert upload(memory, [other / "x.bin"]) == []
    assert upload(memory, files) == all_names(files)


def test_the_files_that_were_not_written_for_the_longest_time_make_room(memory, private, monkeypatch):
    for name, seconds in (("a", 200), ("b", 300), ("c", 100)):
        memory.store(name, *KEPT[1:])
        os.utime(private / name, (seconds, seconds))
    monkeypatch.setattr(digest_memory, "MAX_BYTES", 2 * (private / "a").stat().st_size)
    memory.store("d", *KEPT[1:])
    assert {path.name for path in private.iterdir()} == {"b", "d", "lock"}


def test_what_was_just_written_stays_though_another_file_is_of_the_future(
    memory, tmp_path, private, state, monkeypatch
):
    monkeypatch.setattr(digest_memory, "MAX_BYTES", 300)
    for name in ("a", "b"):
        memory.store(name, KEPT[1], bytes(200))
        assert {path.name for path in private.iterdir()} == {name, "lock"}
        os.utime(private / name, (1 << 33, 1 << 33))
    memory.of(tmp_path, "sha256").keep({state(): ONE}, BEGAN)
    assert memory.of(tmp_path, "sha256").recall(state()) == ONE
    assert not {"a", "b"} & {path.name for path in private.iterdir()}


# --- several tasks ----------------------------------------------------------------------------------------------------


@contextmanager
def child(work):
    pid = os.fork()
    if not pid:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    yield pid


def test_tasks_that_write_at_the_same_time_do_not_lose_what_the_others_wrote(memory, files):
    reading, writing = os.pipe()

    def one(path):
        os.read(reading, 1)
        upload(memory, [path])

    pids = []
    for path in files:
        with child(lambda path=path: one(path)) as pid:
            pids.append(pid)
    os.write(writing, b"x" * len(files))
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * len(files)
    os.close(reading)
    os.close(writing)

    assert upload(memory, files) == []


def test_a_task_that_is_killed_while_it_writes_leaves_a_whole_file(memory, files, private):
    upload(memory, files[:4])

    def write():
        while True:
            for path in files[4:]:
                plant(memory, path)

    for _ in range(5):
        with child(write) as pid:
            before = data_of_any(private)
            while data_of_any(private) == before:
                time.sleep(0.001)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        assert upload(memory, files[:4]) == []


def data_of_any(private):
    return {path.name: path.stat().st_ino for path in private.iterdir() if path.suffix == ""}


def test_a_task_does_not_wait_long_for_the_lock(memory, files, private, monkeypatch, caplog):
    import fcntl

    caplog.set_level("DEBUG")
    monkeypatch.setattr(digest_memory, "_LOCK_SECONDS", 0.05)
    upload(memory, files[:4])
    with (private / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert upload(memory, files) == all_names(files[4:])
    assert caplog.messages == ["Another task holds the lock of the remembered digests; these are not kept."]
    assert upload(memory, files) == all_names(files[4:])


def test_threads_of_one_process_do_not_disturb_each_other(memory, files):
    threads = [threading.Thread(target=upload, args=(memory, [path])) for path in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert upload(memory, files) == []
