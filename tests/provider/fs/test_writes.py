"""Writing, moving and deleting through ``ObjectStoragePath``: each is a commit, or none at all."""

from __future__ import annotations

import gc
import threading

import pytest

from airflow_provider_xethub.exceptions import XetHubError, XetInputError, XetServerError
from airflow_provider_xethub.fs import open_files, transactions
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.cas import session as cas_session
from airflow_provider_xethub.xet.cas import uploads as cas_uploads
from airflow_provider_xethub.xet.publish.request import CommitRequest
from support.builders import TEXT, binary, commits, content, names, publish, write
from support.filesystem_places import at, name
from xethub_local.control.faults import Fault

XORBS = "POST /cas/.*/v1/xorb(s|-grants)/.*|PUT /cas/.*/uploads/.*"
LARGE = 20_000_000


@pytest.fixture
def filled(repo, fs, tmp_path):
    publish(repo, tmp_path, {"a/b.bin": binary(50_000), "a/deep/c.bin": binary(20, 1), "a/t.csv": TEXT, "z.bin": b"\0"})
    return repo


def paths(repo) -> list[str]:
    return [file["path"] for file in XetHubConnection().list_files(repo) if file["path"] != ".gitattributes"]


# --- writing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size", [0, 1, 5000, open_files.IN_MEMORY - 1, open_files.IN_MEMORY, open_files.IN_MEMORY + 1, LARGE]
)
def test_a_file_becomes_a_commit_when_it_is_closed(size, repo, fs, hub, tmp_path):
    whole = binary(size, size)
    before = commits(hub, repo)
    with at(repo, "out/x.bin").open("wb") as file:
        for start in range(0, size, 3_000_000):
            assert file.write(whole[start : start + 3_000_000]) == len(whole[start : start + 3_000_000])
        assert commits(hub, repo) == before
    assert commits(hub, repo) == before + 1
    assert content(hub, repo, "out/x.bin", tmp_path) == whole
    assert fs.cat_file(name(repo, "out/x.bin")) == whole
    assert file.published["oid"] == XetHubConnection().get_latest_commit(repo)["oid"]
    assert file.published["title"] == "Write out/x.bin"


def test_text_goes_inline_and_a_message_goes_with_it(repo, fs, hub, tmp_path):
    hub.log.clear()
    with at(repo, "notes.txt").open("w", encoding="utf-8", commit_message="Nächste") as file:
        file.write("grün\n")
    assert content(hub, repo, "notes.txt", tmp_path) == "grün\n".encode()
    assert XetHubConnection().get_latest_commit(repo)["title"] == "Nächste"
    assert not hub.log.requests("POST /cas/.*")


def test_a_large_file_is_on_its_way_while_it_is_written(repo, fs, hub):
    with at(repo, "x.bin").open("wb") as file:
        for number in range(24):
            file.write(binary(4 << 20, f"way{number}"))
        assert hub.log.requests("POST /cas/.*|PUT /cas/.*")
    assert fs.info(name(repo, "x.bin"))["size"] == 96 << 20


@pytest.mark.parametrize("size", [10, LARGE])
@pytest.mark.parametrize("mode", ["wb", "w"])
def test_what_an_exception_leaves_is_not_published(size, mode, repo, fs, hub):
    before = commits(hub, repo)
    data = binary(size) if mode == "wb" else "x" * size

    def fail():
        with at(repo, "x.bin").open(mode) as file:
            file.write(data)
            raise RuntimeError("the task failed")

    with pytest.raises(RuntimeError, match="the task failed"):
        fail()
    gc.collect()
    assert commits(hub, repo) == before
    assert not paths(repo)


@pytest.mark.parametrize("mode", ["wb", "w"])
def test_what_nobody_closes_is_not_published(mode, repo, fs, hub, caplog):
    before = commits(hub, repo)
    file = fs.open(name(repo, "x.txt"), mode)
    file.write(b"half" if mode == "wb" else "half")
    del file
    gc.collect()
    assert commits(hub, repo) == before
    assert "never closed" in caplog.text


