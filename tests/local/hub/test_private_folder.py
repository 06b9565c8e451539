"""The folder of the local Hub has Hub tokens and private files: nobody else can read it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from xethub_local.server import LocalHub


def test_nobody_else_can_read_what_the_hub_keeps(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with LocalHub(tmp_path / "hub") as hub:
            hub.create_repo("acme/secret", private=True)
            assert stat.S_IMODE((tmp_path / "hub").stat().st_mode) == 0o700
    finally:
        os.umask(before)
