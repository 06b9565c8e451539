"""The page's operator for Docker, with the real ``DockerOperator``: a container uploads, and a task publishes."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from airflow_provider_xethub.operators.xethub import XetCommitOperator, XetTokenOperator
from support.airflow_runs import ExecutionApi, new_dag, run_one
from support.builders import binary, content
from support.docker_recorder import DockerRecorder

pytest.importorskip("airflow.providers.docker", reason="needs apache-airflow-providers-docker")

pytestmark = pytest.mark.long

EXAMPLES = Path(__file__).parents[2] / "docs/examples/hand_over"
INSIDE = "/run/xethub"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docker_operator", EXAMPLES / "docker_operator.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def source(tmp_path):
    (tmp_path / "model.bin").write_bytes(binary(100_000, tmp_path))
    return tmp_path / "model.bin"


def mount_of(container):
    [mount] = container["HostConfig"]["Mounts"]
    assert (mount["Target"], mount["Type"], mount["ReadOnly"]) == (INSIDE, "bind", True)
    return Path(mount["Source"])


def run_program(container):
    """Run the command of a container here, with its mount at the path that the daemon would mount."""
    words = [word.replace(INSIDE, str(mount_of(container))) for word in container["Cmd"]]
    assert words[:2] == ["python", "transfer.py"]
    command = [sys.executable, str(EXAMPLES / "transfer.py"), *words[2:]]
    environment = dict(each.split("=", 1) for each in container.get("Env") or [])
    done = subprocess.run(command, env={"PATH": os.environ["PATH"], **environment}, capture_output=True, text=True)
    return done.returncode, done.stdout


def tasks(example, repo, source, docker_url, **options):
    where = {"repo_id": repo.repo_id, "repo_type": "dataset"}
    with new_dag():
        token = XetTokenOperator(task_id="token", scope="write", **where)
        upload = example.XetDockerOperator(
            task_id="upload",
            image="acme/transfer",
            command=["python", "transfer.py", f"{INSIDE}/token.json", "upload", str(source), "data/model.bin"],
            docker_url=docker_url,
            token_task_id="token",
            **options,
        )
        publish = XetCommitOperator(task_id="publish", files=[upload.output], **where)
        token >> upload >> publish
    return token, upload, publish


@pytest.mark.parametrize("folder", [None, "named"])
def test_a_container_uploads_and_a_task_publishes(hub, connection, repo, example, source, folder, tmp_path, capfd):
    api, seen, issued = ExecutionApi(), [], len(hub.access.issued_xet_tokens())
    if folder:
        folder = tmp_path / folder
        folder.mkdir(mode=0o700)
    with DockerRecorder(run_program) as docker:
        each_task = tasks(example, repo, source, docker.url, token_folder=str(folder) if folder else None)
        for each in each_task:
            run = run_one(each, api=api)
            assert run.state == "success", run.error
            seen.append(json.dumps([run.rendered, run.xcoms, str(run.message)]))
    assert content(hub, repo, "data/model.bin", tmp_path / "cache") == source.read_bytes()
    [container] = docker.created
    assert container["User"] == f"{os.getuid()}:{os.getgid()}"
    handed = mount_of(container)
    assert not handed.exists()
    assert handed.parent == (folder or Path("/dev/shm"))
    text = "".join([*seen, *docker.requests, *capfd.readouterr()])
    tokens = hub.access.issued_xet_tokens()[issued:]
    assert tokens
    assert not [token for token in tokens if token in text or token[:60] in text]
    assert "Handed over the write token" in text


def test_the_file_is_gone_after_a_container_that_fails(hub, connection, repo, example, source):
    api, found = ExecutionApi(), []

    def fail(container):
        found.append((mount_of(container) / "token.json").stat().st_mode & 0o777)
        return 3, "it broke\n"

    with DockerRecorder(fail) as docker:
        token, upload, _ = tasks(example, repo, source, docker.url, user="1000")
        assert run_one(token, api=api).state == "success"
        run = run_one(upload, api=api)
    assert "Docker container failed" in run.text
    assert found == [0o600]
    [container] = docker.created
    assert container["User"] == "1000"
    assert not mount_of(container).exists()
