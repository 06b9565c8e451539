"""What can be copied, under which paths, and what is refused before anything is sent."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from airflow_provider_xethub.exceptions import (
    XetForbiddenError,
    XetIdentityError,
    XetInputError,
    XetResponseError,
    XetSourceError,
)
from airflow_provider_xethub.xet import answers, records
from airflow_provider_xethub.xet.publish import copies
from airflow_provider_xethub.xet.publish.commit import CommitRequest, UploadMode, git_blob_id
from airflow_provider_xethub.xet.repo import Repo
from support.commit_builders import ANYWHERE, BINARY, record

SOURCE, BUCKET, TARGET = Repo("acme/source", revision="v1"), Repo("acme/b", "bucket"), ANYWHERE
TEXT = record(SOURCE, "d/a.txt", b"text", sha256=None, xet_hash=None, blob_id=git_blob_id(b"text"))
FILE = record(SOURCE, "d/a.bin", BINARY)


@pytest.fixture(params=[10, 1], ids=["in memory", "on disk"], autouse=True)
def most(request, monkeypatch):
    monkeypatch.setattr(records, "IN_MEMORY", request.param)


def plan(files, path_in_repo=None, *, source=SOURCE, target=TARGET, single=False):
    return copies.plan_copies(source, files, CommitRequest(target, ()), path_in_repo, single=single)


@pytest.mark.parametrize(
    ("path_in_repo", "single", "path"),
    [(None, True, "d/a.bin"), ("new", True, "new"), ("X/", True, "X/d/a.bin"), ("new", False, "new/d/a.bin")],
)
def test_a_single_file_may_have_its_new_path_and_others_keep_theirs(path_in_repo, single, path):
    planned = plan([FILE], path_in_repo, single=single)
    assert list(planned.request.files) == [
        {name: FILE[name] for name in ("size", "sha256", "xet_hash")} | {"path": path, "repo": TARGET.uri}
    ]
    assert planned.original(path) == FILE
    assert planned.source == SOURCE


@pytest.mark.parametrize("wrong", ["", 5])
def test_a_path_that_cannot_be_intended_is_refused(wrong):
    with pytest.raises(XetInputError, match=r"^path_in_repo "):
        plan([FILE], wrong)


def test_copies_are_on_disk_if_there_are_more_than_fit_into_memory(monkeypatch):
    monkeypatch.setattr(records, "IN_MEMORY", 2)
    files = [FILE, TEXT, {**FILE, "path": "b"}]
    assert [isinstance(plan(files[:count]).request.files, list) for count in (2, 3)] == [True, False]
    request = CommitRequest(TARGET, ())
    assert isinstance(copies.plan_copies_as(SOURCE, [("a", FILE)], request).request.files, list)


def test_several_files_go_below_the_path(most):
    planned = plan([{**TEXT, "xet_hash": "cd" * 32}, FILE], "new", single=True)
    assert sorted(file["path"] for file in planned.request.files) == ["new/d/a.bin", "new/d/a.txt"]
    assert sorted(planned.inline) == ["new/d/a.txt"]
    assert planned.original("new/d/a.txt") == {**TEXT, "xet_hash": "cd" * 32}
    [inline] = [file for file in planned.request.files if file["path"] == "new/d/a.txt"]
    assert (inline["xet_hash"], inline["sha256"], inline["size"]) == (None, None, 4)


def test_two_copies_cannot_have_the_same_path():
    with pytest.raises(XetInputError, match=r"d/a\.bin occurs twice among the files to commit to"):
        plan([FILE, TEXT, FILE])


def test_a_bucket_is_not_copied_to_a_repository():
    with pytest.raises(XetInputError) as caught:
        plan([FILE], source=BUCKET)
    assert str(caught.value).startswith(f"The Hub cannot copy from a bucket ({BUCKET}) to a repository ({TARGET}). ")


@pytest.mark.parametrize(
    ("file", "source", "target", "is_possible"),
    [
        ({**FILE, "xet_hash": None}, SOURCE, TARGET, False),
        ({**FILE, "sha256": None}, SOURCE, TARGET, False),
        ({**FILE, "sha256": None}, BUCKET, BUCKET, True),
        ({**FILE, "sha256": None}, SOURCE, BUCKET, True),
        ({**FILE, "xet_hash": None}, SOURCE, BUCKET, False),
    ],
)
def test_what_is_not_in_cas_is_not_copied(file, source, target, is_possible):
    if is_possible:
        assert len(plan([file], source=source, target=target).request.files) == 1
        return
    with pytest.raises(XetInputError, match=rf"d/a\.bin of {source} is not in CAS, so it cannot be copied\. "):
        plan([file], source=source, target=target)


def test_git_attributes_have_no_meaning_in_a_bucket():
    attributes = {**FILE, "path": "d/e/.gitattributes"}
    assert [file["path"] for file in plan([attributes, FILE], target=BUCKET).request.files] == ["d/a.bin"]
    assert len(plan([FILE, attributes]).request.files) == 2
    assert len(plan([FILE, attributes], source=BUCKET, target=BUCKET).request.files) == 2


def test_within_one_repository_nothing_is_duplicated():
    planned = plan([FILE], "new", source=TARGET.at("v1"))
    copies.duplicate(None, planned, planned.request.files, {})


class Hub:
    """A Hub that has these files, and cannot copy some; keeps what it was sent."""

    def __init__(self, *files, failed=None):
        self.files, self.failed, self.sent, self.read = files, failed, [], []

    def get_files(self, repo, paths):
        assert repo == TARGET
        return [file for file in self.files if file["path"] in paths]

    def json(self, method, path, **options):
        self.sent.append((method, path, options))
        return {"failed": self.failed} if self.failed is not None else {}

    def reading(self, about):
        self.read.append(about)
        return nullcontext()

    def shown(self, text):
        return f"<{text}>"


def test_a_copy_is_stored_like_its_original_and_compared_with_what_is_there():
    planned = plan([FILE, TEXT, {**FILE, "path": "new"}])
    hub = Hub(record(TARGET, "d/a.bin", b"old"), record(TARGET, "d/a.txt", b"old", blob_id="12" * 20))
    old = record(TARGET, "d/a.bin", b"old")["sha256"]
    assert copies.modes(hub, TARGET, planned.request.files) == {
        "d/a.bin": UploadMode(False, old, False),
        "d/a.txt": UploadMode(True, "12" * 20, False),
        "new": UploadMode(False, None, False),
    }


NUMBERED = [record(SOURCE, str(number), bytes([number])) for number in range(5)]
NEW = {file["path"]: UploadMode(False, None, False) for file in NUMBERED}


def test_what_is_in_cas_and_not_there_is_duplicated_in_batches(monkeypatch):
    monkeypatch.setattr(copies, "BATCH", 2)
    planned = plan([*NUMBERED, TEXT], "new")
    known = {f"new/{path}": mode for path, mode in NEW.items()}
    known |= {"new/3": UploadMode(False, NUMBERED[3]["sha256"], False), "new/d/a.txt": UploadMode(True, None, False)}
    hub = Hub()
    copies.duplicate(hub, planned, planned.request.files, known)
    about = f"the request to copy 4 files from {SOURCE} to {TARGET}"
    assert hub.sent == [
        (
            "POST",
            "/api/models/acme/source/lfs-files/duplicate",
            {
                "about": about,
                "json": {
                    "target": {"type": "dataset", "name": "acme/corpus"},
                    "files": [
                        {"xetHash": "ab" * 32, "sha256": NUMBERED[number]["sha256"], "filename": str(number)}
                        for number in numbers
                    ],
                },
                "repo": TARGET,
            },
        )
        for numbers in ((0, 1), (2, 4))
    ]
    assert hub.read == [about] * 2


def test_what_the_hub_cannot_copy_is_named():
    failed = [{"sha256": NUMBERED[number]["sha256"], "error": "other region"} for number in (0, 4)]
    planned = plan(NUMBERED)
    with pytest.raises(XetResponseError) as caught:
        copies.duplicate(Hub(failed=failed), planned, planned.request.files, NEW)
    assert str(caught.value) == (
        f"The Hub could not copy 2 of 5 files from {SOURCE} to {TARGET}: 0 (<other region>); 4 (<other region>). None "
        "of these files was committed. Both must be in the same storage region."
    )
    assert caught.value.status == 200


def test_an_answer_that_is_no_object_is_unexpected():
    planned = plan([FILE])
    hub = Hub()
    hub.json = lambda *_, **__: []
    with pytest.raises(answers.WrongAnswerError, match=r"^JSON that is not an object"):
        copies.duplicate(hub, planned, planned.request.files, MODES)


def test_a_result_counts_what_was_copied():
    files = [FILE, TEXT, {**TEXT, "path": "b.txt"}, *NUMBERED]
    planned = plan(files)
    made = {"oid": "12" * 20, "files": files[:5], "unchanged": ["0"]}
    copied = {"files": 4, "bytes": len(BINARY) + 4 + 4 + 1, "inline_files": 2, "inline_bytes": 8}
    assert copies.result(made, planned) == {**made, "copied": copied}


def refusing(error, exchanged):
    """A Hub that refuses to copy; ``exchanged`` is that of a keyless connection."""

    def json(*_, **__):
        raise error

    return SimpleNamespace(json=json, exchanged=exchanged)


MODES = {FILE["path"]: UploadMode(False, None, False)}


def test_a_copy_that_the_hub_refuses_is_an_error():
    planned = plan([FILE])
    with pytest.raises(XetForbiddenError, match=r"^No\.$"):
        copies.duplicate(refusing(XetForbiddenError("No.", status=403), None), planned, planned.request.files, MODES)


def test_a_keyless_connection_copies_only_from_public_repositories():
    planned = plan([FILE])
    hub = refusing(XetForbiddenError("No.", status=403), object())
    with pytest.raises(XetIdentityError) as caught:
        copies.duplicate(hub, planned, planned.request.files, MODES)
    assert str(caught.value).startswith(
        f"The Hub did not copy from {SOURCE} to {TARGET} (403): it takes one token for both, and that of a keyless "
        f"connection is for {TARGET} alone, so the source must be public. None of these files was committed. "
    )


def read(content, file=TEXT):
    """Read the original of a file, of which the Hub now has this content."""
    asked = []

    def read_inline(repo, path):
        asked.append((repo, path))
        return content

    planned = SimpleNamespace(source=SOURCE, original={"new": file}.__getitem__)
    found = copies.read_original(SimpleNamespace(read_inline=read_inline), planned, "new")
    return found, asked


def test_an_inline_original_is_read_and_verified():
    assert read(b"text") == (b"text", [(SOURCE, "d/a.txt")])
    by_sha256 = record(SOURCE, "d/a.txt", b"text", xet_hash=None)
    assert read(b"text", by_sha256) == (b"text", [(SOURCE, "d/a.txt")])
    assert read(b"", {**TEXT, "size": 0, "blob_id": git_blob_id(b"")}) == (b"", [])


@pytest.mark.parametrize("content", [b"TEXT", b"text+", b""])
def test_an_inline_original_that_changed_is_not_copied(content):
    with pytest.raises(XetSourceError) as caught:
        read(content)
    assert str(caught.value) == (
        f"d/a.txt of {SOURCE} changed since it was listed. Let the task list it again, or copy from a commit "
        "(source_revision). It was not committed."
    )


def test_an_inline_original_without_a_digest_is_not_copied():
    with pytest.raises(XetInputError) as caught:
        read(b"text", {**TEXT, "blob_id": None})
    assert str(caught.value) == (
        f"The record of d/a.txt of {SOURCE} has no sha256 and no blob_id, so its content cannot be verified. It was "
        "not committed. Copy from records as XetListOperator returns them."
    )
