"""What is compared: the same work with the operators, with ``huggingface_hub`` in a ``@task``, with bare ``hf_xet``.

Each function here *makes* a task, as the DAG file does when it is parsed, and returns what Airflow calls then. Only
that call is timed: ``execute`` of the operator or of the ``@task``. Client libraries are imported in it, as Airflow's
best practices demand of a ``@task``, and as our operators do.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow.sdk.listener import get_listener_manager

from benchmarks.servers import BUCKET, KEY, REPO, REPO_TYPE, SECRET

Work = Callable[[], Any]
REPOSITORY: dict[str, Any] = {"repo_id": REPO, "repo_type": REPO_TYPE}
_CONTEXT: dict[str, Any] = {}


def run(task: dict[str, Any], began: float) -> dict[str, Any]:
    """Run a task in this process, which began at ``began`` on the clock ``time.monotonic``.

    :returns: ``seconds`` in ``execute`` and the ``cpu`` seconds in it, ``began``, the ``peak`` memory of the process
        and what it ``read``, in bytes, the task's ``value``, and what it ``pushed`` to XCom besides.
    """
    _TaskInstance.try_number = task.get("try_number", 1)
    _TaskInstance.pushed = {}
    work: Work = _MAKERS[task["contender"], task["action"]](task["arguments"])
    get_listener_manager()  # Airflow loads plugins and tells them of the task before it calls execute
    read = _read()
    executed, busy = time.monotonic(), time.process_time()
    value = work()
    seconds, cpu = time.monotonic() - executed, time.process_time() - busy
    most_read = max(now - before for now, before in zip(_read(), read, strict=True))
    figures = {"seconds": seconds, "cpu": cpu, "began": began, "peak": peak(), "read": most_read}
    return {**figures, "value": value, "pushed": _TaskInstance.pushed}


def _read() -> tuple[int, int]:
    """Return the bytes that the process has read, and those that the system read from the disk for it."""
    counters = Path("/proc/self/io")
    if not counters.exists():
        return 0, 0  # not Linux
    figures = dict(line.split(": ") for line in counters.read_text().splitlines())
    return int(figures["rchar"]), int(figures["read_bytes"])


def peak() -> int:
    """Return the peak of this process's resident memory in bytes."""
    status = Path("/proc/self/status")
    if not status.exists():
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # not Linux: bytes
    lines = status.read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


class _TaskInstance:
    """As much of a task instance as ``execute`` asks."""

    dag_id, run_id, task_id, map_index = "bench", "manual__2026", "task", -1
    try_number = 1
    pushed: dict[str, Any]

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = json.loads(json.dumps(value))


def _executed(make: Callable[[], Any], context: dict[str, Any] | None = None) -> Work:
    """Make an operator in a DAG, and return its ``execute``."""
    from airflow.sdk import DAG

    with DAG("bench"):
        made = make()
    operator = getattr(made, "operator", made)
    return lambda: operator.execute({"ti": _TaskInstance(), **(context or {})})


# --- the operators of this provider -----------------------------------------------------------------------------------


def _operator_upload(arguments: dict[str, Any]) -> Work:
    from airflow_provider_xethub.operators.xethub import XetUploadOperator

    return _executed(
        lambda: XetUploadOperator(task_id="task", commit_message="Benchmark", **REPOSITORY, **arguments),
    )


def _operator_download(arguments: dict[str, Any]) -> Work:
    from airflow_provider_xethub.operators.xethub import XetDownloadOperator

    return _executed(lambda: XetDownloadOperator(task_id="task", **REPOSITORY, **arguments))


def _operator_list(arguments: dict[str, Any]) -> Work:
    from airflow_provider_xethub.operators.xethub import XetListOperator

    return _executed(lambda: XetListOperator(task_id="task", **REPOSITORY, **arguments))


def _operator_token(arguments: dict[str, Any]) -> Work:
    from airflow_provider_xethub.operators.xethub import XetTokenOperator

    return _executed(lambda: XetTokenOperator(task_id="task", scope="write", **REPOSITORY, **arguments))


def _operator_commit(arguments: dict[str, Any]) -> Work:
    from airflow_provider_xethub.operators.xethub import XetCommitOperator

    return _executed(lambda: XetCommitOperator(task_id="task", commit_message="Benchmark", **REPOSITORY, **arguments))


