"""Work that is too large for one commit: its parts, their order, and a retry that goes on where the last try ended."""

from __future__ import annotations

import itertools
import logging
import re

import pytest

from airflow_provider_xethub.exceptions import XetConflictError, XetNotFoundError, XetResponseError, XetServerError
from airflow_provider_xethub.xet.hub import client as hub_module
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.publish import commit
from airflow_provider_xethub.xet.publish import parts as commit_parts
from airflow_provider_xethub.xet.publish.commit import CommitRequest, UploadMode
from airflow_provider_xethub.xet.repo import Repo
from support.commit_builders import client, name_of, publish, record, titles, tree
from support.small_server import Answer, Asked, SmallServer
from xethub_local.control.faults import Fault

TEXT = b"x,y\n1,2\n"
COMMIT = "POST .*/commit/.*"
AT_ONCE = {"Retry-After": "0"}
FIVE = {f"{letter}.txt": letter.encode() for letter in "edcba"}


@pytest.fixture
def by_two(monkeypatch):
    """Two changes in one commit."""
    monkeypatch.setattr(commit, "MAX_CHANGES", 2)


def changed(hub, repo, revision="main"):
    """The paths that each commit put into the repository, oldest first."""
    name = name_of(repo)
    history = [set()]
    for each in reversed(hub.repositories.commits(name, revision)[:-1]):
        history.append(tree(hub, repo, each.id))
    return [sorted(after ^ before) for before, after in itertools.pairwise(history)]


# --- the cut


def test_inline_content_is_read_for_one_part_at_a_time(hub, repo, monkeypatch):
    monkeypatch.setattr(commit, "MAX_INLINE_BYTES", 20)
    monkeypatch.setattr(commit_parts, "MAX_INLINE_BYTES", 20)
    contents = {f"{n}.txt": b"%09d\n" % n for n in range(6)}
    asked = []

    def read(files):
        asked.append([file["path"] for file in files])
        return {file["path"]: contents[file["path"]] for file in files}

    files = [record(repo, path, content) for path, content in contents.items()]
    modes = commit.upload_modes(client(hub), repo, files)
    commit.publish(client(hub), CommitRequest(repo, files), modes, read)
    pairs = [["0.txt", "1.txt"], ["2.txt", "3.txt"], ["4.txt", "5.txt"]]
    assert asked == pairs + pairs, "once for the digests, once for the commit"
    assert tree(hub, repo) == set(contents)


def test_what_fits_into_one_part_is_read_once(hub, repo):
    asked = []
    files = [record(repo, path, content) for path, content in FIVE.items()]
    modes = commit.upload_modes(client(hub), repo, files)
    commit.publish(client(hub), CommitRequest(repo, files), modes, lambda wanted: asked.append(wanted) or FIVE)
    assert len(asked) == 1


# --- the parts on the Hub


def test_five_files_by_two_are_three_commits_each_upon_the_last(hub, repo, by_two, caplog):
    caplog.set_level(logging.INFO)
    result = publish(hub, repo, FIVE, message="many", description="more")
    assert titles(hub, repo) == ["many (part 3 of 3)", "many (part 2 of 3)", "many (part 1 of 3)"]
    assert changed(hub, repo) == [["a.txt", "b.txt"], ["c.txt", "d.txt"], ["e.txt"]]
    newest = client(hub).latest_commits(repo, 3)
    assert result["commits"] == newest[::-1]
    assert {key: result[key] for key in newest[0]} == newest[0]
    assert [file["path"] for file in result["files"]] == list(FIVE), "the files are in the order of the request"
    assert caplog.messages == [
        f"Part {number} of 3 is in {repo}: {made['url']}" for number, made in enumerate(result["commits"], 1)
    ]
    assert result["created"]


def test_deletions_come_last_so_that_nothing_is_gone_before_its_successor_is_there(hub, repo, by_two):
    publish(hub, repo, {"old/1.txt": TEXT, "old/2.txt": TEXT})
    publish(hub, repo, {"new/1.txt": TEXT, "new/2.txt": TEXT}, delete=["old/1.txt", "old/2.txt"])
    assert changed(hub, repo)[1:] == [["new/1.txt", "new/2.txt"], ["old/1.txt", "old/2.txt"]]


def test_a_file_gives_way_to_a_folder_of_its_name(hub, repo):
    publish(hub, repo, {"data": TEXT})
    publish(hub, repo, {"data/a.txt": TEXT}, delete=["data"])
    assert tree(hub, repo) == {"data/a.txt"}


def test_a_folder_gives_way_to_a_file_of_its_name(hub, repo):
    publish(hub, repo, {"data/a.txt": TEXT, "data/b/c.txt": TEXT})
    publish(hub, repo, {"data": TEXT}, delete=["data/a.txt", "data/b/c.txt"])
    assert tree(hub, repo) == {"data"}


