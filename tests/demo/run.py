"""``make demo``: the quick start in a real Airflow, against a local Hub, told step by step.

Twice the DAG ``xethub_quickstart`` publishes a folder and reads it back: first one version of a 64 MiB binary and two
tables, then another version that shares most bytes with the first. Then everything that Airflow left behind is searched
for the Hub token and for every access token that the local Hub issued.
"""

from __future__ import annotations

import shutil
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import data
import leaks
import services

from airflow_provider_xethub.xet.message_text import duration, size
from xethub_local.local_store import LocalStore

DAG = "xethub_quickstart"
REPO = "datasets/local/penguins"
TOKEN_TASKS = ("write_token", "read_token")
FINISHED = {"success", "failed", "upstream_failed", "skipped", "removed"}
MOST_NEW_BYTES = 0.2
STARTED = time.monotonic()


def say(text: str) -> None:
    print(f"{time.monotonic() - STARTED:6.1f} s  {text}", flush=True)


def main() -> int:
    folder = services.ROOT / ".demo"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    versions = data.make(folder / "data")
    say("made a 64 MiB binary in two versions; the tables are the Palmer penguins")
    env = services.environment(folder)
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
    say("stopped Airflow and the local Hub")
    print_table([summary(run) for run in runs])
    issued = store.access.issued_xet_tokens()
    store.close()
    secrets = {"the Hub token": hub_token, **{f"access token {n}": token for n, token in enumerate(issued, 1)}}
    return check(runs, secrets, folder)


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


def check(runs: list[dict[str, Any]], secrets: dict[str, str], folder: Path) -> int:
    """Check what the demonstration claims; return the exit status."""
    problems = []
    share = sum(t["bytes_sent"] for t in runs[1]["transfers"]) / sum(t["bytes"] for t in runs[1]["transfers"])
    print(f"  The second version sent {100 * share:.1f} % of its bytes.")
    if share >= MOST_NEW_BYTES:
        problems.append(f"The second version sent {100 * share:.0f} % of its bytes; expected less than 20 %.")
    problems += [f"{run['version']}: not all tokens were forgotten." for run in runs if len(run["forgotten"]) != 2]
    database = folder / "airflow" / "airflow.db"
    logs = [folder / "airflow" / "logs", folder / "logs"]
    # The search would also find nothing in the wrong place: it must find something that surely is there.
    if not leaks.find({"probe": "xethub_quickstart"}, database, []) or not leaks.find(
        {"probe": "write token"}, database, logs
    ):
        problems.append("The search for leaks looked in the wrong place.")
    found = leaks.find(secrets, database, [*logs, folder / "home"])
    problems += [f"LEAK: {place}" for place in found]
    if len(secrets) < 5:
        problems.append(f"The local Hub issued {len(secrets) - 1} access tokens; expected at least 4.")
    count = sum(len(leaks.files(place)) for place in logs)
    if not found:
        print(
            f"  Neither the Hub token nor any of the {len(secrets) - 1} access tokens occurs in the metadata database "
            f"or in {count} log files."
        )
    for problem in problems:
        print(f"  {problem}", file=sys.stderr)
    print(
        f"  Done in {time.monotonic() - STARTED:.0f} s. Everything is in {folder.name}/, and nothing is left running."
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
