"""Files that are compressed while they are written, also by Airflow's XCom backend on object storage."""

from __future__ import annotations

import gc
import json
from contextlib import suppress

import pytest
from airflow.providers.common.io.xcom import backend

from airflow_provider_xethub.fs.xethub import XetHubFileSystem
from support.builders import binary, commits
from support.filesystem_places import name

LARGE = binary(12_000_000, "compressed")


@pytest.mark.parametrize("data", [b"", b"a" * 1000, LARGE], ids=["empty", "small", "large"])
@pytest.mark.parametrize("extension", ["gz", "zip", "bz2", "xz"])
def test_what_is_written_compressed_is_read_again(repo, fs, hub, extension, data):
    if data is LARGE and extension != "gz":
        pytest.skip("one of them is enough")
    before = commits(hub, repo)
    path = name(repo, f"a.{extension}")
    with fs.open(path, "wb", compression="infer") as file:
        assert file.write(memoryview(data)) == len(data)
    assert commits(hub, repo) == before + 1
    assert fs.cat_file(path) != data
    with fs.open(path, "rb", compression="infer") as file:
        assert file.read() == data


def test_text_is_compressed_too_and_a_plain_name_is_not(repo, fs):
    for file, plain in (("a.txt.gz", False), ("a.txt", True)):
        with fs.open(name(repo, file), "w", compression="infer", encoding="latin-1") as text:
            text.write("große Datei")
        assert (fs.cat_file(name(repo, file)) == "große Datei".encode("latin-1")) is plain
        with fs.open(name(repo, file), "r", compression="infer", encoding="latin-1") as text:
            assert text.read() == "große Datei"


@pytest.mark.parametrize("data", [b"half", LARGE], ids=["small", "large"])
def test_half_of_a_compressed_file_is_not_published(repo, fs, hub, data):
    before = commits(hub, repo)
    for mode, half in (("wb", data), ("w", "half")):
        with suppress(ZeroDivisionError), fs.open(name(repo, "a.gz"), mode, compression="gzip") as file:
            file.write(half)
            raise ZeroDivisionError
    forgotten = fs.open(name(repo, "b.gz"), "wb", compression="gzip")
    forgotten.write(data)
    del forgotten, file
    gc.collect()
    assert commits(hub, repo) == before
    assert not fs.exists(name(repo, "a.gz"))


def test_a_transaction_publishes_compressed_files_together(repo, fs, hub):
    before = commits(hub, repo)
    with fs.transaction:
        for number in range(2):
            with fs.open(name(repo, f"{number}.gz"), "wb", compression="gzip") as file:
                file.write(b"x")
    assert commits(hub, repo) == before + 1


@pytest.mark.parametrize("compression", ["", "gzip"])
@pytest.mark.parametrize("kind", ["bucket", "dataset"])
def test_airflows_xcom_backend_keeps_values_at_the_hub(connection, make_repo, monkeypatch, kind, compression):
    where = name(make_repo(kind), "xcoms")
    settings = {"PATH": f"xethub://xethub_default@{where}", "THRESHOLD": "10", "COMPRESSION": compression}
    for setting, value in settings.items():
        monkeypatch.setenv(f"AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_{setting}", value)
    cached = [backend._get_base_path, backend._get_compression, backend._get_threshold]
    for each in cached:
        each.cache_clear()
    XetHubFileSystem.clear_instance_cache()
    try:
        value = [{"path": "a" * 100, "size": 1, "sha256": None}]
        row = type("Row", (), {})()
        stored = backend.XComObjectStorageBackend.serialize_value(
            value, key="return_value", dag_id="d", run_id="r", task_id="t", map_index=-1
        )
        row.value = stored
        assert json.dumps(value) not in str(stored)
        assert str(stored).rstrip('"').endswith(".gz") is bool(compression)
        assert backend.XComObjectStorageBackend.deserialize_value(row) == value
        backend.XComObjectStorageBackend.purge(row)
        assert backend.XComObjectStorageBackend.deserialize_value(row) == stored
    finally:
        for each in cached:
            each.cache_clear()