def test_what_cas_does_not_take_is_not_published(repo, fs, hub, connection, monkeypatch):
    connection(extra={"stall_timeout": 30})  # a hang would be seen as what it is
    monkeypatch.setattr(cas_session, "RETRIES", 0)
    monkeypatch.setattr(cas_uploads, "_STALL_SECONDS", 0.5)
    hub.faults.add(Fault(XORBS, status=500))
    before = commits(hub, repo)
    with pytest.raises(XetHubError):
        fs.pipe_file(name(repo, "x.bin"), binary(LARGE, "refused"))
    broken = fs.open(name(repo, "x.bin"), "wb")

    def fill():
        for number in range(60):
            broken.write(binary(4 << 20, f"refused{number}"))

    with pytest.raises(XetHubError):
        fill()
    with pytest.raises(XetHubError, match="not written in full"):
        broken.close()
    assert commits(hub, repo) == before


def test_a_refused_commit_is_an_error_of_close(repo, fs, hub, monkeypatch):
    monkeypatch.setattr("airflow_provider_xethub.xet.hub.client.MAX_TRIES", 1)
    hub.faults.add(Fault("POST /api/.*/commit/.*", status=503))
    with pytest.raises(XetServerError), at(repo, "x.txt").open("w") as file:
        file.write("x")
    assert file.closed


def test_a_file_that_is_written_for_longer_than_a_token_lives(repo, fs, hub, tmp_path):
    hub.access.token_life = 33  # the client wants the next one 30 s before the expiry: each is used for 3 s
    whole = binary(LARGE, "slow")
    with at(repo, "x.bin").open("wb") as file:
        file.write(whole[: open_files.IN_MEMORY + 5])
        issued = len(hub.access.issued_xet_tokens())
        threading.Event().wait(3.5)
        file.write(whole[open_files.IN_MEMORY + 5 :])
    assert len(hub.access.issued_xet_tokens()) > issued
    assert content(hub, repo, "x.bin", tmp_path) == whole


def test_modes_are_those_that_the_hub_can_do(filled, fs):
    with pytest.raises(FileExistsError):
        fs.open(name(filled, "z.bin"), "xb")
    with fs.open(name(filled, "new.txt"), "x") as file:
        file.write("new")
    assert fs.cat_file(name(filled, "new.txt")) == b"new"
    with pytest.raises(NotImplementedError):
        fs.open(name(filled, "z.bin"), "ab")
    for bad in (name(filled), name(filled, "a/../b"), "datasets/acme", name(filled, ".git/x")):
        with pytest.raises(XetInputError):
            fs.open(bad, "wb")
    with pytest.raises(XetInputError, match="compression 'squeeze' is not available here; use one of infer, "):
        fs.open(name(filled, "x.gz"), "wb", compression="squeeze")


def test_the_same_content_once_more_is_no_commit(filled, fs, hub):
    before = commits(hub, filled)
    for path, data in (("a/b.bin", binary(50_000)), ("a/t.csv", TEXT)):
        fs.pipe_file(name(filled, path), data)
    assert commits(hub, filled) == before


# --- transactions -----------------------------------------------------------------------------------------------------


def test_a_transaction_is_one_commit(repo, fs, hub, tmp_path, monkeypatch):
    monkeypatch.setattr(transactions, "MAX_BYTES_IN_MEMORY", 10_000)
    wanted = {"a.txt": b"a", "b/c.bin": binary(6000, 1), "d.bin": binary(7000, 2), "e.bin": binary(LARGE, 3), "f": b""}
    before = commits(hub, repo)
    with fs.transaction:
        for path, data in wanted.items():
            with at(repo, path).open("wb") as file:
                file.write(data)
        assert commits(hub, repo) == before
    assert commits(hub, repo) == before + 1
    assert {path: content(hub, repo, path, tmp_path) for path in wanted} == wanted
    with at(repo, "later.txt").open("w") as file:
        file.write("no transaction any more")
    assert commits(hub, repo) == before + 2


