"""Mirrors: a folder of a repository becomes equal to a source."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_xethub.exceptions import (
    XetConflictError,
    XetEmptySourceError,
    XetHubError,
    XetSourceError,
)
from airflow_provider_xethub.xet.publish import bucket as bucket_changes
from airflow_provider_xethub.xet.publish import commit
from airflow_provider_xethub.xet.publish import mirror as publish_mirror
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.repo import Repo
from support.builders import TEXT, binary, write
from support.commit_builders import name_of, titles
from support.repository_trees import read_tree
from xethub_local.control.fault import Fault

AT_ONCE = {"Retry-After": "0"}
COMMIT = "POST /api/datasets/.*/commit/.*"


@pytest.fixture
def source(tmp_path):
    """A folder to mirror."""
    return write(tmp_path / "source", {"a.bin": binary(), "b.csv": TEXT, "d/c.bin": binary(seed="c")})


@dataclass
class Outcome:
    """What became of a mirror."""

    value: Any = None
    error: Exception | None = None

    @property
    def text(self) -> str:
        return str(self.error)

    @property
    def is_final(self) -> bool:
        return isinstance(self.error, AirflowFailException)


@pytest.fixture
def mirror(hook, repo):
    """Mirrors to the test's repository, as the operator does."""

    def run(source=None, destination=None, try_number=1, repo_id=repo.repo_id, repo_type=repo.repo_type, **options):
        named = Repo(repo_id, repo_type)
        names = {"commit_message": "message", "create_pr": "create_pr", "parent_commit": "parent_commit"}
        given = {new: options.pop(old) for old, new in names.items() if old in options}
        request = CommitRequest(named, (), idempotency_key="dag/run/task", is_first_try=try_number == 1, **given)
        try:
            if destination is not None:
                return Outcome(hook.mirror_download(destination, named, **options))
            return Outcome(hook.mirror(source, request, **options))
        except XetHubError as error:
            return Outcome(error=error)

    return run


@pytest.fixture
def there(hub):
    """Returns what a repository has, by path, without what every repository begins with."""
    return partial(read_tree, hub)


