"""Folders for a short-lived secret: private whatever the surroundings, and never left behind."""

from __future__ import annotations

import errno
import logging
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from airflow_provider_xethub.exceptions import XetDestinationError, XetInputError
from airflow_provider_xethub.xet.files import file_systems, private_folders
from airflow_provider_xethub.xet.files.private_folders import PrivateFolder, create
from airflow_provider_xethub.xet.process.temporary_names import UNKNOWN, Attempt
from support.failing_disk import fail_at

FIRST, SECOND = Attempt.of(1, "dag", "run", "task"), Attempt.of(2, "dag", "run", "task")


def mode(path):
    return stat.S_IMODE(path.lstat().st_mode)


@contextmanager
def umask(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.fixture
def mounts(tmp_path, monkeypatch):
    """Puts what a test says in the place of the mounts of this machine."""

    of_path = file_systems.of_path

    def say(**kinds):
        kinds = {"root": "ext4", **kinds}
        lines = [
            f"{number} 1 0:1 / {'/' if name == 'root' else tmp_path / name} rw shared:1 - {kind} none rw"
            for number, (name, kind) in enumerate(kinds.items())
        ]
        (tmp_path / "mountinfo").write_text("\n".join(lines))
        known = str(tmp_path / "mountinfo")
        monkeypatch.setattr(file_systems, "of_path", lambda path: of_path(path, known))

    return say


@pytest.fixture
def candidates(tmp_path, monkeypatch):
    """A folder in memory and one for temporary files, for this test alone."""
    memory, temporary = tmp_path / "memory", tmp_path / "temporary"
    for folder in (memory, temporary):
        folder.mkdir(mode=0o700)
    monkeypatch.setattr(private_folders, "_SHARED_MEMORY", str(memory))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return memory, temporary


@pytest.mark.parametrize("mask", [0, 0o022, 0o077, 0o177])
def test_nobody_else_can_read_it_whatever_the_umask(tmp_path, mask):
    with umask(mask):
        folder = create(tmp_path, "test", UNKNOWN)
        path = folder.write("token.json", b"one")
        folder.write("token.json", b"two")
    assert (mode(folder.path), mode(path), path.read_bytes()) == (0o700, 0o600, b"two")
    assert [each.name for each in folder.path.iterdir()] == ["token.json"]
    folder.remove()
    folder.remove()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError, match=r"^the folder was removed$"):
        folder.write("token.json", b"three")


def test_nobody_else_can_read_it_from_its_first_moment(tmp_path, monkeypatch):
    modes = []
    fchmod = os.fchmod

    def late(handle, mode):
        modes.append(stat.S_IMODE(os.fstat(handle).st_mode))
        fchmod(handle, mode)

    monkeypatch.setattr(os, "fchmod", late)
    with umask(0):
        create(tmp_path, "test", UNKNOWN).write("token.json", b"one")
    assert modes == [0o700, 0o600, 0o600]


def test_a_reader_sees_the_old_or_the_new_content(tmp_path):
    folder = create(tmp_path, "test", UNKNOWN)
    contents = [bytes([letter]) * 100_000 for letter in b"ab"]
    path = folder.write("token.json", contents[0])
    done = threading.Event()

    def replace():
        for number in range(300):
            folder.write("token.json", contents[number % 2])
        done.set()

    threading.Thread(target=replace).start()
    while not done.is_set():
        assert path.read_bytes() in contents
    folder.remove()