def test_only_what_changed_counts(hub, repo, by_two):
    publish(hub, repo, {path: content for path, content in FIVE.items() if path != "c.txt"})
    assert publish(hub, repo, FIVE, message="c")["commits"][0]["title"] == "c"
    assert titles(hub, repo)[0] == "c"


@pytest.mark.parametrize("create_pr", [False, True])
@pytest.mark.parametrize("made", [1, 2])
def test_a_retry_goes_on_with_the_parts_that_are_missing(hub, repo, by_two, monkeypatch, made, create_pr):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    publish(hub, repo, {"gone.txt": TEXT})
    options = {"message": "many", "idempotency_key": "dag/run/task", "create_pr": create_pr, "delete": ["gone.txt"]}
    down = hub.faults.add(Fault(COMMIT, skip=made, status=500))
    with pytest.raises(XetServerError, match=rf"{made} of 3 parts are committed \([0-9a-f]{{40}} is the last\)"):
        publish(hub, repo, FIVE, **options)
    hub.faults.remove(down)
    hub.log.clear()
    # Somebody undoes what the first try did: that is not ours to undo.
    branch = repo.at("refs/pr/1") if create_pr else repo
    publish(hub, branch, {"a.txt": b"newer\n"}, message="somebody else")

    result = publish(hub, repo, FIVE, **options)

    assert len(result["commits"]) == 3
    expected = [f"many (part {number} of 3)" for number in (1, 2, 3)]
    expected.insert(made, "somebody else")
    assert titles(hub, repo, branch.revision)[::-1][1:] == expected
    assert client(hub).read_inline(branch, "a.txt") == b"newer\n"
    assert tree(hub, repo, branch.revision) == set(FIVE)
    assert len(hub.commits.discussions.find_all(name_of(repo))) == int(create_pr)
    assert bool(result["pull_request"]) == create_pr
    assert publish(hub, repo, FIVE, **options)["commits"] == result["commits"], "a third try finds them all"


