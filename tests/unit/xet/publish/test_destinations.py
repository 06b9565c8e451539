"""What is uploaded before files are published, in which order, and how many of them at a time."""

from __future__ import annotations

import base64
import logging
from contextlib import contextmanager

import pytest

from airflow_provider_xethub.exceptions import XetInputError, XetRateLimitError, XetSourceError
from airflow_provider_xethub.xet import records
from airflow_provider_xethub.xet.hub.preupload import UploadMode
from airflow_provider_xethub.xet.publish import batches, bucket
from airflow_provider_xethub.xet.publish.card import BEGIN, Card
from airflow_provider_xethub.xet.publish.publisher import BucketDestination, RepositoryDestination
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.publish.sources import Sources
from airflow_provider_xethub.xet.records import no_transfer
from airflow_provider_xethub.xet.repo import Repo
from support.commit_builders import record
from support.memory_bucket import BUCKET, MemoryBucket
from support.memory_hub import REPO, is_inline, raises, says

VALIDATE = "POST /api/validate-yaml"
OTHER = Repo("acme/corpus", "dataset")


def before(path, content, repo):
    """The record of a file before its upload."""
    return record(repo, path, content, sha256=None, xet_hash=None)


class Files(Sources):
    """Files that this worker has, by path; the content of each is its path.

    :ivar steps: what was done.
    :ivar errors: raised by the next steps of a name.
    """

    def __init__(self, hub, repo, paths, *, in_cas=(), known=(), ignored=()):
        self.hub, self.repo = hub, repo
        self.in_cas, self.known, self.ignored = in_cas, known, ignored
        self.files = [before(path, path.encode(), repo) for path in paths]
        self.steps, self.errors, self.said = [], {}, None

    def step(self, name, *of):
        self.steps.append((name, *of))
        if error := self.errors.pop(name, None):
            raise error

    def uploaded(self, path):
        if isinstance(self.hub, MemoryBucket):
            return self.hub.uploaded(path)
        return record(self.repo, path, path.encode())

    def pending(self, files):
        return [file["path"] for file in files if file["path"] not in self.in_cas]

    def contents(self, files):
        self.step("read", *(file["path"] for file in files))
        return {file["path"]: file["path"].encode() for file in files}

    def with_samples(self, files):
        return [{**file, "sample": "seen"} for file in files]

    @contextmanager
    def prefetch(self, repo):
        self.step("token", repo)
        yield
        self.step("token is there")

    def modes(self, hub, request, files, gitignore):
        assert (hub, request.repo) == (self.hub, self.repo)
        assert all(file["sample"] == "seen" or file["path"] == "README.md" for file in files)
        self.step("ask", *(file["path"] for file in files), *([gitignore] if gitignore else []))
        self.said = {
            (path := file["path"]): UploadMode(is_inline(path), hub.current("main", path), path in self.ignored)
            for file in files
        }
        return self.said

    def unchanged_in_repository(self, hub, repo, paths, modes):
        assert (hub, repo, modes) == (self.hub, self.repo, self.said)
        return self.compared(paths)

    def unchanged_in_bucket(self, hub, bucket, paths):
        assert (hub, bucket) == (self.hub, self.repo)
        return self.compared(paths)

    def compared(self, paths):
        self.step("compare", *paths)
        return {path: self.uploaded(path) for path in paths if path in self.known}

    def upload(self, paths):
        self.step("upload", *paths)
        figures = {**no_transfer(), "files": len(paths), "bytes": 10 * len(paths), "bytes_sent": len(paths)}
        return {path: self.uploaded(path) for path in paths}, figures

    def remember(self, result):
        self.step("remember", result["oid"])

    def origin(self, path):
        return OTHER if path in self.in_cas else None


@pytest.fixture
def two_in_memory(monkeypatch):
    monkeypatch.setattr(records, "IN_MEMORY", 2)


@pytest.fixture
def waited(two_in_memory, monkeypatch):
    """The seconds that were waited for the Hub."""
    seconds: list[float] = []
    monkeypatch.setattr(batches.stop, "sleep", seconds.append)
    return seconds


def limited(wait):
    error = XetRateLimitError("Too many requests.", status=429)
    error.retry_after = wait
    return error


def publish(sources, **options):
    request = CommitRequest(sources.repo, sources.files, **{"message": "mine", **options})
    kind = BucketDestination if sources.repo.is_bucket else RepositoryDestination
    return kind(sources.hub).publish(request, sources)


