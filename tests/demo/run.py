"""``make demo``: the quick start in a real Airflow, against a local Hub, told step by step.

Twice the DAG ``xethub_quickstart`` publishes a folder and reads it back: first one version of a 64 MiB binary and two
tables, then another version that shares most bytes with the first. Then everything that Airflow left behind is searched
for the Hub token and for every access token that the local Hub issued. With ``KEEP=1``, Airflow and the local Hub then
keep running until Ctrl-C.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import data
import left_behind
import services

from airflow_provider_xethub.xet.message_text import duration, size
from xethub_local.local_store import LocalStore

DAG = "xethub_quickstart"
REPO = "datasets/local/penguins"
TOKEN_TASKS = ("write_token", "read_token")
FINISHED = {"success", "failed", "upstream_failed", "skipped", "removed"}
MOST_NEW_BYTES = 0.2
DAGS_OF_VISITORS = {"AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10"}
"""Airflow looks for new files every 10 seconds instead of every 5 minutes."""
STARTED = time.monotonic()
KEEP = os.environ.get("KEEP", "") not in ("", "0")


def say(text: str) -> None:
    print(f"{time.monotonic() - STARTED:6.1f} s  {text}", flush=True)


def main() -> int:
    end_as_by_ctrl_c()
    folder = services.ROOT / ".demo"
    folder.mkdir(exist_ok=True)
    lock = hold(folder)
    for old in folder.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    versions = data.make(folder / "data")
    say("made a 64 MiB binary in two versions; the tables are the Palmer penguins")
    env = services.environment(folder) | (DAGS_OF_VISITORS if KEEP else {})
    store = LocalStore(folder / "hub")
    hub_token = store.tokens["write"]
    store.repositories.create(REPO, private=True, author="local")
    with services.local_hub(folder / "hub", env, folder / "xethub-local.log") as hub_url:
        say(f"the local Hub runs at {hub_url}, with the private repository {REPO}")
        services.prepare_airflow(env, hub_url, hub_token)
        say("made Airflow's database, with the connection xethub_default")
        with services.airflow(folder, env) as airflow:
            say(f"Airflow runs at {airflow.url}: API server, DAG processor, scheduler")
            runs = [run_once(airflow, folder, version) for version in versions]
            if KEEP:
                status = check(runs, store, hub_token, folder)
                print(where_to_click(airflow.url, hub_url, runs[-1]), flush=True)
                wait_for_ctrl_c()
    say("stopped Airflow and the local Hub")
    if not KEEP:
        status = check(runs, store, hub_token, folder)
    store.close()
    os.close(lock)
    print(f"  Everything is in {folder.name}/, and nothing is left running.")
    return status


def end_as_by_ctrl_c() -> None:
    """Stop the servers also when this is terminated or its terminal is closed, and when a script started it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


def hold(folder: Path) -> int:
    """Let nobody else use the folder; returns what has to be closed.

    :raises SystemExit: another demonstration uses it.
    """
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit("Another demonstration runs in this folder. End it with Ctrl-C in its terminal.") from None
    return lock


def wait_for_ctrl_c() -> None:
    with suppress(KeyboardInterrupt):
        while True:
            signal.pause()
    # A second Ctrl-C would leave servers running.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    print(flush=True)


def where_to_click(airflow_url: str, hub_url: str, run: dict[str, Any]) -> str:
    """Say what is where, and how to end it."""
    return f"""
  Airflow and the local Hub keep running. Neither asks for a password: on this machine, everybody may do everything.

    the run         {airflow_url}/dags/{DAG}/runs/{run["run_id"]}
    its commit      {run["commit"]["url"]}
    the connection  {airflow_url}/connections
    all files       {hub_url}/{REPO}

  DAG files that you save in dags_example/ appear in Airflow within half a minute. They may publish to the dataset
  local/penguins.
  End everything with Ctrl-C.
"""


