"""The local Hub's server: its port, and what becomes of requests that it has no time for."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket

import pytest
import requests

from xethub_local.control.faults import Fault
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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_no_request_of_a_client_that_is_gone_meets_a_later_fault(tmp_path):
    with LocalHub(tmp_path / "hub") as hub:
        clients = [socket.create_connection(("127.0.0.1", hub.port), timeout=10) for _ in range(100)]
        child = os.fork()
        if child == 0:
            for client in clients:
                client.sendall(b"GET /api/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            os._exit(0)
        for client in clients:
            client.close()
        ctypes.PyDLL(None).usleep(300_000)  # the thread of the server cannot run: this call keeps Python's lock
        hub.reset()
        hub.faults.add(fault := Fault("GET .*", status=500))
        assert os.waitpid(child, 0) == (child, 0)
        assert requests.get(f"{hub.url}/api/models", timeout=10).status_code == 500
        assert hub.faults.acted(fault) == 1


def test_no_request_is_in_the_log_even_where_another_server_of_this_process_logs_its_own(tmp_path, caplog, monkeypatch):
    """``uvicorn`` asks one logger of the process whether to log requests."""
    with LocalHub(tmp_path) as hub:
        monkeypatch.setattr(logging.getLogger("uvicorn.access"), "propagate", True)
        caplog.set_level(logging.INFO, "uvicorn.access")
        assert requests.get(hub.url, timeout=10).ok
    assert caplog.messages == []
