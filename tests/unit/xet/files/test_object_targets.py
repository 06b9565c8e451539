"""Targets in an object storage with multipart uploads and metadata; with a real S3: tests/provider/xet/files."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_xethub.exceptions import XetInputError, XetIntegrityError
from airflow_provider_xethub.xet.files import object_targets
from airflow_provider_xethub.xet.files.object_storage import DIGEST, Location, Storage
from airflow_provider_xethub.xet.files.object_targets import StoredTarget, Unfinished
from airflow_provider_xethub.xet.native_client import XetHash
from airflow_provider_xethub.xet.process import temporary_names
from airflow_provider_xethub.xet.process.temporary_names import Attempt
from airflow_provider_xethub.xet.publish.commit import git_blob_id
from airflow_provider_xethub.xet.task_state import TaskState
from support.commit_builders import ANYWHERE, record
from support.folding import NFC, NFD

OUT = Location("s3", None, "bucket/out")
FIRST, SECOND = (Attempt("ab" * 6, number) for number in (1, 2))


class Store(dict):
    """The task state store of Airflow, in memory."""

    def set(self, key, value):
        self[key] = value


class Upload:
    """A multipart upload, which begins with its first part."""

    def __init__(self, fs, path, metadata):
        self._fs, self._path, self._metadata = fs, path, metadata
        self._parts = []
        self.mpu = None

    def write(self, data):
        self._parts.append(bytes(data))
        self.mpu = {"UploadId": f"upload of {self._path}"}

    def close(self):
        self._fs.pipe_file(self._path, b"".join(self._parts))
        self._fs.kept[self._path] = self._metadata

    def discard(self):
        pass


class ObjectStore(DirFileSystem):
    """As much of an S3 as targets need, in a folder."""

    cachable = False

    def __init__(self, root):
        super().__init__(str(root), LocalFileSystem(auto_mkdir=True))
        self.kept = {}
        self.aborted = []

    def split_path(self, path):
        bucket, _, key = path.partition("/")
        return bucket, key, None

    def abort_mpu(self, bucket, key, upload_id):
        self.aborted.append((bucket, key, upload_id))

    def metadata(self, path, refresh):
        if not self.exists(path):
            raise FileNotFoundError(path)
        return self.kept[path]

    def open(self, path, mode="rb", Metadata=None, **options):  # noqa: N803
        return Upload(self, path, Metadata or {}) if mode == "wb" else super().open(path, mode)


@pytest.fixture
def fs(tmp_path):
    return ObjectStore(tmp_path)


@pytest.fixture
def storage(fs):
    return Storage(fs, "s3", None, SECOND)


@pytest.fixture
def state():
    return TaskState(Store())


def files(**contents):
    return [record(ANYWHERE, f"{name}.bin", content) for name, content in contents.items()]


def targets(storage, **contents):
    return object_targets.stored_targets(files(**contents), OUT, storage, single=False)


def test_two_files_of_one_path_are_refused(storage):
    with pytest.raises(XetInputError, match=r"two of the files would be written to s3://bucket/out/a\.bin"):
        object_targets.stored_targets(files(a=b"1") * 2, OUT, storage, single=False)


def test_names_that_differ_are_different_objects(storage):
    names = ("Data.bin", "data.bin", NFC, NFD)
    object_targets.check_names([record(ANYWHERE, name, b"x") for name in names], OUT, storage, ANYWHERE.uri)


def test_a_trial_of_names_that_are_different_anyway_writes_nothing(fs, storage):
    with object_targets._DistinctNames(storage).trial("bucket/out") as trial:
        trial.create("Data.bin")
        assert (trial.has("data.bin"), trial.listed()) == (False, [])
        trial.remove("Data.bin")
    assert fs.find("") == []


def test_an_object_is_recorded_while_it_is_written_and_forgotten_afterwards(fs, storage, state):
    [target, _] = targets(storage, a=b"content", b=b"")
    unfinished, calls = Unfinished(state), []
    started = unfinished.started
    unfinished.started = lambda *of: calls.append(of) or started(*of)

    def pieces():
        assert not unfinished.from_earlier_attempt()
        yield b"cont"
        yield b"ent"
        assert unfinished.from_earlier_attempt() == {"s3://bucket/out/a.bin": "upload of bucket/out/a.bin"}

    object_targets.write(target, pieces(), unfinished)
    assert calls == [(target, "upload of bucket/out/a.bin")]
    assert unfinished._ids == {}
    assert fs.cat_file("bucket/out/a.bin") == b"content"
    assert fs.kept["bucket/out/a.bin"] == {DIGEST: target.file["sha256"]}
    unfinished.started(StoredTarget({**target.file, "path": "b.bin"}, storage, "bucket/out/b.bin"), "other")
    assert unfinished.from_earlier_attempt() == {"s3://bucket/out/b.bin": "other"}


@pytest.mark.parametrize("content", [b"damaged", b"short"])
def test_a_damaged_object_does_not_appear(fs, storage, state, content):
    [target] = targets(storage, a=b"content")
    with pytest.raises(XetIntegrityError):
        object_targets.write(target, [content], Unfinished(state))
    assert not fs.exists("bucket/out/a.bin")


def test_what_this_provider_wrote_is_unchanged(fs, storage, state):
    assert len(object_targets.missing(targets(storage, a=b"1"), threading.Event())) == 1
    for target in targets(storage, a=b"1", b=b"2", c=b"3"):
        object_targets.write(target, [{"a": b"1", "b": b"2", "c": b"3"}[target.file["path"][0]]], Unfinished(state))
    fs.kept["bucket/out/b.bin"] = {}
    wanted = targets(storage, a=b"1", b=b"2", c=b"other", d=b"4")
    missing = object_targets.missing(wanted, threading.Event())
    assert [target.file["path"] for target in missing] == ["b.bin", "c.bin", "d.bin"]
    unknown = [StoredTarget({**wanted[0].file, "sha256": None}, storage, wanted[0].path)]
    assert object_targets.missing(unknown, threading.Event()) == unknown


@pytest.mark.parametrize("attempt", [FIRST, SECOND])
def test_a_retry_aborts_what_its_earlier_attempt_left_of_its_own_targets(fs, state, attempt):
    state.remember(
        object_targets.STATE,
        {"uploads": {f"s3://bucket/{path}": path for path in ("out/a.bin", "out/b.bin", "out2/a.bin", "other")}},
    )
    storage = Storage(fs, "s3", None, attempt)
    is_retry = attempt == SECOND
    object_targets.remove_abandoned(targets(storage, a=b"1", c=b"2"), Unfinished(state), threading.Event())
    assert fs.aborted == [("bucket", "out/a.bin", "out/a.bin")] * is_retry
    fs.aborted.clear()
    object_targets.abort_abandoned(storage, OUT, state)
    assert fs.aborted == [("bucket", path, path) for path in ("out/a.bin", "out/b.bin")] * is_retry


def test_without_targets_nothing_is_asked(state):
    assert object_targets.missing([], threading.Event()) == []
    object_targets.remove_abandoned([], Unfinished(state), threading.Event())


# --- paths ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path):
    """A folder of this machine, as an object storage."""
    return Storage(LocalFileSystem(), "file", None, SECOND)


def paths(wanted, where, storage, **options):
    found = object_targets.stored_targets(wanted, where, storage, **options)
    assert [(target.file, target.storage) for target in found] == [(file, storage) for file in wanted]
    return [target.path for target in found]


def test_a_single_file_may_have_its_new_path_and_others_keep_theirs(disk, tmp_path):
    one, two = files(a=b"1"), files(a=b"1", b=b"2")
    out, below = Location("file", None, f"{tmp_path}/out"), f"{tmp_path}/out/a.bin"
    assert paths(one, out, disk, single=True) == [f"{tmp_path}/out"]
    assert paths(one, Location("file", None, f"{tmp_path}/out/"), disk, single=True) == [below]
    assert paths(one, out, disk, single=False) == [below]
    assert paths(two, out, disk, single=True) == [below, f"{tmp_path}/out/b.bin"]
    (tmp_path / "out").mkdir()
    assert paths(one, out, disk, single=True) == [below]
    assert paths(one, Location("file", None, f"{tmp_path}/X/"), disk, single=True) == [f"{tmp_path}/X/a.bin"]
    assert paths(one, Location("file", None, "/"), disk, single=False, names_checked=True) == ["/a.bin"]


@pytest.mark.parametrize("scheme", ["file", "local"])
def test_no_file_is_written_out_of_the_folder(tmp_path, scheme):
    disk = Storage(LocalFileSystem(), scheme, None)
    (tmp_path / "out" / "in").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "out" / "inner").symlink_to("in")
    out = Location("file", None, f"{tmp_path}/out")
    wanted = [record(ANYWHERE, "link/a.bin", b"1")]
    with pytest.raises(XetInputError) as caught:
        object_targets.stored_targets(wanted, out, disk, single=False)
    assert str(caught.value) == (
        f"link/a.bin of {ANYWHERE} would be written outside of file://{tmp_path}/out. It was refused."
    )
    with pytest.raises(XetInputError, match=r"'\.\./a'"):
        object_targets.stored_targets([record(ANYWHERE, "../a", b"1")], out, disk, single=False)
    inner = [record(ANYWHERE, "inner/a.bin", b"1")]
    assert paths(inner, out, disk, single=False) == [f"{tmp_path}/out/inner/a.bin"]
    linked = Location("file", None, f"{tmp_path}/out/link")
    assert paths(files(a=b"1"), linked, disk, single=False) == [f"{tmp_path}/out/link/a.bin"]


@pytest.fixture
def compared(monkeypatch):
    """What the names are compared in: kind, folder, paths and repository."""
    found = []

    def check(names, folder, paths, repo, **options):
        found.append((type(names), folder, list(paths), repo, options))

    monkeypatch.setattr(object_targets.spellings, "check", check)
    return found


def test_names_are_compared_where_two_may_be_one_file(disk, storage, tmp_path, compared):
    out = Location("file", None, f"{tmp_path}/out")
    both = files(a=b"1", b=b"2")
    object_targets.stored_targets(both, out, disk, single=False)
    object_targets.stored_targets(both[:1], out, disk, single=True)
    object_targets.check_names(both, out, disk, "hf://x")
    object_targets.check_names(both, OUT, storage, "hf://x")
    names = object_targets._Names
    folder = f"{tmp_path}/out"
    assert compared == [
        (names, folder, ["a.bin", "b.bin"], ANYWHERE.uri, {}),
        (names, str(tmp_path), ["out"], ANYWHERE.uri, {}),
        (names, folder, ["a.bin", "b.bin"], "hf://x", {"on_disk": True}),
        (object_targets._DistinctNames, "bucket/out", ["a.bin", "b.bin"], "hf://x", {"on_disk": True}),
    ]


def test_names_are_not_compared_twice_or_where_they_are_different(disk, storage, tmp_path, compared):
    out = Location("file", None, f"{tmp_path}/out")
    object_targets.stored_targets(files(a=b"1"), out, disk, single=False, names_checked=True)
    object_targets.stored_targets([], out, disk, single=False)
    object_targets.stored_targets(files(a=b"1"), OUT, storage, single=False)
    assert compared == []


def test_the_names_of_a_folder_are_those_that_it_has(disk, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").touch()
    assert object_targets._Names(disk).listed([str(tmp_path / "a"), str(tmp_path / "c")]) == [["b"], []]
    assert object_targets._Names(disk).has(f"{tmp_path}/a/b")
    assert object_targets._Names(disk).shown("/a") == "file:///a"
    with object_targets._Names(disk).trial(f"{tmp_path}/new/folder") as trial:
        assert not trial.has("x")
        trial.create("x")
        trial.create("y")
        assert trial.has("x")
        trial.remove("y")
        assert trial.listed() == ["x"]
        [place] = [path for path in tmp_path.iterdir() if path.name != "a"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"], place
    assert object_targets._DistinctNames(disk).listed(["a", "b"]) == [[], []]


# --- content ----------------------------------------------------------------------------------------------------------


def written(disk, tmp_path, file, pieces):
    [target] = object_targets.stored_targets([file], Location("file", None, f"{tmp_path}/out/"), disk, single=False)
    object_targets.write(target, iter(pieces), Unfinished(TaskState()))
    return (tmp_path / "out" / file["path"]).read_bytes()


def test_each_kind_of_digest_is_verified(disk, tmp_path):
    xet_hash = XetHash()
    xet_hash.update(b"content")
    by_hash = record(ANYWHERE, "a", b"content", sha256=None, xet_hash=xet_hash.hexdigest())
    by_blob = record(ANYWHERE, "b", b"content", sha256=None, xet_hash=None, blob_id=git_blob_id(b"content"))
    empty = record(ANYWHERE, "c", b"", sha256=None, xet_hash=None)
    assert written(disk, tmp_path, by_hash, [b"con", b"tent"]) == b"content"
    assert written(disk, tmp_path, by_blob, [b"con", b"tent"]) == b"content"
    assert written(disk, tmp_path, empty, []) == b""
    for file, kind in ((by_hash, "Xet hash"), (by_blob, "git blob sha1")):
        digest = file["blob_id"] if kind == "git blob sha1" else file["xet_hash"]
        with pytest.raises(XetIntegrityError, match=rf": {kind} is [0-9a-f]+ instead of {digest}\.$"):
            written(disk, tmp_path, {**file, "path": "new"}, [b"CONTENT"])
    with pytest.raises(XetIntegrityError, match=r": it has 8 bytes instead of 7\.$"):
        written(disk, tmp_path, {**by_hash, "path": "new"}, [b"content", b"s"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "b", "c"]


def test_the_hash_of_a_file_that_did_not_arrive_is_closed(disk, tmp_path, monkeypatch):
    closed = []
    real = XetHash.close
    monkeypatch.setattr(XetHash, "close", lambda self: closed.append(self) or real(self))
    file = record(ANYWHERE, "a", b"content", sha256=None)

    def pieces():
        yield b"con"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        written(disk, tmp_path, file, pieces())
    assert len(closed) == 1


def test_what_an_earlier_attempt_left_beside_the_targets_is_removed(disk, tmp_path, state):
    for folder in ("out", "out/d"):
        (tmp_path / folder).mkdir()
        for path in ("a.bin", "b.bin", "c.bin"):
            (tmp_path / folder / temporary_names.new_name(path, FIRST)).touch()
    wanted = [record(ANYWHERE, path, b"1") for path in ("a.bin", "b.bin", "d/a.bin")]
    found = object_targets.stored_targets(wanted, Location("file", None, f"{tmp_path}/out"), disk, single=False)
    object_targets.remove_abandoned(found, Unfinished(state), threading.Event())
    assert len(list((tmp_path / "out").glob(".*"))) == 1
    assert len(list((tmp_path / "out" / "d").glob(".*"))) == 2
    (tmp_path / "out" / temporary_names.new_name("a.bin", FIRST)).touch()
    object_targets.remove_abandoned(found[:1], Unfinished(state), threading.Event())
    assert len(list((tmp_path / "out").glob(".*"))) == 1


class Uncased(DirFileSystem):
    """A share that ignores the case of names, but knows composed from decomposed ones."""

    protocol = "share"
    cachable = False

    def __init__(self, root):
        super().__init__(str(root), LocalFileSystem())

    def _join(self, path):
        folder, _, name = path.rpartition("/")
        return super()._join(f"{folder}/{name.upper()}" if name.lower().startswith("caf") else path)


def test_of_three_names_the_two_that_are_one_file_are_named(tmp_path):
    storage = Storage(Uncased(tmp_path), "share", None)
    three = [record(ANYWHERE, name, b"x") for name in (NFC, NFD, NFC.upper())]
    with pytest.raises(XetInputError, match=r"would share one file") as refused:
        object_targets.check_names(three, Location("share", None, "out"), storage, ANYWHERE.uri)
    assert NFD not in str(refused.value)
    with suppress(FileNotFoundError):
        assert list(tmp_path.rglob("*.BIN")) == []
