"""The DAG of a case: all operators, sensors, decorators, filesystem and hook calls, each in a task of its own.

A file for each case imports this one. ``plan.json``, beside it, has the cases, and where their files are.
"""

from __future__ import annotations

import json
import logging
import os
import resource
from datetime import timedelta
from pathlib import Path
from typing import Any

import hf_xet  # noqa: F401 - a DAG that imports it first has it write a log file
from airflow.sdk import DAG, Asset, AssetWatcher, ObjectStoragePath, task

from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.pull_requests import (
    XetClosePullRequestOperator,
    XetCommentPullRequestOperator,
    XetMergePullRequestOperator,
)
from airflow_provider_xethub.operators.refs import (
    XetCreateBranchOperator,
    XetCreateTagOperator,
    XetDeleteBranchOperator,
    XetDeleteTagOperator,
    XetSquashHistoryOperator,
)
from airflow_provider_xethub.operators.repositories import (
    XetCreateRepoOperator,
    XetDeleteRepoOperator,
    XetDeleteUnreferencedFilesOperator,
    XetUpdateRepoOperator,
)
from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetCopyOperator,
    XetDownloadOperator,
    XetForgetTokenOperator,
    XetListOperator,
    XetMirrorOperator,
    XetTokenOperator,
    XetUploadOperator,
)
from airflow_provider_xethub.sensors.pull_requests import XetPullRequestSensor
from airflow_provider_xethub.sensors.scans import XetScanSensor
from airflow_provider_xethub.sensors.xethub import XetFileSensor, XetRevisionSensor
from airflow_provider_xethub.triggers.xethub import XetRevisionTrigger
from airflow_provider_xethub.xet.cas import session
from airflow_provider_xethub.xet.hub import client

# Servers that fail on purpose are not asked again for a minute.
client.FIRST_DELAY, client.MAX_TRIES = 0.05, 3
session.RETRY_DELAY, session.RETRIES = "20ms", 2

PLAN = json.loads(Path(__file__).with_name("plan.json").read_text())
SOURCES = Path(PLAN["sources"])
LOG = logging.getLogger("leaks")
POLL: dict[str, Any] = {"poke_interval": 1, "timeout": 6}
ALWAYS: dict[str, Any] = {"trigger_rule": "all_done"}


def log_errors(*calls: Any) -> None:
    """Call each, and log its error with its traceback, as careless code in a DAG would."""
    for call in calls:
        try:
            LOG.info("It returned %.2000r", call())
        except Exception as error:
            LOG.exception("It failed: %r %s", error, vars(error))


