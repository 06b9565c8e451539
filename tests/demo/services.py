"""The servers of the demonstration: a local Hub, and Airflow's API server, scheduler and DAG processor.

Each is a process group of its own, and is ended by its own process id. All of them listen to this machine only, where
everybody is an administrator: the kernel is asked.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
_CREDENTIAL_NAMES = ("AIRFLOW", "HF_", "HUGGING", "XET")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of all processes: nothing of the caller's Airflow or Hub settings comes in."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_CREDENTIAL_NAMES)}
    port = free_port()
    return {
        **inherited,
        "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
        "HOME": str(folder / "home"),
        "HF_HOME": str(folder / "home" / "huggingface"),
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(32),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags_example"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


@contextmanager
def running(name: str, command: list[str], env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server for as long as the block lasts; then end its whole process group."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=dict(env),
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)
        if process.poll() is None:
            print(f"{name} (process {process.pid}) could not be stopped.", file=sys.stderr)


def _end(process: subprocess.Popen[bytes]) -> None:
    for how, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(process.pid, how)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            process.poll()
            try:
                os.killpg(process.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.1)


def wait_for(what: str, check: Any, process: subprocess.Popen[bytes], log: Path, patience: float = 300) -> Any:
    """Call ``check`` until it returns something true; show the log if the process ends or takes too long."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if value := check():
                return value
        except (requests.RequestException, OSError):
            pass
        time.sleep(0.2)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
    raise SystemExit(f"{what} did not start; the end of its log:\n{tail}")


def open_to_others(pid: int) -> list[str]:
    """Return where a process, or one below it, listens to other machines: ``name (pid) at address, port``."""
    found = []
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        try:
            # It has another name before psutil 6.
            ask = process.net_connections if hasattr(process, "net_connections") else process.connections
            for connection in ask(kind="tcp"):
                address, port = connection.laddr[:2]
                if connection.status == psutil.CONN_LISTEN and not ipaddress.ip_address(address).is_loopback:
                    found.append(f"{process.name()} ({process.pid}) at {address}, port {port}")
        except psutil.NoSuchProcess:
            continue
    return found


def require_loopback(*processes: subprocess.Popen[bytes]) -> None:
    """Refuse to go on where one of these listens to other machines.

    :raises SystemExit: it does, or a process that it started.
    """
    if found := [each for process in processes for each in open_to_others(process.pid)]:
        raise SystemExit(f"These must listen to this machine only: {'; '.join(found)}.")


@contextmanager
def local_hub(folder: Path, env: Mapping[str, str], log: Path) -> Iterator[str]:
    """Run ``xethub-local serve`` and yield its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    # It prints Hub tokens, for the person who starts it. Here that is this script, which asks the data folder instead;
    # the log only holds what goes wrong.
    command = ["sh", "-c", 'exec "$0" "$@" >/dev/null', str(BIN / "xethub-local"), "serve"]
    command += ["--folder", str(folder), "--port", str(port)]
    with running("The local Hub", command, env, log) as process:
        wait_for("The local Hub", lambda: requests.get(url, timeout=2).ok, process, log)
        require_loopback(process)
        yield url


class Airflow:
    """The running Airflow, asked through its public API."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        # On a busy machine two requests wait for each other's SQLite at times; after 5 s Airflow answers 500 to one.
        again = Retry(8, allowed_methods=("GET", "PATCH"), status_forcelist=(500,), backoff_factor=0.2)
        self._session.mount(url, HTTPAdapter(max_retries=again))
        token = self._session.get(f"{url}/auth/token", timeout=30).json()["access_token"]
        self._session.headers["Authorization"] = f"Bearer {token}"

    def get(self, path: str, **params: Any) -> Any:
        response = self._session.get(f"{self.url}/api/v2{path}", params=params, timeout=30)
        if response.status_code == 404:
            return None
        response.raise_for_status()
        return response.json()

    def patch(self, path: str, fields: Mapping[str, Any]) -> None:
        self._session.patch(f"{self.url}/api/v2{path}", json=dict(fields), timeout=30).raise_for_status()

    def start_run(self, dag_id: str, conf: Mapping[str, str]) -> str:
        self.patch(f"/dags/{dag_id}", {"is_paused": False})
        answer = self._session.post(
            f"{self.url}/api/v2/dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": dict(conf)}, timeout=30
        )
        answer.raise_for_status()
        return str(answer.json()["dag_run_id"])

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        entry = self.get(path, map_index=map_index, deserialize="true")
        return entry["value"] if entry else None


@contextmanager
def airflow(folder: Path, env: Mapping[str, str]) -> Iterator[Airflow]:
    """Run Airflow's API server, scheduler and DAG processor, and yield its API."""
    logs = folder / "logs"
    url = env["AIRFLOW__API__BASE_URL"]
    executable = str(BIN / "airflow")
    # Its server for task logs cannot be told an address; they are read from the disk.
    scheduler_command = [executable, "scheduler", "--skip-serve-logs"]
    with (
        running("The API server", [executable, "api-server"], env, logs / "api-server.log") as server,
        running("The DAG processor", [executable, "dag-processor"], env, logs / "dag-processor.log") as processor,
        running("The scheduler", scheduler_command, env, logs / "scheduler.log") as scheduler,
    ):
        wait_for(
            "Airflow", lambda: requests.get(f"{url}/api/v2/version", timeout=2).ok, server, logs / "api-server.log"
        )
        require_loopback(server, processor, scheduler)
        yield Airflow(url)
        require_loopback(server, processor, scheduler)


def prepare_airflow(env: Mapping[str, str], hub_url: str, hub_token: str | None, extra: str = "") -> None:
    """Make the metadata database, and the connection as a person would in the UI: stored encrypted.

    :param extra: the connection's extras, as JSON.
    """
    script = (
        "import json, sys\n"
        "from airflow.utils.db import initdb\n"
        "initdb()\n"
        "from airflow.models import Connection\n"
        "from airflow.utils.session import create_session\n"
        "with create_session() as session:\n"
        "    session.add(Connection(conn_id='xethub_default', **json.load(sys.stdin)))\n"
    )
    fields = {"conn_type": "xethub", "host": hub_url, "password": hub_token, "extra": extra or None}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=dict(env),
        input=json.dumps(fields),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"Airflow could not be set up:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