def test_a_transaction_that_fails_publishes_nothing(repo, fs, hub):
    before = commits(hub, repo)

    def fail():
        with fs.transaction:
            fs.pipe_file(name(repo, "a.txt"), b"a")
            fs.pipe_file(name(repo, "b.bin"), binary(LARGE, 3))
            raise RuntimeError("the task failed")

    def leave_open():
        with fs.transaction:
            fs.pipe_file(name(repo, "a.txt"), b"a")
            fs.open(name(repo, "b.txt"), "wb").write(b"b")

    with pytest.raises(RuntimeError):
        fail()
    with pytest.raises(XetInputError, match=r"b\.txt was not closed"):
        leave_open()
    assert commits(hub, repo) == before
    fs.pipe_file(name(repo, "c.txt"), b"c")
    assert paths(repo) == ["c.txt"]


def test_a_transaction_is_that_of_one_thread_and_a_commit_for_each_repository(repo, make_repo, fs, hub):
    other = make_repo("model")
    with fs.transaction:
        fs.pipe_file(name(repo, "a.txt"), b"a")
        fs.pipe_file(name(other, "a.txt"), b"a")
        thread = threading.Thread(target=fs.pipe_file, args=(name(repo, "own.txt"), b"own"))
        thread.start()
        thread.join()
        assert paths(repo) == ["own.txt"]
    assert paths(repo) == ["a.txt", "own.txt"]
    assert paths(other) == ["a.txt"]


def test_a_folder_is_put_in_one_commit_and_comes_back(repo, fs, hub, tmp_path):
    wanted = {"x.csv": TEXT, "deep/y.bin": binary(5000, 8), "deep/z.bin": binary(LARGE, 9)}
    source = write(tmp_path / "in", wanted)
    before = commits(hub, repo)
    fs.put(f"{source}/", name(repo, "put"), recursive=True)
    assert commits(hub, repo) == before + 1
    assert paths(repo) == sorted(f"put/{path}" for path in wanted)
    fs.get(name(repo, "put") + "/", str(tmp_path / "out"), recursive=True)
    assert {path: (tmp_path / "out" / path).read_bytes() for path in wanted} == wanted


def test_a_folder_is_put_by_the_rule_of_every_upload(repo, fs, tmp_path):
    left_out = [".git/config", "vendor/.git", "deep/.cache/huggingface/x", "deep/.1-2.xetpart"]
    source = write(tmp_path / "in", dict.fromkeys(["x.csv", "deep/y.csv", "vendor/z.csv", *left_out], TEXT))
    (source / "alias.csv").symlink_to("x.csv")
    (source / "latest").symlink_to("deep")
    (source / "deep/up").symlink_to("..")
    taken = ["alias.csv", "deep/y.csv", "vendor/z.csv", "x.csv"]
    fs.put(f"{source}/", name(repo, "1"), recursive=True)
    assert paths(repo) == [f"1/{path}" for path in taken]
    assert not fs.exists(name(repo, "1/latest"))
    fs.put(f"{source}/*", name(repo, "2/"), recursive=True)
    fs.put([str(source)], name(repo, "3"), recursive=True)
    assert [path for path in paths(repo) if path[0] == "2"] == [f"2/{path}" for path in taken]
    assert len([path for path in paths(repo) if path[0] == "3"]) == len(taken)


@pytest.mark.parametrize("given", ["in/", "in/*", "in/*.csv"])
def test_a_link_that_leads_out_of_a_folder_is_not_put(repo, fs, tmp_path, given):
    write(tmp_path, {"in/x.csv": TEXT, "secret": TEXT})
    (tmp_path / "in/link.csv").symlink_to("../secret")
    with pytest.raises(XetInputError, match="1 link in the source leads out of it"):
        fs.put(f"{tmp_path}/{given}", name(repo, "put"), recursive=True)
    assert paths(repo) == []
    fs.put(f"{tmp_path}/in/link.csv", name(repo, "named.csv"))
    fs.put_file(f"{tmp_path}/in/link.csv", name(repo, "too.csv"))
    assert paths(repo) == ["named.csv", "too.csv"]


# --- changing ---------------------------------------------------------------------------------------------------------


