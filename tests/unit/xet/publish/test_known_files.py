"""What an upload remembers of the branch, and when it remembers nothing; with a Hub: tests/provider/xet/publish."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_provider_xethub.exceptions import XetHubError, XetNotFoundError
from airflow_provider_xethub.xet.files.commit_memory import Place
from airflow_provider_xethub.xet.hub.preupload import UploadMode
from airflow_provider_xethub.xet.publish import known_files
from airflow_provider_xethub.xet.publish.commit import CommitRequest
from airflow_provider_xethub.xet.publish.known_files import KnownFiles, is_worthwhile
from support.commit_builders import ANYWHERE, record

FIRST, OLD, NEW, NEWEST = ("0" * 40, "1" * 40, "2" * 40, "3" * 40)
FILES = [record(ANYWHERE, name, name.encode()) for name in ("a.bin", "b.bin", "c.bin")]
DIGESTS = {file["path"]: file["sha256"] for file in FILES}
REQUEST = CommitRequest(ANYWHERE, FILES)


MAGIC = b"xethub commit 1\n"


class Memory(dict):
    """Keeps in memory what is otherwise on disk."""

    def load(self, name, magic):
        assert magic == MAGIC
        return self.get(name)

    def store(self, name, magic, body):
        assert (magic, type(body)) == (MAGIC if body else b"", bytes)
        if body:
            self[name] = body
        else:
            del self[name]


class Branch:
    """A Hub on which the branch has these commits, newest first, after a first one, and these files."""

    endpoint = "https://hub.example"

    def __init__(self, *commits, files=FILES):
        self.commits, self.files = commits, files

    def latest_commits(self, repo, limit):
        assert repo == ANYWHERE
        if not self.commits:
            raise XetNotFoundError("There is no such branch.", status=404)
        return [{"oid": oid} for oid in (*self.commits, FIRST)[:limit]]

    def get_files(self, repo, paths):
        assert repo.revision == self.commits[0]
        found = {file["path"]: file for file in self.files}
        return [found[path] for path in paths if path in found]


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(known_files, "MIN_FILES", 2)


def result(*commits, files=FILES, unchanged=(), **changes):
    """The result of an upload that made these commits, oldest first."""
    made = [{"oid": oid} for oid in commits]
    values = {"oid": (commits or (OLD,))[-1], "files": files, "unchanged": unchanged, "commits": made}
    return {"pull_request": None, **values, **changes}


def after(*commits, memory=None, request=REQUEST, **options):
    """What is known after an upload to the branch that had one commit."""
    memory = Memory() if memory is None else memory
    KnownFiles(memory, Branch(OLD), request, None).remember(result(*commits, **options))
    return KnownFiles(memory, Branch(*reversed(commits), OLD), REQUEST, None)


def ask(paths):
    return {path: UploadMode(False, DIGESTS[path], False) for path in paths}


@pytest.mark.parametrize("commits", [(), (NEW,), (NEW, NEWEST)])
def test_an_upload_knows_what_the_last_one_left(commits):
    known = after(*commits)
    assert known.is_known
    assert known.of({**DIGESTS, "b.bin": "0" * 64, "new.bin": "1" * 64}) == {"a.bin": "ab" * 32, "c.bin": "ab" * 32}


def test_nothing_is_known_of_a_branch_that_is_new_or_has_moved():
    memory = Memory()
    after(NEW, memory=memory)
    for commits in ((), (OLD,), (NEWEST, NEW, OLD)):
        known = KnownFiles(memory, Branch(*commits), REQUEST, None)
        assert not known.is_known
        assert known.of(DIGESTS) == {}
    assert KnownFiles(memory, Branch(NEW, OLD), REQUEST, None).is_known


def test_what_was_uploaded_to_a_missing_branch_is_not_remembered():
    memory = Memory()
    KnownFiles(memory, Branch(), REQUEST, None).remember(result(NEW))
    assert memory == {}


@pytest.mark.parametrize(
    ("options", "request_"),
    [
        ({"pull_request": "https://hub.example/1"}, REQUEST),
        ({"files": [*FILES, record(ANYWHERE, "d/e/.gitattributes", b"x")]}, REQUEST),
        ({}, CommitRequest(ANYWHERE, FILES, ["old/"])),
        ({}, CommitRequest(ANYWHERE, FILES, ["old/.gitignore"])),
        ({"files": FILES[:1]}, REQUEST),
        ({"files": [{**file, "xet_hash": None} for file in FILES]}, REQUEST),
        ({"files": [{**file, "blob_id": "12" * 20} for file in FILES]}, REQUEST),
        ({"oid": NEWEST}, REQUEST),
    ],
    ids=[
        "a pull request",
        "new rules",
        "a deleted folder",
        "deleted rules",
        "few files",
        "inline files",
        "inline files that are in CAS",
        "overtaken",
    ],
)
def test_what_may_have_changed_otherwise_is_not_remembered(options, request_):
    assert not after(NEW, request=request_, **options).is_known


def test_as_many_files_are_remembered_as_are_worth_it():
    assert after(NEW, files=FILES[:2]).of(DIGESTS) == dict.fromkeys(("a.bin", "b.bin"), "ab" * 32)


def test_each_place_is_remembered_on_its_own():
    memory = Memory()
    elsewhere = Branch(OLD)
    elsewhere.endpoint = "https://other.example"
    below = CommitRequest(ANYWHERE, [{**file, "path": f"d/e/{file['path']}"} for file in FILES])
    for hub, request, gitignore in (
        (Branch(OLD), REQUEST, None),
        (elsewhere, REQUEST, None),
        (Branch(OLD), REQUEST, "*.tmp"),
        (Branch(OLD), below, None),
    ):
        KnownFiles(memory, hub, request, gitignore).remember(result())
    hub, repo = Branch.endpoint, ANYWHERE.uri
    assert list(memory) == [
        Place(*place).name
        for place in (
            (hub, repo, None, ""),
            (elsewhere.endpoint, repo, None, ""),
            (hub, repo, "*.tmp", ""),
            (hub, repo, None, "d/e"),
        )
    ]


def test_rules_that_did_not_change_say_the_same():
    files = [*FILES, record(ANYWHERE, ".gitattributes", b"x")]
    assert after(NEW, files=files, unchanged=[".gitattributes"]).is_known


@pytest.mark.parametrize(
    "damage",
    [lambda body: body[:3], lambda body: b"\xff" * 4 + body[4:], lambda body: body[:4] + b"{" + body[5:]],
    ids=["no header", "a header without an end", "no JSON"],
)
def test_of_a_damaged_file_nothing_is_known(damage):
    memory = Memory()
    after(NEW, memory=memory)
    [(name, body)] = memory.items()
    memory[name] = damage(body)
    assert not KnownFiles(memory, Branch(NEW, OLD), REQUEST, None).is_known


def test_too_many_commits_are_not_remembered():
    commits = [f"{number:040x}" for number in range(20)]
    assert not after(*commits).is_known
    assert after(*commits[:19]).is_known


def test_a_retry_knows_what_its_killed_attempt_committed_before_the_hub_was_asked():
    memory = Memory()
    KnownFiles(memory, Branch(NEW, OLD), REQUEST, None).remember(result(NEW, NEWEST))
    known = KnownFiles(memory, Branch(NEWEST, NEW), REQUEST, None)
    assert known.of(DIGESTS) == dict.fromkeys(DIGESTS, "ab" * 32)


def test_what_the_hub_confirms_is_used_and_not_remembered_again():
    memory = Memory()
    known = after(NEW, memory=memory)
    for paths in (["a.bin"], ["b.bin", "c.bin"]):
        assert known.verified(dict.fromkeys(paths, "ab" * 32), DIGESTS, ask)
    memory.clear()
    known.remember(result(oid=NEW))
    assert memory == {}


@pytest.mark.parametrize(
    ("said", "files"),
    [
        (lambda paths: {path: UploadMode(True, DIGESTS[path], False) for path in paths}, FILES),
        (lambda paths: {path: UploadMode(False, "0" * 64, False) for path in paths}, FILES),
        (lambda paths: {path: UploadMode(False, DIGESTS[path], True) for path in paths}, FILES),
        (ask, []),
        (ask, [{**file, "xet_hash": "cd" * 32} for file in FILES]),
        (ask, [{**file, "sha256": "0" * 64} for file in FILES]),
    ],
    ids=["inline", "another digest", "ignored", "missing", "another Xet hash", "another sha256"],
)
def test_one_answer_that_differs_ends_all_that_was_known(caplog, said, files):
    memory = Memory()
    after(NEW, memory=memory)
    known = KnownFiles(memory, Branch(NEW, OLD, files=files), REQUEST, None)
    assert not known.verified(known.of(DIGESTS), DIGESTS, said)
    assert known.of(DIGESTS) == {}
    assert caplog.messages == [
        f"The Hub does not say about {ANYWHERE} what was remembered of the last upload, so it is asked about all files."
    ]
    assert memory == {}


def test_an_answer_that_differs_after_a_batch_that_relied_on_memory_ends_the_upload():
    known = after(NEW)
    assert known.verified(known.of(DIGESTS), DIGESTS, ask)
    with pytest.raises(XetHubError) as caught:
        known.verified(
            known.of(DIGESTS), DIGESTS, lambda paths: {path: UploadMode(True, None, False) for path in paths}
        )
    assert str(caught.value) == (
        f"The Hub does not say about {ANYWHERE} what was remembered of the last upload. Let the task retry: it asks "
        "about all files. Nothing was committed."
    )


def test_only_uploads_of_many_files_to_a_branch_are_remembered(monkeypatch):
    monkeypatch.setattr(known_files, "MAX_FILES", 3)
    sizes = [SimpleNamespace(files=range(count), create_pr=False, repo=ANYWHERE) for count in (1, 2, 3, 4)]
    assert [is_worthwhile(each) for each in sizes] == [False, True, True, False]
    assert not is_worthwhile(CommitRequest(ANYWHERE, FILES, create_pr=True))