def everything(case: dict[str, Any]) -> None:
    """All tasks that there are, for one case."""
    where: dict[str, Any] = {"repo_id": case["repo_id"], "repo_type": "dataset", "xethub_conn_id": case["conn_id"]}
    bare: dict[str, Any] = {"xethub_conn_id": None}
    downloads = f"{PLAN['downloads']}/{case['name']}"
    records = case["records"]
    scratch: dict[str, Any] = {**where, "repo_id": f"{case['repo_id']}-scratch"}

    read = XetTokenOperator(task_id="read_token", **where)
    write = XetTokenOperator(task_id="write_token", scope="write", bind="run", **where)
    look = XetListOperator(task_id="list", inline_content=True, **where)
    with_token = XetUploadOperator(
        task_id="upload_with_token", source=str(SOURCES / "0.bin"), commit=False, token=write.output, **bare
    )
    several = XetUploadOperator.partial(task_id="upload_mapped", commit=False, token=write.output, **where).expand(
        source=[str(SOURCES / "1.bin"), str(SOURCES / "2.bin")]
    )
    many = XetUploadOperator(
        task_id="upload_many", source=str(SOURCES), path_in_repo="many", commit=False, token=write.output, **bare
    )
    publish = XetCommitOperator(task_id="commit", files=[with_token.output, many.output], **where)
    download_with_token = XetDownloadOperator(
        task_id="download_with_token", files=look.output, destination=f"{downloads}/token", token=read.output, **bare
    )
    forget = XetForgetTokenOperator(task_id="forget", token_task_ids=["read_token", "write_token"], **ALWAYS)
    [publish, several, download_with_token] >> forget
    upload = XetUploadOperator(task_id="upload", source=str(SOURCES), path_in_repo="all", **where)
    XetUploadOperator(task_id="upload_pull_request", source=str(SOURCES), path_in_repo="pr", create_pr=True, **where)
    XetDownloadOperator(task_id="download", destination=f"{downloads}/plain", **where)
    XetDownloadOperator(task_id="download_records", files=records, destination=f"{downloads}/records", **where)
    XetDownloadOperator(task_id="download_storage", files=records, destination=f"file://{downloads}/storage/", **where)
    copy = XetCopyOperator(task_id="copy", path="a.bin", path_in_repo="copies/", **where)
    upload >> copy
    mirror: dict[str, Any] = {"path_in_repo": "mirror", **where}
    plan = XetMirrorOperator(task_id="mirror_plan", source=str(SOURCES), dry_run=True, **mirror)
    up = XetMirrorOperator(task_id="mirror_up", source=str(SOURCES), **mirror, **ALWAYS)
    down = XetMirrorOperator(task_id="mirror_down", destination=f"{downloads}/mirror", **mirror, **ALWAYS)
    plan >> up >> down
    create = XetCreateRepoOperator(task_id="create_repo", **scratch)
    update = XetUpdateRepoOperator(task_id="update_repo", visibility="public", **scratch, **ALWAYS)
    delete = XetDeleteRepoOperator(task_id="delete_repo", confirm=scratch["repo_id"], **scratch, **ALWAYS)
    create >> update >> delete
    XetDeleteUnreferencedFilesOperator(task_id="delete_unreferenced", dry_run=False, **where)
    branch = XetCreateBranchOperator(task_id="create_branch", branch="dev", **where)
    squash = XetSquashHistoryOperator(task_id="squash", **{**where, "revision": "dev"}, **ALWAYS)
    branch >> squash >> XetDeleteBranchOperator(task_id="delete_branch", branch="dev", **where, **ALWAYS)
    tag = XetCreateTagOperator(task_id="create_tag", tag="v1", **where)
    tag >> XetDeleteTagOperator(task_id="delete_tag", tag="v1", **where, **ALWAYS)
    comment = XetCommentPullRequestOperator(task_id="comment", pull_request=1, comment="Seen.", **where)
    merge = XetMergePullRequestOperator(task_id="merge", pull_request=1, **where, **ALWAYS)
    XetClosePullRequestOperator(task_id="close", pull_request=2, comment="No.", **where)
    comment >> merge

    merge >> XetPullRequestSensor(task_id="wait_pull_request", pull_request=1, **POLL, **where, **ALWAYS)
    XetFileSensor(task_id="wait_file", path="a.bin", **POLL, **where)
    XetFileSensor(task_id="wait_file_rescheduled", path="a.bin", mode="reschedule", **POLL, **where)
    XetFileSensor(task_id="wait_file_deferred", path="a.bin", deferrable=True, **POLL, **where)
    XetRevisionSensor(task_id="wait_revision", newer_than="0" * 40, **POLL, **where)
    XetScanSensor(task_id="wait_scan", **POLL, **where)

    @task.xethub(path="a.bin", path_in_repo="made", task_id="decorated", **where)
    def decorated(file: Path, output: Path) -> None:
        LOG.info("%r %r %s", file, output, vars(file) if hasattr(file, "__dict__") else "")
        (output / "made.bin").write_bytes(file.read_bytes()[::-1])

    decorated()  # type: ignore[call-arg] # the operator provides both arguments

    @task(task_id="filesystem")
    def filesystem() -> None:
        root = ObjectStoragePath(f"hf://{case['conn_id']}@datasets/{case['repo_id']}")
        fs = root.fs
        place = root.path
        log_errors(
            lambda: fs.ls(place),
            lambda: fs.info(f"{place}/a.bin"),
            lambda: fs.find(place),
            lambda: fs.cat_file(f"{place}/a.bin", 10, 20),
            lambda: fs.cat_file(f"{place}/b.csv"),
            lambda: (root / "a.bin").read_bytes(),
            lambda: fs.pipe_file(f"{place}/fs/new.bin", os.urandom(3000)),
            lambda: fs.put_file(str(SOURCES / "0.bin"), f"{place}/fs/put.bin"),
            lambda: fs.get_file(f"{place}/a.bin", f"{downloads}-fs.bin"),
            lambda: fs.cp_file(f"{place}/a.bin", f"{place}/fs/copied.bin"),
            lambda: fs.mv(f"{place}/fs/copied.bin", f"{place}/fs/moved.bin"),
            lambda: fs.rm(f"{place}/fs", recursive=True),
            lambda: fs.modified(f"{place}/a.bin"),
            lambda: fs.to_json(),
            lambda: vars(fs),
            lambda: fs.ls(f"{place}-missing"),
        )

    filesystem()

    @task(task_id="hook")
    def hook() -> None:
        hook = XetHubConnection(case["conn_id"])
        repo = hook.repo(case["repo_id"], "dataset")

        def hand_over() -> Any:
            with hook.hand_over(hook.get_token(repo), scope="read", repo=repo) as path:
                return path

        log_errors(
            lambda: hook.test_connection(),
            lambda: hook.whoami(),
            lambda: hook.api.whoami(),
            lambda: hook.api.repo_info(repo.repo_id, repo_type="dataset", files_metadata=True),
            lambda: hook.api.hf_hub_download(repo.repo_id, "a.bin", repo_type="dataset", cache_dir=downloads),
            lambda: hook.api.hf_hub_download(repo.repo_id, "b.csv", repo_type="dataset", cache_dir=downloads),
            lambda: hook.get_conn().get(f"{hook.endpoint}/api/whoami-v2", timeout=10),
            lambda: hook.get_conn().get(f"{hook.endpoint}/datasets/{repo.repo_id}/resolve/main/a.bin", timeout=10),
            lambda: hook.get_token(repo, "write"),
            lambda: vars(hook),
            lambda: vars(hook.hub),
            lambda: hook.list_refs(repo),
            lambda: hook.get_changes(repo, None),
            hand_over,
        )

    hook()


