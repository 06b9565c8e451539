"""Trees of large folders: stored in parts, read in parts, listed in pages."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.examples import examples
from xethub_local.metadata import trees
from xethub_local.metadata.trees import Entry, TreeEditor
from xethub_local.store.database import Database
from xethub_local.store.schema import SCHEMA

NAMES = st.builds(
    lambda seed, size: set(random.Random(seed).sample(range(5000), size)), st.integers(), st.integers(0, 1500)
)


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    found = Database(tmp_path_factory.mktemp("trees"))
    found.execute_schema(SCHEMA)
    yield found
    found.close()


def file(path: str, oid: str = "1") -> Entry:
    return Entry(path, "regular", oid * 40, 1, "c" * 40)


def save(connection: sqlite3.Connection, tree: str | None, paths: list[str], oid: str = "1") -> str:
    editor = TreeEditor(connection, tree)
    for path in paths:
        editor.put(file(path, oid))
    return editor.save("c" * 40)


@settings(max_examples=examples(25))
@given(first=NAMES, second=NAMES, page=st.integers(1, 700))
def test_a_folder_is_the_same_however_it_came_about(db: Database, first: set[int], second: set[int], page: int) -> None:
    with db.write() as connection:
        one = save(connection, None, [f"f/{number:04}" for number in first])
        grown = save(connection, one, [f"f/{number:04}" for number in second])
        at_once = save(connection, None, [f"f/{number:04}" for number in first | second])
        assert grown == at_once
        editor = TreeEditor(connection, grown)
        for number in second - first:
            assert editor.delete_file(f"f/{number:04}")
        assert editor.save("c" * 40) == one
        expected = [f"f/{number:04}" for number in sorted(first | second)]
        if expected:
            expected.insert(0, "f")
        seen: list[str] = []
        while True:
            walked = trees.walk(connection, grown, recursive=True, after=seen[-1] if seen else "")
            found = [entry.path for _, entry in zip(range(page), walked, strict=False)]
            seen += found
            if len(found) < page:
                break
        assert seen == expected
        asked = [f"f/{number:04}" for number in range(0, 5000, 7)]
        assert trees.find_each(connection, grown, asked).keys() == set(asked) & set(expected)


def test_pages_continue_behind_files_folders_and_what_lies_in_them(db: Database) -> None:
    paths = ["a", "b/c/d", "b/c/e", "b/f", "b.x", "g/h", "i"]
    with db.write() as connection:
        tree = save(connection, None, paths)
        whole = [entry.path for entry in trees.walk(connection, tree, recursive=True)]
        assert whole == ["a", "b", "b/c", "b/c/d", "b/c/e", "b/f", "b.x", "g", "g/h", "i"]
        for number, path in enumerate(whole):
            rest = [entry.path for entry in trees.walk(connection, tree, recursive=True, after=path)]
            assert rest == whole[number + 1 :], path
        inner = trees.find(connection, tree, "b")
        assert inner is not None
        listed = trees.walk(connection, inner.oid, "b", recursive=False, after="b/c")
        assert [entry.path for entry in listed] == ["b/f"]


def test_a_change_in_a_large_folder_stores_a_small_part_again(db: Database) -> None:
    def stored_bytes(connection: sqlite3.Connection) -> int:
        size: int = connection.execute("SELECT sum(length(entries)) FROM hub_tree").fetchone()[0]
        return size

    with db.write() as connection:
        tree = save(connection, None, [f"large/{number:05}" for number in range(20_000)])
        before = stored_bytes(connection)
        save(connection, tree, ["large/01234"], oid="2")
        assert stored_bytes(connection) - before < 150_000
        assert before > 2_000_000


def test_a_batch_of_paths_reads_each_part_once(db: Database) -> None:
    with db.write() as connection:
        tree = save(connection, None, [f"wide/{number:05}" for number in range(10_000)])
        statements: list[str] = []
        connection.set_trace_callback(statements.append)
        found = trees.find_each(connection, tree, [f"wide/{number:05}" for number in range(256)])
        connection.set_trace_callback(None)
    assert len(found) == 256
    assert len(statements) < 15