# --- huggingface_hub in a @task ---------------------------------------------------------------------------------------


def _task(function: Callable[..., Any], arguments: dict[str, Any]) -> Work:
    from airflow.sdk import task

    return _executed(lambda: task(function)(**arguments))


def upload_file(source: str, path_in_repo: str) -> str:
    from huggingface_hub import HfApi

    return HfApi().upload_file(path_or_fileobj=source, path_in_repo=path_in_repo, **REPOSITORY).oid


def upload_folder(source: str) -> str:
    from huggingface_hub import HfApi

    return HfApi().upload_folder(folder_path=source, **REPOSITORY).oid


def hf_hub_download(path: str, destination: str) -> str:
    from huggingface_hub import hf_hub_download

    return hf_hub_download(filename=path, local_dir=destination, **REPOSITORY)


def snapshot_download(destination: str) -> str:
    from huggingface_hub import snapshot_download

    return snapshot_download(local_dir=destination, **REPOSITORY)


def _s3() -> Any:
    import boto3

    return boto3.client("s3", aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1")


def s3_to_hub(prefix: str) -> str:
    import tempfile

    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as folder:
        _from_s3(prefix, folder)
        return HfApi().upload_folder(folder_path=folder, **REPOSITORY).oid


def hub_to_s3(prefix: str) -> str:
    import tempfile

    from huggingface_hub import snapshot_download

    with tempfile.TemporaryDirectory() as folder:
        snapshot_download(local_dir=folder, **REPOSITORY)
        _to_s3(folder, prefix)
    return prefix


def _from_s3(prefix: str, folder: str) -> None:
    s3 = _s3()
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix):
        for found in page.get("Contents", []):
            path = Path(folder, found["Key"].removeprefix(prefix))
            path.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(BUCKET, found["Key"], str(path))


