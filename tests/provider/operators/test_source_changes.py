"""A source that changes while it is uploaded is never published, however well the change is hidden."""

from __future__ import annotations

import os
import threading
import time

import pytest

from airflow_provider_xethub.exceptions import XetSourceError
from airflow_provider_xethub.operators.xethub import XetUploadOperator
from support.builders import commits, write
from xethub_local.control.faults import Fault

GRANTS = "POST /cas/.*/v1/xorb-grants/.*"
SMALL, LARGE = 50_000, 9_000_000


@pytest.fixture
def where(connection, repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


def append(path):
    with path.open("ab") as stream:
        stream.write(b"more")


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def overwrite(path):
    """In place, same size."""
    with path.open("r+b") as stream:
        stream.write(b"changed")


def overwrite_and_set_mtime_back(path):
    status = path.stat()
    overwrite(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def put_another_in_its_place(path):
    """Atomically: same size, and the same time of change."""
    status = path.stat()
    other = path.with_suffix(".new")
    other.write_bytes(os.urandom(status.st_size))
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


def delete(path):
    path.unlink()


CHANGES = [append, truncate, overwrite, overwrite_and_set_mtime_back, put_another_in_its_place, delete]


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_while_it_is_uploaded_is_not_published(hub, where, repo, tmp_path, run_task, change, size):
    path = write(tmp_path / "in", {"a.bin": os.urandom(size), "b.bin": os.urandom(100)}) / "a.bin"
    fault = hub.faults.add(Fault(GRANTS, times=1, delay=1))

    def change_meanwhile():
        while not hub.faults.acted(fault):
            time.sleep(0.01)
        change(path)

    thread = threading.Thread(target=change_meanwhile, daemon=True)
    thread.start()
    run = run_task(XetUploadOperator, source=str(path.parent), **where)
    thread.join()

    assert isinstance(run.error, XetSourceError), run.error
    assert "in/a.bin changed while being uploaded. Nothing was published" in run.text
    assert "b.bin" not in run.text
    assert commits(hub, repo) == 1


def test_a_file_that_grows_for_ever_does_not_keep_the_upload_busy_for_ever(hub, where, repo, tmp_path, run_task):
    path = write(tmp_path / "in", {"a.bin": os.urandom(LARGE)}) / "a.bin"
    stopped = threading.Event()

    def grow():
        with path.open("ab") as stream:
            while not stopped.is_set() and stream.tell() < 500_000_000:
                stream.write(bytes(1 << 16))
                time.sleep(0.0005)

    thread = threading.Thread(target=grow, daemon=True)
    thread.start()
    try:
        run = run_task(XetUploadOperator, source=str(path), **where)
        assert not stopped.is_set()
        assert thread.is_alive()
    finally:
        stopped.set()
        thread.join()

    assert isinstance(run.error, XetSourceError)
    assert commits(hub, repo) == 1
