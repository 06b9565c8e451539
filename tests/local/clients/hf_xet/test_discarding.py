"""Real clients and a Hub that keeps no bytes: commits and listings are as always."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError

from xethub_local.server import LocalHub


def test_uploads_are_committed_and_listed_and_take_no_space(tmp_path):
    with LocalHub(tmp_path / "hub", discards=True) as hub:
        hub.create_repo("acme/corpus", "dataset")
        api = HfApi(endpoint=hub.url, token=hub.token("write"))
        operations = [CommitOperationAdd(f"{name}.bin", os.urandom(3_000_000)) for name in "ab"]
        operations.append(CommitOperationAdd("README.md", b"# Title\n"))
        api.create_commit("acme/corpus", operations, commit_message="Add", repo_type="dataset")
        found = {each.path: each.size for each in api.list_repo_tree("acme/corpus", repo_type="dataset")}
        assert (found["a.bin"], found["b.bin"], found["README.md"]) == (3_000_000, 3_000_000, 8)
        kept = sum(path.stat().st_size for path in (tmp_path / "hub" / "xorbs").rglob("*") if path.is_file())
        assert kept < 10_000, "only what the commit contains itself"
        readme = api.hf_hub_download("acme/corpus", "README.md", repo_type="dataset", local_dir=tmp_path / "back")
        assert Path(readme).read_text() == "# Title\n"
        with pytest.raises((HfHubHTTPError, RuntimeError), match=r"404|discarded"):
            api.hf_hub_download("acme/corpus", "a.bin", repo_type="dataset", local_dir=tmp_path / "back")
