"""Transactions of the local Hub's database."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from xethub_local.store.database import FILE_NAME, Database


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "new" / "folder")
    database.execute_schema("CREATE TABLE IF NOT EXISTS item (name TEXT PRIMARY KEY)")
    yield database
    database.close()


def names(db: Database) -> list[str]:
    with db.read() as connection:
        return [row["name"] for row in connection.execute("SELECT name FROM item ORDER BY name")]


def put(db: Database, name: str) -> None:
    with db.write() as connection:
        connection.execute("INSERT INTO item VALUES (?)", (name,))


def put_twice(db: Database, name: str) -> None:
    """Fail after a change was made."""
    with db.write():
        put(db, name)
        assert name in names(db)
        with db.read() as connection:
            connection.execute("INSERT INTO item VALUES (?)", (name,))


def test_settings_that_survive_a_crash(db: Database) -> None:
    with db.read() as connection:
        settings = [
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert settings == ["wal", 2, 1, 30_000]


def test_an_exception_rolls_back(db: Database) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        put_twice(db, "lost")
    put(db, "kept")
    assert names(db) == ["kept"]


def test_a_write_inside_a_write_joins_it(db: Database) -> None:
    with db.write():
        put(db, "inner")
        assert names(db) == ["inner"]
    assert names(db) == ["inner"]


def test_a_failed_inner_write_undoes_only_itself(db: Database) -> None:
    with db.write():
        put(db, "outer")
        with pytest.raises(sqlite3.IntegrityError):
            put_twice(db, "half")
    assert names(db) == ["outer"]


def test_readers_see_only_what_was_committed(db: Database) -> None:
    seen: list[list[str]] = []
    with db.write() as connection:
        connection.execute("INSERT INTO item VALUES ('new')")
        reader = threading.Thread(target=lambda: seen.append(names(db)))
        reader.start()
        reader.join()
    assert seen == [[]]
    assert names(db) == ["new"]


def test_many_writers_take_turns(db: Database) -> None:
    failures: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            for number in range(25):
                put(db, f"{worker}-{number}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(names(db)) == 200


def test_a_bad_schema_changes_nothing_and_leaves_no_lock(db: Database) -> None:
    with pytest.raises(sqlite3.OperationalError):
        db.execute_schema("CREATE TABLE IF NOT EXISTS half (name TEXT); CREATE TABLE broken (")
    put(db, "still works")
    with db.read() as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == {"item"}


def test_two_databases_on_one_folder_see_each_other(db: Database, tmp_path: Path) -> None:
    other = Database(tmp_path / "new" / "folder")
    put(db, "here")
    put(other, "there")
    assert names(db) == names(other) == ["here", "there"]
    other.close()


def test_a_closed_database_says_so(tmp_path: Path) -> None:
    db = Database(tmp_path)
    db.execute_schema("CREATE TABLE IF NOT EXISTS item (name TEXT)")
    with db.read():
        db.close()
    with pytest.raises(RuntimeError, match=FILE_NAME), db.read():
        pass
    # The last connection to go folds the write-ahead log into the file.
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_one_row_without_a_transaction(db: Database) -> None:
    db.execute_schema("CREATE TABLE one (number INTEGER)")
    query = "SELECT number FROM one WHERE number >= :least"
    assert db.first(query, {"least": 0}) is None
    with db.write() as connection:
        connection.execute("INSERT INTO one VALUES (1), (2)")
        inside = db.first(query, {"least": 0})  # what the transaction itself has written
        assert inside is not None
        assert inside["number"] == 1
    for _ in range(3):  # a query that was not read to its end holds nothing up
        assert tuple(db.first(query, {"least": 1}) or ()) == (1,)
        with db.write() as connection:
            connection.execute("INSERT INTO one VALUES (3)")


def test_only_its_owner_can_read_what_is_in_a_folder(tmp_path: Path, db: Database) -> None:
    put(db, "of a private repository")
    folder = tmp_path / "new" / "folder"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in folder.iterdir()} == {
        FILE_NAME: "0o600",
        f"{FILE_NAME}-wal": "0o600",
        f"{FILE_NAME}-shm": "0o600",
    }


def test_a_database_of_an_earlier_release_is_closed_to_others_and_its_folder_stays_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / FILE_NAME).touch(0o644)
    Database(tmp_path).close()
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
