"""What a commit consists of, and how work that is too large for one is cut into parts."""

from __future__ import annotations

import hashlib
import itertools
import json
import random

import pytest

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.publish import parts as commit_parts
from airflow_provider_xethub.xet.publish.card import Card
from airflow_provider_xethub.xet.publish.card_work import CardWork
from airflow_provider_xethub.xet.publish.commit import CommitRequest, UploadMode
from airflow_provider_xethub.xet.repo import Repo
from support.commit_builders import record

REPO = Repo("a/b")
NEW_INLINE, NEW_IN_CAS = UploadMode(True, None, False), UploadMode(False, None, False)


def work(paths, delete=(), inline=(), unchanged=()):
    files = [record(Repo("a/b"), path, b"x" * 10) for path in paths]
    modes = {path: UploadMode(path in inline, "there", False) for path in paths}
    for file in files:
        if file["path"] in unchanged:
            modes[file["path"]] = UploadMode(False, file["sha256"], False)
    request = CommitRequest(Repo("a/b"), files, delete)
    return commit_parts.plan_work(request, modes, lambda wanted: {file["path"]: b"x" * 10 for file in wanted})


def cut(it, changes=1000, inline_bytes=1000, begin=0):
    return [
        [each if isinstance(each, str) else each["path"] for each in part.changes]
        for part in it.parts(begin, commit_parts.Limits(changes, inline_bytes))
    ]


def test_files_come_by_path_then_what_is_deleted_and_what_is_in_the_way_of_a_folder_first():
    it = work(["b/x", "c", "a"], delete=["z", "b", "old/"])
    assert cut(it) == [["b", "a", "b/x", "c", "z", "old/"]]
    assert cut(it, changes=2) == [["b", "a"], ["b/x", "c"], ["z", "old/"]]
    assert cut(it, changes=1) == [["b"], ["a"], ["b/x"], ["c"], ["z"], ["old/"]]


def test_what_is_in_the_way_of_a_file_comes_first_too():
    assert cut(work(["a", "b"], delete=["z", "b/x/y", "b/c/"])) == [["b/x/y", "b/c/", "a", "b", "z"]]


def test_a_part_holds_no_more_inline_bytes_than_allowed_but_at_least_one_file():
    it = work(["a", "b", "c", "d", "e"], inline=["a", "b", "d", "e"])
    assert cut(it, inline_bytes=20) == [["a", "b", "c"], ["d", "e"]]
    assert cut(it, inline_bytes=5) == [["a"], ["b", "c"], ["d"], ["e"]]


def test_what_is_unchanged_takes_no_room_and_alone_makes_no_part():
    it = work(["a", "b", "c", "d"], unchanged=["a", "c", "d"])
    assert cut(it, changes=1) == [["b"]]
    assert cut(work(["a"], unchanged=["a"])) == []


def test_any_cut_covers_everything_once_and_can_go_on_from_any_part():
    draw = random.Random(4)
    for _ in range(300):
        paths = [f"{n:02}" for n in range(draw.randrange(1, 30))]
        it = work(
            paths,
            [f"old{n}" for n in range(draw.randrange(4))],
            inline=[path for path in paths if draw.random() < 0.5],
            unchanged=[path for path in paths if draw.random() < 0.3],
        )
        limits = commit_parts.Limits(draw.randrange(1, 8), draw.choice([5, 20, 35]))
        parts = it.parts(0, limits)
        assert [*itertools.chain(*cut(it, limits.changes, limits.inline_bytes))] == [*itertools.chain(*cut(it))]
        assert all(len(part.changes) <= limits.changes for part in parts)
        assert all(part.inline_bytes <= max(limits.inline_bytes, 10) for part in parts)  # one file is 10
        for number, part in enumerate(parts):
            assert it.parts(part.until, limits) == parts[number + 1 :]


# --- the changes of a part


def planned(contents, modes, delete=(), card=None):
    """Work with these files, and the paths that were read at a time."""
    read = []

    def contents_of(files):
        read.append([file["path"] for file in files])
        return {file["path"]: contents[file["path"]] for file in files}

    # As they come from a task that uploads and commits: the digests of inline files are known only here.
    unknown = {"sha256": None, "xet_hash": None}
    files = [record(REPO, path, text, **(unknown if modes[path].inline else {})) for path, text in contents.items()]
    return commit_parts.plan_work(CommitRequest(REPO, files, delete), modes, contents_of, card), read


