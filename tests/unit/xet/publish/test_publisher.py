"""What a caller hands over, and what the publisher makes of it: local files, bytes, uploaded records or copies."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from functools import partial

import pytest

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet import records, samples
from airflow_provider_xethub.xet.files import sources as local
from airflow_provider_xethub.xet.files.found_files import FoundFiles
from airflow_provider_xethub.xet.publish import copies, mirror
from airflow_provider_xethub.xet.publish.copies import Copies
from airflow_provider_xethub.xet.publish.publisher import Publisher
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.records import no_transfer
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.transfer import read_back, upload
from support.builders import write
from support.commit_builders import record
from support.memory_bucket import BUCKET, MemoryBucket
from support.memory_hub import REPO, is_inline

PREUPLOAD = "POST /preupload/.*"
STORAGE, KEY, MEMORY, RULES = object(), object(), object(), object()


@pytest.fixture
def hub(hub):
    """It says how it stores the files of its repository."""

    def modes(_):
        described = [
            {
                "path": (path := file["path"]),
                "uploadMode": "regular" if is_inline(path) else "lfs",
                "oid": hub.current("main", path),
            }
            for file in hub.sent[-1].options["json"]["files"]
        ]
        return {"files": described}

    hub.on(PREUPLOAD, then=modes)
    return hub


@pytest.fixture
def two_in_memory(monkeypatch):
    monkeypatch.setattr(records, "IN_MEMORY", 2)


def publisher(hub, **options):
    """A publisher whose accesses are named by their repository."""
    return Publisher(
        lambda: hub,
        write_access=lambda repo: f"to {repo}",
        read_access=lambda repo: f"from {repo}",
        open_storage=STORAGE,
        fernets=lambda: [KEY],
        **options,
    )


def request(repo=REPO, files=(), **options):
    return CommitRequest(repo, files, **{"message": "mine", **options})


def asked(hub):
    """The body of each question how files are stored."""
    return [each.options["json"] for each in hub.sent if str(each).startswith("POST /preupload/")]


class Access:
    """Uploads files, without sending anything.

    :param uploaded: returns the record of a file with this path and content.
    :ivar sent: how each upload was made.
    """

    def __init__(self, uploaded=None):
        self.sent, self._uploaded = [], uploaded or partial(record, REPO)

    def __call__(self, work):
        assert work.func is upload.upload
        files, options = work.keywords["files"], dict(work.keywords)
        self.sent.append({**options, "files": [file.path_in_repo for file in files]})
        uploaded = [self._uploaded(file.path_in_repo, file.path.read_bytes()) for file in files]
        return {"files": uploaded, "transfer": {**no_transfer(), "files": len(files)}}


# --- files that are in CAS


def test_uploaded_files_are_committed(hub):
    result = publisher(hub).publish_uploaded(request(files=[record(REPO, "a.bin", b"a")]))
    assert (hub.titles(), hub.files()) == (["mine"], {"a.bin"})
    assert (result["title"], [file["path"] for file in result["files"]]) == ("mine", ["a.bin"])
    assert "transfer" not in result


def test_uploaded_files_are_put_into_a_bucket():
    hub = MemoryBucket()
    publisher(hub).publish_uploaded(request(BUCKET, [hub.uploaded("a")]))
    assert set(hub.held) == {"a"}


def test_a_request_is_checked_before_anything_is_sent(hub):
    with pytest.raises(XetInputError, match="commit_message"):
        publisher(hub).publish_uploaded(request(files=[record(REPO, "a.bin", b"a")], message=" "))
    assert hub.sent == []


@pytest.fixture
def _read_back(monkeypatch):
    """Inline files can be read back; the content of each is its path."""

    def read(files, access, open_storage):
        assert (access, open_storage) == (f"from {REPO}", STORAGE)
        return {file["path"]: file["path"].encode() for file in files}

    monkeypatch.setattr(read_back, "read_back", read)


@pytest.mark.usefixtures("_read_back")
def test_inline_files_are_read_back_and_sealed_samples_are_opened(hub, monkeypatch):
    def unseal(files, keys):
        assert keys == [KEY]
        return [{**file, "sample": "b3BlbmVk"} for file in files]

    monkeypatch.setattr(samples, "unseal", unseal)
    publisher(hub).publish_uploaded(request(files=[record(REPO, "a.txt", b"a.txt", sealed_sample="x")]))
    assert [file["sample"] for file in asked(hub)[0]["files"]] == ["b3BlbmVk"]
    assert hub.files() == {"a.txt"}


def test_a_repository_is_prepared_before_anything_is_sent(hub):
    prepared = []
    plain = publisher(hub)
    other = plain.preparing(lambda repo: prepared.append((repo, list(hub.sent))))
    plain.publish_uploaded(request(files=[record(REPO, "a.bin", b"a")]))
    assert prepared == []
    hub.sent.clear()
    other.publish_uploaded(request(files=[record(REPO, "b.bin", b"b")]))
    assert prepared == [(REPO, [])]
    assert hub.files() == {"a.bin", "b.bin"}


@pytest.mark.usefixtures("_read_back")
def test_many_uploaded_files_are_committed_in_the_order_of_their_paths(hub, two_in_memory):
    files = [record(REPO, path, b"x") for path in ("c.bin", ".gitignore", "a.bin")]
    publisher(hub).publish_uploaded(request(files=files))
    assert [[file["path"] for file in each["files"]] for each in asked(hub)] == [[".gitignore", "a.bin"], ["c.bin"]]
    assert {each["gitIgnore"] for each in asked(hub)} == {".gitignore"}, "its content"
    assert hub.files() == {".gitignore", "a.bin", "c.bin"}


def test_of_many_files_without_a_gitignore_that_of_the_repository_applies(hub, two_in_memory):
    publisher(hub).publish_uploaded(request(files=[record(REPO, f"{name}.bin", b"x") for name in "abc"]))
    assert ["gitIgnore" in each for each in asked(hub)] == [False, False]


def test_a_few_uploaded_files_keep_their_order(hub, two_in_memory):
    result = publisher(hub).publish_uploaded(request(files=[record(REPO, path, b"x") for path in ("b.bin", "a.bin")]))
    assert [file["path"] for file in result["files"]] == ["b.bin", "a.bin"]
    assert [file["path"] for each in asked(hub) for file in each["files"]] == ["b.bin", "a.bin"]


def test_of_many_uploaded_files_two_with_one_path_are_refused(hub, two_in_memory):
    files = [record(REPO, path, b"x") for path in ("a.bin", "b.bin", "a.bin")]
    with pytest.raises(XetInputError, match=r"^a\.bin occurs twice among the files to commit to "):
        publisher(hub).publish_uploaded(request(files=files))
    assert hub.sent == []


# --- local files


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "in", {"a.bin": b"\0a", "b.bin": b"\0b", "c.txt": b"c"})


def fetched(_):
    """Fetches a token."""
    return nullcontext()


def test_local_files_are_uploaded_with_the_token_of_the_task(hub, folder):
    access, early = Access(), []

    def prefetch(repo):
        early.append(repo)
        return nullcontext()

    result = publisher(hub).publish_files(
        local.collect(folder), request(), write_access=access, prefetch=prefetch, deduplicate=False
    )
    assert access.sent == [{"files": ["a.bin", "b.bin"], "deduplicate": False, "digests": {}, "memory": None}]
    assert early == [REPO]
    assert (hub.titles(), hub.files()) == (["mine"], {"a.bin", "b.bin", "c.txt"})
    assert result["transfer"]["files"] == 2
    assert result["title"] == "mine"


def test_by_default_the_client_decides_about_deduplication_and_no_token_is_fetched_early(hub, folder):
    access = Access()
    publisher(hub).publish_files(local.collect(folder), request(), write_access=access)
    assert access.sent[0]["deduplicate"] is None
    assert hub.files() == {"a.bin", "b.bin", "c.txt"}


def test_what_the_machine_remembers_is_given_to_the_upload(folder):
    hub = MemoryBucket()
    access = Access(hub.uploaded)
    publisher(hub, memory=MEMORY).publish_files(local.collect(folder), request(BUCKET), write_access=access)
    assert [each["memory"] for each in access.sent] == [MEMORY]
    assert set(hub.held) == {"a.bin", "b.bin", "c.txt"}


def test_many_local_files_are_read_in_batches(hub, folder, two_in_memory):
    (folder / ".gitignore").write_bytes(b"*.tmp\n")
    found = FoundFiles()
    for file in local.collect(folder):
        found.add(file)
    assert found.are_on_disk
    access = Access()
    result = publisher(hub).publish_files(found, request(), write_access=access)
    assert [[file["path"] for file in each["files"]] for each in asked(hub)] == [
        [".gitignore", "a.bin"],
        ["b.bin", "c.txt"],
    ]
    assert {each["gitIgnore"] for each in asked(hub)} == {"*.tmp\n"}
    assert [each["files"] for each in access.sent] == [[".gitignore", "a.bin"], ["b.bin"]]
    assert len(result["files"]) == 4


def test_a_mirror_publishes_with_the_token_of_the_task(hub, folder, monkeypatch):
    monkeypatch.setattr(mirror, "Mirror", lambda *given: given)
    found, mirrored, access = local.collect(folder), request(), Access()
    *given, publish, memory = publisher(hub, memory=MEMORY).mirror(
        found, mirrored, RULES, write_access=access, prefetch=fetched, deduplicate=True
    )
    assert (given, memory) == ([hub, found, mirrored, RULES], MEMORY)
    assert publish.func.__name__ == "publish_files"
    assert publish.keywords == {"write_access": access, "prefetch": fetched, "deduplicate": True}


# --- bytes in memory


@pytest.fixture
def sent(monkeypatch):
    """The small contents that were uploaded, each with its access."""
    sent = []

    def upload_contents(files, read, with_cas_access):
        sent.extend((file["path"], read(file), with_cas_access) for file in files)
        return [{**file, "xet_hash": hashlib.sha256(read(file)).hexdigest()} for file in files]

    monkeypatch.setattr(upload, "upload_contents", upload_contents)
    return sent


def test_bytes_in_memory_are_published_with_uploaded_files(hub, sent):
    contents = {"b.bin": b"\0b", "c.txt": b"c"}
    result = publisher(hub).publish_contents(contents, request(files=[record(REPO, "a.bin", b"a")]))
    assert sent == [("b.bin", b"\0b", f"to {REPO}")]
    assert hub.files() == {"a.bin", "b.bin", "c.txt"}
    assert [file["path"] for file in result["files"]] == ["a.bin", "b.bin", "c.txt"]
    assert "transfer" not in result


# --- copies


def test_copies_are_put_from_their_source_and_counted(sent, monkeypatch):
    hub, source = MemoryBucket(), Repo("acme/corpus", "dataset")
    files = [hub.uploaded("a"), {**hub.uploaded("b.txt"), "xet_hash": None}]
    job = Copies(source, request(BUCKET, files), files.index, {"b.txt"})
    prepared = []

    def read_original(*given):
        assert given == (hub, job, "b.txt")
        return b"b.txt"

    monkeypatch.setattr(copies, "read_original", read_original)
    result = publisher(hub).preparing(prepared.append).copy(job)
    assert sent == [("b.txt", b"b.txt", f"to {BUCKET}")]
    [changes] = hub.batches()
    assert [(change["type"], change["path"]) for change in changes] == [("copyFile", "a"), ("addFile", "b.txt")]
    assert result["copied"] == {"files": 2, "bytes": 6, "inline_files": 1, "inline_bytes": 5}
    assert prepared == [BUCKET]
