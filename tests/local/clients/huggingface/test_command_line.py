"""The ``hf`` command line against the local Hub, in processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from support.hub_calls import binary, names
from xethub_local.server import LocalHub

HF = Path(sys.executable).parent / "hf"

pytestmark = pytest.mark.skipif(not HF.exists(), reason="the hf command is not installed")


def hf(hub: LocalHub, home: Path, *arguments: object, fails: bool = False) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": hub.token(),
        "HF_HOME": str(home),
        "HF_XET_LOG_DEST": os.devnull,
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    done = subprocess.run(
        [HF, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    assert hub.token() not in done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_repository_lives_through_the_command_line(hub: LocalHub, api: HfApi, tmp_path: Path) -> None:
    content = {"a.txt": b"text", "d/b.bin": binary("cli")}
    for path, data in content.items():
        (tmp_path / "up" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "up" / path).write_bytes(data)
    dataset = ("--type", "dataset")
    hf(hub, tmp_path, "repos", "create", "acme/cli", *dataset, "--private")
    assert api.dataset_info("acme/cli").private is True
    hf(hub, tmp_path, "upload", "acme/cli", tmp_path / "up", ".", *dataset, "--commit-message", "by hf")
    assert names(api, "acme/cli") == set(content)
    hf(hub, tmp_path, "download", "acme/cli", *dataset, "--local-dir", tmp_path / "down")
    assert {path: (tmp_path / "down" / path).read_bytes() for path in content} == content


def test_a_bucket_lives_through_the_command_line(hub: LocalHub, api: HfApi, tmp_path: Path) -> None:
    (tmp_path / "up").mkdir()
    (tmp_path / "up/a.bin").write_bytes(binary("cli bucket"))
    hf(hub, tmp_path, "buckets", "create", "acme/cli-bucket")
    hf(hub, tmp_path, "buckets", "sync", tmp_path / "up", "hf://buckets/acme/cli-bucket")
    assert {entry.path for entry in api.list_bucket_tree("acme/cli-bucket")} == {"a.bin"}
    hf(hub, tmp_path, "buckets", "cp", "hf://buckets/acme/cli-bucket/a.bin", tmp_path / "b.bin")
    assert (tmp_path / "b.bin").read_bytes() == binary("cli bucket")


@pytest.mark.long
def test_every_other_command_works_too(hub: LocalHub, api: HfApi, tmp_path: Path) -> None:
    dataset = ("--type", "dataset")
    assert "local" in hf(hub, tmp_path, "auth", "whoami")
    assert "acme/none" in hf(hub, tmp_path, "download", "acme/none", *dataset, fails=True)
    hf(hub, tmp_path, "repos", "create", "local/more", *dataset)
    (tmp_path / "x.txt").write_text("1")
    hf(hub, tmp_path, "upload", "local/more", tmp_path / "x.txt", "x.txt", *dataset)
    hf(hub, tmp_path, "upload", "local/more", tmp_path / "x.txt", "pr.txt", *dataset, "--create-pr")
    assert names(api, "local/more", revision="refs/pr/1") == {"x.txt", "pr.txt"}
    hf(hub, tmp_path, "repos", "branch", "create", "local/more", "dev", *dataset)
    hf(hub, tmp_path, "repos", "tag", "create", "local/more", "v1", *dataset)
    assert "v1" in hf(hub, tmp_path, "repos", "tag", "list", "local/more", *dataset)
    hf(hub, tmp_path, "repos", "duplicate", "local/more", "local/more-copy", *dataset)
    hf(hub, tmp_path, "repos", "settings", "local/more", "--private", *dataset)
    hf(hub, tmp_path, "repos", "move", "local/more-copy", "local/moved", *dataset)
    listed = hf(hub, tmp_path, "repos", "list")
    assert "local/moved" in listed
    assert "local/moved" in hf(hub, tmp_path, "datasets", "list", "--author", "local", "--format", "json")
    assert "local/moved" in hf(hub, tmp_path, "datasets", "info", "local/moved")
    hf(hub, tmp_path, "discussions", "comment", "local/more", "1", "--body", "hello", *dataset)
    hf(hub, tmp_path, "discussions", "merge", "local/more", "1", *dataset, "--yes")
    assert names(api, "local/more") == {"x.txt", "pr.txt"}
    hf(hub, tmp_path, "cp", "hf://datasets/local/more/x.txt", tmp_path / "copied.txt")
    assert (tmp_path / "copied.txt").read_text() == "1"
    hf(hub, tmp_path, "repos", "delete-files", "local/more", "p*", *dataset)
    assert names(api, "local/more") == {"x.txt"}
    hf(hub, tmp_path, "repos", "delete", "local/moved", *dataset, "--yes")
    hf(hub, tmp_path, "buckets", "create", "local/b")
    hf(hub, tmp_path, "buckets", "cp", tmp_path / "x.txt", "hf://buckets/local/b/x.txt")
    hf(hub, tmp_path, "buckets", "cp", "hf://buckets/local/b/x.txt", "hf://buckets/local/b/y.txt")
    hf(hub, tmp_path, "buckets", "remove", "local/b/x.txt", "--yes")
    assert {entry.path for entry in api.list_bucket_tree("local/b")} == {"y.txt"}
    hf(hub, tmp_path, "buckets", "move", "local/b", "local/c")
    assert "local/c" in hf(hub, tmp_path, "buckets", "list")
    hf(hub, tmp_path, "buckets", "delete", "local/c", "--yes")