def whole(it):
    [part] = it.parts(0, commit_parts.Limits(1000, 1000))
    return part


def test_the_lines_of_a_commit_say_what_happens_to_each_path():
    contents = {"b.bin": b"in CAS", "a.csv": b"x,yz\n", "same.bin": b"known"}
    known = UploadMode(False, hashlib.sha256(b"known").hexdigest(), False)
    it, _ = planned(contents, {"b.bin": NEW_IN_CAS, "a.csv": NEW_INLINE, "same.bin": known}, ["old.txt", "old/", "z"])
    lines = [
        {"key": "file", "value": {"content": "eCx5ego=", "path": "a.csv", "encoding": "base64"}},
        {
            "key": "lfsFile",
            "value": {"path": "b.bin", "algo": "sha256", "oid": hashlib.sha256(b"in CAS").hexdigest(), "size": 6},
        },
        {"key": "deletedFile", "value": {"path": "old.txt"}},
        {"key": "deletedFolder", "value": {"path": "old/"}},
        {"key": "deletedFile", "value": {"path": "z"}},
    ]
    part = whole(it)
    assert it.card is None
    assert list(it.lines(part)) == lines
    assert (part.begin, part.until, part.count, part.inline_bytes, part.has_inline) == (0, 6, 5, 5, True)
    assert part.halved() == commit_parts.Limits(2, 2)
    parts = it.parts(0, commit_parts.Limits(2, 1000))
    assert [each.count for each in parts] == [2, 2, 1]
    assert [*it.lines(parts[0])] == lines[:2]
    assert [file["path"] for file in it.key_files()] == ["a.csv", "b.bin", "same.bin"]
    body = commit_parts.encoded({"summary": "ä"}, iter(lines))
    assert body.endswith(b"\n")
    assert [json.loads(line) for line in body.splitlines()] == [{"key": "header", "value": {"summary": "ä"}}, *lines]


def test_inline_files_get_the_digests_of_their_content():
    it, read = planned({"a.csv": b"hello\n", "b.csv": b""}, {"a.csv": NEW_INLINE, "b.csv": NEW_INLINE})
    [one, two] = whole(it).changes
    assert (one["sha256"], one["blob_id"]) == (
        hashlib.sha256(b"hello\n").hexdigest(),
        "ce013625030ba8dba906f756967f9e9ca394464a",
    )
    assert two["blob_id"] == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    list(it.lines(whole(it)))
    assert read == [["a.csv", "b.csv"]], "what was read last is kept"


def test_an_inline_file_is_compared_by_its_blob_id_and_any_other_by_its_sha256():
    blob, sha256 = "ce013625030ba8dba906f756967f9e9ca394464a", hashlib.sha256(b"hello\n").hexdigest()
    contents = dict.fromkeys(("blob", "inline", "sha256", "stored"), b"hello\n")
    modes = {
        "blob": UploadMode(True, blob, False),
        "inline": UploadMode(True, sha256, False),
        "sha256": UploadMode(False, sha256, False),
        "stored": UploadMode(False, blob, False),
    }
    it, _ = planned(contents, modes)
    assert it.files.unchanged == {"blob", "sha256"}


def test_inline_content_is_read_in_the_order_of_paths_for_so_many_bytes_at_a_time(monkeypatch):
    monkeypatch.setattr(commit_parts, "MAX_INLINE_BYTES", 20)
    contents = dict.fromkeys("cabd", b"x" * 10) | {"large": b"y" * 21, "none": b""}
    it, read = planned(contents, dict.fromkeys(contents, NEW_INLINE))
    assert read == [["a", "b"], ["c", "d"], ["large"], ["none"]]
    assert [file["path"] for file in whole(it).changes] == sorted(contents)


def test_what_was_read_is_kept_until_something_else_is():
    read = []
    held = commit_parts.InlineContents(lambda files: read.append(files) or {file["path"]: b"" for file in files})
    one, two = ([record(REPO, path, b"")] for path in "ab")
    for files in (one, one, two, one, [*one, *two]):
        assert set(held.of(files)) >= {file["path"] for file in files}
    assert read == [one, two, one, [*one, *two]]


