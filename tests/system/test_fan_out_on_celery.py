"""Fan-out and token-only downloads on Celery: workers without a Hub credential and without a shared disk."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from demo import left_behind
from support import object_stores
from support.builders import TEXT, binary, commits, content, write
from support.celery_airflow import PATIENCE, Worker, celery_airflow, connection, until
from support.commit_builders import tree
from xethub_local.control.faults import Fault

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

DAG = "xethub_fan_out"
KILLED = "xethub_fan_out_with_a_killed_worker"
DAGS = Path(__file__).parents[1] / "support/dags"
EXAMPLE = Path(__file__).parents[2] / "dags_example/xethub_token_only.py"
BUCKET = "camera"
XORB = 64 << 20


def shared_files():
    """What both workers have, each a copy of its own: inline text, empty, in CAS."""
    files = {f"table-{number:02}.csv": TEXT * (number + 1) for number in range(8)}
    files["table-long.csv"] = TEXT * 2000
    files["empty.txt"] = b""
    return files | {f"photo-{number:02}.bin": binary(30_000 * (number + 1), number) for number in range(8)}


def own_files(worker):
    """What is on this worker only."""
    return {f"{worker}.bin": binary(40_000, worker), f"{worker}.csv": TEXT * 100}


STORED = {"2026/a.bin": binary(50_000, "a"), "2026/b.csv": TEXT * 300, "2026/c d.bin": binary(70_000, "c")}


@pytest.fixture(scope="module")
def s3():
    with object_stores.s3_server() as server:
        server.client.create_bucket(Bucket=BUCKET)
        server.put(BUCKET, STORED)
        yield server


@pytest.fixture(scope="module")
def fleet(running_hub, s3, tmp_path_factory, request):
    hub_connection = connection(
        "xethub_default", conn_type="xethub", host=running_hub.url, password=running_hub.token()
    )
    extra = {"endpoint_url": s3.url, "region_name": "us-east-1"}
    storage = connection("aws", conn_type="aws", login=object_stores.KEY, password=object_stores.SECRET, extra=extra)
    workers = [
        Worker("clerk", ("hub", "default"), hub_connection),
        Worker("one", ("upload", "gpu"), storage),
        Worker("two", ("upload",), storage),
    ]
    folder = tmp_path_factory.mktemp("celery")
    failed = request.session.testsfailed
    dags = shutil.copytree(DAGS, tmp_path_factory.mktemp("dags"), dirs_exist_ok=True)
    shutil.copy(EXAMPLE, dags)
    with celery_airflow(folder, dags, workers) as fleet:
        for name in ("one", "two"):
            home = fleet.workers[name].home
            write(home / "outbox", shared_files())
            write(home / "own", own_files(name))
        try:
            yield fleet
        finally:
            if request.session.testsfailed > failed:
                print(fleet.tails())


def ran_on(tasks, task_id):
    return Counter(task["unixname"] for task in tasks if task["task_id"] == task_id)


def states(tasks):
    return Counter((task["task_id"], task["state"]) for task in tasks)


def test_two_workers_upload_and_one_commit_publishes_it(hub, fleet, repo, tmp_path):
    expected = shared_files()
    sources = [f"~/outbox/{name}" for name in expected] + [f"s3://aws@{BUCKET}/2026/"]
    run_id = fleet.run(DAG, {"repo_id": repo.repo_id, "sources": sources})
    state, tasks = fleet.finish(DAG, run_id)
    assert state == "success", states(tasks)

    # However many the uploads are, the Hub is asked for one token, how it stores the files, and for one commit.
    asked = Counter(request.route for request in hub.log.requests(".* /api/.*"))
    assert asked.total() <= 6, asked
    assert asked["POST /api/{kind}/{namespace}/{name}/commit/{revision}"] == 1
    assert asked["GET /api/{kind}/{namespace}/{name}/xet-write-token/{revision}"] == 1

    # Both workers took their share, and nothing else ran on them.
    shares = ran_on(tasks, "upload")
    assert set(shares) == {"one", "two"}
    assert sum(shares.values()) == len(sources)
    assert ran_on(tasks, "upload_from_one") == {"one": 2}
    assert ran_on(tasks, "upload_from_two") == {"two": 2}
    for name in ("token", "publish", "forget", "sources"):
        assert set(ran_on(tasks, name)) == {"clerk"}, name
    for name in ("one", "two"):
        seen = fleet.airflow.xcom(DAG, run_id, f"look_around_{name}")
        assert seen == {"home": str(fleet.workers[name].home), "connection": False}

    # One commit has all of it, byte by byte.
    expected |= {key.removeprefix("2026/"): data for key, data in STORED.items()}
    for name in ("one", "two"):
        expected |= {f"own/{name}/{path}": data for path, data in own_files(name).items()}
    assert tree(hub, repo) == set(expected)
    assert commits(hub, repo) == 2
    for path, data in expected.items():
        assert content(hub, repo, path, tmp_path) == data, path

    # No secret is anywhere: database, logs, caches, and what the uploads had in their environment.
    assert fleet.airflow.xcom(DAG, run_id, "token") is None
    issued = hub.access.issued_xet_tokens()
    secrets = {"write": hub.token(), "read": hub.token("read")} | {f"xet {n}": each for n, each in enumerate(issued)}
    assert len(secrets) >= 4
    database = fleet.folder / "airflow/airflow.db"
    assert left_behind.find(secrets, database, [fleet.folder]) == []
    probes = {"a log of the clerk": "Fetched a write token", "a cache": "xethub_fan_out", "HOME": "HF_XET_CACHE"}
    found = {place.partition(":")[0] for place in left_behind.find(probes, database, [fleet.folder])}
    assert found == set(probes), "the search looked in the wrong place"
    noted = [len(list((fleet.workers[name].home / "environments").iterdir())) for name in ("one", "two")]
    assert sum(noted) == len(sources) + 4


def test_a_worker_with_only_a_token_downloads_a_model_with_readme_and_config(hub, fleet, make_repo, tmp_path):
    """The example ``dags_example/xethub_token_only.py``, as it is."""
    model = make_repo("model")
    header = json.dumps({"weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}).encode()
    files = {
        "README.md": b"---\nlicense: mit\n---\n# project-hunter2\n",
        "config.json": json.dumps({"model_type": "bert", "name": "project-hunter2"}).encode(),
        "model.safetensors": len(header).to_bytes(8, "little") + header + bytes(range(24)),
        "onnx/model.onnx": binary(300_000),
        "tokenizer.json": json.dumps({f"project-hunter2 {number}": number for number in range(50_000)}).encode(),
    }
    source = write(tmp_path / "model", files)
    HfApi(endpoint=hub.url, token=hub.token()).upload_folder(repo_id=model.repo_id, folder_path=source)
    hub.log.clear()
    run_id = fleet.run("xethub_token_only", {"repo_id": model.repo_id, "destination": "~/model"})
    state, tasks = fleet.finish("xethub_token_only", run_id)
    assert state == "success", states(tasks)
    assert {task["task_id"]: task["unixname"] for task in tasks} == {
        **dict.fromkeys(("list_files", "token", "forget_token"), "clerk"),
        **dict.fromkeys(("download", "load"), "one"),
    }
    assert fleet.airflow.xcom("xethub_token_only", run_id, "load") == "bert"
    folder = fleet.workers["one"].home / "model"
    assert {path: (folder / path).read_bytes() for path in files} == files
    if find_spec("safetensors"):
        tensors = import_module("safetensors.numpy").load_file(folder / "model.safetensors")
        assert tensors["weight"].shape == (2, 3)
    # One for the commit, the listing, the token, and each inline file, all by the clerk; the download sent none.
    asked = Counter(request.route for request in hub.log.requests("(GET|POST|HEAD) (?!/cas/).*"))
    assert asked.total() == 3 + 4, asked

    # Neither the Hub token nor the content of a file is anywhere but where it was downloaded to.
    shutil.rmtree(folder)
    issued = hub.access.issued_xet_tokens()
    secrets = {"write": hub.token(), "content": "project-hunter2"} | {f"xet {n}": each for n, each in enumerate(issued)}
    database = fleet.folder / "airflow/airflow.db"
    assert left_behind.find(secrets, database, [fleet.folder]) == []
    assert left_behind.find({"sealed": "sealed_content"}, database, [])


def test_the_upload_of_a_worker_that_was_killed_is_done_by_the_other(hub, fleet, repo, tmp_path):
    files = {"first.bin": binary(20_000, "first"), "empty.txt": b"", "large.bin": binary(XORB + (8 << 20), "large")}
    for name in ("one", "two"):
        write(fleet.workers[name].home / "killed", files)
    # One xorb of the small file and one of the large one get through; the next one hangs.
    hang = hub.faults.add(Fault("PUT /cas/.*/uploads/.*", skip=2, delay=3600))
    run_id = fleet.run(KILLED, {"repo_id": repo.repo_id, "sources": ["~/killed/large.bin", "~/killed/empty.txt"]})

    def large():
        return next(
            task for task in fleet.tasks(KILLED, run_id) if task["task_id"] == "upload" and not task["map_index"]
        )

    until(lambda: hub.faults.acted(hang), PATIENCE, "an upload that hangs")
    until(lambda: len(hub.log.requests("PUT /cas/.*/uploads/.*", status=200)) == 2, PATIENCE, "the xorbs before it")
    victim = fleet.workers[large()["unixname"]]
    [other] = {"one", "two"} - {victim.name}
    fleet.kill(victim)
    hub.faults.clear()
    try:
        state, tasks = fleet.finish(KILLED, run_id)
    finally:
        fleet.start(victim)
    assert state == "success", states(tasks)
    assert (large()["try_number"], large()["unixname"]) == (2, other)
    assert {task["try_number"] for task in tasks if task["task_id"] in ("first", "publish", "token")} == {1}
    assert tree(hub, repo) == set(files)
    assert commits(hub, repo) == 2
    for path, data in files.items():
        assert content(hub, repo, path, tmp_path) == data, path
