"""``HfFileSystem`` on the local Hub: repositories and buckets as folders."""

from __future__ import annotations

import pytest
from huggingface_hub import HfApi, HfFileSystem

from support.hub_calls import binary, names
from xethub_local.server import LocalHub


@pytest.fixture
def files(hub: LocalHub) -> HfFileSystem:
    return HfFileSystem(endpoint=hub.url, token=hub.token(), skip_instance_cache=True)


def test_files_are_written_read_in_blocks_and_seen(files: HfFileSystem, repo: str) -> None:
    root = f"datasets/{repo}"
    content = binary("blocks", 300_000)
    with files.open(f"{root}/d/a.bin", "wb") as file:
        file.write(content)
    files.write_text(f"{root}/t.txt", "one\ntwo\n")
    with files.open(f"{root}/d/a.bin", "rb", block_size=10_000) as file:
        assert file.read(5) == content[:5]
        file.seek(-7, 2)
        assert file.read() == content[-7:]
        file.seek(123_456)
        assert file.read(30_000) == content[123_456:153_456]
    with files.open(f"{root}/t.txt", "r") as file:
        assert file.readlines() == ["one\n", "two\n"]
    assert files.cat_file(f"{root}/d/a.bin", start=10, end=20) == content[10:20]
    assert files.info(f"{root}/d/a.bin")["size"] == 300_000
    assert files.isdir(f"{root}/d")
    assert not files.exists(f"{root}/none")
    with pytest.raises(FileNotFoundError):
        files.open(f"{root}/none", "rb")


def test_folders_are_listed_matched_and_walked(files: HfFileSystem, api: HfApi, repo: str) -> None:
    root = f"datasets/{repo}"
    for path in ("a.txt", "d/b.txt", "d/e/c.txt", "d/e/f.md"):
        files.write_text(f"{root}/{path}", path)
    assert sorted(map(str, files.ls(f"{root}/d", detail=False))) == [f"{root}/d/b.txt", f"{root}/d/e"]
    found = [str(path) for path in files.glob(f"{root}/**/*.txt")]
    assert sorted(found) == [f"{root}/{path}" for path in ("a.txt", "d/b.txt", "d/e/c.txt")]
    assert set(files.find(f"{root}/d")) == {f"{root}/{path}" for path in ("d/b.txt", "d/e/c.txt", "d/e/f.md")}
    assert [found for _, _, found in files.walk(f"{root}/d")] == [["b.txt"], ["c.txt", "f.md"]]


def test_files_are_copied_moved_and_removed(files: HfFileSystem, api: HfApi, repo: str) -> None:
    root = f"datasets/{repo}"
    for path, content in {"x.bin": binary("x"), "t.txt": b"t", "d/y.bin": binary("y")}.items():
        files.pipe_file(f"{root}/{path}", content)
    files.cp_file(f"{root}/x.bin", f"{root}/copy/x.bin")
    files.cp_file(f"{root}/t.txt", f"{root}/copy/t.txt")
    files.mv(f"{root}/x.bin", f"{root}/moved.bin")
    files.rm(f"{root}/d", recursive=True)
    assert names(api, repo) == {"t.txt", "moved.bin", "copy/x.bin", "copy/t.txt"}
    assert files.cat_file(f"{root}/moved.bin") == binary("x")
    files.rm_file(f"{root}/t.txt")
    assert "t.txt" not in names(api, repo)


def test_a_revision_is_part_of_a_path(files: HfFileSystem, api: HfApi, repo: str) -> None:
    files.write_text(f"datasets/{repo}/a.txt", "main")
    api.create_branch(repo, branch="dev/x", repo_type="dataset")
    files.write_text(f"datasets/{repo}@dev%2Fx/a.txt", "dev")
    assert files.cat_file(f"datasets/{repo}@dev%2Fx/a.txt") == b"dev"
    assert files.cat_file(f"datasets/{repo}/a.txt") == b"main"
    assert files.ls(f"datasets/{repo}", revision="dev/x", detail=False)


def test_a_bucket_is_a_folder_too(files: HfFileSystem, api: HfApi) -> None:
    root = f"buckets/{api.create_bucket('acme/as-folder').bucket_id}"
    content = binary("bucket file", 100_000)
    files.pipe_file(f"{root}/d/a.bin", content)
    with files.open(f"{root}/d/a.bin", "rb") as file:
        file.seek(99_990)
        assert file.read() == content[-10:]
    files.cp_file(f"{root}/d/a.bin", f"{root}/b.bin")
    files.mv(f"{root}/b.bin", f"{root}/c.bin")
    assert sorted(files.find(root)) == [f"{root}/c.bin", f"{root}/d/a.bin"]
    files.rm(f"{root}/d", recursive=True)
    assert files.find(root) == [f"{root}/c.bin"]
    assert not files.exists(f"{root}/none")
    with pytest.raises(FileNotFoundError):
        files.ls(f"{root}/none")
