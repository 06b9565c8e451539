"""fsspec's own tests of a filesystem, against ours: what ``copy``, ``get``, ``put``, ``open``, ``pipe`` have to do."""

from __future__ import annotations

import pytest
from fsspec.tests import abstract

from support.filesystem_places import name
from xethub_local.metadata.buckets import BucketFile
from xethub_local.metadata.commits import PutRegular


class Recorder:
    """Takes the calls with which fsspec fills a filesystem, so that all files can be put there at once."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def makedirs(self, path: str) -> None:
        pass

    def touch(self, path: str) -> None:
        self.files[path] = b""

    def pipe(self, path: str, value: bytes) -> None:
        self.files[path] = value


def scenario(build: str) -> object:
    """A fixture of files at the Hub. Every test has a repository of its own, so that nothing has to be cleaned up."""

    @pytest.fixture
    def fixture(self, hub, fs_repo, fs_join, fs_path):
        recorder = Recorder()
        source = getattr(self, build)(recorder, fs_join, fs_path)
        own = f"{fs_repo.repo_type}s/{fs_repo.repo_id}"
        contents = {path.removeprefix(name(fs_repo, "")): data for path, data in recorder.files.items()}
        if not fs_repo.is_bucket:
            changes = [PutRegular(path.lstrip("/"), data) for path, data in contents.items()]
            hub.commits.commit(own, "main", changes, title="prepare")
            return source
        for path, data in contents.items():
            stored = hub.content.add_plain(data, repository=own)
            hub.bucket_files.put(own, BucketFile(path.lstrip("/"), stored.size, stored.xet_hash, 0, 0.0))
        return source

    return fixture


class Fixtures(abstract.AbstractFixtures):
    repo_type = "dataset"

    fs_bulk_operations_scenario_0 = scenario("_bulk_operations_scenario_0")
    fs_glob_edge_cases_files = scenario("_glob_edge_cases_files")
    fs_dir_and_file_with_same_name_prefix = scenario("_dir_and_file_with_same_name_prefix")
    fs_10_files_with_hashed_names = scenario("_10_files_with_hashed_names")

    @pytest.fixture
    def fs_repo(self, make_repo):
        return make_repo(self.repo_type)

    @pytest.fixture
    def fs(self, fs):
        return fs

    @pytest.fixture
    def fs_join(self):
        return lambda *parts: "/".join(parts)

    @pytest.fixture
    def fs_path(self, fs_repo):
        return name(fs_repo, "base")

    @pytest.fixture
    def fs_target(self, fs_path):
        return f"{fs_path}/target"

    @pytest.fixture
    def supports_empty_directories(self, request):
        # A folder that mkdir made is remembered. One that came with its files, as in these tests, goes with them.
        return "same_name_prefix" not in request.node.name


class TestCopy(Fixtures, abstract.AbstractCopyTests):
    pass


class TestGet(Fixtures, abstract.AbstractGetTests):
    pass


class TestPut(Fixtures, abstract.AbstractPutTests):
    pass


class TestOpen(Fixtures, abstract.AbstractOpenTests):
    pass


class TestPipe(Fixtures, abstract.AbstractPipeTests):
    pass


# Patterns are matched by fsspec itself, on what a listing gives: once is enough for them.


class TestBucketCopy(TestCopy):
    repo_type = "bucket"
    test_copy_glob_edge_cases = None


class TestBucketGet(TestGet):
    repo_type = "bucket"
    test_get_glob_edge_cases = None


class TestBucketPut(TestPut):
    repo_type = "bucket"
    test_put_glob_edge_cases = None


class TestBucketOpen(TestOpen):
    repo_type = "bucket"


class TestBucketPipe(TestPipe):
    repo_type = "bucket"
