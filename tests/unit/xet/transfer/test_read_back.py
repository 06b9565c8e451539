"""Content that a commit needs: from the record, from CAS, from its source, or an error that names what to do.

With a Hub: tests/provider/xet/publish/test_inline.py.
"""

from __future__ import annotations

import tempfile

import pytest
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_xethub.exceptions import (
    XetCancelledError,
    XetConnectionError,
    XetDestinationError,
    XetForbiddenError,
    XetHubError,
    XetInputError,
    XetNotFoundError,
    XetServerError,
)
from airflow_provider_xethub.xet.files import object_storage
from airflow_provider_xethub.xet.files.object_storage import Storage
from airflow_provider_xethub.xet.transfer import read_back
from support.commit_builders import ANYWHERE, BINARY, record

LONG, OTHER = BINARY, BINARY[::-1]
GONE = XetNotFoundError("CAS has no file X.", status=404)


class Cas:
    """Has these contents, and refuses each transfer of any other file."""

    def __init__(self, contents, error=GONE):
        self.contents, self.error, self.asked = contents, error, []

    def download(self, targets, with_cas_access, hub):
        assert (with_cas_access, hub) == (self, None)
        self.asked.append([target.file["path"] for target in targets])
        for target in targets:
            if target.file["path"] not in self.contents:
                raise self.error
            target.part.write_bytes(self.contents[target.file["path"]])
            target.part.rename(target.path)


@pytest.fixture
def read(monkeypatch):
    """Read files back from a CAS with these contents; returns what was read, and of what CAS was asked."""

    def read(files, contents=(), error=GONE):
        cas = Cas(dict(contents), error)
        monkeypatch.setattr(read_back, "download", cas.download)
        return read_back.read_back(files, cas, lambda where: Storage(LocalFileSystem(), where.scheme, None)), cas.asked

    return read


@pytest.fixture
def stored(tmp_path):
    """Returns the record of a file that was uploaded from object storage, where it has this content now."""

    def stored(path, content, now):
        if now is not None:
            (tmp_path / path).write_bytes(now)
        return record(ANYWHERE, path, content, storage_uri=f"file://{tmp_path}/{path}")

    return stored


def local(path, content=LONG, **changes):
    return record(ANYWHERE, path, content, **changes)


def refused(read, *args):
    with pytest.raises(XetHubError) as caught:
        read(*args)
    return caught.value


def test_a_sample_that_is_the_whole_file_is_enough(read):
    contents = {"empty": b"", "short": b"a,b\n", "full": b"x" * 512}
    assert read([local(path, content) for path, content in contents.items()]) == (contents, [])


@pytest.mark.parametrize("changes", [{"sample": "YixhCg=="}, {"sample": "YQ"}, {"sample": ""}, None])
def test_a_sample_that_is_not_the_file_is_not_taken_for_it(read, changes):
    file = local("x", b"a,b\n", **changes or {})
    if changes is None:
        del file["sample"]
    assert read([file], {"x": b"a,b\n"}) == ({"x": b"a,b\n"}, [["x"]])


def test_the_rest_is_read_from_cas_together(read):
    files = [local("a"), local("short", b"a,b\n"), local("b", OTHER)]
    assert read(files, {"a": LONG, "b": OTHER}) == ({"a": LONG, "b": OTHER, "short": b"a,b\n"}, [["a", "b"]])


def test_what_cas_refuses_is_read_from_its_source_and_the_rest_from_cas(read, stored, monkeypatch, caplog):
    monkeypatch.setattr(object_storage, "BLOCK", 1000)
    files = [stored("a", LONG, LONG), stored("b", OTHER, OTHER), local("c", LONG * 2), local("short", b"a,b\n")]
    found, asked = read(files, {"c": LONG * 2})
    assert found == {"a": LONG, "b": OTHER, "c": LONG * 2, "short": b"a,b\n"}
    assert asked == [["a", "b", "c"], ["c"]]
    assert caplog.messages == ["CAS has no file X. Reading 2 files from the original source."]