def test_files_and_folders_are_deleted_in_one_commit(filled, fs, hub):
    before = commits(hub, filled)
    with pytest.raises(IsADirectoryError):
        fs.rm(name(filled, "a"))
    with pytest.raises(FileNotFoundError):
        fs.rm([name(filled, "z.bin"), name(filled, "none.bin")])
    with pytest.raises(XetInputError):
        fs.rm(name(filled), recursive=True)
    assert commits(hub, filled) == before
    fs.rm([name(filled, "a/deep"), name(filled, "a/*.csv")], recursive=True)
    assert paths(filled) == ["a/b.bin", "z.bin"]
    assert commits(hub, filled) == before + 1
    assert not fs.exists(name(filled, "a/deep"))
    fs.rm_file(name(filled, "z.bin"))
    assert paths(filled) == ["a/b.bin"]


def test_a_move_is_one_commit_and_moves_no_bytes(filled, fs, hub):
    before, old = commits(hub, filled), fs.info(name(filled, "a/b.bin"))
    hub.log.clear()
    fs.mv(name(filled, "a"), name(filled, "moved"), recursive=True)
    assert paths(filled) == ["moved/b.bin", "moved/deep/c.bin", "moved/t.csv", "z.bin"]
    assert commits(hub, filled) == before + 1
    assert not hub.log.requests("(PUT|POST) /cas/.*")
    assert fs.info(name(filled, "moved/b.bin"))["xet_hash"] == old["xet_hash"]
    fs.mv(name(filled, "z.bin"), name(filled, "z.bin"))
    fs.mv(name(filled, "z.bin"), name(filled, "y.bin"))
    assert "y.bin" in paths(filled)
    assert "z.bin" not in paths(filled)
    with pytest.raises(FileNotFoundError):
        fs.mv(name(filled, "none.bin"), name(filled, "y2.bin"))


@pytest.mark.parametrize(("source", "target"), [("dataset", "model"), ("dataset", "bucket"), ("bucket", "bucket"),
                                                ("bucket", "dataset")])  # fmt: skip
@pytest.mark.parametrize("move", [False, True])
def test_files_are_copied_between_repositories_and_buckets(source, target, move, make_repo, fs, hub, tmp_path):
    here, there = make_repo(source), make_repo(target)
    wanted = {"b.bin": binary(50_000, f"{source}{target}{move}"), "deep/t.csv": TEXT}
    publish(here, tmp_path, {f"a/{path}": data for path, data in wanted.items()})
    before = None if target == "bucket" else commits(hub, there)
    (fs.mv if move else fs.copy)(name(here, "a") + "/", name(there, "x"), recursive=True)
    assert {path: fs.cat_file(name(there, f"x/{path}")) for path in wanted} == wanted
    assert paths(here) == ([] if move else ["a/b.bin", "a/deep/t.csv"])
    if before is not None:
        assert commits(hub, there) == before + 1


def test_a_bucket_takes_files_too(make_repo, fs):
    bucket = make_repo("bucket")
    with fs.transaction:
        for path, size in (("a.txt", 3), ("b.bin", LARGE), ("empty", 0)):
            fs.pipe_file(name(bucket, path), binary(size, path))
    assert paths(bucket) == ["a.txt", "b.bin", "empty"]
    assert fs.cat_file(name(bucket, "b.bin")) == binary(LARGE, "b.bin")
    assert fs.cat_file(name(bucket, "empty")) == b""
    fs.mv(name(bucket, "a.txt"), name(bucket, "c/d.txt"))
    fs.rm(name(bucket, "b.bin"))
    assert paths(bucket) == ["c/d.txt", "empty"]


def test_folders_without_files_are_remembered(filled, fs, hub):
    before = commits(hub, filled)
    fs.makedirs(name(filled, "empty/deep"))
    assert fs.isdir(name(filled, "empty/deep"))
    assert fs.ls(name(filled, "empty/deep")) == []
    with pytest.raises(FileExistsError):
        fs.makedirs(name(filled, "a"))
    fs.makedirs(name(filled, "a"), exist_ok=True)
    with pytest.raises(OSError, match="is not empty"):
        fs.rmdir(name(filled, "a"))
    fs.rmdir(name(filled, "empty/deep"))
    assert not fs.exists(name(filled, "empty/deep"))
    assert commits(hub, filled) == before
    fs.rm(name(filled, "a"), recursive=True)
    assert paths(filled) == ["z.bin"]


