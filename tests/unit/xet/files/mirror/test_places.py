"""Local destinations of mirrors: nothing is removed through a link, nor with other content."""

from __future__ import annotations

import errno
import hashlib
import os
import threading

import pytest

from airflow_provider_xethub.exceptions import XetDestinationError, XetInputError
from airflow_provider_xethub.xet.files.content_identity import Identity
from airflow_provider_xethub.xet.files.mirror import places as mirror_places
from airflow_provider_xethub.xet.files.mirror.places import LocalPlace
from airflow_provider_xethub.xet.files.mirror.record import MirrorRecord
from airflow_provider_xethub.xet.repo import Repo
from support.builders import write
from support.failing_disk import fail_at

RECORD = MirrorRecord(Repo("acme/corpus", "dataset"), "", {"a": [Identity(0, "size", "0")]})


def known(content: bytes) -> list[Identity]:
    return [Identity(len(content), "sha256", hashlib.sha256(content).hexdigest())]


@pytest.fixture
def root(tmp_path):
    return write(tmp_path / "root", {"a": b"a", "d/e/f": b"f", "d/g": b"g"})


@pytest.fixture
def outside(tmp_path):
    return write(tmp_path / "outside", {"a": b"a", "e/f": b"f"})


def test_what_has_the_known_content_is_removed_with_its_empty_folders(root):
    removed = LocalPlace(root).remove({"d/e/f": known(b"f"), "a": known(b"other"), "missing": known(b"f")})
    assert removed == ["d/e/f"]
    assert sorted(path.name for path in root.rglob("*")) == ["a", "d", "g"]


def test_any_of_two_contents_is_enough(root):
    assert LocalPlace(root).remove({"a": [*known(b"b"), *known(b"a")]}) == ["a"]


@pytest.mark.parametrize("path", ["link/f", "d/link/f", "file"])
def test_a_link_is_not_followed(root, outside, path):
    (root / "link").symlink_to(outside / "e")
    (root / "d/link").symlink_to(root / "d/e")
    (root / "file").symlink_to(outside / "a")
    assert LocalPlace(root).remove({path: [*known(b"f"), *known(b"a")]}) == []
    assert (outside / "e/f").exists()
    assert (outside / "a").exists()
    assert (root / "d/e/f").exists()


def test_the_root_may_be_a_link(root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    assert LocalPlace(tmp_path / "link").remove({"a": known(b"a")}) == ["a"]


def test_a_pipe_in_the_place_of_a_file_does_not_block(root):
    (root / "a").unlink()
    os.mkfifo(root / "a")
    done = threading.Thread(target=lambda: LocalPlace(root).remove({"a": known(b"a")}), daemon=True)
    done.start()
    done.join(10)
    assert not done.is_alive()
    assert (root / "a").exists()


def test_a_folder_in_the_place_of_a_file_stays(root):
    assert LocalPlace(root).remove({"d": [Identity(0, "size", "0")], "d/g": known(b"x")}) == []


def test_what_is_in_the_way_is_found(root, outside):
    (root / "d/link").symlink_to(outside)
    place = LocalPlace(root)
    assert place.in_the_way(["d", "a/b/c", "new/x"]) == {"a", "d/e/f", "d/g", "d/link"}
    assert place.present(["a", "d", "d/link", "new", "a/b"]) == {"a", "d/link"}


def test_a_missing_root_has_nothing(tmp_path):
    place = LocalPlace(tmp_path / "missing")
    assert place.record() is None
    assert place.holding({"a": known(b"a")}) == place.present(["a"]) == place.in_the_way(["a"]) == set()
    assert place.remove({"a": known(b"a")}) == []
    place.keep(RECORD)
    assert place.record() == RECORD


def test_a_record_is_replaced_without_a_trace(root):
    place = LocalPlace(root)
    place.keep(RECORD)
    place.keep(RECORD)
    assert sorted(path.name for path in root.iterdir()) == [".xethub-mirror.json", "a", "d"]


def test_a_record_is_not_read_through_a_link_and_a_link_is_replaced(root, outside):
    place = LocalPlace(root)
    (outside / "record").write_bytes(RECORD.encoded())
    (root / ".xethub-mirror.json").symlink_to(outside / "record")
    with pytest.raises(XetInputError, match="cannot be read"):
        place.record()
    place.keep(MirrorRecord(RECORD.repo))
    assert (outside / "record").read_bytes() == RECORD.encoded()


def test_a_record_that_is_a_folder_or_too_large_is_refused(root, monkeypatch):
    place = LocalPlace(root)
    place.keep(RECORD)
    monkeypatch.setattr(mirror_places, "MAX_BYTES", 10)
    with pytest.raises(XetInputError, match="is larger than"):
        place.record()
    (root / ".xethub-mirror.json").unlink()
    (root / ".xethub-mirror.json").mkdir()
    with pytest.raises(XetInputError, match="not a regular file"):
        place.record()


def test_a_record_that_cannot_be_written_names_the_path(not_a_folder):
    with pytest.raises(
        XetDestinationError, match=r"xethub-mirror.json cannot be written on this worker: not a directory"
    ):
        LocalPlace(not_a_folder).keep(RECORD)


# --- a disk that fails


def test_a_file_that_cannot_be_seen_now_is_not_missing(root, monkeypatch):
    """The record would forget it, and no mirror would ever remove it."""
    fail_at(monkeypatch, os, "stat", "/d/g")
    with pytest.raises(XetDestinationError, match="d/g cannot be read on this worker: input/output error"):
        LocalPlace(root).present(["a", "d/g"])


def test_a_folder_that_cannot_be_listed_is_not_empty(root, monkeypatch):
    fail_at(monkeypatch, os, "scandir", "/d/e")
    with pytest.raises(XetDestinationError, match="d cannot be read on this worker: input/output error"):
        LocalPlace(root).in_the_way(["d"])


@pytest.mark.parametrize("failing", ["e", "f"])
def test_a_file_that_cannot_be_compared_now_was_not_changed(root, monkeypatch, failing):
    fail_at(monkeypatch, os, "open", failing)
    for work in (LocalPlace(root).holding, LocalPlace(root).remove):
        with pytest.raises(XetDestinationError, match="d/e/f cannot be read on this worker: input/output error"):
            work({"d/e/f": known(b"f")})
    assert (root / "d/e/f").exists()


def test_a_file_that_nobody_may_read_stays(root, monkeypatch):
    fail_at(monkeypatch, os, "open", "f", errno.EACCES)
    assert LocalPlace(root).remove({"d/e/f": known(b"f")}) == []


def test_a_record_that_cannot_be_read_now_may_be_read_later(root, monkeypatch):
    LocalPlace(root).keep(RECORD)
    fail_at(monkeypatch, os, "open", "mirror.json")
    with pytest.raises(XetDestinationError, match="cannot be read: input/output error") as caught:
        LocalPlace(root).record()
    assert caught.value.retryable