def test_without_a_digest_a_source_is_not_read(read, stored):
    error = refused(read, [{**stored("a", LONG, LONG), "sha256": None}])
    assert "source" not in str(error)


def test_an_error_of_cas_says_what_the_content_is_for(read):
    error = refused(read, [local(str(number)) for number in range(6)] + [local("short", b"a,b\n")])
    assert str(error) == (
        f"The Hub stores 0, 1, 2, 3, 4 and 1 more of {ANYWHERE.uri} inline, so the commit needs the content, which "
        "cannot be read back from CAS (CAS has no file X). None of them was committed. Upload these files again, or "
        "let the task that uploads them commit them: then nothing is read back."
    )
    assert (type(error), error.status) == (XetNotFoundError, 404)


def test_files_that_neither_cas_nor_their_source_has_are_named_with_both_reasons(read, stored, tmp_path):
    error = refused(read, [stored("a", LONG, None), local("b")])
    assert str(error) == (
        f"The Hub stores a of {ANYWHERE.uri} inline, so the commit needs the content, which cannot be read back from "
        f"CAS (CAS has no file X) nor from its source (file://{tmp_path}/a no longer exists). None of them was "
        "committed. Upload these files again, or let the task that uploads them commit them: then nothing is read back."
    )


def test_what_is_still_missing_after_the_sources_were_read_is_named(read, stored):
    error = refused(read, [stored("a", LONG, LONG), local("b")])
    assert str(error).startswith(f"The Hub stores b of {ANYWHERE.uri} inline")
    assert "source" not in str(error)


@pytest.mark.parametrize("now", [OTHER, LONG[:-1], b""])
def test_a_source_that_has_changed_is_not_taken(read, stored, now):
    assert "/a has changed since). None of them" in str(refused(read, [stored("a", LONG, now)]))


FINAL, FOR_NOW = XetForbiddenError("No.", status=403), XetServerError("Later.", status=503)


@pytest.mark.parametrize(
    ("cas", "source", "expected"),
    [
        (FINAL, XetInputError("Gone."), XetForbiddenError),
        (FINAL, XetConnectionError("Later."), XetConnectionError),
        (FOR_NOW, XetInputError("Gone."), XetServerError),
        (FOR_NOW, XetConnectionError("Later."), XetServerError),
    ],
)
def test_an_error_is_worth_a_retry_if_one_of_both_is(cas, source, expected):
    error = read_back._explained(cas, [local("a")], source)
    assert type(error) is expected
    assert error.__dict__ == (source if expected is type(source) else cas).__dict__


def test_a_cancelled_read_says_nothing_else_and_reads_no_source(read, stored):
    stopped = XetCancelledError("It was stopped from outside.")
    assert refused(read, [stored("a", LONG, LONG)], (), stopped) is stopped
    with pytest.raises(XetCancelledError) as caught, read_back._explaining([local("a")], GONE):
        raise stopped
    assert caught.value is stopped


def test_a_file_that_is_too_large_for_memory_is_refused(read):
    most = read_back.MAX_BYTES
    error = refused(read, [local("a", size=most + 1)])
    assert str(error) == (
        f"The Hub wants a of {ANYWHERE.uri} inline, in the commit, but it has {most + 1} bytes. Add it to the "
        ".gitattributes of the repository with 'filter=lfs'. It was not committed."
    )
    assert type(error) is XetInputError
    assert read([local("a", size=most)], {"a": LONG})[1] == [["a"]]


def test_a_folder_for_temporary_files_that_takes_nothing_is_named(read, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    error = refused(read, [local("a.bin")])
    assert "cannot be read back from CAS (The folder for temporary files of this worker cannot be used: no such" in str(
        error
    )
    assert "Let the task retry, or point TMPDIR to another folder). None of them" in str(error)
    assert type(error) is XetDestinationError
    assert error.retryable
