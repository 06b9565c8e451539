"""Where the files of a commit come from: what each source reads, uploads and asks; with a Hub: tests/provider."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest

from airflow_provider_xethub.xet import records, samples
from airflow_provider_xethub.xet.files import sources as local
from airflow_provider_xethub.xet.files.found_files import FoundFiles
from airflow_provider_xethub.xet.hub import preupload
from airflow_provider_xethub.xet.hub.preupload import UploadMode
from airflow_provider_xethub.xet.publish import copies, known_files
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.publish.sources import (
    CopiedFiles,
    HeldContents,
    SourceFiles,
    SourceRecords,
    Sources,
    UploadedFiles,
)
from airflow_provider_xethub.xet.records import no_transfer, xet_file_record
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.transfer import read_back, unchanged, upload
from support.commit_builders import ANYWHERE, record

CONTENT = {"a.bin": b"\0a", "b.txt": b"text", "empty": b""}
URI = ANYWHERE.uri
HUB, MEMORY, BUCKET = object(), object(), Repo("acme/b", "bucket")
SHA256S = {path: hashlib.sha256(content).hexdigest() for path, content in CONTENT.items()}
THROUGH_CAS = UploadMode(False, None, False)


def before(path):
    """The record of a file before its upload."""
    return record(ANYWHERE, path, CONTENT[path], sha256=None, xet_hash=None)


def plain(path):
    """The same without its first bytes."""
    return xet_file_record(path, len(CONTENT[path]), URI)


def in_cas(path):
    """The record of a file that the repository has."""
    return xet_file_record(path, len(CONTENT[path]), URI, sha256=SHA256S[path], xet_hash="ab" * 32)


@pytest.fixture
def found(tmp_path):
    for path, content in CONTENT.items():
        (tmp_path / path).write_bytes(content)
    return list(local.collect(str(tmp_path)))


def all_of(files):
    made = FoundFiles()
    for file in files:
        made.add(file)
    return made


@pytest.fixture
def many(found, monkeypatch):
    """The same files, on disk."""
    monkeypatch.setattr(records, "IN_MEMORY", 2)
    made = all_of(found)
    assert made.are_on_disk
    return made


@pytest.fixture
def asked(monkeypatch):
    """What the Hub was asked about how it stores files; it stores all of them in CAS."""
    asked = []

    def upload_modes(hub, repo, files, *, create_pr, gitignore):
        assert all("sample" in file for file in files)
        asked.append((hub, repo, create_pr, gitignore, [file["path"] for file in files]))
        return {file["path"]: THROUGH_CAS for file in files}

    monkeypatch.setattr(preupload, "upload_modes", upload_modes)
    return asked


def made_source(found, **options):
    made = SourceFiles(all_of(found), None, **options)
    list(made.batches(made.records(ANYWHERE)))
    return made


# --- any source -------------------------------------------------------------------------------------------------------


class InCas(Sources):
    """Files that are in CAS."""

    def contents(self, files):
        raise AssertionError


def test_by_default_all_files_are_in_cas(asked, monkeypatch):
    monkeypatch.setattr(records, "IN_MEMORY", 2)
    source, files = InCas(), [before(path) for path in CONTENT]
    assert list(source.batches(files)) == [files[:2], files[2:]]
    assert source.pending(files) == []
    assert source.with_samples(files) is files
    assert isinstance(source.prefetch(ANYWHERE), nullcontext)
    assert source.unchanged_in_repository(HUB, ANYWHERE, ["a.bin"], {}) == {}
    assert source.unchanged_in_bucket(HUB, ANYWHERE, ["a.bin"]) == {}
    assert source.upload(["a.bin"]) == ({}, no_transfer())
    assert source.origin("a.bin") is None
    request = CommitRequest(ANYWHERE, files, create_pr=True)
    assert source.modes(HUB, request, files[:1], "*.tmp") == {"a.bin": THROUGH_CAS}
    assert asked == [(HUB, ANYWHERE, True, "*.tmp", ["a.bin"])]


# --- local files and objects ------------------------------------------------------------------------------------------


def test_a_few_source_files_are_pending_without_their_samples(found):
    source = SourceFiles(all_of(found), None)
    files = source.records(ANYWHERE)
    assert source.contents(files[:1]) == {"a.bin": b"\0a"}, "before the first batch, such as a .gitignore"
    [batch] = source.batches(files)
    assert batch == list(files) == [plain(path) for path in CONTENT]
    assert source.pending(batch) == list(CONTENT)
    assert source.contents(batch[:2]) == {path: CONTENT[path] for path in ("a.bin", "b.txt")}
    assert source.with_samples(batch) is batch


def test_many_source_files_are_read_in_batches(many, monkeypatch):
    source = SourceFiles(many, None)
    files = source.records(ANYWHERE)
    assert isinstance(files, SourceRecords)
    assert list(files) == [plain(path) for path in CONTENT]
    assert source.contents([plain("a.bin")]) == {"a.bin": b"\0a"}
    read = source.batches(files)
    assert next(read) == [plain("a.bin"), plain("b.txt")]
    assert source.contents([plain("a.bin"), plain("empty")]) == {"a.bin": b"\0a", "empty": b""}
    monkeypatch.setattr(many, "get", None)
    assert source.contents([plain("a.bin")]) == {"a.bin": b"\0a"}, "of this batch, nothing is looked up"
    assert list(read) == [[plain("empty")]]


def test_the_records_of_many_files_are_a_sequence(many):
    files = SourceRecords(many, URI)
    assert (len(files), files[1], files[-1]) == (3, plain("b.txt"), plain("empty"))
    assert files.find("a.bin") == plain("a.bin")
    assert files.find("b") is None
    assert (files.repo, files.are_checked) == (URI, True)


def test_the_first_bytes_of_objects_are_read_late(found, monkeypatch):
    source, fetched = made_source(found), []
    monkeypatch.setattr(upload, "fetch_samples", fetched.append)
    files = [plain("b.txt"), plain("a.bin")]
    assert source.with_samples(files) is files
    assert fetched == [[found[1], found[0]]]


@contextmanager
def fetched(repo):
    """Fetches a token."""
    yield repo


@pytest.mark.parametrize(
    ("sizes", "stored", "is_early"),
    [
        ([(10, b"\0")], [], True),
        ([(10, b"text")], [], False),
        ([(10, b"\0"), (preupload.SMALL_UPLOAD_BYTES, b"text")], [], False),
        ([], [(10, b"\0"), (preupload.SMALL_UPLOAD_BYTES, b"text")], True),
        ([(preupload.SMALL_UPLOAD_BYTES, b"\0")], [(10, b"text")], False),
    ],
)
def test_a_token_is_fetched_early_if_it_is_certainly_needed(found, sizes, stored, is_early):
    here = [
        replace(found[0], path_in_repo=f"{at}", state=found[0].state._replace(size=size))
        for at, (size, _) in enumerate(sizes)
    ]
    for file, (_, sample) in zip(here, sizes, strict=True):
        vars(file)["sample"] = sample
    here += [SimpleNamespace(size=size, sample=sample, path_in_repo=str(size)) for size, sample in stored]
    early = SourceFiles(all_of(here), None, fetched).prefetch(ANYWHERE)
    if not is_early:
        assert isinstance(early, nullcontext)
        return
    with early as repo:
        assert repo == ANYWHERE


def test_a_token_is_not_fetched_early_for_many_files_or_where_the_task_has_one(found, many):
    assert isinstance(SourceFiles(many, None, fetched).prefetch(ANYWHERE), nullcontext)
    assert isinstance(SourceFiles(all_of(found[:1]), None).prefetch(ANYWHERE), nullcontext)


def test_an_upload_sends_files_with_the_digests_that_are_known(found, monkeypatch):
    given = []

    def in_repository(*of):
        given.append(of)
        return {"b.txt": before("b.txt")}, {"a.bin": SHA256S["a.bin"]}

    def in_bucket(*of):
        given.append(of)
        return {"b.txt": before("b.txt")}

    monkeypatch.setattr(unchanged, "in_repository", in_repository)
    monkeypatch.setattr(unchanged, "in_bucket", in_bucket)
    sent = []

    def with_cas_access(work):
        sent.append((work.func, work.keywords))
        return {"files": [before("a.bin")], "transfer": {**no_transfer(), "files": 1}}

    source = SourceFiles(all_of(found), with_cas_access, deduplicate=True, memory=MEMORY)
    list(source.batches(source.records(ANYWHERE)))
    assert source.upload(["a.bin"]) == ({"a.bin": before("a.bin")}, {**no_transfer(), "files": 1})
    assert source.unchanged_in_repository(HUB, ANYWHERE, ["a.bin", "b.txt"], {"a.bin": 1}) == {"b.txt": before("b.txt")}
    assert source.unchanged_in_bucket(HUB, BUCKET, ["b.txt"]) == {"b.txt": before("b.txt")}
    source.upload(["a.bin", "empty"])
    assert given == [(HUB, ANYWHERE, found[:2], {"a.bin": 1}, MEMORY), (HUB, BUCKET, found[1:2], MEMORY)]
    options = {"deduplicate": True, "memory": MEMORY}
    assert sent == [
        (upload.upload, {"files": found[:1], "digests": {}, **options}),
        (upload.upload, {"files": [found[0], found[2]], "digests": {"a.bin": SHA256S["a.bin"]}, **options}),
    ]
    assert source.upload([]) == ({}, no_transfer())
    assert len(sent) == 2


# --- what the branch is known to have ---------------------------------------------------------------------------------


class Known:
    """What is known of the branch: these files, unless the Hub says something else."""

    def __init__(self, paths, *, is_right=True, is_known=True):
        self.paths, self.is_right, self.is_known = paths, is_right, is_known
        self.begun, self.results = [], []

    def begin(self, *of):
        self.begun.append(of)
        return self

    def of(self, digests):
        return {path: "ab" * 32 for path in self.paths if path in digests}

    def verified(self, there, digests, ask):
        self.said = (there, digests, ask(["a.bin"]))
        return self.is_right

    def remember(self, result):
        self.results.append(result)


@pytest.fixture
def known(monkeypatch):
    """Lets this be known, where an upload is worth it."""

    def let(known, *, is_worthwhile=True):
        def recalled(files, memory):
            assert memory is MEMORY
            return {file.path_in_repo: SHA256S[file.path_in_repo] for file in files}

        monkeypatch.setattr(known_files, "is_worthwhile", lambda request: is_worthwhile and request is REQUEST)
        monkeypatch.setattr(known_files, "KnownFiles", known.begin)
        monkeypatch.setattr(unchanged, "recalled", recalled)
        return known

    return let


FILES = [plain(path) for path in CONTENT]
REQUEST = CommitRequest(ANYWHERE, FILES)


def modes(source, files=FILES):
    return source.modes(HUB, REQUEST, files, "*.tmp")


def about(*paths):
    return (HUB, ANYWHERE, False, "*.tmp", list(paths))


def test_only_the_rest_is_asked_about(found, asked, known):
    branch = known(Known(["a.bin"]))
    source = made_source(found, memory=MEMORY)
    for _ in range(2):
        asked.clear()
        assert modes(source) == {
            "a.bin": UploadMode(False, SHA256S["a.bin"], False),
            "b.txt": THROUGH_CAS,
            "empty": THROUGH_CAS,
        }
        assert asked == [about("a.bin"), about("b.txt", "empty")]
    assert branch.begun == [(MEMORY, HUB, REQUEST, "*.tmp")]
    sha256s = {path: SHA256S[path] for path in ("a.bin", "b.txt")}  # of an empty file, nothing is known
    assert branch.said == ({"a.bin": "ab" * 32}, sha256s, {"a.bin": THROUGH_CAS})
    same = {"a.bin": in_cas("a.bin")}
    assert source.unchanged_in_repository(HUB, ANYWHERE, ["a.bin"], {}) == same
    source.remember("result")
    assert branch.results == ["result"]


def test_what_is_known_is_kept_with_what_was_compared(found, asked, known, monkeypatch):
    known(Known(["a.bin"]))
    source = made_source(found, memory=MEMORY)
    modes(source)
    monkeypatch.setattr(unchanged, "in_repository", lambda _, __, files, *___: ({"b.txt": files}, {}))
    assert source.unchanged_in_repository(HUB, ANYWHERE, ["a.bin", "b.txt"], {}) == {
        "a.bin": in_cas("a.bin"),
        "b.txt": [found[1]],
    }


def test_of_files_that_are_all_known_none_is_asked_about(found, asked, known):
    known(Known(["a.bin", "b.txt"]))
    assert list(modes(made_source(found, memory=MEMORY), FILES[:2])) == ["a.bin", "b.txt"]
    assert asked == [about("a.bin")], "the sample"


@pytest.mark.parametrize(
    "branch",
    [Known([]), Known(["a.bin"], is_right=False), Known(["a.bin"], is_known=False)],
    ids=["new", "wrong", "no"],
)
def test_what_is_not_known_is_asked_about(found, asked, known, branch):
    known(branch)
    source = made_source(found, memory=MEMORY)
    assert modes(source) == dict.fromkeys(CONTENT, THROUGH_CAS)
    assert asked[-1] == about(*CONTENT)
    assert source.unchanged_in_repository(HUB, ANYWHERE, [], {}) == {}


@pytest.mark.parametrize("memory", [None, MEMORY])
def test_without_a_memory_or_for_a_few_files_all_are_asked_about(found, asked, known, memory):
    branch = known(Known(["a.bin"]), is_worthwhile=memory is None)
    source = made_source(found, memory=memory)
    assert modes(source) == dict.fromkeys(CONTENT, THROUGH_CAS)
    assert asked == [about(*CONTENT)]
    source.remember("result")
    assert (branch.begun, branch.results) == ([], [])


def test_of_objects_nothing_is_known(found, asked, known):
    branch = known(Known(["a.bin"]))
    source = made_source([*found[:1], SimpleNamespace(path_in_repo="b.txt", size=4, sample=b"text")], memory=MEMORY)
    modes(source, FILES[:2])
    assert branch.said[1] == {"a.bin": SHA256S["a.bin"]}


# --- files that were uploaded, and bytes in memory --------------------------------------------------------------------


@pytest.fixture
def uploaded(monkeypatch):
    """A source of uploaded files, which can be read back."""

    def read(files, access, open_storage):
        assert open_storage == "storage"
        return {file["path"]: f"{file['path']} of {access}".encode() for file in files}

    monkeypatch.setattr(read_back, "read_back", read)
    monkeypatch.setattr(samples, "unseal", lambda files, keys: [files, keys])
    return UploadedFiles(lambda repo: repo.revision, "storage", lambda: ["key"])


def test_uploaded_files_are_read_with_a_token_of_their_revision(uploaded):
    files = [record(ANYWHERE.at(revision), path, b"x") for path, revision in (("a", "v1"), ("b", "v2"), ("c", "v1"))]
    assert uploaded.contents(files) == {"a": b"a of v1", "c": b"c of v1", "b": b"b of v2"}
    assert uploaded.contents([]) == {}


def test_sealed_samples_are_opened(uploaded):
    files = [before("a.bin"), {**before("b.txt"), "sealed_sample": "x"}]
    assert uploaded.with_samples(files[:1]) == files[:1]
    assert uploaded.with_samples(files) == [files, ["key"]]


@pytest.fixture
def sent(monkeypatch):
    """Uploads of small contents: what was sent, and with which access."""
    sent = []

    def upload_contents(files, read, with_cas_access):
        sent.append(({file["path"]: read(file) for file in files}, with_cas_access))
        return [{**file, "xet_hash": "cd" * 32} for file in files]

    monkeypatch.setattr(upload, "upload_contents", upload_contents)
    return sent


def test_bytes_in_memory_are_published_with_uploaded_files(uploaded, sent):
    held = HeldContents(CONTENT, ANYWHERE, uploaded, "access")
    files = [before("a.bin"), record(ANYWHERE, "c", b"x"), {**before("b.txt"), "sealed_sample": "x"}]
    expected = {path: record(ANYWHERE, path, content, xet_hash=None) for path, content in CONTENT.items()}
    assert held.records == expected
    assert held.pending(files) == ["a.bin", "b.txt"]
    assert held.with_samples(files) == [files, ["key"]]
    assert held.contents(files) == {"a.bin": b"\0a", "b.txt": b"text", "c": b"c of main"}
    there = {"a.bin": UploadMode(False, SHA256S["a.bin"], False), "b.txt": THROUGH_CAS}
    assert held.unchanged_in_repository(HUB, ANYWHERE, ["a.bin", "b.txt"], there) == {"a.bin": expected["a.bin"]}
    assert held.upload(["a.bin"]) == ({"a.bin": {**expected["a.bin"], "xet_hash": "cd" * 32}}, no_transfer())
    assert sent == [({"a.bin": b"\0a"}, "access")]


# --- copies -----------------------------------------------------------------------------------------------------------


def test_copies_send_what_the_source_stores_inline(sent, monkeypatch):
    monkeypatch.setattr(records, "IN_MEMORY", 2)
    job = SimpleNamespace(source=ANYWHERE, inline={"b.txt"})
    copied = CopiedFiles(job, HUB, "access")
    files = [record(ANYWHERE, path, content) for path, content in CONTENT.items()]
    files[1]["xet_hash"] = None
    duplicated = []
    monkeypatch.setattr(copies, "read_original", lambda *of: of)
    monkeypatch.setattr(copies, "modes", lambda *of: of)
    monkeypatch.setattr(copies, "duplicate", lambda *of: duplicated.append(of))

    assert copied.pending(files) == ["b.txt"]
    assert copied.contents(files[1:2]) == {"b.txt": (HUB, job, "b.txt")}
    assert [copied.origin(path) for path in ("a.bin", "b.txt")] == [ANYWHERE, None]
    other = object()
    found = copied.modes(other, REQUEST, files, None)
    assert found == (other, ANYWHERE, files)
    assert duplicated == [(other, job, files, found)]
    batches = copied.batches(files)
    assert next(batches) == files[:2]
    assert copied.upload(["b.txt"]) == ({"b.txt": {**files[1], "xet_hash": "cd" * 32}}, no_transfer())
    assert list(batches) == [files[2:]]
    assert sent == [({"b.txt": (HUB, job, "b.txt")}, "access")]
    with pytest.raises(KeyError):
        copied.upload(["b.txt"])
