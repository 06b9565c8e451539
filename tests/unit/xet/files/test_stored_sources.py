"""What an upload finds in object storage is what it finds in a local folder."""

from __future__ import annotations

import pytest
from airflow.sdk import ObjectStoragePath

from airflow_provider_xethub import exceptions
from airflow_provider_xethub.hooks.storage import open_storage
from airflow_provider_xethub.xet.files.sources import collect
from support.builders import write


def found(source, *args):
    return [file.path_in_repo for file in collect(source, *args, open_storage=open_storage)]


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("", ["a.txt", "s/b.txt", "s/c.bin", "s/t/u/d.txt"]),
        ("/", ["a.txt", "s/b.txt", "s/c.bin", "s/t/u/d.txt"]),
        ("/a.txt", ["a.txt"]),
        ("/s", ["b.txt", "c.bin", "t/u/d.txt"]),
        ("/*.txt", ["a.txt"]),
        ("/[ab].txt", ["a.txt"]),
        ("/*/*.txt", ["s/b.txt"]),
        ("/s/*", ["b.txt", "c.bin"]),
        ("/s/**/*.txt", ["b.txt", "t/u/d.txt"]),
        ("/**/*.txt", ["a.txt", "s/b.txt", "s/t/u/d.txt"]),
        ("/**/u/*", ["s/t/u/d.txt"]),
        ("/**", ["a.txt", "s/b.txt", "s/c.bin", "s/t/u/d.txt"]),
    ],
)
def test_the_same_is_found_in_object_storage_as_locally(tmp_path, pattern, paths):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in", dict.fromkeys(["a.txt", "s/b.txt", "s/c.bin", "s/t/u/d.txt", "s/.git/e.txt"], b"x"))
    local = [file.path_in_repo for file in collect(f"{tmp_path}/in{pattern}")]
    assert found(f"file://{tmp_path}/in{pattern}") == local == paths


def test_patterns_and_paths_in_the_repository_are_as_for_local_files(tmp_path):
    write(tmp_path, {"s/a.txt": b"x", "s/t/b.bin": b"x"})
    assert found(f"file://{tmp_path}/s", "to", "*.bin") == ["to/t/b.bin"]
    assert found(f"file://{tmp_path}/s/a.txt", "to.txt") == ["to.txt"]
    assert found(f"file://{tmp_path}/s/a.txt", "to/") == ["to/a.txt"]
    assert found(ObjectStoragePath(f"file://{tmp_path}/s")) == ["a.txt", "t/b.bin"]


def test_a_list_may_mix_local_paths_uris_and_object_storage_paths(tmp_path):
    write(tmp_path, {"1/a": b"x", "2/b": b"x", "3/c": b"x"})
    mixed = [tmp_path / "1", f"file://{tmp_path}/2/", ObjectStoragePath(f"file://{tmp_path}/3/c")]
    assert found(mixed) == ["a", "b", "c"]
    write(tmp_path, {"2/a": b"x"})
    with pytest.raises(exceptions.XetInputError, match=f"{tmp_path}/1/a and file://{tmp_path}/2/a would both become a"):
        found(mixed)


def test_all_that_is_missing_is_named_in_one_error(tmp_path):
    write(tmp_path, {"a": b"x", "none/.git/x": b"x"})
    given = [f"file://{tmp_path}/{name}" for name in ("gone", "gone/", "*.csv", "none/", "a")]
    with pytest.raises(exceptions.XetSourceError) as caught:
        found([*given, f"{tmp_path}/local"])
    text = str(caught.value)
    assert "5 sources cannot be read" in text
    assert f"file://{tmp_path}/gone: does not exist" in text
    assert f"file://{tmp_path}/*.csv: matches no file" in text
    assert f"file://{tmp_path}/none/: no file found" in text
    assert f"{tmp_path}/local: does not exist" in text
    assert f"{tmp_path}/a:" not in text
