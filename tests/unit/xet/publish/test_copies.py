"""What can be copied, under which paths, and what is refused before anything is sent."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_provider_xethub.exceptions import XetForbiddenError, XetIdentityError, XetInputError, XetSourceError
from airflow_provider_xethub.xet import records
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
    [(None, True, "d/a.bin"), ("new", True, "new"), ("new/", True, "new/d/a.bin"), ("new", False, "new/d/a.bin")],
)
def test_a_single_file_may_have_its_new_path_and_others_keep_theirs(path_in_repo, single, path):
    planned = plan([FILE], path_in_repo, single=single)
    assert [(file["path"], file["repo"]) for file in planned.request.files] == [(path, TARGET.uri)]
    assert planned.original(path) == FILE


def test_several_files_go_below_the_path(most):
    planned = plan([TEXT, FILE], "new", single=True)
    assert sorted(file["path"] for file in planned.request.files) == ["new/d/a.bin", "new/d/a.txt"]
    assert sorted(planned.inline) == ["new/d/a.txt"]
    assert planned.original("new/d/a.txt") == TEXT
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
    attributes = {**FILE, "path": "d/.gitattributes"}
    assert [file["path"] for file in plan([FILE, attributes], target=BUCKET).request.files] == ["d/a.bin"]
    assert len(plan([FILE, attributes]).request.files) == 2
    assert len(plan([FILE, attributes], source=BUCKET, target=BUCKET).request.files) == 2


def test_within_one_repository_nothing_is_duplicated():
    planned = plan([FILE], "new", source=TARGET.at("v1"))
    copies.duplicate(None, planned, planned.request.files, {})


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
    with pytest.raises(XetInputError, match=rf"The record of d/a\.txt of {SOURCE} has no sha256 and no blob_id"):
        read(b"text", {**TEXT, "blob_id": None})