def content(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- to a repository


def test_additions_changes_and_deletions_are_one_commit(hub, repo, mirror, source, there):
    mirror(source=str(source))
    (source / "a.bin").write_bytes(binary(seed="new"))
    (source / "b.csv").unlink()
    write(source, {"d/e/new.csv": TEXT})
    result = mirror(source=str(source), commit_message="second").value
    assert there(repo) == content(source)
    assert titles(hub, repo) == ["second", "Upload with airflow-provider-xethub"]
    assert (result["created"], result["deleted"]) == (True, ["b.csv"])
    assert sorted(file["path"] for file in result["files"]) == ["a.bin", "d/e/new.csv"]
    plan = result["plan"]
    assert (plan["added"], plan["changed"], plan["removed"]) == (["d/e/new.csv"], ["a.bin"], ["b.csv"])
    assert plan["unchanged"] == 1


def test_a_second_run_uploads_and_commits_nothing(hub, repo, mirror, source):
    mirror(source=str(source))
    hub.log.clear()
    result = mirror(source=str(source)).value
    assert not result["created"]
    assert result["plan"]["unchanged"] == 3
    assert not hub.log.requests("(POST|PUT) .*(commit|preupload|cas).*")
    assert len(titles(hub, repo)) == 1


def test_only_the_folder_is_touched(repo, mirror, source, there, tmp_path, hook):
    hook.publish(write(tmp_path / "before", {"other.bin": TEXT, "data2/x": TEXT}), CommitRequest(repo, ()))
    mirror(source=str(source), path_in_repo="data/in/")
    (source / "b.csv").unlink()
    assert mirror(source=str(source), path_in_repo="data/in").value["deleted"] == ["data/in/b.csv"]
    assert set(there(repo)) == {"other.bin", "data2/x", "data/in/a.bin", "data/in/d/c.bin"}


def test_what_is_not_selected_is_neither_uploaded_nor_deleted(repo, mirror, source, there, tmp_path, hook):
    hook.publish(
        write(tmp_path / "before", {"kept.log": TEXT, "d/kept.csv": TEXT, "gone.bin": TEXT, "a.bin": TEXT}),
        CommitRequest(repo, ()),
    )
    write(source, {"new.log": TEXT})
    result = mirror(source=str(source), patterns=["*.bin", "*.log"], exclude="*.log").value
    assert result["deleted"] == ["gone.bin"]
    assert set(there(repo)) == {"kept.log", "d/kept.csv", "a.bin", "d/c.bin"}


def test_protected_files_are_uploaded_but_not_deleted(hub, repo, mirror, source, there):
    write(source, {"README.md": TEXT, "keep/me": TEXT, "sub/README.md": TEXT})
    mirror(source=str(source))
    for name in ("README.md", "keep/me", "sub/README.md"):
        (source / name).unlink()
    result = mirror(source=str(source), protect="keep/").value
    assert result["deleted"] == ["sub/README.md"]
    assert result["plan"]["kept"] == [".gitattributes", "README.md", "keep/me"]
    write(source, {"README.md": b"new\n", "keep/me": b"new\n"})
    assert mirror(source=str(source), protect="keep/").value["plan"]["changed"] == ["README.md", "keep/me"]


def test_more_deletions_than_allowed_are_refused_before_anything_is_sent(hub, repo, mirror, source, there):
    mirror(source=str(source))
    before = there(repo)
    shutil.rmtree(source / "d")
    (source / "b.csv").unlink()
    write(source, {"new.bin": binary(seed="n")})
    hub.log.clear()
    run = mirror(source=str(source))
    assert run.is_final
    assert run.text.startswith("The mirror would remove 2 of 3 files of hf://datasets/")
    assert there(repo) == before
    assert not hub.log.requests("(POST|PUT) .*(commit|cas).*")
    share = run.text.partition("set max_delete_share=")[2].partition(". ")[0]
    assert mirror(source=str(source), max_delete_share=share).value["deleted"] == ["b.csv", "d/c.bin"]


def test_an_empty_source_is_refused_unless_it_is_allowed(repo, mirror, source, there, tmp_path):
    mirror(source=str(source))
    (tmp_path / "empty").mkdir()
    run = mirror(source=str(tmp_path / "empty"))
    assert isinstance(run.error, XetEmptySourceError)
    assert "allow_empty=True" in run.text
    assert "max_delete_share=1" in mirror(source=str(tmp_path / "empty"), allow_empty=True).text
    assert there(repo) == content(source)
    mirror(source=str(tmp_path / "empty"), allow_empty=True, max_delete_share=1)
    assert there(repo) == {}


def test_a_source_without_a_selected_file_is_empty_too(repo, mirror, source, there):
    mirror(source=str(source))
    assert isinstance(mirror(source=str(source), exclude="*").error, XetEmptySourceError)
    assert there(repo) == content(source)


@pytest.mark.parametrize("allow_empty", [False, True])
def test_a_missing_source_is_not_an_empty_one(repo, mirror, source, there, tmp_path, allow_empty):
    mirror(source=str(source))
    run = mirror(source=str(tmp_path / "missing"), allow_empty=allow_empty, max_delete_share=1)
    assert type(run.error) is XetSourceError
    assert "does not exist on this worker" in run.text
    run = mirror(source=f"file://{tmp_path}/missing", allow_empty=allow_empty, max_delete_share=1)
    assert "does not exist on this worker" in run.text
    assert there(repo) == content(source)


def test_a_file_becomes_a_folder_and_a_folder_a_file(hub, repo, mirror, tmp_path, there):
    source = write(tmp_path / "source", {"a": TEXT, "b/c/d": TEXT, "x": TEXT, "y": TEXT, "z": TEXT})
    mirror(source=str(source))
    (source / "a").unlink()
    shutil.rmtree(source / "b")
    write(source, {"a/b": TEXT, "b": binary()})
    mirror(source=str(source))
    assert there(repo) == content(source)
    assert len(titles(hub, repo)) == 2


@pytest.mark.parametrize(
    ("theirs", "ours"), [({"a": TEXT}, {"a/b": TEXT}), ({"a/b": TEXT}, {"a": TEXT})], ids=["a file", "a folder"]
)
def test_a_file_that_stays_is_never_replaced_by_way_of_a_folder(repo, mirror, tmp_path, there, hook, theirs, ours):
    hook.publish(write(tmp_path / "before", theirs), CommitRequest(repo, ()))
    run = mirror(source=str(write(tmp_path / "source", {**ours, "more": TEXT})), protect=list(theirs))
    assert run.is_final
    assert "the mirror does not remove it" in run.text
    assert there(repo) == theirs
    run = mirror(source=str(tmp_path / "source"), exclude=list(theirs))
    assert "the mirror does not remove it" in run.text
    assert there(repo) == theirs


def test_what_the_gitignore_excludes_is_neither_uploaded_nor_deleted(repo, mirror, source, there, hook, tmp_path):
    hook.publish(write(tmp_path / "before", {"old.log": TEXT, "a.log": TEXT}), CommitRequest(repo, ()))
    write(source, {".gitignore": b"*.log\n", "a.log": TEXT * 2, "new.log": TEXT})
    plan = mirror(source=str(source), dry_run=True).value
    assert plan["removed"] == ["old.log"]
    result = mirror(source=str(source)).value
    assert result["plan"] == plan
    assert there(repo) == {**{k: v for k, v in content(source).items() if not k.endswith(".log")}, "a.log": TEXT}
    assert not mirror(source=str(source)).value["created"]


def test_the_gitignore_of_the_root_excludes_files_of_a_mirrored_folder(repo, mirror, source, there, hook, tmp_path):
    before = {"data/a.log": TEXT, "data/old.csv": TEXT}
    hook.publish(write(tmp_path / "before", before), CommitRequest(repo, ()))
    hook.publish(write(tmp_path / "rules", {".gitignore": b"*.log\n"}), CommitRequest(repo, ()))
    write(source, {"a.log": TEXT * 2, "new.log": TEXT})
    result = mirror(source=str(source), path_in_repo="data").value
    assert result["deleted"] == ["data/old.csv"]
    assert set(there(repo)) == {".gitignore", "data/a.bin", "data/a.log", "data/b.csv", "data/d/c.bin"}
    assert there(repo)["data/a.log"] == TEXT


def test_a_folder_of_the_repository_that_is_a_file_is_refused(repo, mirror, source, hook, tmp_path):
    hook.publish(write(tmp_path / "before", {"data": TEXT}), CommitRequest(repo, ()))
    assert "data is a file. Choose another" in mirror(source=str(source), path_in_repo="data/in").text


def test_a_pull_request_is_opened_instead(hub, repo, mirror, source, there):
    mirror(source=str(source))
    (source / "b.csv").unlink()
    result = mirror(source=str(source), create_pr=True).value
    assert result["pull_request"].endswith("/discussions/1")
    assert set(there(repo, "refs/pr/1")) == {"a.bin", "d/c.bin"}
    assert "b.csv" in there(repo)


def test_more_changes_than_fit_into_one_commit_change_the_branch_once(hub, repo, mirror, source, there, monkeypatch):
    write(source, {f"{number}.csv": TEXT for number in range(5)})
    monkeypatch.setattr(commit, "MAX_CHANGES", 3)
    result = mirror(source=str(source)).value
    assert there(repo) == content(source)
    assert len(titles(hub, repo)) == 1
    assert (result["pull_request"], len(result["files"])) == (None, 8)


# --- to a repository, together with others


def test_a_concurrent_commit_to_the_same_files_is_compared_again(hub, repo, mirror, source, there, hook, tmp_path):
    """What nobody saw is not deleted by the old plan; the new plan sees it."""
    mirror(source=str(source))
    (source / "b.csv").unlink()
    write(source, {"new.csv": TEXT})
    theirs = write(tmp_path / "theirs", {"b.csv": b"theirs\n"})
    _meddle(hub, repo, lambda: hook.publish(theirs, CommitRequest(repo, (), message="theirs")))
    result = mirror(source=str(source), commit_message="mine").value
    assert titles(hub, repo)[:2] == ["mine", "theirs"]
    assert there(repo) == content(source)
    assert result["plan"]["oid"] == hub.repositories.commits(name_of(repo), "main")[1].id


def test_a_concurrent_commit_of_another_file_leaves_that_alone(hub, repo, mirror, source, there, hook, tmp_path):
    mirror(source=str(source))
    (source / "b.csv").unlink()
    theirs = write(tmp_path / "theirs", {"new.csv": b"theirs\n"})
    _meddle(hub, repo, lambda: hook.publish(theirs, CommitRequest(repo, (), message="theirs")))
    mirror(source=str(source), commit_message="mine")
    assert there(repo) == {**content(source), "new.csv": b"theirs\n"}
    assert mirror(source=str(source)).value["deleted"] == ["new.csv"]


def test_others_who_keep_committing_end_the_mirror(hub, repo, mirror, source, there, hook, tmp_path, monkeypatch):
    mirror(source=str(source))
    (source / "b.csv").unlink()
    numbers = iter(range(100))

    def commit_again():
        theirs = write(tmp_path / "theirs", {"b.csv": b"%d\n" % next(numbers)})
        hook.publish(theirs, CommitRequest(repo, (), message="theirs"))

    _meddle(hub, repo, commit_again, times=100)
    run = mirror(source=str(source))
    assert isinstance(run.error, XetConflictError)
    assert "changed 5 times in the mirrored files" in run.text
    assert there(repo)["b.csv"] == b"4\n"


def test_a_given_parent_is_compared_and_required(hub, repo, mirror, source, there):
    first = mirror(source=str(source)).value["oid"]
    write(source, {"b.csv": b"newer\n"})
    mirror(source=str(source))
    (source / "b.csv").unlink()
    run = mirror(source=str(source), parent_commit=first)
    assert isinstance(run.error, XetConflictError)
    assert "b.csv changed since" in run.text
    assert there(repo)["b.csv"] == b"newer\n"


def _meddle(hub, repo, work, times=1):
    """Does work between the listing and the next commit, as often as given."""
    original = hub.commits.commit
    left = [times]

    def commit_later(name, *args, **options):
        if name == name_of(repo) and left[0] and options.get("title") != "theirs":
            left[0] -= 1
            work()
        return original(name, *args, **options)

    hub.commits.commit = commit_later


@pytest.fixture(autouse=True)
def _commits_as_before(hub):
    yield
    vars(hub.commits).pop("commit", None)


@pytest.mark.parametrize("is_repeated", [True, False], ids=["with its description", "without"])
def test_a_retry_finds_the_merge_whose_answer_was_lost(hub, repo, mirror, source, there, monkeypatch, is_repeated):
    monkeypatch.setattr(commit, "MAX_CHANGES", 1)
    add = hub.repositories.add_commit

    def add_without_description(connection, name, parent, editor, title, message, *more):
        is_merge = title.endswith("(#1)") and not is_repeated
        return add(connection, name, parent, editor, title, "" if is_merge else message, *more)

    monkeypatch.setattr(hub.repositories, "add_commit", add_without_description)
    hub.faults.add(Fault("POST .*/merge", lose_answer=True, status=403))
    hub.faults.add(Fault("GET .*/discussions/1", skip=2, status=403))
    assert mirror(source=str(source)).error is not None
    hub.faults.clear()
    assert len(titles(hub, repo)) == 1
    result = mirror(source=str(source), try_number=2).value
    assert len(titles(hub, repo)) == 1
    assert (result["created"], len(result["files"])) == (True, 3)
    assert result["oid"] == hub.repositories.commits(name_of(repo), "main")[0].id
    assert there(repo) == content(source)


def test_a_retry_does_not_take_the_work_of_others_for_its_own(hub, repo, mirror, source, hook, tmp_path):
    hook.publish(source, CommitRequest(repo, (), message="theirs"))
    merged = write(tmp_path / "merged", {"b.csv": TEXT, "c.csv": TEXT})
    hook.publish(merged, CommitRequest(repo, (), message="proposed", create_pr=True))
    hub.commits.merge(name_of(repo), 1, "acme")
    hook.publish(write(tmp_path / "open", {"open.csv": TEXT}), CommitRequest(repo, (), create_pr=True))
    write(source, {"c.csv": TEXT})
    result = mirror(source=str(source), try_number=2).value
    assert (result["created"], result["commits"], result["deleted"]) == (False, [], [])


def test_without_a_key_no_earlier_attempt_is_searched(hub, hook, repo, source):
    hook.mirror(source, CommitRequest(repo, ()))
    hub.log.clear()
    assert not hook.mirror(source, CommitRequest(repo, ()))["created"]
    assert not hub.log.requests("GET .*/refs")


def test_a_retry_does_not_report_a_commit_whose_parent_it_cannot_see(repo, mirror, source, monkeypatch):
    mirror(source=str(source))
    monkeypatch.setattr(publish_mirror, "_COMMITS_TO_SEARCH", 0)
    assert not mirror(source=str(source), try_number=2).value["created"]


def test_a_conflict_of_the_pull_request_is_planned_again(hub, repo, mirror, source, there, hook, tmp_path, monkeypatch):
    mirror(source=str(source))
    monkeypatch.setattr(commit, "MAX_CHANGES", 1)
    (source / "b.csv").unlink()
    write(source, {"new.csv": TEXT, "a.bin": binary(seed="new")})
    theirs, done = write(tmp_path / "theirs", {"b.csv": b"theirs\n"}), []
    merge = hub.commits.merge

    def merge_later(*args):
        if not done:
            done.append(hook.publish(theirs, CommitRequest(repo, (), message="theirs")))
        return merge(*args)

    monkeypatch.setattr(hub.commits, "merge", merge_later)
    result = mirror(source=str(source), commit_message="mine").value
    assert done
    assert titles(hub, repo)[:2] == ["mine (#2)", "theirs"]
    assert there(repo) == content(source)
    assert result["deleted"] == ["b.csv"]
    assert hub.commits.discussions.get(name_of(repo), 1).status == "closed"


# --- to a repository, from object storage


def test_a_folder_in_object_storage_is_mirrored(hub, repo, mirror, source, there):
    uri = f"file://{source}"
    mirror(source=uri)
    (source / "b.csv").unlink()
    same_size = bytearray(binary())
    same_size[9] ^= 1
    write(source, {"a.bin": bytes(same_size), "new.csv": TEXT})
    plan = mirror(source=uri, dry_run=True).value
    result = mirror(source=uri).value
    assert result["plan"] == plan
    assert (plan["added"], plan["changed"], plan["removed"]) == (["new.csv"], ["a.bin"], ["b.csv"])
    assert there(repo) == content(source)
    assert not mirror(source=uri).value["created"]


# --- to a bucket


@pytest.fixture
def bucket(make_repo):
    return make_repo("bucket")


@pytest.fixture
def to_bucket(mirror, bucket):
    return lambda **options: mirror(repo_id=bucket.repo_id, repo_type="bucket", **options)


def test_a_bucket_becomes_equal(bucket, to_bucket, source, there):
    write(source, {"README.md": TEXT})
    to_bucket(source=str(source))
    assert there(bucket) == content(source)
    for name in ("b.csv", "README.md"):
        (source / name).unlink()
    write(source, {"a.bin": binary(seed="new"), "e/f.csv": TEXT})
    plan = to_bucket(source=str(source), dry_run=True).value
    result = to_bucket(source=str(source)).value
    assert result["plan"] == plan
    assert (plan["added"], plan["changed"], plan["removed"]) == (["e/f.csv"], ["a.bin"], ["README.md", "b.csv"])
    assert there(bucket) == content(source)
    again = to_bucket(source=str(source)).value
    assert (again["created"], again["plan"]["unchanged"]) == (False, 3)


def test_in_a_bucket_deletions_come_last_and_a_retry_makes_them(hub, bucket, to_bucket, source, there, monkeypatch):
    to_bucket(source=str(source))
    (source / "b.csv").unlink()
    write(source, {"new.csv": TEXT})
    down = hub.faults.add(Fault("POST /api/buckets/.*/batch", skip=1, status=400))
    assert to_bucket(source=str(source)).error is not None
    assert there(bucket) == {**content(source), "b.csv": TEXT}
    hub.faults.remove(down)
    result = to_bucket(source=str(source), try_number=2).value
    assert result["deleted"] == ["b.csv"]
    found = sorted(file["path"] for file in result["files"])
    assert found == result["unchanged"] == sorted(content(source)), "the first attempt may have put any of them"
    assert there(bucket) == content(source)


def test_in_a_bucket_a_file_that_changed_since_it_was_listed_is_not_deleted(
    bucket, to_bucket, source, there, tmp_path, hook, monkeypatch
):
    to_bucket(source=str(source))
    (source / "b.csv").unlink()
    write(source, {"new.csv": TEXT})
    theirs = write(tmp_path / "theirs", {"b.csv": b"theirs\n"})
    done = []
    send = bucket_changes._send

    def send_and_meddle(*args):
        send(*args)
        if not done:
            done.append(1)
            hook.publish(theirs, CommitRequest(bucket, ()))

    monkeypatch.setattr(bucket_changes, "_send", send_and_meddle)
    result = to_bucket(source=str(source)).value
    assert done
    assert result["deleted"] == []
    assert result["plan"]["kept"] == ["b.csv"]
    assert there(bucket)["b.csv"] == b"theirs\n"


def test_in_a_bucket_a_name_can_be_a_file_and_a_folder(bucket, to_bucket, tmp_path, there, hook):
    hook.publish(write(tmp_path / "before", {"a": TEXT}), CommitRequest(bucket, ()))
    to_bucket(source=str(write(tmp_path / "source", {"a/b": TEXT})), protect="a")
    assert there(bucket) == {"a": TEXT, "a/b": TEXT}
