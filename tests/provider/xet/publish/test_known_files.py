"""Uploads that know from the last one what the branch has: what the Hub is asked, and that nothing wrong follows."""

from __future__ import annotations

import os

import pytest

from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetUploadOperator
from airflow_provider_xethub.xet import records
from airflow_provider_xethub.xet.files import digest_memory, file_systems
from airflow_provider_xethub.xet.files.commit_memory import CommitMemory
from airflow_provider_xethub.xet.files.object_sources import SAMPLE_BYTES
from airflow_provider_xethub.xet.hub import preupload
from airflow_provider_xethub.xet.publish import known_files
from airflow_provider_xethub.xet.transfer import remembered
from support.builders import write

NAMES = [f"{number}.bin" for number in range(6)]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of this test alone, and a memory that is used for small folders, too."""
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("AIRFLOW__XETHUB__CACHE_FOLDER", str(folder))
    monkeypatch.setenv("AIRFLOW__XETHUB__MANIFEST_FILES", "100")
    device = tmp_path.stat().st_dev
    monkeypatch.setattr(file_systems, "by_device", lambda: {device: "ext4"})
    monkeypatch.setattr(digest_memory, "SETTLED_SECONDS", 0.0)
    for name in ("MIN_BYTES", "VERIFIED_BYTES", "VERIFIED_SHARE"):
        monkeypatch.setattr(remembered, name, 0)
    monkeypatch.setattr(known_files, "MIN_FILES", 2)
    monkeypatch.setattr(known_files, "VERIFIED_FILES", 1)
    return folder


@pytest.fixture
def source(tmp_path):
    return write(tmp_path / "in", {name: b"\0" + os.urandom(5_000) for name in NAMES})


@pytest.fixture
def upload(source, repo, connection, run_task, hub, cache, monkeypatch):
    """Uploads the folder and returns the result, with the number of files that the Hub was asked about."""
    asked: list[int] = []
    ask = preupload.upload_modes

    def counting(hub, repo, files, **options):
        asked.append(len(files))
        return ask(hub, repo, files, **options)

    monkeypatch.setattr(preupload, "upload_modes", counting)

    def run(**arguments):
        asked.clear()
        task = run_task(
            XetUploadOperator,
            **{"source": str(source), "repo_id": repo.repo_id, "repo_type": repo.repo_type, **arguments},
        )
        return task.value, sum(asked)

    return run


def without_memory(upload, monkeypatch):
    monkeypatch.setenv("AIRFLOW__XETHUB__DIGEST_MEMORY", "False")
    value, asked = upload()
    monkeypatch.delenv("AIRFLOW__XETHUB__DIGEST_MEMORY")
    return value, asked


def plain(result):
    """What does not depend on the time."""
    return {**result, "transfer": {**result["transfer"], "seconds": 0}}


def test_an_unchanged_folder_is_asked_about_once(upload, monkeypatch):
    _, first = upload()
    known, again = upload()
    full, everything = without_memory(upload, monkeypatch)

    assert (first, again, everything) == (6, 1, 6)
    assert known["unchanged"] == NAMES
    assert plain(known) == plain(full)


def test_of_what_is_known_no_beginning_is_read(upload, monkeypatch):
    """On a disk, each of them takes as long as a small file."""
    monkeypatch.setattr(preupload, "SMALL_UPLOAD_BYTES", 0)  # of a small upload, one is read before
    read = []
    plain_read = os.read
    monkeypatch.setattr(os, "read", lambda file, size: read.append(size) or plain_read(file, size))

    upload()
    first = read.count(SAMPLE_BYTES)
    read.clear()
    upload()

    assert (first, read.count(SAMPLE_BYTES)) == (6, 1)  # the sample is one


def test_what_changed_is_asked_about_and_committed(upload, source, monkeypatch):
    upload()
    (source / "1.bin").write_bytes(b"\0" + os.urandom(5_000))
    (source / "new.bin").write_bytes(b"\0" + os.urandom(5_000))

    changed, asked = upload()
    known, again = upload()
    full, _ = without_memory(upload, monkeypatch)

    assert asked == 3  # the sample is one
    assert changed["unchanged"] == [name for name in NAMES if name != "1.bin"]
    assert again == 1
    assert plain(known) == plain(full)


def test_a_branch_that_moved_is_asked_about_as_a_whole(upload, source, repo, hook):
    """Even where only one commit of someone else is in between, and none of these files is in it."""
    upload()
    hook.api.upload_file(path_or_fileobj=b"x", path_in_repo="other.txt", repo_id=repo.repo_id, repo_type="dataset")

    assert upload()[1] == 6
    assert upload()[1] == 1


def test_a_file_that_the_branch_lost_is_published_again(upload, repo, hook):
    upload()
    hook.api.delete_file("2.bin", repo_id=repo.repo_id, repo_type="dataset")

    back, asked = upload()

    assert asked == 6
    assert "2.bin" not in back["unchanged"]
    assert hook.api.file_exists(repo.repo_id, "2.bin", repo_type="dataset")


def test_a_branch_that_was_moved_back_is_known_only_where_it_was_left(upload, repo, hook):
    upload()
    hook.api.super_squash_history(repo_id=repo.repo_id, repo_type="dataset")

    assert upload()[1] == 6


def test_a_repository_that_was_made_anew_is_not_known(upload, repo, hook):
    upload()
    hook.api.delete_repo(repo.repo_id, repo_type="dataset")
    hook.api.create_repo(repo.repo_id, repo_type="dataset")

    back, asked = upload()

    assert asked == 6
    assert back["unchanged"] == []


def test_a_commit_between_question_and_commit_is_noticed_by_the_next_upload(upload, source, repo, hook, monkeypatch):
    upload()
    (source / "1.bin").write_bytes(b"\0" + os.urandom(5_000))
    real = known_files.KnownFiles.__init__

    def overtaken(self, *args):
        real(self, *args)
        hook.api.delete_file("2.bin", repo_id=repo.repo_id, repo_type="dataset")

    with monkeypatch.context() as context:
        context.setattr(known_files.KnownFiles, "__init__", overtaken)
        context.setattr(known_files.KnownFiles, "verified", lambda *_: True)
        upload()
    back, asked = upload()

    assert asked == 6
    assert "2.bin" not in back["unchanged"]


def edited(monkeypatch, change, names=NAMES):
    """Let what was remembered about some files say something else, as if it had been written like this."""
    real = CommitMemory.load.__func__

    def load(cls, memory, place):
        found = real(cls, memory, place)
        if found is not None:
            for name in names:
                there = found.get(name)
                if there is not None:
                    found.add(name, *change(there))
        return found

    monkeypatch.setattr(CommitMemory, "load", classmethod(load))


def test_a_wrong_xet_hash_is_found_by_the_sample(upload, monkeypatch):
    upload()
    edited(monkeypatch, lambda there: (there.sha256, "ab" * 32))

    wrong, asked = upload()
    monkeypatch.undo()

    assert asked == 7
    assert {file["xet_hash"] for file in wrong["files"]} != {"ab" * 32}


def test_what_a_later_batch_finds_to_be_wrong_ends_the_task_whose_retry_asks_about_all(
    upload, source, repo, run_task, monkeypatch
):
    """The batches before it have relied on the same memory."""
    upload()
    monkeypatch.setattr(records, "IN_MEMORY", 3)
    monkeypatch.setattr(known_files, "VERIFIED_FILES", 3)
    wrong = {"source": str(source), "repo_id": repo.repo_id, "repo_type": repo.repo_type}
    with monkeypatch.context() as context:
        edited(context, lambda there: (there.sha256, "ab" * 32), names=NAMES[3:])
        run = run_task(XetUploadOperator, **wrong)
    assert "what was remembered of the last upload. Let the task retry" in run.text
    assert not run.is_final

    again, asked = upload()
    assert asked == 6
    assert again["unchanged"] == NAMES


def test_a_wrong_xet_hash_outside_of_the_sample_is_returned_and_a_download_refuses_it(
    upload, monkeypatch, run_task, tmp_path
):
    """docs/security.md says so: only the user of the task can write the memory."""
    upload()
    edited(monkeypatch, lambda there: (there.sha256, "ab" * 32))
    monkeypatch.setattr(known_files, "VERIFIED_FILES", 0)

    wrong, asked = upload()

    assert asked == 0
    assert {file["xet_hash"] for file in wrong["files"]} == {"ab" * 32}
    run = run_task(XetDownloadOperator, files=wrong["files"], destination=str(tmp_path / "out"))
    assert run.error
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_a_wrong_digest_is_asked_about(upload, monkeypatch):
    upload()
    edited(monkeypatch, lambda there: ("ab" * 32, there.xet_hash))

    result, asked = upload()

    assert asked == 6
    assert result["unchanged"] == NAMES


@pytest.mark.parametrize("at", [0, 20, 60, 200, -1])
def test_a_damaged_file_is_not_believed(upload, cache, at):
    upload()
    [kept] = [path for path in cache.glob("xethub-digests-*/c*") if path.read_bytes().startswith(b"xethub commit")]
    data = bytearray(kept.read_bytes())
    data[at] ^= 1
    kept.write_bytes(data)

    assert kept.stat().st_mode & 0o777 == 0o600
    assert upload()[1] == 6


def test_a_wrong_digest_of_a_local_file_lets_everything_be_asked(
    upload, source, cache, monkeypatch, tmp_path, run_task, repo
):
    """A change that the file system did not record: the sample finds it, and all files are read."""
    first, _ = upload()
    other = b"\0" + os.urandom(5_000)
    (source / "3.bin").write_bytes(other)
    memory = digest_memory.DigestMemory(lambda: cache)
    digests = {file["path"]: file["sha256"] for file in first["files"]}
    states = {digest_memory.FileState.of((source / name).stat()): digests[name] for name in NAMES}
    memory.of(source, "sha256").keep(states, 2**62)
    monkeypatch.setattr(remembered, "VERIFIED_SHARE", 1.0)

    result, asked = upload()
    run_task(XetDownloadOperator, destination=str(tmp_path / "out"), repo_id=repo.repo_id, repo_type="dataset").value  # noqa: B018

    assert asked == 6
    assert result["unchanged"] == [name for name in NAMES if name != "3.bin"]
    assert (tmp_path / "out" / "3.bin").read_bytes() == other


def test_rules_in_the_upload_are_asked_about(upload, source, monkeypatch):
    """A file that says how others are stored may change the answer about them."""
    (source / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    upload()

    _, second = upload()
    _, third = upload()
    (source / ".gitignore").write_text("5.bin\n")
    ignored, fourth = upload()
    again, _ = upload()
    full, _ = without_memory(upload, monkeypatch)

    assert (second, third) == (7, 2)
    assert fourth == 8
    assert "5.bin" not in [file["path"] for file in ignored["files"]]
    assert plain(again) == plain(full)


def test_a_pull_request_is_not_remembered(upload):
    upload(create_pr=True)

    assert upload(create_pr=True)[1] == 6
    assert upload()[1] == 6
    assert upload()[1] == 1


def test_another_revision_is_not_known(upload, repo, hook):
    hook.api.create_branch(repo.repo_id, branch="other", repo_type="dataset")
    upload()

    assert upload(revision="other")[1] == 6
    assert upload()[1] == 1
