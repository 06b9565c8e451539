"""What is at a path: an error of the file system never means that nothing is there."""

from __future__ import annotations

import errno
import os

import pytest

from airflow_provider_xethub.xet.files import path_kinds
from support.builders import write
from support.failing_disk import fail_at


@pytest.fixture
def root(tmp_path):
    root = write(tmp_path, {"d/f": b"f"})
    (root / "link").symlink_to(root / "d")
    (root / "nowhere").symlink_to(root / "missing")
    (root / "loop").symlink_to(root / "loop")
    return root


@pytest.mark.parametrize(
    ("path", "is_there", "is_folder"),
    [
        ("d", True, True),
        ("d/f", True, False),
        ("link", True, True),
        ("nowhere", True, False),
        ("loop", True, False),
        ("missing", False, False),
        ("d/f/g", False, False),
        ("a\0b", False, False),
    ],
)
def test_what_is_there_is_known(root, path, is_there, is_folder):
    assert (path_kinds.is_there(root / path), path_kinds.is_folder(root / path)) == (is_there, is_folder)


@pytest.mark.parametrize("error", [errno.EIO, errno.EACCES, errno.ESTALE])
@pytest.mark.parametrize("ask", [path_kinds.is_there, path_kinds.is_folder])
def test_an_error_is_no_answer(root, monkeypatch, ask, error):
    fail_at(monkeypatch, os, "stat", "/d", error)
    with pytest.raises(OSError, match=os.strerror(error)):
        ask(root / "d")