def _to_s3(folder: str, prefix: str) -> None:
    s3 = _s3()
    for path in sorted(Path(folder).rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_file() and not relative.startswith(".cache/"):
            s3.upload_file(str(path), BUCKET, prefix + relative)


# --- bare hf_xet: the engine, without a Hub, a commit or a verification -----------------------------------------------


def _settings(files: int, tuned: bool) -> Any:
    from hf_xet import XetConfig

    if not tuned:
        return None
    # What makes the engine faster; what bounds its memory and its retries is left at the default.
    faster = {"data.max_concurrent_file_ingestion": 64 if files > 1 else 8, "telemetry.enabled": False}
    return XetConfig().with_config(faster)


def _bare_upload(arguments: dict[str, Any]) -> Work:
    def work() -> list[dict[str, Any]]:
        import hf_xet

        source = Path(arguments["source"])
        paths = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
        root = source if source.is_dir() else source.parent
        session = hf_xet.XetSession(config=_settings(len(paths), arguments["tuned"]))
        with session.new_upload_commit(**arguments["operation"]) as commit:
            handles = [commit.start_upload_file(str(path), sha256=hf_xet.COMPUTE_SHA256) for path in paths]
        infos = [handle.result().xet_info for handle in handles]
        return [
            {"path": path.relative_to(root).as_posix(), "hash": info.hash, "size": info.file_size}
            for path, info in zip(paths, infos, strict=True)
        ]

    return work


def _bare_download(arguments: dict[str, Any]) -> Work:
    def work() -> None:
        import hf_xet

        files, folder = arguments["files"], Path(arguments["destination"])
        session = hf_xet.XetSession(config=_settings(len(files), arguments["tuned"]))
        with session.new_file_download_group(**arguments["operation"]) as group:
            for file in files:
                path = folder / file["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                group.start_download_file(hf_xet.XetFileInfo(file["hash"], file["size"]), str(path))

    return work


def _bare_from_s3(arguments: dict[str, Any]) -> Work:
    def work() -> Any:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            _from_s3(arguments["prefix"], folder)
            return _bare_upload({**arguments, "source": folder})()

    return work


def _bare_to_s3(arguments: dict[str, Any]) -> Work:
    def work() -> None:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            _bare_download({**arguments, "destination": folder})()
            _to_s3(folder, arguments["prefix"])

    return work


OPERATORS, HUB, BARE, TUNED = "this provider", "huggingface_hub", "bare hf_xet", "bare hf_xet, tuned"
IMPORTED = "huggingface_hub, imported before"
LEAN = "this provider, transfer_memory=350MB"
FORGETFUL = "this provider, digest_memory=False"
FEW = "huggingface_hub, 4 requests"
"""With as many requests as the crowded link bears, which its user has to know: nothing is faster on it."""


def _imported_before(arguments: dict[str, Any]) -> Work:
    """The same ``@task``, with the import at the top of the DAG file: paid at every parse instead of in ``execute``."""
    from huggingface_hub import HfApi

    assert HfApi is not None
    return _task(upload_file, arguments)


def _few(work: Work) -> Work:
    for name in ("CLIENT_AC_INITIAL_DOWNLOAD_CONCURRENCY", "CLIENT_AC_MAX_DOWNLOAD_CONCURRENCY"):
        os.environ[f"HF_XET_{name}"] = "4"
    return work


def _forgetful(work: Work) -> Work:
    os.environ["AIRFLOW__XETHUB__DIGEST_MEMORY"] = "False"
    return work


def _tuned(make: Callable[[dict[str, Any]], Work], tuned: bool) -> Callable[[dict[str, Any]], Work]:
    return lambda arguments: make({**arguments, "tuned": tuned})


_MAKERS: dict[tuple[str, str], Callable[[dict[str, Any]], Work]] = {
    (OPERATORS, "upload"): _operator_upload,
    (OPERATORS, "download"): _operator_download,
    (OPERATORS, "list"): _operator_list,
    (OPERATORS, "token"): _operator_token,
    (OPERATORS, "commit"): _operator_commit,
    (LEAN, "upload"): lambda arguments: _operator_upload({**arguments, "transfer_memory": "350MB"}),
    (LEAN, "download"): lambda arguments: _operator_download({**arguments, "transfer_memory": "350MB"}),
    (FORGETFUL, "upload"): lambda arguments: _forgetful(_operator_upload(arguments)),
    (HUB, "upload_file"): lambda arguments: _task(upload_file, arguments),
    (HUB, "upload_folder"): lambda arguments: _task(upload_folder, arguments),
    (HUB, "hf_hub_download"): lambda arguments: _task(hf_hub_download, arguments),
    (HUB, "snapshot_download"): lambda arguments: _task(snapshot_download, arguments),
    (HUB, "s3_to_hub"): lambda arguments: _task(s3_to_hub, arguments),
    (HUB, "hub_to_s3"): lambda arguments: _task(hub_to_s3, arguments),
    (IMPORTED, "upload_file"): _imported_before,
    (FEW, "upload_folder"): lambda arguments: _task(upload_folder, arguments),
    (FEW, "snapshot_download"): lambda arguments: _few(_task(snapshot_download, arguments)),
    (BARE, "upload"): _tuned(_bare_upload, False),
    (BARE, "download"): _tuned(_bare_download, False),
    (BARE, "s3_to_hub"): _tuned(_bare_from_s3, False),
    (BARE, "hub_to_s3"): _tuned(_bare_to_s3, False),
    (TUNED, "upload"): _tuned(_bare_upload, True),
    (TUNED, "download"): _tuned(_bare_download, True),
    (TUNED, "s3_to_hub"): _tuned(_bare_from_s3, True),
    (TUNED, "hub_to_s3"): _tuned(_bare_to_s3, True),
}


def environment(hub_url: str, hub_token: str, s3_url: str, caches: Path) -> dict[str, str]:
    """Return what a task finds in its environment: one connection, or the variables of ``huggingface_hub``."""
    aws = {
        "conn_type": "aws",
        "login": KEY,
        "password": SECRET,
        "extra": {"endpoint_url": s3_url, "region_name": "us-east-1"},
    }
    return {
        "AIRFLOW_CONN_XETHUB_DEFAULT": json.dumps({"conn_type": "xethub", "host": hub_url, "password": hub_token}),
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws),
        "AWS_ENDPOINT_URL": s3_url,
        "HF_ENDPOINT": hub_url,
        "HF_TOKEN": hub_token,
        "HF_HOME": str(caches / "huggingface"),
        "HF_XET_CACHE": str(caches / "xet"),
        "TMPDIR": os.environ.get("TMPDIR", ""),
    }
