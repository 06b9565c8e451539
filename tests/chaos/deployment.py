"""A distributed Airflow on this machine: PostgreSQL, a broker, the servers of Airflow, two workers and a local Hub.

Each worker has a home, an AIRFLOW_HOME, a copy of the DAG and a folder for temporary files of its own. It knows neither
the metadata database nor, on Celery, the secret that signs the tokens of tasks.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from chaos.plan import REPO_ID
from chaos.servers import Server, children, wait_until_ready
from demo import services
from support import postgresql
from xethub_local.server import LocalHub

WORKERS = ("one", "two")
SKEWED = "two"
"""The worker whose clock is wrong."""

TOKEN_LIFE = 60
CONCURRENCY = 2
EDGE = "apache-airflow-providers-edge3==5.1.0", "retryhttp==1.5.0"

_DAGS = Path(__file__).parent / "dags"
_TESTS = Path(__file__).parents[1]
_ONLY_FOR_SERVERS = ("AIRFLOW__DATABASE__",)
_CELERY_WORKERS_LACK = ("AIRFLOW__API_AUTH__JWT_SECRET",)

SETTINGS = {
    # What is gone is noticed soon; a busy machine may still stand still for a few seconds.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "3",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    # A message that a dead worker had is delivered again after this time; one that is lost with the broker never is.
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "60",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "90",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "10",
    "AIRFLOW__SCHEDULER__NUM_STUCK_IN_QUEUED_RETRIES": "40",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "20",
    "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "30",
    "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "6",
    "AIRFLOW__CORE__PARALLELISM": "16",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "16",
    "AIRFLOW__EDGE__HEARTBEAT_INTERVAL": "3",
    "AIRFLOW__EDGE__JOB_POLL_INTERVAL": "1",
}


@dataclass
class Fleet:
    """What runs.

    :param servers: all servers by name, in the order in which they start.
    :param database: what an SQLAlchemy URL of the metadata database has after its driver.
    :param hub_url: address of the local Hub.
    :param hub_token: a Hub token that may write.
    :param folder: everything that any of it writes, except the database.
    :param children: processes of this one that are no servers: the database.
    """

    folder: Path
    database: str
    hub_url: str
    hub_token: str
    api_url: str
    servers: dict[str, Server] = field(default_factory=dict)
    children: list[int] = field(default_factory=list)

    @property
    def hub_folder(self) -> Path:
        return self.folder / "hub"

    @property
    def requests_of_hub(self) -> Path:
        """The file in which the local Hub notes each request."""
        return self.folder / "hub.requests"

    @property
    def hub_port(self) -> int:
        return int(self.hub_url.rpartition(":")[2])

    @property
    def shared(self) -> Path:
        """The folder for downloads that all workers share."""
        return self.folder / "shared"

    @property
    def sources(self) -> Path:
        return self.folder / "sources"

    def home(self, worker: str) -> Path:
        return self.folder / "workers" / worker / "home"

    def others(self) -> list[str]:
        """The names of the servers that are killed, without the workers."""
        return [name for name in ("scheduler", "triggerer", "redis", "hub") if name in self.servers]


@contextmanager
def fleet(folder: Path, executor: str, clock_offset: int) -> Iterator[Fleet]:
    """Start all of it, and end it with the block, whatever happens.

    :param executor: ``celery`` or ``edge``.
    :param clock_offset: by how many seconds the clock of one worker is ahead; 0 leaves it alone.
    """
    with postgresql.server() as database:
        env = _environment(folder, executor, database)
        hub_url = f"http://127.0.0.1:{services.free_port()}"
        with LocalHub(folder / "hub") as hub:
            hub.create_repo(REPO_ID, "dataset")
            token = hub.token("write")
        made = Fleet(folder, database, hub_url, token, env["AIRFLOW__API__BASE_URL"], children=children())
        services.prepare_airflow(env, hub_url, token)
        made.servers = {server.name: server for server in _servers(made, env, executor, clock_offset)}
        try:
            for server in made.servers.values():
                server.start()
            wait_until_ready(made.servers.values())
            services.require_loopback(*(server.process for server in made.servers.values()))
            yield made
        finally:
            for server in made.servers.values():
                server.kill()


def _environment(folder: Path, executor: str, database: str) -> dict[str, str]:
    overlay = [str(_edge_provider(folder))] if executor == "edge" else []
    env = services.environment(folder) | SETTINGS
    env |= {
        "AIRFLOW__CORE__DAGS_FOLDER": str(_DAGS),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{database}",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": f"postgresql+asyncpg://{database}",
        "PYTHONPATH": os.pathsep.join(overlay),
        "RUST_LOG": "warn",
    }
    if executor == "edge":
        return env | {
            "AIRFLOW__CORE__EXECUTOR": "airflow.providers.edge3.executors.EdgeExecutor",
            "AIRFLOW__EDGE__API_ENABLED": "True",
            # Workers sign their requests by their own clocks. With less, one whose clock is slow gets 403, and ends.
            "AIRFLOW__API_AUTH__JWT_LEEWAY": "120",
            "AIRFLOW__EDGE__API_URL": f"{env['AIRFLOW__API__BASE_URL']}/edge_worker/v1/rpcapi",
        }
    broker = f"redis://127.0.0.1:{services.free_port()}"
    return env | {
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CELERY__BROKER_URL": f"{broker}/0",
        "AIRFLOW__CELERY__RESULT_BACKEND": f"{broker}/1",
    }


def _servers(made: Fleet, env: Mapping[str, str], executor: str, clock_offset: int) -> Iterator[Server]:
    logs = made.folder / "logs"
    airflow = str(services.BIN / "airflow")
    if executor == "celery":
        yield _redis(made.folder, env, logs)
    command = [sys.executable, "-m", "chaos.hub", str(made.hub_folder), str(made.hub_port)]
    command += [str(made.requests_of_hub), str(TOKEN_LIFE)]
    plain = {name: value for name, value in env.items() if not name.startswith("AIRFLOW")}
    yield Server("hub", command, plain | {"PYTHONPATH": str(_TESTS)}, logs / "hub.log", ready="is ready")

    def api_responds() -> bool:
        try:
            return requests.get(f"{made.api_url}/api/v2/version", timeout=2).ok
        except requests.RequestException:
            return False

    yield Server("API server", [airflow, "api-server"], env, logs / "api-server.log", responds=api_responds)
    yield Server("DAG processor", [airflow, "dag-processor"], env, logs / "dag-processor.log")
    # Servers for task logs cannot be told an address; they are read from the disk.
    yield Server("scheduler", [airflow, "scheduler", "--skip-serve-logs"], env, logs / "scheduler.log")
    yield Server("triggerer", [airflow, "triggerer", "--skip-serve-logs"], env, logs / "triggerer.log")
    for name in WORKERS:
        own = _worker_environment(made, env, name, executor)
        if name == SKEWED and clock_offset:
            own |= wrong_clock(made.folder, clock_offset)
        log = logs / f"worker-{name}.log"
        if executor == "edge":
            # Of a worker that was killed, Airflow keeps the name for a while, and refuses another one with this name.
            command = [airflow, "edge", "worker", "--edge-hostname", f"{name}-{{start}}", "--queues", "default"]
            yield Server(name, [*command, "--concurrency", str(CONCURRENCY)], own, log)
        else:
            command = [airflow, "celery", "worker", "--celery-hostname", name, "--queues", "default"]
            command += ["--concurrency", str(CONCURRENCY), "--skip-serve-logs", "--without-mingle", "--without-gossip"]
            yield Server(name, command, own, log, ready=f"{name} ready.")


def _redis(folder: Path, env: Mapping[str, str], logs: Path) -> Server:
    program = shutil.which("redis-server")
    assert program, "redis-server is not installed: apt-get install redis-server"
    port = env["AIRFLOW__CELERY__BROKER_URL"].rpartition(":")[2].partition("/")[0]
    (data := folder / "redis").mkdir()
    command = [program, "--bind", "127.0.0.1", "--port", port, "--dir", str(data), "--save", ""]
    # What it acknowledged is there when it starts again.
    command += ["--appendonly", "yes", "--appendfsync", "always"]
    return Server("redis", command, {}, logs / "redis.log", ready="Ready to accept connections", data=data)


def _worker_environment(made: Fleet, env: Mapping[str, str], name: str, executor: str) -> dict[str, str]:
    hidden = _ONLY_FOR_SERVERS + (_CELERY_WORKERS_LACK if executor == "celery" else ())
    place = made.folder / "workers" / name
    for each in ("home", "tmp"):
        (place / each).mkdir(parents=True)
    shutil.copytree(_DAGS, place / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    return {
        **{key: value for key, value in env.items() if not key.startswith(hidden)},
        "HOME": str(place / "home"),
        "USER": name,
        "LOGNAME": name,
        "TMPDIR": str(place / "tmp"),
        "HF_HOME": str(place / "home" / "huggingface"),
        "HF_XET_CACHE": str(place / "home" / "xet"),
        "AIRFLOW_HOME": str(place / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(place / "dags"),
    }


def wrong_clock(folder: Path, seconds: int) -> dict[str, str]:
    """Return the environment in which the clock is ahead by so many seconds; intervals keep their length.

    :param folder: where to build the library that does it.
    """
    library = folder / "clock.so"
    source = Path(__file__).parent / "clock.c"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    return {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(seconds)}


def _edge_provider(folder: Path) -> Path:
    """Install the provider of the Edge executor beside this Airflow: it is not part of what the tests need."""
    target = folder / "edge3"
    command: list[Any] = [services.BIN / "uv", "pip", "install", "--quiet", "--no-deps", "--target", target]
    subprocess.run([*command, "--python", sys.executable, *EDGE], check=True)
    return target
