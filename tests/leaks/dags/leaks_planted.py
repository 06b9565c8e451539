"""Plant a credential that nothing else has in every place: where it is not found, the search is blind."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from airflow.providers.standard.triggers.file import FileDeleteTrigger
from airflow.sdk import DAG, Asset, BaseOperator, Context
from airflow.sdk.observability import stats

PLAN = json.loads(Path(__file__).with_name("plan.json").read_text())["planted"]
PLANTED = PLAN["credential"]
ASSET = Asset("leaks-planted")
UNTIL = 'until [ -e "$0" ]; do sleep 0.2; done'


class Plant(BaseOperator):
    """Write the credential into all that a task can reach."""

    template_fields = ("planted",)

    def __init__(self, *, planted: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.planted = planted

    def execute(self, context: Context) -> None:
        self.log.info("Planted %s", base64.b64encode(self.planted.encode()).decode())
        for folder in PLAN["folders"]:
            (Path(folder) / "planted").write_text(self.planted)
        stats.incr(f"planted.{self.planted}")
        context["ti"].xcom_push("planted", self.planted[::-1])
        context["task_state_store"].set("planted", self.planted)
        # Until it was seen.
        environment = {**os.environ, "PLANTED": self.planted}
        subprocess.run(["sh", "-c", UNTIL, PLAN["seen"], self.planted], env=environment, check=True)
        self.defer(
            trigger=FileDeleteTrigger(filepath=f"{PLAN['triggers']}/{self.planted}", poke_interval=1),
            method_name="execute_complete",
        )

    def execute_complete(self, context: Context, event: Any = None) -> None:
        """Plant what would not survive the deferral."""
        context["outlet_events"][ASSET].extra = {"planted": self.planted}


with DAG("leaks_planted", schedule=None, catchup=False, description=f"Planted {PLANTED}.") as dag:
    Plant(task_id="plant", planted=PLANTED, outlets=[ASSET], priority_weight=1000)
