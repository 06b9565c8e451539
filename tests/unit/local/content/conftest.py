"""A content store of its own for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.stored_content import Upload
from xethub_local.content.store import (
    ContentStore,
)
from xethub_local.store.database import Database


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path)
    yield database
    database.close()


@pytest.fixture
def content(tmp_path: Path, db: Database) -> ContentStore:
    return ContentStore(tmp_path, db)


@pytest.fixture
def upload() -> Upload:
    return Upload([os.urandom(1000), b"text " * 400, os.urandom(77)])
