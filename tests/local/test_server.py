"""The local Hub's server: its port."""

from __future__ import annotations

import os
import signal

import pytest
import requests

from xethub_local.server import LocalHub


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_does_not_keep_the_port_of_a_stopped_hub(tmp_path):
    with LocalHub(tmp_path / "hub") as hub:
        port, child = hub.port, os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
        try:
            hub.stop()
            hub.start()
            assert hub.port == port
            assert requests.get(f"{hub.url}/api/models", timeout=10).status_code == 200
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
