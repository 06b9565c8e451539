"""Looking and reading through ``ObjectStoragePath``: a real Hub and CAS, Airflow's own paths, fsspec's own rules."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading
import time
from datetime import datetime, timezone
from importlib import import_module

import pytest
from airflow.sdk import ObjectStoragePath

from airflow_provider_xethub.exceptions import (
    XetInputError,
    XetNotFoundError,
    XetRevisionNotFoundError,
)
from airflow_provider_xethub.fs.xethub import XetHubFileSystem
from airflow_provider_xethub.hooks.storage import open_storage
from airflow_provider_xethub.xet.files import sources
from airflow_provider_xethub.xet.repo import Repo
from support.builders import TEXT, binary, publish
from support.filesystem_places import at, name
from support.small_server import Answer, SmallServer

pytestmark = pytest.mark.airflow

try:
    from airflow.sdk.io import get_fs
except ImportError:  # Airflow 3.0
    get_fs = import_module("airflow.io").get_fs

PLANS, DATA = "GET /cas/.*/reconstructions/.*", "GET /cas/.*/data/.*"


@pytest.fixture
def filled(repo, fs, tmp_path):
    publish(
        repo, tmp_path, {"a/b.bin": binary(3_000_000), "a/deep/c.bin": binary(20, 1), "a/t.csv": TEXT, "z.bin": b"\0"}
    )
    return repo


def pickled(path: ObjectStoragePath) -> ObjectStoragePath:
    return pickle.loads(pickle.dumps(path))  # noqa: S301


# --- names ------------------------------------------------------------------------------------------------------------


def test_airflow_has_one_filesystem_for_the_scheme_and_it_is_ours_only_with_a_connection(connection):
    from huggingface_hub import HfFileSystem

    assert type(get_fs("hf", "xethub_default")) is type(get_fs("xethub", "xethub_default")) is XetHubFileSystem
    assert type(get_fs("hf")) is HfFileSystem
    # What fsspec itself knows as hf:// stays what it was.
    import fsspec

    assert fsspec.get_filesystem_class("hf") is HfFileSystem


def test_our_own_scheme_without_a_connection_is_the_default_one_for_everything(filled, fs, hub, monkeypatch):
    from huggingface_hub import constants

    def everything(path):
        with path.open("rb") as file:
            yield file.read()
        yield path.read_bytes()
        yield path.fs.cat_file(path.path)
        yield (path.parent / "t.csv").read_bytes()
        yield from (each.read_bytes() for each in path.parent.glob("*.csv"))
        yield from (each.read_bytes() for each in path.parent.iterdir() if each.name == "t.csv")
        assert path.exists()
        assert path.stat().st_size == len(TEXT)

    with SmallServer(Answer({}, status=404)) as elsewhere:
        monkeypatch.setattr(constants, "ENDPOINT", elsewhere.url)
        monkeypatch.setenv("HF_TOKEN", "hf_of_the_environment")
        bare = ObjectStoragePath(f"xethub://{name(filled, 'a/t.csv')}")
        full = at(filled, "a/t.csv", "xethub")
        for path in (bare, *(copied(each) for each in (bare, full) for copied in (copy.deepcopy, pickled))):
            assert [*everything(path)] == [TEXT] * 6
            assert type(path.fs) is XetHubFileSystem
            assert path.fs.conn_id == "xethub_default"
        for address in (str(bare), f"xethub://@{name(filled, 'a/t.csv')}"):
            assert [file.size for file in sources.collect(address, None, None, open_storage)] == [len(TEXT)]
        (bare.parent / "written.txt").write_text("w")
        assert (bare.parent / "written.txt").exists()
        with (bare.parent / "opened.txt").open("w") as file:
            file.write("o")
        assert [(bare.parent / "opened.txt").exists(), full.with_name("opened.txt").exists()] == [True, True]
        (bare.parent / "made").mkdir()
        assert bare.fs.isdir(f"{bare.parent.path}/made")
    assert elsewhere.asked == []


def test_an_address_of_another_scheme_without_a_connection_is_not_ours(connection):
    from huggingface_hub import HfFileSystem

    assert type(get_fs("xethub")) is XetHubFileSystem
    assert get_fs("xethub").conn_id == "xethub_default"
    assert get_fs("xethub") is get_fs("xethub", "xethub_default")
    assert type(get_fs("hf")) is HfFileSystem


def test_to_write_a_path_down_in_a_dag_file_reads_no_connection_and_loads_no_client():
    code = (
        "from airflow.sdk import ObjectStoragePath; import sys, huggingface_hub\n"  # UPath itself imports that
        "path = ObjectStoragePath('hf://nowhere@datasets/acme/corpus/a.csv'); path.fs\n"
        "ours = {'airflow_provider_xethub.xet.hub.client', 'airflow_provider_xethub.hooks.xethub'}\n"
        "loaded = {'hf_xet', *ours} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- looking ----------------------------------------------------------------------------------------------------------


def test_folders_are_listed_as_airflow_and_fsspec_do_it(filled, fs):
    root = name(filled)
    assert [path.name for path in sorted(at(filled).iterdir(), key=str)] == [".gitattributes", "a", "z.bin"]
    assert fs.find(f"{root}/a") == [f"{root}/a/{each}" for each in ("b.bin", "deep/c.bin", "t.csv")]
    assert fs.glob(f"{root}/**/*.bin") == [f"{root}/{each}" for each in ("a/b.bin", "a/deep/c.bin", "z.bin")]
    assert fs.glob(f"{root}/a/*.bin") == [f"{root}/a/b.bin"]
    assert list(fs.walk(f"{root}/a")) == [
        (f"{root}/a", ["deep"], ["b.bin", "t.csv"]),
        (f"{root}/a/deep", [], ["c.bin"]),
    ]
    assert fs.du(f"{root}/a") == 3_000_000 + 20 + len(TEXT)
    assert fs.ls(f"{root}/z.bin", detail=False) == [f"{root}/z.bin"]
    for missing in (f"{root}/none", f"{root}/z.bin/none", f"{root}/a/none.bin"):
        with pytest.raises(FileNotFoundError):
            fs.ls(missing)
        assert fs.find(missing) == []
        assert not fs.exists(missing)


def test_a_bucket_is_listed_like_a_repository(make_repo, fs, tmp_path):
    bucket = make_repo("bucket")
    publish(bucket, tmp_path, {"a/b.bin": binary(99, 2), "a/deep/er/c.bin": binary(20, 1)})
    root = name(bucket)
    assert fs.ls(root, detail=False) == [f"{root}/a"]
    assert list(fs.walk(f"{root}/a")) == [
        (f"{root}/a", ["deep"], ["b.bin"]),
        (f"{root}/a/deep", ["er"], []),
        (f"{root}/a/deep/er", [], ["c.bin"]),
    ]
    assert fs.isdir(f"{root}/a/deep")
    assert not fs.exists(f"{root}/a/de")
    assert fs.cat_file(f"{root}/a/b.bin") == binary(99, 2)
    assert fs.info(f"{root}/a/b.bin")["LastModified"] <= datetime.now(timezone.utc)
    with pytest.raises(FileNotFoundError):
        fs.ls(f"{root}/none")
    with pytest.raises(FileNotFoundError):
        fs.ls(name(Repo("local/no-such-bucket", "bucket")))


def test_info_tells_what_the_hub_knows(filled, fs, hook):
    (known,) = hook.get_files(filled, ["a/b.bin"])
    info = fs.info(name(filled, "a/b.bin"))
    assert {key: info[key] for key in ("size", "type", "xet_hash", "sha256", "ETag")} == {
        "size": 3_000_000,
        "type": "file",
        "xet_hash": known["xet_hash"],
        "sha256": known["sha256"],
        "ETag": known["sha256"],
    }
    assert fs.info(name(filled, "a/t.csv"))["blob_id"] == hook.get_files(filled, ["a/t.csv"])[0]["blob_id"]
    assert (
        fs.info(name(filled, "a"))["type"]
        == fs.info(name(filled))["type"]
        == fs.info("datasets")["type"]
        == "directory"
    )
    assert fs.info(name(filled, "z.bin"), expand=True)["last_commit"] == hook.get_latest_commit(filled)["oid"]
    assert fs.modified(name(filled, "z.bin")) <= datetime.now(timezone.utc)
    assert at(filled, "a/b.bin").stat().st_size == 3_000_000
    assert not fs.exists("datasets/local/no-such-repository/x")
    with pytest.raises(XetInputError, match="does not name a repository"):
        fs.ls("datasets/local")


def test_what_was_listed_is_not_asked_again_for_a_moment(filled, fs, hub, monkeypatch):
    root = name(filled)
    fs.find(root)
    hub.log.clear()
    assert fs.isfile(f"{root}/a/b.bin")
    assert fs.isdir(f"{root}/a/deep")
    assert len(fs.ls(f"{root}/a")) == 3
    assert not hub.log.requests()
    fs.ls(f"{root}/a", refresh=True)
    assert len(hub.log.requests("GET /api/.*/tree/.*")) == 1
    # What somebody else commits is seen when the listing is old.
    hub.log.clear()
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + 11)
    assert len(fs.ls(f"{root}/a")) == 3
    assert len(hub.log.requests("GET /api/.*/tree/.*")) == 1


def test_what_is_missing_is_a_file_not_found_and_what_is_refused_is_not(filled, fs, hub, connection):
    with pytest.raises(FileNotFoundError) as missing:
        at(filled, "none.bin").open("rb")
    assert isinstance(missing.value, XetNotFoundError)
    assert "none.bin does not exist" in str(missing.value)
    with pytest.raises(XetRevisionNotFoundError) as no_revision:
        fs.open(name(filled.at("no-such")) + "/z.bin")
    assert isinstance(no_revision.value, FileNotFoundError)
    with pytest.raises(IsADirectoryError):
        fs.open(name(filled, "a"))
    connection(password="hf_wrong")
    XetHubFileSystem.clear_instance_cache()
    stranger = XetHubFileSystem("xethub_default")
    for look in (stranger.exists, stranger.isfile, stranger.isdir, stranger.info, stranger.ls):
        with pytest.raises(PermissionError):
            look(name(filled, "z.bin"))


# --- reading ----------------------------------------------------------------------------------------------------------


def test_ranges_come_from_cas_and_only_they(filled, fs, hub):
    whole = binary(3_000_000)
    path = name(filled, "a/b.bin")
    hub.log.clear()
    with fs.open(path, "rb", block_size=1000) as file:
        file.seek(2_000_000)
        assert file.read(100) == whole[2_000_000:2_000_100]
        file.seek(-7, 2)
        assert file.read() == whole[-7:]
        assert file.read() == b""
    assert fs.cat_file(path, 5, 17) == whole[5:17]
    assert fs.cat_file(path, -5) == whole[-5:]
    assert fs.head(path, 9) == whole[:9]
    assert fs.tail(path, 9) == whole[-9:]
    assert fs.read_block(path, 3, 4) == whole[3:7]
    assert hub.log.requests(DATA)
    assert not hub.log.requests("GET .*/resolve/.*")


def test_only_what_is_needed_arrives(filled, fs, hub):
    with fs.open(name(filled, "a/b.bin"), "rb", block_size=1000) as file:
        hub.log.clear()
        file.seek(1_500_000)
        file.read(1000)
    received = sum(each.bytes_out for each in hub.log.counters() if "/data/" in each.route)
    assert 1000 < received < 500_000


def test_text_and_inline_files_are_read_like_others(filled, fs, hub):
    with at(filled, "a/t.csv").open("r", encoding="ascii") as file:
        assert file.readlines() == TEXT.decode().splitlines(keepends=True)
    assert fs.cat_file(name(filled, "a/t.csv"), 2, 4) == TEXT[2:4]
    assert not hub.log.requests(PLANS)
    assert fs.cat(fs.glob(name(filled, "a/*.csv"))) == {name(filled, "a/t.csv"): TEXT}


def test_revisions_have_their_own_files(filled, fs, hub, tmp_path):
    hub.repositories.create_branch(f"datasets/{filled.repo_id}", "feature/x")
    publish(filled, tmp_path / "later", {"z.bin": binary(7, 3)})
    assert fs.cat_file(name(filled, "z.bin")) == binary(7, 3)
    old = at(filled.at("feature/x"), "z.bin")
    assert "@feature%2Fx/z.bin" in str(old)
    assert old.open("rb").read() == b"\0"
    assert fs.find(name(filled.at("feature/x")))[-1] == name(filled.at("feature/x"), "z.bin")


def test_an_open_file_stays_what_it_was(filled, fs, tmp_path):
    files = {"a/b.bin": binary(3_000_000), "a/t.csv": TEXT}
    opened = {path: fs.open(name(filled, path)) for path in files}
    publish(filled, tmp_path / "later", {"a/b.bin": binary(3_000_000, "other"), "a/t.csv": b"x,y\n" * 9})
    for path, content in files.items():
        assert opened[path].read() == content
    fs.invalidate_cache()
    assert fs.cat_file(name(filled, "a/t.csv")) == b"x,y\n" * 9


def test_an_old_listing_does_not_mix_two_versions_of_an_inline_file(filled, fs, tmp_path):
    fs.find(name(filled))
    publish(filled, tmp_path / "later", {"a/t.csv": b"x,y\n" * 9})
    assert fs.cat_file(name(filled, "a/t.csv")) == b"x,y\n" * 9


def test_many_threads_read_at_the_same_time(filled, fs, hub):
    whole = binary(3_000_000)
    wrong = []

    def read(number):
        with fs.open(name(filled, "a/b.bin"), block_size=5000) as file:
            for start in range(number * 10_000, 3_000_000, 400_000):
                file.seek(start)
                wrong.extend([start] if file.read(9000) != whole[start : start + 9000] else [])

    threads = [threading.Thread(target=read, args=(number,)) for number in range(16)]
    hub.log.clear()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert not wrong
    assert len(hub.log.requests("GET /api/.*token/.*")) <= 1


def test_it_travels_by_the_id_of_its_connection_only(filled, fs, hub):
    fs.cat_file(name(filled, "z.bin"))
    blob = pickle.dumps(fs)
    for text in (blob.decode("latin1"), fs.to_json(), repr(fs), str(vars(fs))):
        assert hub.token() not in text
        assert not [token for token in hub.access.issued_xet_tokens() if token in text]
    assert pickle.loads(blob).cat_file(name(filled, "z.bin")) == b"\0"  # noqa: S301 - our own
    with fs.open(name(filled, "a/b.bin")) as file:
        file.seek(9)
        assert pickle.loads(pickle.dumps(file)).read(3) == binary(3_000_000)[9:12]  # noqa: S301 - our own
    path = ObjectStoragePath.deserialize(at(filled, "z.bin").serialize(), 1)
    assert path == at(filled, "z.bin")
    assert path.open("rb").read() == b"\0"


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_process_that_is_forked_opens_its_own(filled, fs):
    assert fs.cat_file(name(filled, "a/b.bin"), 0, 5) == binary(3_000_000)[:5]
    before = fs.hook
    child = os.fork()
    if not child:
        good = fs.cat_file(name(filled, "a/b.bin"), 5, 9) == binary(3_000_000)[5:9]
        good = good and fs.hook is not before
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
