"""Every operator and the sensor in one DAG on buckets, as Airflow runs it."""

from __future__ import annotations

import os

from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetCopyOperator,
    XetDownloadOperator,
    XetForgetTokenOperator,
    XetListOperator,
    XetTokenOperator,
    XetUploadOperator,
)
from airflow_provider_xethub.sensors.xethub import XetFileSensor
from support.airflow_runs import new_dag
from support.builders import TEXT, names, write

FILES = {"a.bin": os.urandom(70_000), "d/ü 🎉.csv": TEXT, "empty": b"", ".hidden": b"x"}


def test_every_operator_works_on_buckets(hub, connection, make_repo, tmp_path, run_dag):
    connection()
    raw, mirror = ({"repo_id": make_repo("bucket").repo_id, "repo_type": "bucket"} for _ in range(2))
    source = write(tmp_path / "in", FILES)
    write(tmp_path / "more", {"1.bin": os.urandom(3000), "2.txt": TEXT})

    with new_dag("buckets") as dag:
        upload = XetUploadOperator(task_id="upload", source=str(source), **raw)
        again = XetUploadOperator(task_id="again", source=str(source), **raw)
        token = XetTokenOperator(task_id="token", scope="write", **raw)
        mapped = XetUploadOperator.partial(
            task_id="mapped", commit=False, token=token.output, path_in_repo="more/", **raw
        ).expand(source=[f"{tmp_path}/more/1.bin", f"{tmp_path}/more/2.txt"])
        forget = XetForgetTokenOperator(task_id="forget", token_task_ids="token")
        put = XetCommitOperator(task_id="put", files=mapped.output, delete=["empty"], **raw)
        wait = XetFileSensor(task_id="wait", path="more/2.txt", timeout=30, poke_interval=1, **raw)
        listed = XetListOperator(task_id="listed", **raw)
        copy = XetCopyOperator(task_id="copy", files=listed.output, path_in_repo="of/raw", **mirror)
        down = XetDownloadOperator(task_id="down", destination=f"{tmp_path}/out/", **mirror)
        gone = XetCommitOperator(task_id="gone", delete=["of/raw/more/"], **mirror)
        left = XetListOperator(task_id="left", **mirror)
        upload >> again >> token >> mapped >> [put, forget]
        put >> wait >> listed
        copy >> down >> gone >> left

    run = run_dag(dag)

    assert set(run.states.values()) == {"success"}, run.states
    (uploaded,), (repeated,) = run.xcoms("upload"), run.xcoms("again")
    assert uploaded["created"]
    assert (repeated["created"], repeated["transfer"]["files"], len(repeated["unchanged"])) == (False, 0, len(FILES))
    held = {*FILES, "more/1.bin", "more/2.txt"} - {"empty"}
    assert {file["path"] for file in run.xcoms("listed")[0]} == held
    assert run.xcoms("wait")[0]["path"] == "more/2.txt"
    assert run.xcoms("copy")[0]["copied"]["inline_files"] == 0
    assert {f"of/raw/{path}" for path in held} == set(names(tmp_path / "out"))
    for path in held:
        where = source / path if path in FILES else tmp_path / path
        assert (tmp_path / "out/of/raw" / path).read_bytes() == where.read_bytes()
    assert {file["path"] for file in run.xcoms("left")[0]} == {f"of/raw/{path}" for path in held & set(FILES)}
    assert run.xcoms("token") == []