def test_a_failed_write_keeps_the_old_content_and_leaves_nothing(tmp_path):
    folder = create(tmp_path, "test", UNKNOWN)
    path = folder.write("token.json", b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            folder.write("token.json", b"longer")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"old"
    assert [each.name for each in folder.path.iterdir()] == ["token.json"]
    folder.remove()


def test_a_failed_write_says_so_though_its_file_cannot_be_removed_either(tmp_path, monkeypatch):
    folder = create(tmp_path, "test", UNKNOWN)
    with monkeypatch.context() as patch:
        fail_at(patch, os, "rename", ".token.json.new", errno.ENOSPC)
        unlink, calls = os.unlink, []

        def second_fails(name, **options):
            calls.append(name)
            if len(calls) > 1:
                raise OSError(errno.EIO, "Input/output error")
            unlink(name, **options)

        patch.setattr(os, "unlink", second_fails)
        with pytest.raises(OSError, match="No space left on device"):
            folder.write("token.json", b"secret")
    assert calls == [".token.json.new"] * 2


def test_whoever_replaces_the_folder_does_not_get_what_is_written(tmp_path):
    folder = create(tmp_path, "test", UNKNOWN)
    folder.path.rename(tmp_path / "moved")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    folder.path.symlink_to(theirs)
    folder.write("token.json", b"secret")
    assert list(theirs.iterdir()) == []
    folder.remove()
    assert list((tmp_path / "moved").iterdir()) == []


def test_a_planted_link_is_not_followed(tmp_path):
    folder = create(tmp_path, "test", UNKNOWN)
    target = tmp_path / "target"
    target.write_bytes(b"theirs")
    (folder.path / ".token.json.new").symlink_to(target)
    (folder.path / "token.json").symlink_to(target)
    path = folder.write("token.json", b"secret")
    assert not path.is_symlink()
    assert (target.read_bytes(), path.read_bytes()) == (b"theirs", b"secret")
    folder.remove()


def test_memory_comes_first(candidates, mounts):
    memory, temporary = candidates
    mounts(memory="tmpfs")
    assert create(None, "test", UNKNOWN).path.parent == memory
    mounts()  # the same folder, but on a disk
    assert create(None, "test", UNKNOWN).path.parent == temporary


def test_the_runtime_folder_of_the_user_is_the_second_choice(candidates, mounts, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    mounts(run="tmpfs")
    assert create(None, "test", UNKNOWN).path.parent == tmp_path / "run"


def test_a_candidate_that_cannot_be_written_is_passed_over(candidates, mounts, monkeypatch):
    """``/sys/kernel`` refuses everybody a folder, as a read-only ``/dev/shm`` does."""
    monkeypatch.setattr(private_folders, "_SHARED_MEMORY", "/sys/kernel")
    monkeypatch.setattr(file_systems, "of_path", lambda path: "tmpfs")
    assert create(None, "test", UNKNOWN).path.parent == candidates[1]


def test_where_no_candidate_is_fit_the_error_says_why_of_each(candidates, mounts, monkeypatch):
    memory, temporary = candidates
    mounts(memory="tmpfs")
    monkeypatch.setattr(PrivateFolder, "write", lambda *_: Path("/no/such").stat())
    temporary.chmod(0o777)
    with pytest.raises(XetDestinationError) as caught:
        create(None, "test", UNKNOWN)
    assert str(caught.value) == (
        "No folder on this machine can hold a private file. Name one with folder=, on a local file system. Tried "
        f"{memory}: no such file or directory; {temporary}: it has no sticky bit, so other users can rename what is in "
        "it."
    )


def test_a_folder_of_root_is_a_candidate_of_every_user(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert private_folders._exposed(Path("/")) is None


_WITH_MEMORY_OF_ITS_OWN = """
import os, sys
from pathlib import Path
from airflow_provider_xethub.xet.files.private_folders import create
from airflow_provider_xethub.xet.process.temporary_names import UNKNOWN
print(create(None, "test", UNKNOWN).write("token.json", b"secret").parent.parent)
print(os.listdir("/dev/shm"))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system, seen by one process only")
@pytest.mark.parametrize("options", ["size=1m", "size=8k", "ro"])
def test_memory_that_is_full_or_read_only_is_passed_over(tmp_path, options):
    mount = f'mount -t tmpfs -o {options} none /dev/shm && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", mount, "sh", sys.executable, "-c", _WITH_MEMORY_OF_ITS_OWN]
    environment = {key: value for key, value in os.environ.items() if key != "XDG_RUNTIME_DIR"}
    done = subprocess.run(command, env={**environment, "TMPDIR": str(tmp_path)}, capture_output=True, text=True)
    if "not permitted" in done.stderr:
        pytest.skip("mounts are not allowed here")
    assert done.returncode == 0, done.stderr
    where, left = done.stdout.splitlines()
    assert where == ("/dev/shm" if options == "size=1m" else str(tmp_path))
    assert (left == "[]") == (where != "/dev/shm")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_another_user_can_neither_read_nor_list_it(tmp_path):
    parent = Path(tempfile.mkdtemp(dir="/tmp"))
    parent.chmod(0o1777)
    folder = create(parent, "test", UNKNOWN)
    path = folder.write("token.json", b"secret")
    done = subprocess.run(["cat", path], capture_output=True, user=12345)
    listed = subprocess.run(["ls", path.parent], capture_output=True, user=12345)
    assert (done.stdout, listed.stdout) == (b"", b"")
    assert b"Permission denied" in done.stderr
    assert subprocess.run(["cat", path], capture_output=True).stdout == b"secret"
    folder.remove()
    parent.rmdir()


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.s3fs", "9p", "unheard-of"])
def test_no_file_system_that_others_may_read_is_chosen(candidates, mounts, kind):
    mounts(memory=kind, temporary=kind)
    with pytest.raises(XetDestinationError, match=rf"Name one with folder=.* other machines may read .* \({kind}\)"):
        create(None, "test", UNKNOWN)


@pytest.mark.parametrize("kind", ["nfs4", "fuse.s3fs"])
def test_a_named_folder_that_others_may_read_is_taken_with_a_warning(tmp_path, mounts, caplog, kind):
    (tmp_path / "named").mkdir(mode=0o700)
    mounts(named=kind)
    assert create(tmp_path / "named", "test", UNKNOWN).path.parent == tmp_path / "named"
    assert caplog.messages == [f"Folder {tmp_path}/named is on a file system ({kind}) that other machines may read."]


def test_a_folder_in_which_others_may_rename_is_no_candidate(candidates, mounts):
    memory, temporary = candidates
    mounts(memory="tmpfs")
    memory.chmod(0o777)
    assert create(None, "test", UNKNOWN).path.parent == temporary
    memory.chmod(0o1777)
    assert create(None, "test", UNKNOWN).path.parent == memory


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another user")
def test_a_folder_of_another_user_is_no_candidate(candidates, mounts, caplog):
    memory, temporary = candidates
    mounts(memory="tmpfs")
    os.chown(memory, 12345, 12345)
    assert create(None, "test", UNKNOWN).path.parent == temporary
    create(memory, "test", UNKNOWN)
    assert caplog.messages == [
        f"Folder {memory}: it belongs to another user, who can rename what is in it, and can put another file in the "
        "place of a private one."
    ]


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("", r"folder is empty\. Leave it out for a folder in memory, or name an existing folder\."),
        ("  ", "folder is empty"),
        ("/tmp\0", "folder is empty"),
        (b"/tmp", "folder must be a path, not bytes"),
        (["/tmp"], "folder must be a path, not list"),
        ("/nowhere/at/all", "folder /nowhere/at/all is not an existing folder"),
        ("/dev/null", "folder /dev/null is not an existing folder"),
    ],
)
def test_a_wrong_folder_is_refused(folder, message):
    with pytest.raises(XetInputError, match=message):
        create(folder, "test", UNKNOWN)


def test_a_link_is_refused(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(XetInputError, match=r"link is a symbolic link\. Name the folder"):
        create(tmp_path / "link", "test", UNKNOWN)


def test_a_folder_that_takes_nothing_is_an_error_with_its_reason():
    with pytest.raises(XetDestinationError, match=r"Folder /proc cannot hold a private file: .*Choose another"):
        create("/proc", "test", UNKNOWN)


_HOLD = """
import sys
from airflow_provider_xethub.xet.files.private_folders import create
from airflow_provider_xethub.xet.process.temporary_names import Attempt
folder = create(sys.argv[1], sys.argv[2], Attempt.of(1, "dag", "run", "task"))
print(folder.write("token.json", b"secret"), flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(parent, purpose="test"):
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(parent), purpose], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline()
        yield process
        process.kill()


def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with holder(tmp_path) as living:
        with holder(tmp_path) as killed:
            killed.send_signal(signal.SIGKILL)
            killed.wait()
        with holder(tmp_path, "another purpose") as other:
            other.send_signal(signal.SIGKILL)
            other.wait()
        before = set(tmp_path.iterdir())
        assert len(before) == 3
        folder = create(tmp_path, "test", UNKNOWN)
        left = before - set(tmp_path.iterdir())
        assert [str(killed.pid) in each.name for each in left] == [True]
        assert living.poll() is None
        assert "which a process that was killed had left" in caplog.text
        folder.remove()


def test_a_retry_removes_what_its_earlier_attempt_left_on_any_host(tmp_path):
    PrivateFolder(tmp_path, "test", FIRST).write("token.json", b"old")
    create(tmp_path, "test", SECOND).remove()
    assert list(tmp_path.iterdir()) == []


def test_a_retry_removes_what_its_earlier_attempt_left_in_memory(candidates, mounts):
    mounts(memory="tmpfs")
    PrivateFolder(candidates[0], "test", FIRST).write("token.json", b"old")
    create(None, "test", SECOND).remove()
    assert list(candidates[0].iterdir()) == []


def test_a_link_in_the_name_of_an_abandoned_folder_is_not_followed(tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "precious").touch()
    old = PrivateFolder(tmp_path, "test", FIRST)
    old.remove()
    old.path.symlink_to(theirs)
    create(tmp_path, "test", SECOND).remove()
    assert (theirs / "precious").exists()


def test_a_forked_process_removes_nothing(tmp_path):
    folder = create(tmp_path, "test", UNKNOWN)
    folder.write("token.json", b"one")
    if not (child := os.fork()):
        folder.remove()
        os._exit(0)
    os.waitpid(child, 0)
    assert (folder.path / "token.json").exists()
    folder.remove()
    assert not folder.path.exists()


def test_removal_wins_against_a_thread_that_writes(tmp_path, monkeypatch):
    """It once removed the open folder from under the thread, which then wrote into the working directory."""
    (tmp_path / "working").mkdir()
    monkeypatch.chdir(tmp_path / "working")
    parent = tmp_path / "parent"
    parent.mkdir()
    for _ in range(20):
        folder = create(parent, "test", UNKNOWN)
        started = threading.Event()

        def keep_writing(folder=folder, started=started):
            try:
                while True:
                    folder.write("token.json", b"secret")
                    started.set()
            except OSError:
                pass

        thread = threading.Thread(target=keep_writing)
        thread.start()
        started.wait()
        folder.remove()
        thread.join(10)
        assert not thread.is_alive()
        assert list(parent.iterdir()) == list(Path.cwd().iterdir()) == []


def test_the_type_of_a_file_system_is_that_of_the_innermost_mount(tmp_path):
    mounts = tmp_path / "mountinfo"
    inner = tmp_path / "with a space" / "inner"
    inner.mkdir(parents=True)
    mounts.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda rw\n"
        f"2 1 0:5 / {tmp_path} rw shared:2 master:1 - nfs4 server:/x rw\n"
        f"3 2 0:6 / {str(inner.parent).replace(' ', chr(92) + '040')} rw - tmpfs none rw\n"
        f"4 2 0:6 / {str(inner.parent).replace(' ', chr(92) + '040')} rw - xfs none rw\n"
    )
    known = str(mounts)
    assert [file_systems.of_path(each, known) for each in (inner, tmp_path, tmp_path.parent)] == ["xfs", "nfs4", "ext4"]
    assert file_systems.of_path(tmp_path.with_name(f"{tmp_path.name}-beside"), known) == "ext4"
    assert file_systems.of_path(tmp_path, str(tmp_path / "missing")) is None
    assert file_systems.of_path("/dev/shm") == "tmpfs"


# --- a disk that fails


@pytest.mark.parametrize("name", ["unlink", "listdir", "rmdir"])
def test_a_secret_is_removed_though_the_disk_fails_once(tmp_path, monkeypatch, caplog, name):
    made = create(tmp_path, "token", FIRST)
    made.write("token.json", b"secret")
    real, failed = getattr(os, name), []

    def call(*args, **kwargs):
        if not failed:
            failed.append(args)
            raise OSError(5, "Input/output error")
        return real(*args, **kwargs)

    monkeypatch.setattr(os, name, call)
    made.remove()
    assert failed
    assert list(tmp_path.iterdir()) == []
    assert caplog.messages == []


def test_a_secret_is_removed_from_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    made = create(tmp_path, "token", FIRST)
    made.write("token.json", b"secret")
    made.write("other.json", b"secret")

    def fail(_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", fail)
        made.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_secret_that_cannot_be_removed_is_reported(tmp_path, monkeypatch, caplog):
    made = create(tmp_path, "token", FIRST)
    path = made.write("token.json", b"secret")
    fail_at(monkeypatch, os, "unlink", "token.json")
    made.remove()
    assert path.exists()
    assert caplog.messages == [
        f"Remove {made.path}: this task could not (input/output error), and it may still contain a secret."
    ]


def test_a_folder_that_cannot_be_read_now_may_be_read_later(tmp_path, monkeypatch):
    fail_at(monkeypatch, os, "stat", tmp_path.name)
    with pytest.raises(XetDestinationError, match="cannot hold a private file: input/output error"):
        create(tmp_path, "token", FIRST)


def test_a_folder_that_was_created_and_cannot_be_opened_is_removed(tmp_path, monkeypatch):
    failed = fail_at(monkeypatch, os, "open", ".xetpart", errno.EMFILE)
    with pytest.raises(XetDestinationError, match="cannot hold a private file: too many open files"):
        create(tmp_path, "test", UNKNOWN)
    assert len(failed) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("owner", "mode"), [(0, 0o40740), (0, 0o40701), (1, 0o40700)])
def test_a_file_system_that_keeps_no_folder_private_is_refused(tmp_path, monkeypatch, owner, mode):
    status = os.stat_result((mode, 0, 0, 2, os.geteuid() + owner, 0, 0, 0, 0, 0))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", lambda _: status)
        with pytest.raises(XetDestinationError, match=r"file: the file system does not keep a folder private\."):
            create(tmp_path, "test", UNKNOWN)
    assert list(tmp_path.iterdir()) == []


def test_another_process_removes_nothing(tmp_path, monkeypatch):
    folder = create(tmp_path, "test", UNKNOWN)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        folder.remove()
    assert folder.path.is_dir()
    folder.remove()
    assert not folder.path.exists()


def test_a_folder_that_is_already_gone_is_removed_without_a_word(tmp_path, caplog):
    folder = create(tmp_path, "test", UNKNOWN)
    folder.path.rmdir()
    folder.remove()
    assert caplog.messages == []


def test_a_folder_into_which_no_secret_fits_is_removed(tmp_path, monkeypatch):
    written = []

    def write(folder, name, content):
        written.append(len(content))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(PrivateFolder, "write", write)
    with pytest.raises(XetDestinationError, match="cannot hold a private file: no space left on device"):
        create(tmp_path, "test", UNKNOWN)
    assert written == [16_384]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_listed_can_still_hold_a_secret(tmp_path, monkeypatch):
    fail_at(monkeypatch, os, "scandir", tmp_path.name, errno.EACCES)
    assert create(tmp_path, "test", UNKNOWN).write("token.json", b"secret").exists()


def test_what_another_user_left_is_not_touched(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    left = PrivateFolder(tmp_path, "test", FIRST)
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: -1)
        private_folders.remove_abandoned(tmp_path, "test", SECOND)
    assert left.path.exists()
    assert caplog.messages == []
    private_folders.remove_abandoned(tmp_path, "test", SECOND)
    assert not left.path.exists()
    assert caplog.messages == [f"Removed {left.path}, which a process that was killed had left."]


def test_a_candidate_whose_state_is_unknown_is_passed_over(candidates, mounts, monkeypatch):
    memory, temporary = candidates
    mounts(memory="tmpfs")
    fail_at(monkeypatch, Path, "stat", memory.name)
    assert create(None, "test", UNKNOWN).path.parent == temporary