def test_a_retry_under_other_limits_goes_on_as_well(hub, repo, by_two, monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    down = hub.faults.add(Fault(COMMIT, skip=1, status=500))
    with pytest.raises(XetServerError):
        publish(hub, repo, FIVE, idempotency_key="k")
    hub.faults.remove(down)
    monkeypatch.setattr(commit, "MAX_CHANGES", 25_000)
    publish(hub, repo, FIVE, idempotency_key="k")
    assert changed(hub, repo) == [["a.txt", "b.txt"], ["c.txt", "d.txt", "e.txt"]]


@pytest.mark.parametrize("create_pr", [False, True])
@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_lost_answer_to_any_part_makes_no_part_twice(hub, repo, by_two, lost, create_pr):
    hub.faults.add(Fault(COMMIT, times=1, skip=lost, lose_answer=True, headers=AT_ONCE))
    result = publish(hub, repo, FIVE, message="m", create_pr=create_pr)
    revision = "refs/pr/1" if create_pr else "main"
    assert titles(hub, repo, revision)[::-1] == [f"m (part {number} of 3)" for number in (1, 2, 3)]
    assert len(result["commits"]) == 3
    assert len(hub.commits.discussions.find_all(name_of(repo))) == int(create_pr)
    if create_pr:
        assert result["pull_request"] == f"{hub.url}/datasets/{repo.repo_id}/discussions/1"
        assert result["repo"] == repo.at("refs/pr/1").uri
        assert tree(hub, repo) == set()


# --- other work in between


def in_between(hub, repo, files, after):
    """Lets somebody else commit as soon as ``after`` parts are there."""

    class Meddled(Hub):
        commits = 0

        def json(self, method, path, **options):
            if "/commit/" in path and self.commits == after:
                self.commits += 1
                publish(hub, repo, files, message="theirs")
            self.commits += "/commit/" in path
            return super().json(method, path, **options)

    return Meddled(hub.url, hub.token())


def test_disjoint_work_between_two_parts_is_no_conflict(hub, repo, by_two):
    head = publish(hub, repo, {"z.txt": TEXT})["oid"]
    other = in_between(hub, repo, {"theirs.txt": TEXT}, after=1)
    publish(hub, repo, FIVE, parent_commit=head, message="m", by=other)
    assert titles(hub, repo)[::-1][1:] == ["m (part 1 of 3)", "theirs", "m (part 2 of 3)", "m (part 3 of 3)"]
    assert len(hub.log.requests(COMMIT, status=412)) == 1


def test_overlapping_work_between_two_parts_is_refused(hub, repo, by_two):
    head = publish(hub, repo, {"z.txt": TEXT})["oid"]
    other = in_between(hub, repo, {"e.txt": b"theirs"}, after=1)
    with pytest.raises(XetConflictError, match=r"e.txt changed since. Nothing more was committed.*1 of 3 parts"):
        publish(hub, repo, FIVE, parent_commit=head, message="m", by=other)
    assert client(hub).read_inline(repo, "e.txt") == b"theirs"
    assert titles(hub, repo)[::-1][1:] == ["m (part 1 of 3)", "theirs"]


def test_overlap_with_any_part_is_refused_before_the_first(hub, repo, by_two):
    head = publish(hub, repo, {"z.txt": TEXT})["oid"]
    publish(hub, repo, {"e.txt": b"theirs"}, message="theirs")
    with pytest.raises(XetConflictError, match=r"e.txt changed since. Nothing was committed\."):
        publish(hub, repo, FIVE, parent_commit=head)
    assert titles(hub, repo)[0] == "theirs"


def test_a_path_to_delete_that_is_missing_is_told_before_the_first_part(hub, repo, by_two):
    with pytest.raises(XetNotFoundError, match=r"Cannot delete nowhere from .*Nothing was committed"):
        publish(hub, repo, FIVE, delete=["nowhere"])
    assert titles(hub, repo) == []


# --- a Hub that does not manage so much


@pytest.mark.parametrize("status", [413, 504])
def test_what_is_too_much_for_the_hub_is_cut_in_two(hub, repo, monkeypatch, caplog, status):
    monkeypatch.setattr(commit, "ADVISED_CHANGES", 2)
    slow = hub.faults.add(Fault(COMMIT, times=1, status=status, headers=AT_ONCE))
    with caplog.at_level(logging.WARNING):
        publish(hub, repo, FIVE, message="m")
    assert hub.faults.acted(slow) == 1
    assert re.search(rf"{status}.* Continuing with parts of at most 2 changes\.", caplog.text)
    assert changed(hub, repo) == [["a.txt", "b.txt"], ["c.txt", "d.txt"], ["e.txt"]]


def test_two_changes_that_are_too_large_together_are_two_commits(hub, repo):
    hub.faults.add(Fault(COMMIT, times=1, status=413))
    publish(hub, repo, {"a.txt": b"1", "b.txt": b"2"}, message="m")
    assert changed(hub, repo) == [["a.txt"], ["b.txt"]]


def test_one_change_that_is_too_large_is_an_error(hub, repo):
    hub.faults.add(Fault(COMMIT, status=413))
    with pytest.raises(XetResponseError) as caught:
        publish(hub, repo, {"a.txt": b"1"}, message="m")
    assert caught.value.status == 413
    assert len(hub.log.requests(COMMIT)) == 1


def test_a_commit_that_timed_out_and_happened_all_the_same_is_not_made_again(hub, repo, monkeypatch):
    monkeypatch.setattr(commit, "ADVISED_CHANGES", 2)
    hub.faults.add(Fault(COMMIT, times=1, lose_answer=True, status=504, headers=AT_ONCE))
    publish(hub, repo, FIVE, message="m")
    assert titles(hub, repo) == ["m"]


def test_a_whole_that_comes_while_its_halves_are_sent_ends_the_work(hub, repo, monkeypatch):
    monkeypatch.setattr(commit, "ADVISED_CHANGES", 2)
    sent = []

    class Late(Hub):
        def json(self, method, path, **options):
            if "/commit/" in path:
                sent.append(options)
                if len(sent) == 1:
                    hub.faults.add(Fault(COMMIT, times=1, status=504, headers=AT_ONCE))
                elif len(sent) == 2:
                    super().json(method, path, **sent[0])
            return super().json(method, path, **options)

    result = publish(hub, repo, FIVE, message="m", by=Late(hub.url, hub.token()))
    assert titles(hub, repo) == ["m"]
    assert ([each["title"] for each in result["commits"]], tree(hub, repo)) == (["m"], set(FIVE))


def test_no_commit_is_cut_below_what_the_hub_advises(hub, repo, monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 2)
    slow = hub.faults.add(Fault(COMMIT, status=504, headers=AT_ONCE))
    with pytest.raises(XetServerError):
        publish(hub, repo, FIVE)
    assert hub.faults.acted(slow) == 2


def test_after_a_timeout_the_halves_are_tied_to_the_head_so_that_the_whole_cannot_come_in_between(monkeypatch):
    monkeypatch.setattr(commit, "ADVISED_CHANGES", 2)
    parents = []

    def answer(asked: Asked) -> Answer:
        if asked.method == "GET":
            return Answer([{"id": "0" * 40}])
        parents.append(asked.lines[0]["value"].get("parentCommit"))
        return Answer({"commitOid": "a" * 40}, 504 if len(parents) == 1 else 200, AT_ONCE)

    repo = Repo("acme/corpus", "dataset")
    files = [record(repo, path, content) for path, content in FIVE.items()]
    modes = {path: UploadMode(False, None, False) for path in FIVE}
    with SmallServer(answer) as server:
        commit.publish(Hub(server.url), CommitRequest(repo, files), modes, lambda _: {})
    assert parents == [None, "0" * 40, None, None]
