"""One file of a little more than 4 GiB up and down: what the task process needs of memory.

Neither its size nor the places in it fit into 32 bits. ``XETHUB_LARGE_MIB`` sets another size.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest

from airflow_provider_xethub.xet.cas.limits import DEFAULT_MEMORY
from support.builders import noise
from xethub_local.server import LocalHub

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc"),
]

MIB = 1 << 20
SIZE = int(os.environ.get("XETHUB_LARGE_MIB", "4112")) * MIB
MOST = 400_000_000
"""Bytes of memory of the whole process of a download; Airflow alone has about 130 MB."""


@pytest.fixture
def hub(tmp_path):
    with LocalHub(tmp_path / "hub") as hub:
        yield hub
    shutil.rmtree(tmp_path / "hub")


def run(operator, arguments, cache):
    """Run a task in a process of its own, and return its peak memory in bytes."""
    spec = json.dumps({"operator": operator, "arguments": arguments, "timeout": None})
    done = subprocess.run(
        [sys.executable, "-m", "support.stopped_task", spec],
        capture_output=True,
        text=True,
        check=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "HF_XET_CACHE": str(cache),
        },
    )
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["state"] == "success", result
    print(f"{operator}: {result['peak'] / 1e6:.0f} MB, {result['seconds']:.0f} s")
    return result["peak"]


def test_a_large_file_goes_up_and_down_in_bounded_memory(hub, connection, repo, tmp_path):
    source, target = tmp_path / "a.bin", tmp_path / "out" / "a.bin"
    expected, received = hashlib.sha256(), hashlib.sha256()
    try:
        with source.open("wb") as stream:
            for _ in range(SIZE // (16 * MIB)):
                block = noise(16 * MIB)
                expected.update(block)
                stream.write(block)
        where = {"repo_id": repo.repo_id, "repo_type": "dataset"}
        up = run("XetUploadOperator", {"source": str(source), **where}, tmp_path / "cache")
        source.unlink()
        arguments = {"path": "a.bin", "destination": f"{target.parent}/", **where}
        down = run("XetDownloadOperator", arguments, tmp_path / "cache")
        with target.open("rb") as stream:
            while block := stream.read(16 * MIB):
                received.update(block)
    finally:
        source.unlink(missing_ok=True)
        target.unlink(missing_ok=True)

    assert received.digest() == expected.digest()
    assert up < DEFAULT_MEMORY
    assert down < MOST
