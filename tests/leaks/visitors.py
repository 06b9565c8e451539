"""Who asks Airflow's API: users of each role, who request everything that it has to show."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from demo import services
from leaks.search import Piece

_TASKS = "/api/v2/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances"
# Routes that only wait or log out, and those that need what this Airflow lacks.
_SKIPPED = re.compile(r".*(/wait|/auth/(login|logout)|hitlDetails.*|externalLogUrl.*|\{backfill_id\}.*)$")
_OF_A_TASK = re.compile(r".*\{task_id\}(|/links|/state-store|/logs/\{try_number\})$")
_THREADS = 3

Depth = Literal["xcoms", "all"]


class Visitor(services.Airflow):
    """A user of Airflow, by the name of the role.

    :ivar refused: how many requests were answered with 401 or 403.
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url = url
        self.user = user
        self.refused = 0
        self.statuses: dict[int, int] = {}
        self._session = requests.Session()
        # SQLite is locked at times; then Airflow answers 500, and nothing was changed.
        again = Retry(8, allowed_methods=None, status_forcelist=(500,), backoff_factor=0.3, raise_on_status=False)
        self._session.mount(url, HTTPAdapter(max_retries=again, pool_maxsize=_THREADS))
        login = {"username": user, "password": password}
        answer = self._session.post(f"{url}/auth/token", json=login, timeout=30)
        answer.raise_for_status()
        self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def ask(self, method: str, path: str, **options: Any) -> Piece:
        """Request anything, and return status, headers and body as something to search."""
        answer = self._session.request(method, f"{self.url}{path}", timeout=60, **options)
        self.statuses[answer.status_code] = self.statuses.get(answer.status_code, 0) + 1
        self.refused += answer.status_code in (401, 403)
        headers = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
        content = f"{answer.status_code}\n{headers}\n".encode() + answer.content
        return Piece(f"API, {self.user}", f"{method} {path}", content)

    def ask_for_everything(
        self, runs: Mapping[str, list[str]], closely: Mapping[str, list[str]], depth: Depth
    ) -> Iterator[Piece]:
        """Return the responses of all routes, for all DAGs and runs.

        :param runs: the runs of each DAG. Lists of their task instances have the rendered fields.
        :param closely: those whose task instances are asked about one by one.
        :param depth: for these, the ``xcoms``, or ``all``: also their logs, links and state.
        """
        paths = list(self._paths(runs, closely, depth))
        with ThreadPoolExecutor(_THREADS) as pool:
            yield from pool.map(lambda path: self.ask("GET", path), paths)

    def _paths(self, runs: Mapping[str, list[str]], closely: Mapping[str, list[str]], depth: Depth) -> Iterator[str]:
        document = self._session.get(f"{self.url}/openapi.json", timeout=60).json()
        routes = [route for route, methods in document["paths"].items() if "get" in methods]
        routes += _UI  # they are not in the document of the API
        lists = {
            "connection_id": self._ids("/connections", "connections", "connection_id"),
            "event_log_id": self._ids("/eventLogs", "event_logs", "event_log_id")[:20],
            "import_error_id": self._ids("/importErrors", "import_errors", "import_error_id"),
            "asset_id": self._ids("/assets", "assets", "id"),
            "pool_name": ["default_pool"],
        }
        for route in routes:
            if _SKIPPED.match(route) or "{dag_id}" in route:
                continue
            wanted = re.findall(r"\{(\w+)\}", route)
            if not wanted:
                yield f"{route}?limit=1000" if not route.endswith("/dags") else f"{route}?limit=100"
            elif len(wanted) == 1 and wanted[0] in lists:
                yield from (route.format(**{wanted[0]: each}) for each in lists[wanted[0]])
        yield "/api/v2/config/section/xethub/option/fernet_key"
        yield "/api/v2/config/section/core/option/fernet_key"
        yield "/api/v2/config/section/xethub/option/webhook_secret"
        for dag_id, run_ids in runs.items():
            known = {"dag_id": dag_id}
            for route in routes:
                if set(re.findall(r"\{(\w+)\}", route)) == {"dag_id"} and not _SKIPPED.match(route):
                    yield route.format(**known)
            for run_id in run_ids:
                known = {"dag_id": dag_id, "dag_run_id": run_id, "run_id": run_id}
                for route in routes:
                    names = set(re.findall(r"\{(\w+)\}", route))
                    if names in ({"dag_id", "dag_run_id"}, {"dag_id", "run_id"}) and not _SKIPPED.match(route):
                        yield route.format(**known) + ("?limit=1000" if route.endswith("Instances") else "")
                if dag_id in closely:
                    yield from self._task_paths(dag_id, run_id, routes, depth)

    def _task_paths(self, dag_id: str, run_id: str, routes: list[str], depth: Depth) -> Iterator[str]:
        base = _TASKS.format(dag_id=dag_id, dag_run_id=run_id)
        tasks = self.get(base.removeprefix("/api/v2"), limit=1000)["task_instances"]
        for task in tasks:
            index, tries = task["map_index"], task["try_number"]
            entries = self.get(f"{base.removeprefix('/api/v2')}/{task['task_id']}/xcomEntries", map_index=index) or {}
            for entry in entries.get("xcom_entries", []):
                query = f"map_index={index}&deserialize=false"
                yield f"{base}/{task['task_id']}/xcomEntries/{entry['key']}?{query}"
            if depth != "all":
                continue
            known = {
                "dag_id": dag_id,
                "dag_run_id": run_id,
                "task_id": task["task_id"],
                "map_index": index,
                "try_number": tries,
                "task_try_number": tries,
            }
            for route in routes:
                names = set(re.findall(r"\{(\w+)\}", route))
                if {"dag_run_id", "task_id"} <= names <= set(known) and _OF_A_TASK.match(route):
                    yield route.format(**known) + ("" if "{map_index}" in route else f"?map_index={index}")

    def _ids(self, path: str, key: str, name: str) -> list[str]:
        answer = self._session.get(f"{self.url}/api/v2{path}", params={"limit": 1000}, timeout=60)
        return [str(each[name]) for each in answer.json()[key]] if answer.ok else []


_UI = [
    "/ui/auth/menus",
    "/ui/auth/me",
    "/ui/next_run_assets/{dag_id}",
    "/ui/dags/{dag_id}/dagRuns/{dag_run_id}/stats",
    "/ui/config",
    "/ui/connections/hook_meta",
    "/ui/dags",
    "/ui/dags/{dag_id}/latest_run",
    "/ui/dependencies",
    "/ui/dashboard/dag_stats",
    "/ui/backfills",
    "/ui/grid/structure/{dag_id}",
    "/ui/grid/runs/{dag_id}",
    "/ui/grid/ti_summaries/{dag_id}",
    "/ui/gantt/{dag_id}/{run_id}",
]
