"""``hook.api``: what the client library prints is no part of a task's log."""

from __future__ import annotations

import pytest
from huggingface_hub import constants
from huggingface_hub.utils.tqdm import enable_progress_bars

from support.builders import binary, publish


@pytest.mark.parametrize("wanted", [None, False], ids=["default", "HF_HUB_DISABLE_PROGRESS_BARS=0"])
def test_progress_bars_are_no_errors_in_the_log(hook, repo, tmp_path, capfd, monkeypatch, wanted):
    enable_progress_bars()
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", wanted)
    publish(repo, tmp_path / "in", {"a.bin": binary(), "b.bin": binary(seed=1)})
    capfd.readouterr()
    hook.api.snapshot_download(repo.repo_id, repo_type="dataset", local_dir=tmp_path / "out", cache_dir=tmp_path / "c")
    assert ("Fetching 3 files" in capfd.readouterr().err) is (wanted is False)
    enable_progress_bars()
