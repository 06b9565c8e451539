"""``KEEP=1 make demo``: what it prints can be opened, and Ctrl-C ends everything."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import requests

from support.documentation import ROOT

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

DEMO = [sys.executable, str(ROOT / "tests/demo/run.py")]


def test_it_runs_until_ctrl_c_and_prints_where_to_click(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "KEEP": "1"}
    process = subprocess.Popen(DEMO, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout
    printed = ""
    try:
        for line in process.stdout:
            printed += line
            if "Ctrl-C" in line:
                break
        assert "identical" in printed, printed
        urls = re.findall(r"^    [\w ]+  (http://127\.0\.0\.1:\S+)$", printed, re.MULTILINE)
        assert len(urls) == 4
        for url in urls:
            page = requests.get(url, timeout=30)
            assert page.status_code == 200, url
            assert "<html" in page.text
        another = subprocess.run(DEMO, env=environment, text=True, capture_output=True, check=False)
        assert another.returncode == 1
        assert "Another demonstration runs in this folder." in another.stderr
        servers = psutil.Process(process.pid).children(recursive=True)
        assert len(servers) >= 4
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 0, printed
        assert "nothing is left running" in printed
        assert [server for server in servers if server.is_running() and server.status() != psutil.STATUS_ZOMBIE] == []
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=60)