def run_once(airflow: services.Airflow, folder: Path, version: Path) -> dict[str, Any]:
    """Run the DAG on one version, and collect what its tasks returned."""
    while not airflow.get(f"/dags/{DAG}"):
        time.sleep(0.3)
    conf = {"folder": str(version), "destination": str(folder / "downloaded" / version.name)}
    run_id = airflow.start_run(DAG, conf)
    say(f"started {DAG} with {version.name}")
    told: set[tuple[str, int]] = set()
    tokens: list[str] = []
    while True:
        run = airflow.get(f"/dags/{DAG}/dagRuns/{run_id}")
        tasks = airflow.get(f"/dags/{DAG}/dagRuns/{run_id}/taskInstances", limit=100)["task_instances"]
        for task in sorted(tasks, key=lambda each: each["end_date"] or ""):
            key = (task["task_id"], task["map_index"])
            if task["state"] in FINISHED and key not in told:
                told.add(key)
                index = f"[{task['map_index']}]" if task["map_index"] >= 0 else ""
                say(f"    {task['task_id']}{index}: {task['state']} in {task['duration'] or 0:.1f} s")
                if task["task_id"] in TOKEN_TASKS and (sealed := airflow.xcom(DAG, run_id, task["task_id"])):
                    tokens.append(describe(sealed, task["end_date"]))
                    say(f"        in XCom: {tokens[-1]}, sealed as {sealed['sealed'][:12]}…")
        # The run can be over before its last teardown is.
        if run["state"] in FINISHED and all(task["state"] in FINISHED for task in tasks):
            break
        time.sleep(0.5)
    if run["state"] != "success" or any(task["state"] != "success" for task in tasks):
        raise SystemExit(f"{DAG} did not succeed; its logs are in {folder / 'airflow' / 'logs'}.")

    def xcom(task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        return airflow.xcom(DAG, run_id, task_id, key, map_index)

    uploads = sum(task["task_id"] == "upload" for task in tasks)
    return {
        "run_id": run_id,
        "version": version.name,
        "transfers": [xcom("upload", "transfer", index) for index in range(uploads)],
        "commit": xcom("publish"),
        "received": xcom("download", "transfer"),
        "verified": xcom("compare"),
        "tokens": tokens,
        "forgotten": [task_id for task_id in TOKEN_TASKS if xcom(task_id) is None],
    }


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def describe(sealed: dict[str, Any], fetched_at: str) -> str:
    """Say what anybody may read in a token's XCom value: scope and remaining life."""
    left = moment(sealed["expires_at"]) - moment(fetched_at)
    return f"{sealed['scope']} for {duration(left.total_seconds())}"


def summary(run: dict[str, Any]) -> dict[str, str]:
    total, sent, known = (
        sum(transfer[name] for transfer in run["transfers"]) for name in ("bytes", "bytes_sent", "bytes_deduplicated")
    )
    return {
        "": run["version"],
        "tokens": ", ".join(run["tokens"]),
        "forgotten after": " and ".join(run["forgotten"]) or "NO",
        "files": str(len(run["commit"]["files"])),
        "content": size(total),
        "sent": size(sent),
        "deduplicated": f"{100 * known / total:.1f} %",
        "commit": run["commit"]["oid"][:12],
        "downloaded": f"{run['received']['files']} files, {size(run['received']['bytes'])}",
        "verified": f"{run['verified']} of {len(run['commit']['files'])} identical",
    }


def print_table(columns: list[dict[str, str]]) -> None:
    label = max(map(len, columns[0]))
    widths = [max(map(len, column.values())) for column in columns]
    print()
    for name in columns[0]:
        print(
            f"  {name:{label}}  " + "  ".join(f"{c[name]:{w}}" for c, w in zip(columns, widths, strict=True)).rstrip()
        )
        if not name:
            print("  " + "  ".join("-" * width for width in [label, *widths]))
    print()


def check(runs: list[dict[str, Any]], store: LocalStore, hub_token: str, folder: Path) -> int:
    """Show what happened, and check what the demonstration claims; return the exit status."""
    print_table([summary(run) for run in runs])
    issued = store.access.issued_xet_tokens()
    secrets = {"the Hub token": hub_token, **{f"access token {n}": token for n, token in enumerate(issued, 1)}}
    problems = []
    share = sum(t["bytes_sent"] for t in runs[1]["transfers"]) / sum(t["bytes"] for t in runs[1]["transfers"])
    print(f"  The second version sent {100 * share:.1f} % of its bytes.")
    if share >= MOST_NEW_BYTES:
        problems.append(f"The second version sent {100 * share:.0f} % of its bytes; expected less than 20 %.")
    problems += [f"{run['version']}: not all tokens were forgotten." for run in runs if len(run["forgotten"]) != 2]
    database = folder / "airflow" / "airflow.db"
    logs = [folder / "airflow" / "logs", folder / "logs"]
    # The search would also find nothing in the wrong place: it must find something that surely is there.
    if not left_behind.find({"probe": "xethub_quickstart"}, database, []) or not left_behind.find(
        {"probe": "write token"}, database, logs
    ):
        problems.append("The search for leaks looked in the wrong place.")
    found = left_behind.find(secrets, database, [*logs, folder / "home"])
    problems += [f"LEAK: {place}" for place in found]
    if len(secrets) < 5:
        problems.append(f"The local Hub issued {len(secrets) - 1} access tokens; expected at least 4.")
    count = sum(len(left_behind.files(place)) for place in logs)
    if not found:
        print(
            f"  Neither the Hub token nor any of the {len(secrets) - 1} access tokens occurs in the metadata database "
            f"or in {count} log files."
        )
    for problem in problems:
        print(f"  {problem}", file=sys.stderr)
    print(f"  Done in {time.monotonic() - STARTED:.0f} s.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