@pytest.mark.parametrize("repo_type", ["dataset", "bucket"])
def test_a_deleted_or_moved_folder_is_gone_also_where_it_was_made_here(repo_type, make_repo, fs, tmp_path):
    repo = make_repo(repo_type)
    source = write(tmp_path / "in", {"a.bin": b"a", "sub/b.bin": b"b", "sub/deeper/c.bin": b"c"})
    (source / "without files").mkdir()
    for path in ("out", "out/sub", "out/made/here"):
        fs.mkdir(name(repo, path))
    out, moved = name(repo, "out"), name(repo, "moved")
    for remove in (lambda: fs.rm(out, recursive=True), lambda: fs.mv(out, moved, recursive=True)):
        fs.put(f"{source}/", name(repo, "out"), recursive=True)
        assert fs.exists(name(repo, "out/sub/deeper/c.bin"))
        remove()
        for path in ("out", "out/sub", "out/sub/deeper", "out/made", "out/made/here", "out/without files"):
            assert not fs.exists(name(repo, path)), path
        fs.put(str(source / "sub"), name(repo, "out/sub"), recursive=True)
        left = [path for path in paths(repo) if not path.startswith("moved/")]
        assert left == ["out/sub/b.bin", "out/sub/deeper/c.bin"]
        fs.rm(name(repo, "out"), recursive=True)
    assert paths(repo) == ["moved/a.bin", "moved/sub/b.bin", "moved/sub/deeper/c.bin"]


def test_a_put_that_fails_leaves_no_folder_behind(repo, fs, hub, tmp_path):
    source = write(tmp_path / "in", {"a.bin": b"a", "sub/b.bin": b"b"})
    refusal = hub.faults.add(Fault("POST /api/.*/commit/.*", status=403))
    with pytest.raises(PermissionError):
        fs.put(str(source), name(repo, "out"), recursive=True)
    hub.faults.remove(refusal)
    assert not fs.exists(name(repo, "out"))
    fs.put(str(source), name(repo, "out"), recursive=True)
    assert paths(repo) == ["out/a.bin", "out/sub/b.bin"]


def test_a_folder_that_somebody_else_deleted_is_gone_after_a_put(repo, fs, hook, tmp_path):
    source = write(tmp_path / "in", {"sub/b.bin": b"b"})
    fs.put(str(source), name(repo, "out"), recursive=True)
    hook.commit(CommitRequest(repo, (), delete=["out/"]))
    fs.invalidate_cache()
    assert not fs.exists(name(repo, "out"))
    fs.put(str(source), name(repo, "out"), recursive=True)
    assert paths(repo) == ["out/sub/b.bin"]


def test_folders_that_were_made_are_listed_and_those_above_them_are_there(filled, fs):
    fs.makedirs(name(filled, "made/here"))
    fs.mkdir(name(filled, "a/new"))
    assert name(filled, "made") in fs.ls(name(filled), detail=False)
    assert fs.ls(name(filled, "made"), detail=False) == [name(filled, "made/here")]
    assert fs.isdir(name(filled, "made"))
    assert name(filled, "a/new") in fs.find(name(filled, "a"), withdirs=True)
    with pytest.raises(OSError, match="is not empty"):
        fs.rmdir(name(filled, "made"))
    fs.mv(name(filled, "made"), name(filled, "moved"), recursive=True)
    assert not fs.exists(name(filled, "made"))
    assert fs.isdir(name(filled, "moved/here"))
    with fs.transaction:
        fs.mkdir(name(filled, "for now"))
        assert fs.isdir(name(filled, "for now"))
    assert not fs.exists(name(filled, "for now"))


def test_no_more_is_deleted_than_a_depth_allows(filled, fs):
    fs.rm(name(filled, "a"), recursive=True, maxdepth=1)
    assert paths(filled) == ["a/deep/c.bin", "z.bin"]


def test_what_was_committed_since_the_last_listing_is_deleted_too(filled, fs, tmp_path):
    fs.find(name(filled))
    publish(filled, tmp_path / "later", {"a/later.bin": b"l", "l.bin": b"l"})
    fs.rm([name(filled, "a"), name(filled, "*.bin")], recursive=True)
    assert paths(filled) == []


