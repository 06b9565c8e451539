"""What tasks keep on disk for many files shows no secret: tables of paths, remembered digests, stored manifests."""

from __future__ import annotations

import base64
import contextlib
import gzip
import os
from pathlib import Path

import pytest

from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetDownloadOperator,
    XetListOperator,
    XetTokenOperator,
    XetUploadOperator,
)
from airflow_provider_xethub.xet import records
from airflow_provider_xethub.xet.files import digest_memory, file_systems
from airflow_provider_xethub.xet.manifests import files as manifests
from airflow_provider_xethub.xet.process import path_table
from airflow_provider_xethub.xet.transfer import remembered
from support.airflow_runs import ExecutionApi, new_dag, run_one
from support.builders import write
from support.secret_values import assert_absent

PRIVATE = b'{"internal_name": "project-hunter2", "note": "not for everybody"}\n'


@pytest.fixture
def tables(monkeypatch):
    """All tables of paths, which write to disk at once."""
    made = []
    begin = path_table.PathTable.__init__

    def noted(table):
        begin(table)
        made.append(table)

    monkeypatch.setattr(path_table, "_CACHE", -1)
    monkeypatch.setattr(path_table.PathTable, "__init__", noted)
    monkeypatch.setattr(records, "IN_MEMORY", 3)
    return made


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Folders for the provider's cache, for manifests and for temporary files, all of which are used for few files."""
    found = {name: tmp_path / name for name in ("cache", "manifests", "temporary")}
    for folder in found.values():
        folder.mkdir()
    monkeypatch.setenv("AIRFLOW__XETHUB__CACHE_FOLDER", str(found["cache"]))
    monkeypatch.setenv("AIRFLOW__XETHUB__MANIFEST_STORAGE", f"file://{found['manifests']}")
    monkeypatch.setenv("AIRFLOW__XETHUB__MANIFEST_FILES", "5")
    monkeypatch.setenv("TMPDIR", str(found["temporary"]))
    monkeypatch.setattr(manifests, "BATCH", 4)
    monkeypatch.setattr(file_systems, "by_device", lambda: {tmp_path.stat().st_dev: "ext4"})
    for name, value in (("MIN_BYTES", 0), ("VERIFIED_BYTES", 0), ("VERIFIED_SHARE", 0.0)):
        monkeypatch.setattr(remembered, name, value)
    monkeypatch.setattr(digest_memory, "SETTLED_SECONDS", 0.0)
    return found


def nameless() -> bytes:
    """Return what is in the open files of this process that have no name."""
    found = b""
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # that of this loop, closed meanwhile
            if str(link.readlink()).endswith("(deleted)"):
                found += link.read_bytes()
    return found


def test_what_is_kept_on_disk_shows_no_secret(hub, secrets, repo, tmp_path, seen, tables, places):
    given = {f"{number:02}.bin": os.urandom(3000) for number in range(12)}
    source = str(write(tmp_path / "in", {**given, "config.json": PRIVATE, "more.csv": PRIVATE}))
    where = {"repo_id": repo.repo_id, "repo_type": "dataset"}
    with new_dag():
        token = XetTokenOperator(task_id="token", scope="write", **where)
        upload = XetUploadOperator(task_id="upload", source=source, commit=False, token=token.output)
        commit = XetCommitOperator(task_id="commit", files=upload.output)
        again = XetUploadOperator(task_id="again", source=source, **where)
        look = XetListOperator(task_id="look", **where)
        download = XetDownloadOperator(
            task_id="download", files=upload.output, destination=f"{tmp_path}/out", token=token.output
        )
    api = ExecutionApi()
    on_disk = b""
    for each in (token, upload, commit, again, look, download):
        run = seen.run(run_one(each, api=api))
        assert run.state == "success", run.error
        on_disk += nameless()
    on_disk += "".join(line for table in tables for line in table._database.iterdump()).encode()
    seen.add(api.xcoms)
    kept = [path for folder in places.values() for path in folder.rglob("*") if path.is_file()]
    stored = [gzip.decompress(path.read_bytes()) for path in places["manifests"].rglob("*") if path.is_file()]
    assert b"00.bin" in b"".join(stored)
    assert b"00.bin" in on_disk
    assert [path for path in kept if path.read_bytes().startswith(b"xethub digests")]
    # The content of small files is in a file without a name, as that of all others is on the way to its destination.
    named = seen.text() + b"".join([*stored, *(path.read_bytes() for path in kept)]).decode("latin-1")
    assert_absent({*secrets(), "project-hunter2", base64.b64encode(PRIVATE).decode()[:40]}, named)
    assert_absent(secrets(), on_disk.decode("latin-1"))
