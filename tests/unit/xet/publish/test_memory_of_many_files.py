"""The memory of an upload of many files: it does not grow with their number, not even in a retry."""

from __future__ import annotations

import gc
import logging
import sys
import tracemalloc
from contextlib import nullcontext

import pytest

from airflow_provider_xethub.xet import records
from airflow_provider_xethub.xet.files.digest_memory import FileState
from airflow_provider_xethub.xet.files.found_files import FoundFiles, LocalFile
from airflow_provider_xethub.xet.hub import preupload
from airflow_provider_xethub.xet.hub.preupload import UploadMode
from airflow_provider_xethub.xet.manifests.spool import spooled
from airflow_provider_xethub.xet.process import path_table
from airflow_provider_xethub.xet.publish import commit
from airflow_provider_xethub.xet.publish.publisher import RepositoryDestination
from airflow_provider_xethub.xet.publish.records_on_disk import batches
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.publish.sources import SourceFiles
from airflow_provider_xethub.xet.records import no_transfer, xet_file_record
from airflow_provider_xethub.xet.repo import Repo

REPO = Repo("acme/corpus", "dataset")
FEW, MANY = 200, 1000
MOST_FOR_A_FILE = 40
"""Bytes, fewer than a path takes."""


class Hub:
    """Keeps the commits that it is sent, without their files."""

    endpoint, timeout = "https://hub.example", 30.0

    def __init__(self):
        self.commits = []
        self.most = 0

    def measure(self):
        gc.collect()
        self.most = max(self.most, tracemalloc.get_traced_memory()[0])

    def latest_commits(self, repo, limit=1):
        return self.commits[:limit]

    def json(self, method, path, **options):
        return {"commitOid": f"{len(self.commits) + 1:040x}"}

    def reading(self, about):
        return nullcontext()

    def commit_record(self, repo, oid, title, description):
        made = {"repo": repo.uri, "oid": oid, "title": title, "description": description, "url": oid}
        self.commits.insert(0, made)
        return made

    def get_files(self, repo, paths):
        self.measure()
        return []


def published(hub, count):
    """Upload so many files that do not exist, commit them, and write the manifest of the result."""

    def upload(work):
        hub.measure()
        files = [
            xet_file_record(file.path_in_repo, 1024, REPO.uri, sha256=f"{file.state.inode:064x}", xet_hash="ab" * 32)
            for file in work.keywords["files"]
        ]
        return {"files": files, "transfer": no_transfer()}

    found = FoundFiles()
    for number in range(count):
        path = f"folder/{number:07}.bin"
        found.add(LocalFile(f"/data/{path}", path, FileState(1, number, 1024, 0, 0)))
    sources = SourceFiles(found, upload)
    request = CommitRequest(REPO, sources.records(REPO), idempotency_key=str(count))
    result, _ = RepositoryDestination(hub).publish(request, sources)
    spool = spooled(batches(result["files"]))
    hub.measure()
    assert (spool.totals.file_count, len(result["commits"])) == (count, 1)


def grown(hub, count):
    """Return by how many bytes the memory in use grew at most."""
    gc.collect()
    hub.most, before = 0, tracemalloc.get_traced_memory()[0]
    published(hub, count)
    return hub.most - before


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(records, "IN_MEMORY", 40)
    monkeypatch.setattr(path_table, "_ROWS", 40)
    monkeypatch.setattr(commit, "parents", lambda hub, repo, oids: {oids[0]: "0" * 40})
    monkeypatch.setattr(LocalFile, "sample", b"")
    in_cas = UploadMode(False, None, False)
    monkeypatch.setattr(preupload, "upload_modes", lambda _, __, files, **___: {each["path"]: in_cas for each in files})


@pytest.fixture
def traced(monkeypatch):
    logging.disable()  # pytest keeps what is logged, and each batch logs a line
    # pathlib interns parts of paths, in a table that grows by megabytes, now and then, with all tests before.
    monkeypatch.setattr(sys, "intern", str)
    published(Hub(), FEW)  # loads what is loaded once
    gc.freeze()  # everything else need not be looked through
    trace = sys.gettrace()
    sys.settrace(None)  # make coverage keeps memory for what runs
    tracemalloc.start(1)
    yield
    tracemalloc.stop()
    sys.settrace(trace)
    gc.unfreeze()
    logging.disable(logging.NOTSET)


def test_an_upload_and_its_retry_take_no_more_memory_for_more_files(small_batches, traced):
    one, other = Hub(), Hub()
    more = grown(other, MANY) - grown(one, FEW)
    more_again = grown(other, MANY) - grown(one, FEW)
    assert len(other.commits) == 1, "the retry has found it"
    assert max(more, more_again) / (MANY - FEW) < MOST_FOR_A_FILE