def test_what_is_read_first_is_given_up_before_the_next_is_read():
    def read(files):
        assert not held._held
        return {file["path"]: b"" for file in files}

    held = commit_parts.InlineContents(read)
    for path in "ab":
        held.of([record(REPO, path, b"")])


@pytest.mark.parametrize(("count", "more"), [(1, ""), (20, ""), (21, " …")])
def test_what_gitignore_excludes_is_named(caplog, count, more):
    paths = [f"{number:02}.log" for number in range(count)]
    modes = {"kept": NEW_IN_CAS, **{path: UploadMode(False, None, True) for path in paths}}
    it, _ = planned(dict.fromkeys(["kept", *reversed(paths)], b"x"), modes)
    assert [file["path"] for file in whole(it).changes] == ["kept"]
    assert caplog.messages == [
        f"{count} of {count + 1} files are left out, because the .gitignore of {REPO} excludes them: "
        f"{', '.join(paths[:20])}{more}"
    ]


def test_of_files_in_several_batches_one_line_says_what_is_excluded(caplog):
    it = commit_parts.Work(CommitRequest(REPO, ()), lambda _: {})
    for path in "ab":
        it.add([record(REPO, path, b"x")], {path: UploadMode(False, None, True)})
    assert len(it.complete()) == 0
    assert caplog.messages == [f"2 of 2 files are left out, because the .gitignore of {REPO} excludes them: a, b"]


def test_a_file_in_cas_needs_a_digest():
    file = {**record(REPO, "a.bin", b"x"), "sha256": None}
    with pytest.raises(XetInputError) as caught:
        commit_parts.plan_work(CommitRequest(REPO, [file]), {"a.bin": NEW_IN_CAS}, lambda _: {})
    assert str(caught.value) == (f"The record of a.bin has no sha256, which a commit to {REPO} needs. Upload it again.")


def test_records_of_the_request_stay_as_they_are():
    file = record(REPO, "a.csv", b"x", sha256=None)
    commit_parts.plan_work(CommitRequest(REPO, [file]), {"a.csv": NEW_INLINE}, lambda _: {"a.csv": b"x"})
    assert (file["sha256"], "blob_id" in file) == (None, False)


# --- the card


class OneCard(CardWork):
    """A card that keeps what it was asked."""

    def __init__(self):
        super().__init__(Hub("http://127.0.0.1:1"), REPO, Card("# A"), None, 1, 10)
        self.alone = []

    def content(self, *, is_alone):
        self.alone.append(is_alone)
        return super().content(is_alone=is_alone)


@pytest.mark.parametrize(
    ("current", "delete", "is_alone"),
    [
        (hashlib.sha256(b"x").hexdigest(), (), True),
        (None, (), False),
        (hashlib.sha256(b"x").hexdigest(), ("z",), False),
    ],
    ids=["nothing else changes", "a file changes", "a file is deleted"],
)
def test_the_card_is_a_file_of_the_commit_and_identified_without_its_block(current, delete, is_alone):
    card = OneCard()
    modes = {"a.bin": UploadMode(False, current, False), "README.md": NEW_INLINE}
    files = [record(REPO, "a.bin", b"x")]
    it = commit_parts.plan_work(CommitRequest(REPO, files, delete), modes, lambda _: {}, card)
    assert card.alone == [is_alone]
    content = CardWork.content(card, is_alone=False)
    [line] = [line for line in it.lines(whole(it)) if line["value"]["path"] == "README.md"]
    assert commit_parts.base64.b64decode(line["value"]["content"]) == content
    [there] = [each for each in whole(it).changes if not isinstance(each, str) and each["path"] == "README.md"]
    assert (there["size"], there["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert list(it.key_files()) == [card.key_record(content), *files]
    assert it.card == card.key_record(content)


def test_an_unchanged_card_is_no_change():
    card = OneCard()
    blob = commit_parts.git_blob_id(CardWork.content(card, is_alone=False))
    modes = {"README.md": UploadMode(True, blob, False)}
    it = commit_parts.plan_work(CommitRequest(REPO, ()), modes, pytest.fail, card)
    assert it.parts(0, commit_parts.Limits(1, 1)) == []
    content = CardWork.content(card, is_alone=False)
    assert it.contents.of([card.record(content)]) == {"README.md": content}, "it is not read from elsewhere"
