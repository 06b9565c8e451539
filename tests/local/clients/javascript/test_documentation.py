"""What the documentation shows of JavaScript, run as it stands."""

from __future__ import annotations

import os
import subprocess

import pytest

from support import node_packages
from support.documentation import snippets
from support.javascript_client import FOLDER
from xethub_local.server import LocalHub

pytestmark = pytest.mark.long


def test_the_snippet_works_as_written(javascript_hub: LocalHub) -> None:
    (block,) = snippets("javascript")
    node_packages.install(FOLDER)
    environment = {**os.environ, "HF_ENDPOINT": javascript_hub.url, "HF_TOKEN": javascript_hub.token()}
    command = ["node", "--input-type=module", "--eval", block.body]
    done = subprocess.run(command, cwd=FOLDER, env=environment, text=True, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split()) == (0, [".gitattributes", "songs.csv"]), done.stderr
