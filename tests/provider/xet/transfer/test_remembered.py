"""Transfers that remember the digests of local files: what is read, and that nothing wrong follows from it."""

from __future__ import annotations

import hashlib
import os
import time

import pytest

from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetMirrorOperator, XetUploadOperator
from airflow_provider_xethub.xet import native_client
from airflow_provider_xethub.xet.files import digest_memory, file_systems
from airflow_provider_xethub.xet.transfer import existing, remembered, same_content, unchanged
from support.builders import write

NAMES = ["a.bin", "b.bin", "d/c.bin"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of this test alone, and a memory that is used for small folders, too."""
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("AIRFLOW__XETHUB__CACHE_FOLDER", str(folder))
    device = tmp_path.stat().st_dev
    monkeypatch.setattr(file_systems, "by_device", lambda: {device: "ext4"})
    monkeypatch.setattr(digest_memory, "SETTLED_SECONDS", 0.0)
    monkeypatch.setattr(remembered, "MIN_BYTES", 0)
    monkeypatch.setattr(remembered, "VERIFIED_BYTES", 0)
    monkeypatch.setattr(remembered, "VERIFIED_SHARE", 0.0)
    return folder


@pytest.fixture
def read(monkeypatch):
    """The names of the files that were read for a comparison."""
    names: list[str] = []

    def spy(module, name, paths_of):
        real = getattr(module, name)

        def recording(*args):
            names.extend(path.name for path in paths_of(args[0]) if not path.name.startswith("."))
            return real(*args)

        monkeypatch.setattr(module, name, recording)

    for module in (unchanged, same_content, existing):
        spy(module, "digest", lambda path: [path])
    spy(native_client, "xet_hashes", lambda paths: paths)
    return names


@pytest.fixture
def source(tmp_path):
    return settled(write(tmp_path / "in", {name: os.urandom(50_000) for name in NAMES}))


def settled(folder):
    """Wait until the clock of files has passed the last change."""
    newest = max(path.stat().st_ctime_ns for path in folder.rglob("*"))
    while time.time_ns() <= newest + 10_000_000:
        time.sleep(0.002)
    return folder


@pytest.fixture(params=["dataset", "bucket"])
def where(request, make_repo, connection):
    return {"repo_id": make_repo(request.param).repo_id, "repo_type": request.param}


def test_an_unchanged_folder_is_not_read_again(where, source, read, run_task):
    run_task(XetUploadOperator, source=str(source), **where).value  # noqa: B018 - raises what failed

    again = run_task(XetUploadOperator, source=str(source), **where).value

    assert again["unchanged"] == NAMES
    assert read == []


def test_only_a_changed_file_is_read_and_sent(where, source, read, run_task):
    run_task(XetUploadOperator, source=str(source), **where).value  # noqa: B018
    before = (source / "b.bin").stat()
    (source / "b.bin").write_bytes(os.urandom(50_000))
    os.utime(source / "b.bin", ns=(before.st_atime_ns, before.st_mtime_ns))

    again = run_task(XetUploadOperator, source=str(source), **where).value

    assert again["unchanged"] == ["a.bin", "d/c.bin"]
    assert again["transfer"]["files"] == 1
    assert read == ["b.bin"]


def test_a_large_file_that_was_written_to_is_read_by_the_upload_only(where, source, read, run_task, monkeypatch):
    monkeypatch.setattr(unchanged, "UNREAD_FROM", 50_000)
    run_task(XetUploadOperator, source=str(source), **where).value  # noqa: B018
    (source / "b.bin").write_bytes(os.urandom(50_000))
    os.utime(settled(source) / "a.bin")

    again = run_task(XetUploadOperator, source=str(settled(source)), **where).value
    read_first = list(read)
    last = run_task(XetUploadOperator, source=str(source), **where).value

    assert read_first == []
    assert again["transfer"]["files"] == 2
    assert again["unchanged"] == ["a.bin", "d/c.bin"]  # a.bin was only touched
    sent = {file["path"]: file for file in again["files"]}
    digest = hashlib.sha256((source / "b.bin").read_bytes()).hexdigest()
    assert sent["b.bin"]["sha256"] == digest or where["repo_type"] == "bucket"
    assert last["unchanged"] == NAMES
    if where["repo_type"] == "dataset":  # what the upload computed is remembered
        assert read == []


def test_a_large_file_that_was_replaced_is_read_by_the_upload_only(where, source, read, run_task, monkeypatch):
    monkeypatch.setattr(unchanged, "UNREAD_FROM", 50_000)
    run_task(XetUploadOperator, source=str(source), **where).value  # noqa: B018
    for name, content in (("b.bin", os.urandom(50_000)), ("a.bin", (source / "a.bin").read_bytes())):
        (source / "new").write_bytes(content)
        (source / "new").replace(source / name)

    again = run_task(XetUploadOperator, source=str(settled(source)), **where).value

    assert read == []
    assert again["transfer"]["files"] == 2
    assert again["unchanged"] == ["a.bin", "d/c.bin"]  # a.bin was replaced by its copy
    sent = {file["path"]: file for file in again["files"]}
    digest = hashlib.sha256((source / "b.bin").read_bytes()).hexdigest()
    assert sent["b.bin"]["sha256"] == digest or where["repo_type"] == "bucket"


def test_a_large_file_whose_version_was_uploaded_elsewhere_is_read_first(where, source, read, run_task, monkeypatch):
    monkeypatch.setattr(unchanged, "UNREAD_FROM", 50_000)
    run_task(XetUploadOperator, source=str(source), **where).value  # noqa: B018
    other = source.parent / "other"
    other.mkdir()
    for name in NAMES:
        write(other, {name: (source / name).read_bytes()})
        made_hours_ago(other / name)

    again = run_task(XetUploadOperator, source=str(settled(other)), **where).value

    assert sorted(read) == sorted(name.rpartition("/")[2] for name in NAMES)
    assert again["unchanged"] == NAMES


def made_hours_ago(path):
    at = time.time_ns() - int(2 * remembered.NEW_SECONDS * 1e9)
    os.utime(path, ns=(at, at))


def test_a_large_file_that_was_just_made_is_read_by_the_upload_only(where, source, read, run_task, monkeypatch):
    """As on a worker that remembers nothing, where a task before this one has made them."""
    monkeypatch.setattr(unchanged, "UNREAD_FROM", 50_000)
    run_task(XetUploadOperator, source=str(source), **where).value  # noqa: B018
    new = write(source.parent / "new", {name: os.urandom(50_000) for name in NAMES})
    write(new, {"a.bin": (source / "a.bin").read_bytes()})
    made_hours_ago(new / "b.bin")

    again = run_task(XetUploadOperator, source=str(new), **where).value

    assert read == ["b.bin"]
    assert again["unchanged"] == ["a.bin"]  # found by the digest that the upload computed
    assert again["transfer"]["files"] == 3


def test_a_wrong_memory_sends_the_right_file(where, source, tmp_path, read, run_task, cache):
    """A digest that was remembered never becomes the digest of an upload."""
    run_task(XetUploadOperator, source=str(source), **where).value  # noqa: B018
    memory = digest_memory.DigestMemory(lambda: cache)
    for kind in ("sha256", "Xet hash"):
        states = {digest_memory.FileState.of((source / name).stat()): "ab" * 32 for name in NAMES}
        memory.of(source, kind).keep(states, time.time_ns())

    again = run_task(XetUploadOperator, source=str(source), **where).value
    run_task(XetDownloadOperator, destination=str(tmp_path / "out"), **where).value  # noqa: B018

    assert sorted(again["unchanged"]) == NAMES  # found by the digests that the upload computed
    assert [(tmp_path / "out" / name).read_bytes() for name in NAMES] == [
        (source / name).read_bytes() for name in NAMES
    ]


def test_a_mirror_does_not_read_an_unchanged_folder_again(where, source, read, run_task):
    run_task(XetMirrorOperator, source=str(source), path_in_repo="m/", **where).value  # noqa: B018
    run_task(XetMirrorOperator, source=str(source), path_in_repo="m/", **where).value  # noqa: B018
    read.clear()

    run = run_task(XetMirrorOperator, source=str(source), path_in_repo="m/", **where).value

    assert (run["plan"]["added"], run["plan"]["changed"]) == ([], [])
    assert read == []


def test_existing_files_of_a_download_are_read_once(where, source, tmp_path, read, run_task):
    run_task(XetUploadOperator, source=str(source), **where).value  # noqa: B018
    out = tmp_path / "out"
    for expected in (0, 3, 0):
        read.clear()
        run_task(XetDownloadOperator, destination=str(out), **where).value  # noqa: B018
        settled(out)
        assert len(read) == expected

    (out / "a.bin").write_bytes((source / "b.bin").read_bytes())
    run_task(XetDownloadOperator, destination=str(out), **where).value  # noqa: B018

    assert read == ["a.bin"]
    assert (out / "a.bin").read_bytes() == (source / "a.bin").read_bytes()


def test_it_can_be_switched_off(where, source, read, run_task, cache, monkeypatch):
    monkeypatch.setenv("AIRFLOW__XETHUB__DIGEST_MEMORY", "False")
    run_task(XetUploadOperator, source=str(source), **where).value  # noqa: B018
    run_task(XetUploadOperator, source=str(source), **where).value  # noqa: B018
    assert sorted(read) == ["a.bin", "b.bin", "c.bin"]
    assert not list(cache.glob("xethub-digests-*"))