def test_a_folder_of_a_bucket_goes_with_the_file_of_its_name(make_repo, fs):
    bucket = make_repo("bucket")
    with fs.transaction:
        for path in ("x", "x/a", "x/b/c", "xx"):
            fs.pipe_file(name(bucket, path), b"1")
    fs.rm(name(bucket, "x"))
    assert paths(bucket) == ["x/a", "x/b/c", "xx"]
    fs.pipe_file(name(bucket, "x"), b"1")
    fs.rm(name(bucket, "x"), recursive=True)
    assert paths(bucket) == ["xx"]


def test_a_folder_is_moved_only_if_it_is_meant(filled, fs):
    with pytest.raises(IsADirectoryError):
        fs.mv(name(filled, "a"), name(filled, "b"))
    assert paths(filled) == ["a/b.bin", "a/deep/c.bin", "a/t.csv", "z.bin"]


def test_two_files_never_become_one(filled, fs, tmp_path):
    local = write(tmp_path / "in", {"x/n.txt": b"1", "y/n.txt": b"2"})
    fs.pipe_file(name(filled, "a/z.bin"), b"another")
    before = paths(filled)
    twice = [name(filled, "z.bin"), name(filled, "a/z.bin")]
    for transfer in (
        lambda: fs.put([str(local / "x/n.txt"), str(local / "y/n.txt")], name(filled, "out")),
        lambda: fs.get(twice, f"{tmp_path}/out"),
        lambda: fs.copy(twice, name(filled, "out/")),
        lambda: fs.mv(twice, name(filled, "out/")),
        lambda: fs.copy(twice, [name(filled, "one"), name(filled, "one")]),
    ):
        with pytest.raises(XetInputError, match="would both become"):
            transfer()
    assert paths(filled) == before
    assert not (tmp_path / "out").exists()
    fs.get([name(filled, "z.bin"), name(filled, "a/t.csv")], f"{tmp_path}/out")
    assert names(tmp_path / "out") == ["t.csv", "z.bin"]


@pytest.mark.parametrize("empty", ["", [], [""], None, ["x", ""]])
def test_nothing_named_is_not_the_current_folder(empty, filled, fs, tmp_path, monkeypatch):
    here = write(tmp_path / "here", {"secret.txt": b"1"})
    monkeypatch.chdir(here)
    before = paths(filled)
    for transfer in (
        lambda: fs.put(empty, name(filled, "out"), recursive=True),
        lambda: fs.put(str(here / "secret.txt"), empty),
        lambda: fs.get(empty, str(here / "out"), recursive=True),
        lambda: fs.get(name(filled, "z.bin"), empty),
    ):
        with pytest.raises(XetInputError, match=r"lpath|rpath"):
            transfer()
    for change in (fs.rm, lambda path, **_: fs.copy(path, name(filled, "out"), recursive=True)):
        with pytest.raises((XetInputError, OSError, TypeError)):
            change(empty, recursive=True)
    assert paths(filled) == before
    assert names(here) == ["secret.txt"]


def test_an_empty_message_is_refused_before_anything_is_written(repo, fs):
    for empty in ("", " "):
        with pytest.raises(XetInputError, match="commit_message is empty"):
            fs.open(name(repo, "x.txt"), "wb", commit_message=empty)


def test_all_of_what_a_path_can_do_is_there_under_our_own_scheme(filled, fs, tmp_path):
    def ours(path):
        return at(filled, path, "xethub")

    ours("w.txt").write_text("w")
    assert ours("w.txt").read_text() == "w"
    assert ours("w.txt").rename(ours("v.txt")).read_bytes() == b"w"
    ours("v.txt").unlink()
    ours("new").mkdir()
    assert ours("new").is_dir()
    ours("touched").touch()
    ours("z.bin").copy(ours("new/z.bin"))
    ours("a/t.csv").move(ours("moved.csv"))
    ours("a/deep").rmdir(recursive=True)
    ours("a/b.bin").copy(f"file://{tmp_path}/copied.bin")
    assert (tmp_path / "copied.bin").read_bytes() == binary(50_000)
    assert paths(filled) == ["a/b.bin", "moved.csv", "new/z.bin", "touched", "z.bin"]