@task
def core_dumps(case: dict[str, Any]) -> dict[str, Any]:
    """Report whether this process may leave a core dump: before it has a token, with one, and afterwards."""
    import ctypes
    import gc

    def allowed() -> dict[str, Any]:
        return {
            "limit": resource.getrlimit(resource.RLIMIT_CORE)[0],
            "dumpable": ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),
        }

    before = allowed()
    hook = XetHubConnection(case["conn_id"])
    token = hook.get_token(hook.repo(case["repo_id"], "dataset"))
    during = allowed()
    del hook, token
    gc.collect()
    return {"before": before, "during": during, "after": allowed()}


def keyless(case: dict[str, Any]) -> None:
    """What a connection with an identity does."""
    where: dict[str, Any] = {"repo_id": case["repo_id"], "repo_type": "dataset", "xethub_conn_id": case["conn_id"]}
    token = XetTokenOperator(task_id="token", scope="write", **where)
    upload = XetUploadOperator(task_id="upload", source=str(SOURCES), **where)
    XetDownloadOperator(task_id="download", destination=f"{PLAN['downloads']}/{case['name']}", **where)
    XetFileSensor(task_id="wait_file", path="a.bin", deferrable=True, **POLL, **where)

    @task
    def hook() -> None:
        hook = XetHubConnection(case["conn_id"])
        log_errors(
            lambda: hook.test_connection(),
            lambda: hook.api.repo_info(case["repo_id"], repo_type="dataset"),
            lambda: vars(hook.hub),
            lambda: vars(hook.hub.exchanged),
            lambda: ObjectStoragePath(f"hf://{case['conn_id']}@datasets/{case['repo_id']}/b.csv").read_bytes(),
        )

    token >> upload
    hook()


def waiting(case: dict[str, Any]) -> None:
    """What waits in the triggerer, for things that do not exist yet."""
    where: dict[str, Any] = {"repo_id": case["repo_id"], "repo_type": "dataset", "xethub_conn_id": case["conn_id"]}
    # They start before all others, and wait until it is their turn to fail.
    patient: dict[str, Any] = {"deferrable": True, "poke_interval": 1, "timeout": 7200, "execution_timeout": None}
    patient["priority_weight"] = 1000
    XetFileSensor(task_id="file", path="late.csv", **patient, **where)
    XetFileSensor(task_id="pattern", patterns="late*", **patient, **where)
    XetRevisionSensor(task_id="revision", **patient, **where)
    XetPullRequestSensor(task_id="pull_request", pull_request=3, **patient, **where)
    XetScanSensor(task_id="scan", **patient, **where)


BUILDERS = {"all": everything, "keyless": keyless, "waiting": waiting}


def dags_of(name: str) -> dict[str, DAG]:
    """Return the DAGs of a case, by their ids; the last one of a waiting case is started by its commits."""
    case = PLAN["cases"][name]
    with DAG(
        case["dag_id"],
        schedule=None,
        catchup=False,
        default_args={"retries": 0, "execution_timeout": timedelta(minutes=3)},
    ) as dag:
        BUILDERS[case["tasks"]](case)
        if name == "healthy":
            core_dumps(case)
    dags = {dag.dag_id: dag}
    if case["tasks"] == "waiting":
        where: dict[str, Any] = {"repo_id": case["repo_id"], "repo_type": "dataset", "xethub_conn_id": case["conn_id"]}
        watcher = AssetWatcher(name=f"watch_{name}", trigger=XetRevisionTrigger(poke_interval=1, **where))
        asset = Asset(f"hf://datasets/{case['repo_id']}", watchers=[watcher])
        with DAG(f"watched_{name}", schedule=[asset], catchup=False, is_paused_upon_creation=False) as watched:

            @task
            def told(triggering_asset_events: Any = None) -> str:
                return str(triggering_asset_events)

            told()
        dags[watched.dag_id] = watched
    return dags
