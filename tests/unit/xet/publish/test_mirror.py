"""Mirrors to a repository: what is compared, planned and published; with a Hub: tests/provider/hooks/test_mirror.py."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from airflow_provider_xethub.exceptions import (
    XetConflictError,
    XetEmptySourceError,
    XetInputError,
    XetNotFoundError,
)
from airflow_provider_xethub.xet import records
from airflow_provider_xethub.xet.files import found_files
from airflow_provider_xethub.xet.files.digest_memory import FileState
from airflow_provider_xethub.xet.files.found_files import FoundFiles, LocalFile
from airflow_provider_xethub.xet.hub import client
from airflow_provider_xethub.xet.publish.mirror import _OnDisk
from airflow_provider_xethub.xet.records import no_transfer
from airflow_provider_xethub.xet.transfer import same_content
from airflow_provider_xethub.xet.transfer.remembered import Found
from support.memory_hub import ENDPOINT, REPO, RefusedError, after, refused, says
from support.mirror_hub import SENT, MirrorHub

TEXT, BINARY = b"x,y\n", bytes(range(256))
COMMIT = "POST /commit/main"
BEFORE = {"same.txt": TEXT, "same.bin": BINARY, "changed.bin": BINARY, "old.txt": TEXT}
AFTER = {"same.txt": TEXT, "same.bin": BINARY, "d/new.txt": TEXT * 2, "changed.bin": BINARY[::-1]}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.setattr(client, "FIRST_DELAY", 0.0)
    return MirrorHub(tmp_path)


def planned(oid, **changes):
    """The plan of a mirror from BEFORE to AFTER."""
    return {
        "repo": REPO.uri,
        "oid": oid,
        "added": ["d/new.txt"],
        "changed": ["changed.bin"],
        "removed": ["old.txt"],
        "kept": [],
        "unchanged": 2,
        "bytes": 264,
        **changes,
    }


def nothing(oid, **plan):
    """The result of a mirror that had nothing to do."""
    return {
        "oid": oid,
        "url": f"{ENDPOINT}/datasets/acme/corpus/commit/{oid}",
        "repo": REPO.uri,
        "title": "theirs",
        "description": "",
        "files": [],
        "deleted": [],
        "unchanged": [],
        "created": False,
        "pull_request": None,
        "pull_request_number": None,
        "commits": [],
        "transfer": no_transfer(),
        "plan": planned(oid, added=[], changed=[], removed=[], bytes=0, **plan),
    }


def test_the_difference_is_one_commit_upon_what_was_compared(hub):
    parent = hub.commit(BEFORE)
    result = hub.mirror(AFTER, description="more").run()
    assert hub.routes()[:2] == ["GET /commits/main", f"GET /tree/{parent}"]
    assert hub.paths() == [(["changed.bin", "d/new.txt"], ["old.txt"])]
    [(files, request)] = hub.published
    assert not files.are_on_disk
    assert (request.parent_commit, request.atomic, request.description) == (parent, True, "more")
    assert (hub.titles(), hub.files()) == (["theirs", "mine"], set(AFTER))
    assert result["oid"] == hub.branches["main"][0].oid
    assert (result["created"], result["deleted"], result["transfer"]) == (True, ["old.txt"], SENT)
    assert result["plan"] == planned(parent)


def test_a_plan_publishes_nothing(hub):
    parent = hub.commit(BEFORE)
    assert hub.mirror(AFTER).plan() == planned(parent)
    assert hub.routes() == ["GET /commits/main", f"GET /tree/{parent}"]


def test_where_everything_is_equal_the_commit_that_was_compared_is_returned(hub):
    parent = hub.commit(AFTER)
    assert hub.mirror(AFTER).run() == nothing(parent, unchanged=4)
    assert hub.routes() == ["GET /commits/main", f"GET /tree/{parent}", f"GET /commits/{parent}"]


def test_only_the_folder_is_compared(hub):
    hub.commit({"other.txt": TEXT, "data2/x.txt": TEXT})
    hub.commit({"data/a.txt": TEXT, "data/b.txt": TEXT})
    hub.mirror({"data/a.txt": TEXT, "data/c.txt": TEXT}, path_in_repo="data").run()
    assert hub.paths() == [(["data/c.txt"], ["data/b.txt"])]


def test_a_given_parent_is_compared_and_a_conflict_with_it_is_final(hub):
    first = hub.commit(BEFORE)
    hub.commit({"changed.bin": b"\0theirs"})
    mirror = hub.mirror(AFTER, parent_commit=first)
    assert mirror.plan() == planned(first)
    with pytest.raises(XetConflictError, match=rf"no longer at {first}\. changed\.bin changed since"):
        mirror.run()
    assert hub.paths() == [(["changed.bin", "d/new.txt"], ["old.txt"])]
    assert hub.published[0][1].parent_commit == first


def test_a_branch_without_a_commit_is_not_mirrored_to(hub):
    hub.on("GET /commits/main", then=says([]))
    with pytest.raises(XetNotFoundError) as caught:
        hub.mirror(AFTER).run()
    assert str(caught.value) == f"{REPO} has no commits yet."
    assert caught.value.status == 404


def test_a_commit_that_the_hub_lists_no_more_is_an_error(hub):
    parent = hub.commit(AFTER)
    hub.on(f"GET /commits/{parent}", says([]))
    with pytest.raises(XetNotFoundError, match=rf"^{REPO.at(parent)} has no commits yet\.$"):
        hub.mirror(AFTER).run()


# --- refused


@pytest.mark.parametrize("work", ["plan", "run"])
def test_without_a_file_nothing_is_removed(hub, work):
    hub.commit(BEFORE)
    with pytest.raises(XetEmptySourceError) as caught:
        getattr(hub.mirror({}, max_delete_share=1), work)()
    assert str(caught.value) == (
        f"The source has no file, so the mirror would remove everything from {REPO}. Nothing was changed. "
        "Check the source; if this is meant, set allow_empty=True."
    )
    assert not hub.published


def test_a_source_may_be_empty_if_that_is_meant(hub):
    hub.commit(BEFORE)
    hub.mirror({}, allow_empty=True, max_delete_share=1).run()
    assert hub.paths() == [([], sorted(BEFORE))]


def test_more_deletions_than_allowed_are_refused(hub):
    hub.commit(BEFORE)
    with pytest.raises(XetInputError, match=rf"^The mirror would remove 3 of 4 files of {REPO} \(75%\): "):
        hub.mirror({"same.txt": TEXT}).run()
    assert not hub.published


def test_a_file_that_stays_is_not_replaced_by_a_folder(hub):
    hub.commit({"keep": TEXT})
    with pytest.raises(XetInputError, match=rf"^keep/a\.txt cannot be written to {REPO}: keep is a file there"):
        hub.mirror({"keep/a.txt": TEXT}, protect="keep").run()
    assert not hub.published


# --- together with others


def meddling(hub, path="changed.bin"):
    """Somebody else commits just before each commit, ten times."""
    numbers = iter(range(10))
    return after(lambda: hub.commit({path: b"\0%d" % next(numbers)}))


def test_a_concurrent_commit_to_the_same_files_is_compared_again(hub, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    read = []
    digest = same_content.digest
    monkeypatch.setattr(same_content, "digest", lambda path, *kind: read.append(path.name) or digest(path, *kind))
    listed = hub.commit(BEFORE)
    hub.on(COMMIT, meddling(hub))
    result = hub.mirror(AFTER).run()
    assert hub.titles() == ["theirs", "theirs", "mine"]
    parent = hub.branches["main"][1].oid
    assert [request.parent_commit for _, request in hub.published] == [listed, parent]
    assert result["plan"]["oid"] == parent
    assert sorted(read) == ["changed.bin", "same.bin", "same.txt"], "each file is read once"
    [message] = [each for each in caplog.messages if "Comparing again" in each]
    assert message.startswith(f"{REPO} has changed since it was listed. Comparing again. ")
    assert f"It is no longer at {listed}. changed.bin changed since." in message


def test_what_disappeared_since_it_was_listed_is_compared_again(hub):
    def disappear(_):
        hub.commit({"old.txt": None})
        raise RefusedError(404)

    hub.commit(BEFORE)
    hub.on(COMMIT, disappear)
    hub.mirror(AFTER).run()
    assert hub.paths() == [(["changed.bin", "d/new.txt"], deleted) for deleted in (["old.txt"], [])]


def test_others_who_keep_committing_end_the_mirror(hub):
    hub.commit(BEFORE)
    hub.on(COMMIT, then=meddling(hub))
    with pytest.raises(XetConflictError) as caught:
        hub.mirror(AFTER).run()
    cause = caught.value.__cause__
    assert str(caught.value) == (
        f"{REPO} changed 5 times in the mirrored files while they were compared. Nothing was committed. "
        f"Let the task retry when the other writers are done. {cause}"
    )
    assert isinstance(cause, XetConflictError)
    assert caught.value.status == cause.status == 412
    assert len(hub.published) == 5


def test_an_error_without_a_change_is_no_reason_to_compare_again(hub):
    hub.commit(BEFORE)
    hub.on(COMMIT, then=refused(404))
    with pytest.raises(XetNotFoundError):
        hub.mirror(AFTER).run()
    assert len(hub.published) == 1


# --- what the .gitignore excludes


def asked(hub):
    """The body of each request for the upload modes."""
    return [each.options["json"] for each in hub.sent if str(each).startswith("POST /preupload/")]


def test_what_the_gitignore_of_the_source_excludes_is_neither_published_nor_removed(hub, caplog):
    hub.commit({"same.txt": TEXT, "a.log": TEXT, "old.log": TEXT})
    source = {"same.txt": TEXT, ".gitignore": b"\xef\xbb\xbf*.log\n", "new.log": TEXT, "a.log": TEXT * 2}
    plan = hub.mirror(source).plan()
    assert (plan["added"], plan["changed"], plan["removed"]) == ([".gitignore"], [], ["old.log"])
    assert (plan["kept"], plan["unchanged"], plan["bytes"]) == (["a.log"], 1, len(source[".gitignore"]))
    assert caplog.messages == [f"Left out, because the .gitignore of {REPO} excludes them: a.log, new.log"]
    [body] = asked(hub)
    assert body["gitIgnore"] == "*.log\n"
    assert [(file["path"], file["size"]) for file in body["files"]] == [
        (".gitignore", 9),
        ("a.log", 8),
        ("new.log", 4),
    ], "what is equal is not asked about"
    assert all(file["sample"] for file in body["files"])


def test_what_the_gitignore_of_the_repository_excludes_is_left_out(hub):
    hub.commit({".gitignore": b"*.log", "a.txt": TEXT})
    hub.gitignore = "*.log"
    plan = hub.mirror({"a.txt": TEXT, "b.txt": TEXT, "new.log": TEXT}, protect=".gitignore").plan()
    assert (plan["added"], plan["kept"]) == (["b.txt"], [".gitignore"])
    assert "gitIgnore" not in asked(hub)[0]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_folder_is_subject_to_the_gitignore_of_the_root(hub, is_there):
    hub.commit({".gitignore": b"*.log", "data/a.txt": TEXT} if is_there else {"data/a.txt": TEXT})
    hub.gitignore = "*.log"
    parent = hub.branches["main"][0].oid
    plan = hub.mirror({"data/a.txt": TEXT, "data/new.log": TEXT}, path_in_repo="data").plan()
    assert plan["added"] == ([] if is_there else ["data/new.log"])
    asked_for = [(str(each), each.options["json"].get("paths")) for each in hub.sent if each.method == "POST"]
    assert asked_for[1:] == [
        (f"POST /paths-info/{parent}", [".gitignore"]),
        *([("POST /preupload/main", None)] if is_there else []),
    ]


def test_of_equal_files_none_can_be_excluded(hub):
    parent = hub.commit({".gitignore": b"*.txt", "a.txt": TEXT})
    hub.mirror({".gitignore": b"*.txt", "a.txt": TEXT}).plan()
    assert hub.routes() == ["GET /commits/main", f"GET /tree/{parent}"]


def test_of_many_excluded_files_ten_are_named(hub, caplog):
    hub.mirror({".gitignore": b"*.log", **{f"{number}.log": TEXT for number in range(12)}}).plan()
    [message] = caplog.messages
    assert message.endswith(": 0.log, 1.log, 10.log, 11.log, 2.log, 3.log, 4.log, 5.log, 6.log, 7.log and 2 more")


def test_an_excluded_file_is_not_in_the_way_of_what_stays(hub):
    hub.commit({"keep": TEXT})
    plan = hub.mirror({".gitignore": b"*.log", "keep/a.log": TEXT}, protect="keep").plan()
    assert (plan["added"], plan["kept"]) == ([".gitignore"], ["keep"])


# --- more files than are kept in memory


@pytest.fixture
def by_two(monkeypatch):
    monkeypatch.setattr(records, "IN_MEMORY", 2)


def test_many_files_are_compared_in_batches(hub, by_two, caplog):
    parent = hub.commit({**BEFORE, "a.log": TEXT})
    result = hub.mirror({**AFTER, ".gitignore": b"*.log", "a.log": TEXT * 2, "z.bin": BINARY}).run()
    assert hub.paths() == [([".gitignore", "changed.bin", "d/new.txt", "z.bin"], ["old.txt"])]
    assert isinstance(hub.published[0][0], FoundFiles)
    assert hub.published[0][0].are_on_disk
    assert [len(body["files"]) for body in asked(hub)] == [2, 2, 1]
    assert {body["gitIgnore"] for body in asked(hub)} == {"*.log"}
    assert result["plan"] == planned(
        parent, added=[".gitignore", "d/new.txt", "z.bin"], kept=["a.log"], bytes=264 + 5 + 256
    )
    assert caplog.messages[0].endswith(" excludes them: a.log")


@pytest.mark.parametrize("most", [2, 10])
def test_the_beginnings_of_files_are_read_only_to_ask_about_them(hub, monkeypatch, most):
    monkeypatch.setattr(records, "IN_MEMORY", most)
    ignoring = {**AFTER, ".gitignore": b"*.log"}
    hub.commit(BEFORE)
    names, opened = [], found_files._open
    for mirror, read in ((hub.mirror(AFTER), []), (hub.mirror(ignoring), [".gitignore", "changed.bin", "new.txt"])):
        with monkeypatch.context() as patch:
            patch.setattr(found_files, "_open", lambda path: names.append(Path(path).name) or opened(path))
            mirror.plan()
        assert sorted(names) == read


def test_none_of_many_files_replaces_what_stays(hub, by_two):
    hub.commit({"keep": TEXT})
    with pytest.raises(XetInputError, match=rf"^keep/c\.txt cannot be written to {REPO}: keep is a file there"):
        hub.mirror({"a.txt": TEXT, "b.txt": TEXT, "keep/c.txt": TEXT}, protect="keep").run()


@pytest.mark.parametrize("most", [2, 10])
def test_what_the_memory_knows_is_not_read(hub, monkeypatch, most):
    memory = object()

    def digests_of(given, kind, files, compute):
        assert given is memory
        return Found([{"a.bin": "ab" * 32}.get(file.path_in_repo, "cd" * 32) for file in files], ())

    monkeypatch.setattr(records, "IN_MEMORY", most)
    monkeypatch.setattr(same_content, "digests_of", digests_of)
    files = {"a.bin": BINARY, "b.bin": BINARY, "c.bin": BINARY}
    hub.commit(files)
    entries = dict(hub.branches["main"][0].files)
    for path in files:
        entries[path] = {**entries[path], "lfs": {"oid": "ab" * 32, "size": 256}}
    hub.branches["main"][0].files.update(entries)
    assert hub.mirror(files, memory=memory).plan()["changed"] == ["b.bin", "c.bin"]


def test_a_path_that_the_source_does_not_have_is_an_error():
    found = FoundFiles()
    file = LocalFile("/data/a.bin", "a.bin", FileState(1, 1, 1, 0, 0))
    found.add(file)
    files = _OnDisk(found)
    assert files["a.bin"] == file
    with pytest.raises(KeyError, match=r"b\.bin"):
        files["b.bin"]
