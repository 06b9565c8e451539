"""A DAG file whose error has the planted credential; Airflow reads files that mention airflow and DAGs."""

from __future__ import annotations

import json
from pathlib import Path

raise ValueError(json.loads(Path(__file__).with_name("plan.json").read_text())["planted"]["credential"])