def in_all(transfer):
    return transfer["files"], transfer["bytes"], transfer["bytes_sent"]


# --- a repository


def test_what_goes_through_cas_and_is_not_there_is_uploaded_and_all_is_committed(hub):
    hub.commit({"same.bin": b"same.bin"})
    sources = Files(hub, REPO, ["a.bin", "b.txt", "same.bin", "in_cas.bin", "no.tmp"], known=["same.bin"])
    sources.in_cas, sources.ignored = ["in_cas.bin"], ["no.tmp"]
    sources.files[3] = sources.uploaded("in_cas.bin")
    result, transfer = publish(sources)
    assert sources.steps == [
        ("token", REPO),
        ("ask", "a.bin", "b.txt", "same.bin", "in_cas.bin", "no.tmp"),
        ("compare", "a.bin", "same.bin"),
        ("upload", "a.bin"),
        ("token is there",),
        ("read", "b.txt"),
        ("remember", result["oid"]),
    ]
    assert hub.files() == {"a.bin", "b.txt", "same.bin", "in_cas.bin"}
    assert [file["path"] for file in result["files"]] == ["a.bin", "b.txt", "same.bin", "in_cas.bin"]
    assert (result["unchanged"], result["title"]) == (["same.bin"], "mine")
    assert in_all(transfer) == (1, 10, 1)


def test_the_gitignore_among_the_files_counts(hub):
    sources = Files(hub, REPO, ["a.bin", ".gitignore"])
    publish(sources)
    assert sources.steps[:3] == [
        ("read", ".gitignore"),
        ("token", REPO),
        ("ask", "a.bin", ".gitignore", ".gitignore"),  # its content is its name
    ]


def test_many_files_are_uploaded_in_batches_and_committed_together(hub, two_in_memory, caplog):
    sources = Files(hub, REPO, ["a.bin", "b.bin", "c.bin"])
    with caplog.at_level(logging.INFO):
        result, transfer = publish(sources)
    assert [step for step in sources.steps if "token" not in step[0]] == [
        ("ask", "a.bin", "b.bin"),
        ("compare", "a.bin", "b.bin"),
        ("upload", "a.bin", "b.bin"),
        ("ask", "c.bin"),
        ("compare", "c.bin"),
        ("upload", "c.bin"),
        ("remember", result["oid"]),
    ]
    assert caplog.messages == ["2 of 3 files are compared and in CAS; sent 2 B so far."]
    assert (hub.titles(), hub.files()) == (["mine"], {"a.bin", "b.bin", "c.bin"})
    assert in_all(transfer) == (3, 30, 3)


@pytest.mark.parametrize("step", ["ask", "compare"])
def test_an_upload_of_many_files_to_a_repository_waits_for_the_rate_limit(hub, waited, step):
    sources = Files(hub, REPO, ["a.bin", "b.bin", "c.bin"])
    sources.errors = {step: limited(200.0)}
    publish(sources)
    assert waited == [200.0]
    assert hub.files() == {"a.bin", "b.bin", "c.bin"}


def test_paths_are_deleted_without_files(hub):
    hub.commit({"a.txt": b"x"})
    sources = Files(hub, REPO, [])
    publish(sources, delete=["a.txt"])
    assert hub.files() == set()


# --- the card of a repository


@pytest.fixture
def validated(hub):
    """The cards that the Hub has validated; it has no objection."""
    hub.on(VALIDATE, then=says({}))
    return lambda: [each.options["json"]["content"] for each in hub.sent if str(each) == VALIDATE]


def test_a_card_takes_the_place_of_the_readme_and_says_what_was_published(hub, validated, two_in_memory):
    sources = Files(hub, REPO, ["README.md", "a.bin", "b.bin", "c.bin"])
    result, _ = publish(sources, card=Card())
    assert [step for step in sources.steps if step[0] in ("ask", "upload")] == [
        ("ask", "a.bin", "README.md"),
        ("upload", "a.bin"),
        ("ask", "b.bin", "c.bin"),
        ("upload", "b.bin", "c.bin"),
    ]
    [checked] = validated()
    assert checked.startswith(f"README.md\n\n{BEGIN}")
    assert "3 files, 15 B" in checked
    assert "deduplicated" not in checked
    [sent] = hub.posted()
    [published] = [base64.b64decode(line["value"]["content"]).decode() for line in sent.lines if line["key"] == "file"]
    assert published.startswith(f"README.md\n\n{BEGIN}")
    assert "3 files, 15 B" in published
    assert "3 B sent, 0 B deduplicated" in published
    assert {file["path"] for file in result["files"]} == {"README.md", "a.bin", "b.bin", "c.bin"}


