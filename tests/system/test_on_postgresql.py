"""The same tests on PostgreSQL, which refuses what SQLite forgives: a NUL in JSON, half of a surrogate pair, NaN."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import postgresql

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

TESTS_FOLDER = Path(__file__).parents[1]
TESTS = (
    "provider/operators/test_odd_texts.py",
    "provider/plugins/test_asset_events.py",
    "system/test_triggerer.py",
    "provider/operators/test_fan_out.py",
    "provider/sensors/test_modes.py::test_all_ways_return_the_same_record",
    "provider/sensors/test_modes.py::test_all_ways_wait_for_the_next_commit",
)
"""What meets the metadata database: watchers and webhooks, triggers and sensors, XCom of mapped tasks."""

COUNTS_REQUESTS = "tests/provider/operators/test_fan_out.py::test_two_hundred_uploads_ask_the_hub_for_nothing"
"""Those to the Hub, whatever the database: what mapped tasks do with the database is shown by the tests beside it."""


def test_what_meets_the_database_also_holds_on_postgresql(tmp_path):
    with postgresql.server() as where:
        run = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-n0", "-q", "-x", "-p", "no:cacheprovider", "-m", "", *TESTS),
                *("--deselect", COUNTS_REQUESTS),
            ],
            cwd=TESTS_FOLDER,
            env={**os.environ, "XETHUB_TESTS_POSTGRESQL": where},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    assert run.returncode == 0, run.stdout[-20_000:]
    assert "skipped" not in run.stdout.splitlines()[-1], run.stdout[-2000:]
