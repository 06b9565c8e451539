"""A DAG file that asks a failing Hub while it is parsed: its error becomes an import error, with all of its text."""

from __future__ import annotations

import json
from pathlib import Path

from airflow_provider_xethub.hooks.xethub import XetHubConnection

_CASE = json.loads(Path(__file__).with_name("plan.json").read_text())["broken"]
_HOOK = XetHubConnection(_CASE["conn_id"])
_HOOK.list_files(_HOOK.repo(_CASE["repo_id"], "dataset"))
