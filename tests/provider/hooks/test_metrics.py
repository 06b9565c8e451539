"""Airflow's own metrics, sent by StatsD over UDP."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from support.builders import write

pytestmark = pytest.mark.airflow


@pytest.fixture
def statsd() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(0.2)
        yield listener


def received(listener: socket.socket) -> list[str]:
    lines: list[str] = []
    while True:
        try:
            lines += listener.recv(65536).decode().splitlines()
        except TimeoutError:
            return lines


def test_the_figures_of_a_transfer_are_metrics(connection, repo, tmp_path, statsd):
    where = {"repo_id": repo.repo_id, "repo_type": "dataset"}
    source = write(tmp_path / "in", {"a.bin": os.urandom(70_000), "b.bin": os.urandom(5000)})
    spec = {"where": where, "source": str(source), "destination": f"{tmp_path}/out/"}
    environment = {
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__STATSD_PORT": str(statsd.getsockname()[1]),
        "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    done = subprocess.run(
        [sys.executable, "-m", "support.metrics_task", json.dumps(spec)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr

    sent = {line.partition(":")[0]: line.partition(":")[2] for line in received(statsd) if "xethub" in line}

    def figure(name: str) -> str:
        return sent[f"airflow.xethub.{name},repo_type=dataset"]

    assert figure("upload.files") == "2|c"
    assert figure("upload.bytes") == "75000|c"
    assert 75_000 < int(figure("upload.bytes_sent").partition("|")[0]) < 80_000
    assert figure("upload.bytes_deduplicated") == "0|c"
    assert figure("upload.duration").endswith("|ms")
    assert figure("download.bytes") == "75000|c"
    assert figure("download.skipped") == "0|c"
    assert figure("download.duration").endswith("|ms")
    assert repo.repo_id not in json.dumps(sent)
