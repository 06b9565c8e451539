"""The local Hub's server: its port."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from xethub_local import server
from xethub_local.server import LocalHub

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


@pytest.mark.skipif(not RANGE.exists(), reason="only Linux says which ports outgoing connections get")
def test_no_outgoing_connection_takes_the_port_of_a_stopped_hub(tmp_path):
    least = int(RANGE.read_text().split()[0])
    with LocalHub(tmp_path / "hub") as hub:
        port = hub.port
        assert port < least
        hub.stop()
        hub.start()
        assert hub.port == port


def test_a_port_that_is_in_use_is_not_chosen(tmp_path, monkeypatch):
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        monkeypatch.setattr(server, "_PORTS", [used.getsockname()[1]])
        monkeypatch.setattr(server, "_PORTS_TO_TRY", 1)
        with LocalHub(tmp_path / "hub") as hub:
            assert hub.port != used.getsockname()[1]
