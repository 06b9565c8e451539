"""Repositories, references, commits, trees, pull requests, and how uploads are sorted."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from xethub_local.metadata.commits import (
    Change,
    CommitWriter,
    DeleteFile,
    DeleteFolder,
    PutRegular,
    PutXet,
)
from xethub_local.metadata.history import Commit
from xethub_local.metadata.repositories import Repositories
from xethub_local.metadata.trees import blob_oid, pointer_text
from xethub_local.store.database import Database
from xethub_local.store.errors import (
    BadRequestError,
    ConflictError,
    EntryNotFoundError,
    HubError,
    RepoNotFoundError,
    RevisionNotFoundError,
)

NAME = "datasets/acme/corpus"


@pytest.fixture
def repositories(tmp_path: Path) -> Iterator[Repositories]:
    db = Database(tmp_path)
    found = Repositories(db)
    found.create(NAME)
    yield found
    db.close()


@pytest.fixture
def writer(repositories: Repositories) -> CommitWriter:
    return CommitWriter(repositories)


def commit(writer: CommitWriter, *changes: Change, revision: str = "main", parent: str | None = None) -> Commit:
    return writer.commit(NAME, revision, changes, title="change", parent_commit=parent).commit


def files(repositories: Repositories, revision: str = "main") -> dict[str, bytes]:
    entries = repositories.entries(NAME, repositories.resolve(NAME, revision))
    return {
        entry.path: repositories.blob(entry.oid)
        for entry in entries
        if entry.kind == "regular" and entry.path != ".gitattributes"
    }


def test_a_new_repository_has_a_first_commit_on_main(repositories: Repositories) -> None:
    history = repositories.commits(NAME, "main")
    assert [one.title for one in history] == ["initial commit"]
    assert [entry.path for entry in repositories.entries(NAME, history[0])] == [".gitattributes"]
    assert [ref.ref for ref in repositories.refs(NAME)] == ["refs/heads/main"]


def test_a_repository_exists_once_and_by_its_type(repositories: Repositories) -> None:
    with pytest.raises(ConflictError, match=NAME):
        repositories.create(NAME)
    repositories.create("models/acme/corpus", private=True)
    assert [(one.name, one.private) for one in repositories.find_all()] == [(NAME, False), ("models/acme/corpus", True)]


@pytest.mark.parametrize(
    "name", ["datasets/acme", "files/acme/x", "models/api/x", "models/datasets/x", "models/a--b/x", "models/a/.."]
)
def test_a_name_that_breaks_a_rule_is_refused(repositories: Repositories, name: str) -> None:
    with pytest.raises(BadRequestError):
        repositories.create(name)


def test_deleting_takes_history_along(repositories: Repositories, writer: CommitWriter) -> None:
    old = commit(writer, PutRegular("a", b"1"))
    repositories.delete(NAME)
    with pytest.raises(RepoNotFoundError, match=NAME):
        repositories.get(NAME)
    repositories.create(NAME)
    with pytest.raises(RevisionNotFoundError):
        repositories.resolve(NAME, old.id)


def test_moving_keeps_history(repositories: Repositories, writer: CommitWriter) -> None:
    head = commit(writer, PutRegular("a", b"1"))
    repositories.move(NAME, "datasets/other/name")
    assert repositories.resolve("datasets/other/name", "main") == head
    with pytest.raises(RepoNotFoundError):
        repositories.get(NAME)
    repositories.create(NAME)
    with pytest.raises(ConflictError):
        repositories.move(NAME, "datasets/other/name")


def test_a_revision_is_a_branch_a_tag_a_commit_or_a_pull_request(
    repositories: Repositories, writer: CommitWriter
) -> None:
    first = repositories.resolve(NAME, "main")
    repositories.create_branch(NAME, "dev/x")
    repositories.create_tag(NAME, "v1", "main", "the first")
    second = commit(writer, PutRegular("a", b"1"))
    opened = writer.commit(NAME, "main", [PutRegular("b", b"2")], title="pr", create_pr=True)
    expected = {"HEAD": second, "refs/heads/main": second, "dev/x": first, "v1": first, "refs/tags/v1": first}
    expected |= {second.id: second, first.id[:7]: first, "refs/pr/1": opened.commit}
    assert {revision: repositories.resolve(NAME, revision) for revision in expected} == expected
    for missing in ("v2", "refs/pr/2", first.id[:6], "0" * 40, ""):
        with pytest.raises(RevisionNotFoundError):
            repositories.resolve(NAME, missing)


def test_branches_and_tags_are_created_once_and_deleted_once(repositories: Repositories) -> None:
    repositories.create_branch(NAME, "dev")
    repositories.create_tag(NAME, "v1")
    with pytest.raises(ConflictError):
        repositories.create_branch(NAME, "dev")
    repositories.create_branch(NAME, "dev", overwrite=True)
    with pytest.raises(ConflictError):
        repositories.create_tag(NAME, "v1")
    with pytest.raises(RevisionNotFoundError):
        repositories.create_branch(NAME, "x", "nowhere")
    with pytest.raises(BadRequestError):
        repositories.create_branch(NAME, "a..b")
    repositories.delete_branch(NAME, "dev")
    repositories.delete_tag(NAME, "v1")
    for delete, name in ((repositories.delete_branch, "dev"), (repositories.delete_tag, "v1")):
        with pytest.raises(RevisionNotFoundError):
            delete(NAME, name)
    with pytest.raises(HubError, match="default branch"):
        repositories.delete_branch(NAME, "main")


def test_a_commit_adds_replaces_and_deletes(repositories: Repositories, writer: CommitWriter) -> None:
    first = commit(
        writer, PutRegular("a", b"1"), PutRegular("d/b", b"2"), PutRegular("d/e/c", b"3"), PutRegular("d2/x", b"4")
    )
    second = commit(writer, PutRegular("a", b"5"), DeleteFile("d/b"))
    third = commit(writer, DeleteFolder("d/"))
    assert files(repositories, first.id) == {"a": b"1", "d/b": b"2", "d/e/c": b"3", "d2/x": b"4"}
    assert files(repositories, second.id) == {"a": b"5", "d/e/c": b"3", "d2/x": b"4"}
    assert files(repositories) == {"a": b"5", "d2/x": b"4"}
    assert third.parent == second.id
    assert [one.id for one in repositories.commits(NAME, "main")][:3] == [third.id, second.id, first.id]


def test_an_entry_names_the_commit_that_changed_it_last(repositories: Repositories, writer: CommitWriter) -> None:
    first = commit(writer, PutRegular("d/a", b"1"), PutRegular("e/b", b"1"))
    second = commit(writer, PutRegular("d/c", b"1"))
    found = {entry.path: entry.commit for entry in repositories.entries(NAME, second)}
    assert found == {
        ".gitattributes": repositories.commits(NAME, "main")[-1].id,
        "d": second.id,
        "d/a": first.id,
        "d/c": second.id,
        "e": first.id,
        "e/b": first.id,
    }


def test_an_empty_commit_changes_no_file(repositories: Repositories, writer: CommitWriter) -> None:
    first = commit(writer, PutRegular("a", b"1"))
    second = commit(writer)
    assert (second.tree, second.parent) == (first.tree, first.id)
    assert second.id != first.id


def test_a_failing_commit_leaves_nothing_behind(repositories: Repositories, writer: CommitWriter) -> None:
    before = repositories.resolve(NAME, "main")
    with pytest.raises(EntryNotFoundError, match="nowhere"):
        commit(writer, PutRegular("a", b"1"), DeleteFile("nowhere"))
    assert repositories.resolve(NAME, "main") == before
    with repositories.db.read() as connection:
        assert connection.execute("SELECT count(*) FROM hub_blob WHERE content = x'31'").fetchone()[0] == 0


@pytest.mark.parametrize(
    "change", [DeleteFile("d/b"), DeleteFolder("a"), DeleteFile("a/x"), DeleteFolder("x/y"), DeleteFile("d/a/z")]
)
def test_deleting_what_is_not_there_is_refused(
    repositories: Repositories, writer: CommitWriter, change: Change
) -> None:
    commit(writer, PutRegular("a", b"1"), PutRegular("d/a", b"1"))
    with pytest.raises(EntryNotFoundError):
        commit(writer, change)


@pytest.mark.parametrize("path", ["", "/a", "../a", "a/../b", "a//b", "a\nb", ".git/config", "a/"])
def test_a_path_that_means_another_place_is_refused(
    repositories: Repositories, writer: CommitWriter, path: str
) -> None:
    with pytest.raises(BadRequestError):
        commit(writer, PutRegular(path, b"1"))


@pytest.mark.parametrize("path", ["a/b", "d"])
def test_a_file_and_a_folder_cannot_share_a_path(repositories: Repositories, writer: CommitWriter, path: str) -> None:
    commit(writer, PutRegular("a", b"1"), PutRegular("d/x", b"1"))
    with pytest.raises(BadRequestError, match="same path"):
        commit(writer, PutRegular(path, b"1"))


def test_a_file_may_take_the_place_of_a_folder_that_the_commit_deletes(
    repositories: Repositories, writer: CommitWriter
) -> None:
    commit(writer, PutRegular("d/x", b"1"), PutRegular("e/f/x", b"1"), PutRegular("g", b"1"))
    commit(writer, DeleteFolder("d"), PutRegular("d", b"2"), DeleteFile("e/f/x"), PutRegular("e", b"2"))
    commit(writer, DeleteFile("g"), PutRegular("g/h", b"2"))
    assert files(repositories) == {"d": b"2", "e": b"2", "g/h": b"2"}


def test_a_parent_that_is_not_the_head_is_412(repositories: Repositories, writer: CommitWriter) -> None:
    base = repositories.resolve(NAME, "main")
    head = commit(writer, PutRegular("a", b"1"), parent=base.id)
    commit(writer, PutRegular("a", b"2"), parent=head.id[:7])
    for stale in (base.id, head.id[:7], repositories.resolve(NAME, "main").id[:6]):
        with pytest.raises(HubError, match="The branch was updated") as caught:
            commit(writer, PutRegular("a", b"3"), parent=stale)
        assert caught.value.status == 412


def test_tags_and_commits_cannot_be_committed_to(repositories: Repositories, writer: CommitWriter) -> None:
    repositories.create_tag(NAME, "v1")
    for revision in ("v1", repositories.resolve(NAME, "main").id):
        with pytest.raises(BadRequestError, match="Use a branch"):
            commit(writer, revision=revision)
    with pytest.raises(RevisionNotFoundError):
        commit(writer, revision="nowhere")


def test_a_pull_request_leaves_its_base_until_it_is_merged(repositories: Repositories, writer: CommitWriter) -> None:
    commit(writer, PutRegular("a", b"1"), PutRegular("gone", b"1"))
    opened = writer.commit(NAME, "main", [PutRegular("b", b"2"), DeleteFile("gone")], title="pr", create_pr=True)
    assert opened.pull_request == 1
    commit(writer, PutRegular("c", b"3"))
    commit(writer, PutRegular("b", b"4"), revision="refs/pr/1")
    assert files(repositories) == {"a": b"1", "c": b"3", "gone": b"1"}
    assert files(repositories, "refs/pr/1") == {"a": b"1", "b": b"4"}
    writer.merge(NAME, 1, "local")
    assert files(repositories) == {"a": b"1", "b": b"4", "c": b"3"}
    assert writer.pull_request(NAME, 1).status == "merged"
    with pytest.raises(BadRequestError, match="already merged"):
        writer.merge(NAME, 1, "local")
    with pytest.raises(HubError, match="no pull request"):
        writer.merge(NAME, 2, "local")


def test_a_pull_request_that_conflicts_with_its_base_is_not_merged(
    repositories: Repositories, writer: CommitWriter
) -> None:
    commit(writer, PutRegular("a", b"1"), PutRegular("b", b"1"), PutRegular("c", b"1"))
    writer.commit(
        NAME, "main", [PutRegular("a", b"2"), PutRegular("b", b"2"), DeleteFile("c")], title="pr", create_pr=True
    )
    commit(writer, PutRegular("a", b"3"), PutRegular("b", b"2"), PutRegular("d", b"1"))
    assert writer.conflicts(NAME, writer.pull_request(NAME, 1)) == ["a"]  # both wrote the same b
    with pytest.raises(HubError, match="conflicts in a") as caught:
        writer.merge(NAME, 1, "local")
    assert (caught.value.status, files(repositories)["a"]) == (409, b"3")
    commit(writer, PutRegular("a", b"3"), revision="refs/pr/1")
    writer.merge(NAME, 1, "local")
    assert files(repositories) == {"a": b"3", "b": b"2", "d": b"1"}


def test_only_an_open_pull_request_is_merged(repositories: Repositories, writer: CommitWriter) -> None:
    writer.open_pull_request(NAME, "later", "", "local")
    commit(writer, PutRegular("a", b"1"), revision="refs/pr/1")
    with pytest.raises(BadRequestError, match="is a draft; publish it"):
        writer.merge(NAME, 1, "local")
    writer.discussions.set_status(NAME, 1, "local", "closed")
    with pytest.raises(BadRequestError, match="is closed; reopen it"):
        writer.merge(NAME, 1, "local")
    writer.discussions.set_status(NAME, 1, "local", "open")
    writer.merge(NAME, 1, "local")
    assert files(repositories) == {"a": b"1"}


def test_squashing_keeps_the_files_and_drops_the_history(repositories: Repositories, writer: CommitWriter) -> None:
    commit(writer, PutRegular("d/a", b"1"))
    commit(writer, PutRegular("b", b"2"))
    repositories.squash(NAME, "main", "all at once", "local")
    assert [one.title for one in repositories.commits(NAME, "main")] == ["all at once"]
    assert files(repositories) == {"d/a": b"1", "b": b"2"}


def test_object_ids_are_those_of_git(repositories: Repositories, writer: CommitWriter) -> None:
    content = "weird \u00e9\n".encode()
    git = subprocess.run(["git", "hash-object", "--stdin"], input=content, capture_output=True, check=True)
    assert blob_oid(content) == git.stdout.decode().strip()
    head = commit(writer, PutRegular("a", content), PutXet("b", "1" * 64, "2" * 64, 30))
    assert repositories.entry(NAME, head, "a").oid == blob_oid(content)
    xet = repositories.entry(NAME, head, "b")
    assert xet.oid == blob_oid(pointer_text("2" * 64, 30).encode())
    assert (xet.kind, xet.size, xet.sha256, xet.xet_hash) == ("xet", 30, "2" * 64, "1" * 64)


def test_a_folder_is_listed_with_or_without_what_lies_deeper(repositories: Repositories, writer: CommitWriter) -> None:
    head = commit(writer, PutRegular("d/a", b"1"), PutRegular("d/e/f", b"1"))

    def paths(folder: str, *, recursive: bool) -> list[str]:
        return [entry.path for entry in repositories.entries(NAME, head, folder, recursive=recursive)]

    assert paths("", recursive=False) == [".gitattributes", "d"]
    assert paths("d", recursive=False) == ["d/a", "d/e"]
    assert paths("d", recursive=True) == ["d/a", "d/e", "d/e/f"]
    assert paths("d/a", recursive=True) == ["d/a"]
    with pytest.raises(EntryNotFoundError):
        paths("d/a/x", recursive=True)


def test_a_commit_stores_only_the_folders_it_changes(repositories: Repositories, writer: CommitWriter) -> None:
    commit(writer, *(PutRegular(f"d{number}/a", b"1") for number in range(50)))

    def trees() -> int:
        with repositories.db.read() as connection:
            count: int = connection.execute("SELECT count(*) FROM hub_tree").fetchone()[0]
        return count

    before = trees()
    commit(writer, PutRegular("d7/b", b"1"))
    assert trees() - before == 2


def test_a_duplicate_has_branches_tags_and_commits_and_no_pull_requests(
    repositories: Repositories, writer: CommitWriter
) -> None:
    head = commit(writer, PutRegular("a", b"1"))
    repositories.create_tag(NAME, "v1")
    writer.commit(NAME, "main", [PutRegular("b", b"2")], title="pr", create_pr=True)
    repositories.set_private(NAME, True)
    assert repositories.duplicate(NAME, "datasets/acme/copy").private is True
    assert [ref.ref for ref in repositories.refs("datasets/acme/copy")] == ["refs/heads/main", "refs/tags/v1"]
    assert repositories.commits("datasets/acme/copy", "v1")[0].id == head.id
    assert writer.discussions.find_all("datasets/acme/copy") == []
    for name, wrong in ((NAME, NAME), ("datasets/acme/none", "datasets/acme/x"), (NAME, "datasets/acme/a--b")):
        with pytest.raises(HubError):
            repositories.duplicate(name, wrong)
    with pytest.raises(RepoNotFoundError):
        repositories.get("datasets/acme/x")


def test_moving_a_repository_takes_discussions_and_gates_along(
    repositories: Repositories, writer: CommitWriter
) -> None:
    writer.discussions.open(NAME, "why", "text", "alice")
    repositories.gates.set_mode(NAME, "manual")
    repositories.gates.set_status(NAME, "bob", "accepted")
    repositories.move(NAME, "datasets/other/name")
    assert [event.data["latest"]["raw"] for event in writer.discussions.events("datasets/other/name", 1)] == ["text"]
    assert repositories.gates.mode("datasets/other/name") == "manual"
    assert repositories.gates.status("datasets/other/name", "bob") == "accepted"
    repositories.delete("datasets/other/name")
    repositories.create("datasets/other/name")
    assert repositories.gates.mode("datasets/other/name") is None
    assert writer.discussions.events("datasets/other/name", 1) == []
