"""The programs of the page about handing over tokens: each moves a file with nothing but the file handed to it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import hf_xet
import pytest

from airflow_provider_xethub.hooks.tokens import hand_over
from airflow_provider_xethub.operators.xethub import XetCommitOperator
from support import node_packages
from support.builders import binary, content, publish
from support.documentation import run_as_file
from xethub_local.control.faults import Fault

EXAMPLES = Path(__file__).parents[2] / "docs/examples/hand_over"
SIZE = 300_000

pytestmark = pytest.mark.timeout(1200)  # the first build in Rust


def python_program(folder: Path) -> list[str]:
    """An interpreter of its own that can import ``hf_xet``, and nothing else beside the standard library."""
    venv.create(folder, with_pip=False, symlinks=True)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "hf_xet").symlink_to(Path(hf_xet.__file__).parent)
    return [str(folder / "bin/python"), "-P" if sys.version_info >= (3, 11) else "-s", str(EXAMPLES / "transfer.py")]


def node_program(_: Path) -> list[str]:
    node_packages.install(EXAMPLES / "node")
    return ["node", str(EXAMPLES / "node/transfer.mjs")]


def rust_program(_: Path) -> list[str]:
    """Built once on a machine, in a minute on two idle cores: the local Hub needs no TLS."""
    cargo = shutil.which("cargo")
    if not cargo:
        pytest.skip("needs Rust")
    target = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xethub-tests/hand-over"
    # The tests that run meanwhile are measured.
    command = ["nice", "-n", "19", cargo, "build", "--quiet", "--no-default-features", "--target-dir", str(target)]
    done = subprocess.run(command, cwd=EXAMPLES / "rust", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return [str(target / "debug/transfer")]


Program = Callable[..., str]


@pytest.fixture(
    params=[
        pytest.param(python_program, id="python"),
        pytest.param(node_program, id="node", marks=pytest.mark.long),
        pytest.param(rust_program, id="rust", marks=pytest.mark.long),
    ]
)
def program(request, tmp_path) -> Program:
    """Runs the example in one language, as a container does: with nothing of the test's environment."""
    command = request.param(tmp_path / "installed")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home")}
    (tmp_path / "home").mkdir()

    def run(*arguments: object) -> str:
        done = subprocess.run(
            [*command, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=120
        )
        if done.returncode:
            raise ChildProcessError(done.stdout + done.stderr)
        return done.stdout

    return run


def test_the_example_publishes_what_the_program_uploaded(hub, connection, source, run_dag, tmp_path):
    python, _, program = python_program(tmp_path / "installed")
    example = EXAMPLES.parents[2] / "dags_example/xethub_hand_over.py"
    code = example.read_text().replace("/opt/transfer/bin/python", python).replace("/opt/transfer/transfer.py", program)
    code = code.replace("/tmp/report.parquet", str(source))
    [dag] = [dag for dag in run_as_file(code, str(example)) if dag.dag_id == "xethub_hand_over"]
    for each in dag.tasks:
        each.retries = 0
    corpus = hub.create_repo("local/corpus", "dataset")
    run = run_dag(dag)
    assert set(run.states.values()) == {"success"}, run.states
    assert content(hub, corpus, "reports/today.parquet", tmp_path / "cache") == source.read_bytes()
    assert run.xcoms("token") == []


@pytest.fixture
def source(tmp_path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(binary(SIZE, tmp_path))  # no other test has uploaded it
    return path


def test_a_file_goes_up_a_task_publishes_it_and_it_comes_back(hub, hook, repo, program, source, run_task, tmp_path):
    with hook.hand_over(hook.get_token(repo, "write")) as path:
        record = json.loads(program(path, "upload", source, "data/model.bin"))
    assert (record["path"], record["size"], record["repo"]) == ("data/model.bin", SIZE, repo.uri)
    assert hub.log.requests("POST /cas/.*/shards", status=200)
    assert not [request for request in hub.log.requests(".* /api/.*") if "commit" in request.path]
    [published] = run_task(XetCommitOperator, files=[record]).value["files"]
    assert published["xet_hash"] == record["xet_hash"]
    assert content(hub, repo, "data/model.bin", tmp_path / "cache") == source.read_bytes()
    with hook.hand_over(hook.get_token(repo)) as path:
        program(path, "download", json.dumps(published), tmp_path / "copy.bin")
    assert (tmp_path / "copy.bin").read_bytes() == source.read_bytes()


def test_a_bucket_takes_the_record_too(hub, hook, make_repo, program, source, run_task):
    bucket = make_repo("bucket")
    with hook.hand_over(hook.get_token(bucket, "write")) as path:
        record = json.loads(program(path, "upload", source, "model.bin"))
    assert run_task(XetCommitOperator, files=[record]).value["files"]
    [found] = hook.list_files(bucket)
    assert (found["xet_hash"], found["size"]) == (record["xet_hash"], SIZE)


def test_a_long_transfer_goes_on_with_the_tokens_that_the_file_has_later(hub, hook, repo, program, source, monkeypatch):
    """Each program reads the file again before its token expires: with this life, for every request to CAS."""
    monkeypatch.setattr(hand_over, "_SHORTEST_DELAY", 0.1)
    monkeypatch.setattr(hand_over, "_RENEWED_AFTER", 0.05)
    hub.access.token_life = 8
    used, verify = [], hub.access.verify_xet_token
    monkeypatch.setattr(hub.access, "verify_xet_token", lambda token: (used.append(token), verify(token))[1])
    hub.faults.add(Fault("POST /cas/.*", delay=1))
    with hook.hand_over(hook.get_token(repo, "write")) as path:
        record = json.loads(program(path, "upload", source, "model.bin"))
    assert record["size"] == SIZE
    assert len(set(used)) > 1


def test_a_read_token_uploads_nothing_and_no_token_is_printed(hub, hook, repo, program, source):
    token = hook.get_token(repo)
    with hook.hand_over(token) as path, pytest.raises(ChildProcessError) as caught:
        program(path, "upload", source, "model.bin")
    assert token.access_token not in str(caught.value)
    assert not hub.log.requests("POST /cas/.*/shards", status=200)


def test_a_token_of_another_repository_reads_nothing(hook, repo, make_repo, program, tmp_path):
    [record] = publish(repo, tmp_path, {"a.bin": binary()})
    with hook.hand_over(hook.get_token(make_repo())) as path, pytest.raises(ChildProcessError):
        program(path, "download", json.dumps(record), tmp_path / "copy.bin")


def test_a_file_of_another_version_is_refused(program, source, tmp_path):
    (tmp_path / "token.json").write_text(json.dumps({"version": 2}))
    with pytest.raises(ChildProcessError, match="version"):
        program(tmp_path / "token.json", "upload", source, "model.bin")