def test_a_card_without_a_readme_is_made(hub, validated):
    sources = Files(hub, REPO, ["a.bin"])
    publish(sources, card=Card(text="# Ours\n"))
    assert validated()[0].startswith(f"# Ours\n\n{BEGIN}")
    assert "1 file, 5 B" in validated()[0]
    assert hub.files() == {"README.md", "a.bin"}


def test_a_card_is_published_alone(hub, validated):
    publish(Files(hub, REPO, ["README.md"]), card=Card())
    publish(Files(hub, REPO, []), card=Card(text="# Ours\n"))
    assert hub.files() == {"README.md"}
    assert len(hub.titles()) == 2


def test_with_a_card_that_is_not_valid_nothing_is_uploaded(hub):
    hub.on(VALIDATE, says({"errors": [{"message": "no license"}]}))
    sources = Files(hub, REPO, ["a.bin"])
    with pytest.raises(XetInputError, match="no license"):
        publish(sources, card=Card())
    assert sources.steps == [("token", REPO), ("ask", "a.bin", "README.md")]


# --- a bucket


def test_what_a_bucket_does_not_have_is_uploaded_and_put():
    hub = MemoryBucket()
    hub.hold("same.bin")
    sources = Files(hub, BUCKET, ["a.bin", "same.bin", "in_cas.bin"], known=["same.bin"], in_cas=["in_cas.bin"])
    sources.files[2] = hub.uploaded("in_cas.bin")
    result, transfer = publish(sources)
    assert sources.steps == [("compare", "a.bin", "same.bin"), ("upload", "a.bin")]
    [sent] = hub.batches()
    assert [(change["type"], change["path"]) for change in sent] == [("addFile", "a.bin"), ("copyFile", "in_cas.bin")]
    assert [file["path"] for file in result["files"]] == ["a.bin", "same.bin", "in_cas.bin"]
    assert (result["unchanged"], result["title"], result["created"]) == (["same.bin"], "mine", True)
    assert in_all(transfer) == (1, 10, 1)


def test_many_files_are_put_into_a_bucket_in_batches(two_in_memory, monkeypatch, caplog):
    monkeypatch.setattr(bucket, "BATCH", 2)
    hub = MemoryBucket()
    sources = Files(hub, BUCKET, ["a", "b", "c"])
    with caplog.at_level(logging.INFO):
        result, transfer = publish(sources)
    assert sources.steps == [("compare", "a", "b"), ("upload", "a", "b"), ("compare", "c"), ("upload", "c")]
    assert caplog.messages == ["2 of 3 files are compared and in CAS; sent 2 B so far."]
    assert [len(sent) for sent in hub.batches()] == [2, 1]
    assert len(result["files"]) == 3
    assert in_all(transfer) == (3, 30, 3)


@pytest.mark.parametrize(("at_a_time", "text"), [(2, "Nothing more was sent."), (3, "Nothing was sent.")])
def test_after_a_batch_that_was_put_an_error_does_not_say_that_nothing_was_done(
    two_in_memory, monkeypatch, at_a_time, text
):
    monkeypatch.setattr(bucket, "BATCH", at_a_time)
    sources = Files(MemoryBucket(), BUCKET, ["a", "b", "c"])
    upload = sources.upload

    def upload_two(paths):
        if "c" in paths:
            raise XetSourceError("Nothing was sent.")
        return upload(paths)

    monkeypatch.setattr(sources, "upload", upload_two)
    with pytest.raises(XetSourceError) as caught:
        publish(sources)
    assert str(caught.value) == text


def test_an_upload_of_many_files_to_a_bucket_waits_for_the_rate_limit(waited):
    hub = MemoryBucket()
    sources = Files(hub, BUCKET, ["a", "b", "c"])
    sources.errors = {"compare": limited(200.0)}
    hub.on("POST .*/batch", raises(limited(100.0)))
    publish(sources)
    assert waited == [200.0, 100.0]
    assert set(hub.held) == {"a", "b", "c"}


def test_paths_of_a_bucket_are_deleted_without_files():
    hub = MemoryBucket()
    hub.hold("a")
    publish(Files(hub, BUCKET, []), delete=["a"])
    assert hub.held == {}
