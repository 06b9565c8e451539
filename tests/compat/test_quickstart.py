"""The quick start as users run it: ``airflow dags test`` in a new Airflow, against a local Hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.builders import binary, write

pytestmark = [pytest.mark.airflow, pytest.mark.smoke]


COMMANDS = """
import json, sys
from airflow.__main__ import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["airflow", *arguments]
    main()
"""
"""One process for all of them, which imports Airflow once."""


@pytest.fixture
def airflow(tmp_path, hub):
    """Runs commands of ``airflow`` with a home and a database of their own."""
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parents[2] / "dags_example"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path / 'airflow.db'}",
        "AIRFLOW_CONN_XETHUB_DEFAULT": json.dumps({"conn_type": "xethub", "host": hub.url, "password": hub.token()}),
    }

    def run(*commands: list[str]) -> None:
        program = [sys.executable, "-c", COMMANDS, json.dumps(commands)]
        done = subprocess.run(program, capture_output=True, text=True, env=environment, check=False, timeout=280)
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-8000:]

    return run


def test_the_quick_start_publishes_and_reads_back(airflow, hub, tmp_path):
    files = {"penguins.csv": b"species,island\n" * 50, "weights.bin": binary(200_000)}
    folder, copy = write(tmp_path / "penguins", files), tmp_path / "copy"
    hub.create_repo("local/penguins", "dataset")
    airflow(
        ["db", "migrate"],
        ["dags", "reserialize"],
        ["dags", "test", "xethub_quickstart", "--conf", json.dumps({"folder": str(folder), "destination": str(copy)})],
    )
    assert {name: (copy / name).read_bytes() for name in files} == files
