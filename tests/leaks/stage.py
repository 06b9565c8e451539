"""The Airflow of a run: all components at DEBUG, whose secrets are in its configuration file and its database only."""

from __future__ import annotations

import configparser
import json
import secrets
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from demo import services
from leaks.world import WEBHOOK_SECRET, World
from support.celery_airflow import running
from support.standalone import PATIENCE, PATIENT

USERS = ("admin", "viewer", "user", "op")
"""Each has the role of its name."""
EXAMPLES = services.ROOT / "dags_example"
OWN_DAGS = Path(__file__).parent / "dags"


@dataclass
class Stage:
    """Where everything of a run is.

    :param folder: below it is all that Airflow writes.
    """

    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("temporary", "home", "manifests", "downloads", "logs/hf_xet"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    @property
    def airflow_home(self) -> Path:
        """``AIRFLOW_HOME``."""
        return self.folder / "airflow"

    @property
    def database(self) -> Path:
        """The metadata database, SQLite."""
        return self.airflow_home / "airflow.db"

    @property
    def lineage(self) -> Path:
        """The events of OpenLineage, one a line."""
        return self.folder / "openlineage.jsonl"


def prepare(stage: Stage, world: World, plan: Mapping[str, Any], examples: Iterable[str], metrics_port: int) -> None:
    """Write the configuration, the users and the DAGs.

    :param plan: what the generated DAGs read.
    :param examples: names of example DAGs, or rather of their files.
    """
    folder = stage.folder
    env = services.environment(folder)
    for name in ("AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"):
        del env[name]
    stage.passwords = {user: secrets.token_urlsafe(9) for user in USERS}
    stage.env = env | {
        **PATIENT,
        "PYTHONPATH": str(services.ROOT / "tests" / "support" / "loopback"),
        "TMPDIR": str(folder / "temporary"),
        "HF_XET_CACHE": str(folder / "home" / "xet"),
        "HF_XET_LOG_DEST": f"{folder / 'logs' / 'hf_xet'}/",
        "RUST_LOG": "debug",
        "HF_XET_CLIENT_RETRY_BASE_DELAY": "20ms",
        "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "2",
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
        # With more tasks, or two workers of the API server, requests wait half a minute for SQLite's lock.
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "64",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{user}" for user in USERS),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(folder / "passwords.json"),
        # The second time that a file is read, its assets are active, and are watched.
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": str(max(30, 3 * len(world.cases))),
        "AIRFLOW__API__MAXIMUM_PAGE_LIMIT": "1000",
        "AIRFLOW__API__EXPOSE_CONFIG": "non-sensitive-only",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__STATSD_PORT": str(metrics_port),
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(
            {"type": "file", "log_file_path": str(stage.lineage), "append": True}
        ),
        "AIRFLOW__XETHUB__IDENTITY_FILES": world.all_identity_files(),
        "AIRFLOW__XETHUB__CACHE_FOLDER": str(folder / "home" / "provider-cache"),
        "AIRFLOW__XETHUB__MANIFEST_STORAGE": f"file://{folder / 'manifests'}",
        "AIRFLOW__XETHUB__MANIFEST_FILES": "4",
        "AIRFLOW__XETHUB__WEBHOOK_CONN_ID": "leaks_webhooks",
    }
    (folder / "passwords.json").write_text(json.dumps(stage.passwords))
    stage.airflow_home.mkdir(parents=True, exist_ok=True)
    config = configparser.RawConfigParser()
    config.read_dict(
        {
            "core": {"fernet_key": world.airflow_key},
            "xethub": {"fernet_key": world.provider_key, "webhook_secret": WEBHOOK_SECRET},
            "leaks": {"planted": world.planted},
        }
    )
    with (stage.airflow_home / "airflow.cfg").open("w") as file:
        config.write(file)
    dags = folder / "dags"
    shutil.copytree(OWN_DAGS, dags, ignore=shutil.ignore_patterns("__pycache__"))
    for case in world.cases:
        # One file for each: a task parses only its own. Airflow reads files that mention airflow and DAGs.
        text = f'"""A DAG of Airflow."""\nfrom leaks_tasks import dags_of\n\nglobals().update(dags_of({case.name!r}))\n'
        (dags / f"{case.dag_id}.py").write_text(text)
    for name in examples:
        # They are started by hand here, and write nothing elsewhere.
        text = (EXAMPLES / f"{name}.py").read_text().replace('schedule="@daily"', "schedule=None")
        (dags / f"{name}.py").write_text(text.replace('"/tmp/', f'"{folder / "downloads"}/'))
    (dags / "plan.json").write_text(json.dumps(plan))


@contextmanager
def airflow(stage: Stage) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``airflow standalone`` for as long as the block lasts, and yield its process once it is healthy."""
    log = stage.folder / "logs" / "standalone.log"
    url = stage.env["AIRFLOW__API__BASE_URL"]

    def healthy() -> bool:
        health = requests.get(f"{url}/api/v2/monitor/health", timeout=5).json()
        return all(part and part.get("status") == "healthy" for part in health.values())

    command = [str(services.BIN / "airflow"), "standalone"]
    with running("Airflow", command, stage.env, log) as process:
        services.wait_for("Airflow", healthy, process, log, patience=PATIENCE)
        services.require_loopback(process)
        yield process


class MetricsSink:
    """Receives what Airflow sends to StatsD, on loopback."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.received: list[bytes] = []

    def __enter__(self) -> MetricsSink:
        threading.Thread(target=self._receive, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _receive(self) -> None:
        while True:
            try:
                self.received.append(self._socket.recv(1 << 16))
            except OSError:
                return


def allow_core_dumps() -> None:
    """Let this process and those that it starts leave core dumps, so that only the provider can forbid them."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
