"""Comparisons of files with a listing read nothing twice where digests are remembered."""

from __future__ import annotations

import time

import pytest

from airflow_provider_xethub.xet import native_client
from airflow_provider_xethub.xet.files.found_files import open_local
from airflow_provider_xethub.xet.files.targets import local_targets
from airflow_provider_xethub.xet.transfer import existing, same_content
from airflow_provider_xethub.xet.transfer.same_content import SourceContents
from support.commit_builders import ANYWHERE, record

CONTENT = b"content"


@pytest.fixture
def path(tmp_path):
    """A file that was written before."""
    made = tmp_path / "out" / "a.bin"
    made.parent.mkdir()
    made.write_bytes(CONTENT)
    while time.time_ns() <= made.stat().st_ctime_ns + 10_000_000:
        time.sleep(0.002)
    return made


@pytest.fixture
def read(monkeypatch):
    """The names of the files that were read."""
    names = []

    def each(real):
        return lambda path, *more: names.append(path.name) or real(path, *more)

    def all_of(paths):
        names.extend(path.name for path in paths)
        return real(paths)

    for module in (existing, same_content):
        monkeypatch.setattr(module, "digest", each(module.digest))
    real = native_client.xet_hashes
    monkeypatch.setattr(native_client, "xet_hashes", all_of)
    return names


@pytest.fixture(params=["sha256", "Xet hash"])
def wanted(request, path):
    """A record of the file with one kind of digest."""
    if request.param == "sha256":
        return record(ANYWHERE, "a.bin", CONTENT, xet_hash=None)
    [xet_hash] = native_client.xet_hashes([path])
    return {**record(ANYWHERE, "a.bin", CONTENT, sha256=None, xet_hash=xet_hash), "repo": "hf://buckets/acme/b"}


def test_a_source_is_read_once(memory, path, wanted, read):
    for _ in range(2):
        assert SourceContents([open_local(path, "a.bin")], memory).equal({"a.bin": wanted}) == {"a.bin"}
    assert read == ["a.bin"]
    assert SourceContents([open_local(path, "a.bin")]).equal({"a.bin": wanted}) == {"a.bin"}
    assert read == ["a.bin"] * 2


def test_an_existing_file_is_read_once(memory, path, wanted, read):
    targets = local_targets([wanted], path.parent, single=False)
    for _ in range(2):
        assert existing.equal(targets, memory) == {path}
    assert read == ["a.bin"]
    assert existing.equal(targets, None) == {path}
    assert read == ["a.bin"] * 2
