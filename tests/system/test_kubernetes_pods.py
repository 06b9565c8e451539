"""The Secret of a pod: the real ``KubernetesPodOperator`` and client, against a recorder of the Kubernetes API."""

from __future__ import annotations

import base64
import inspect
import json
import logging
import re
import runpy
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

pytest.importorskip("airflow.providers.cncf.kubernetes.operators.pod")

from airflow_provider_xethub.callbacks import kubernetes
from airflow_provider_xethub.callbacks.kubernetes import XetTokenSecret
from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.operators.xethub import XetTokenOperator
from support.airflow_runs import ExecutionApi, new_dag, run_one
from support.builders import sealed
from support.documentation import table
from support.kubernetes_api import KubernetesApi
from support.pod_task import pod_process, pod_task
from support.secret_values import assert_absent

pytestmark = pytest.mark.long

EXAMPLE = Path(__file__).parents[2] / "docs/examples/kubernetes/pod.py"
_MOST_SECONDS = 240

_READS = "import json, os; print('scope', json.load(open(os.environ['XETHUB_TOKEN_FILE']))['scope'])"
_WAITS = "import time; print('started', flush=True); time.sleep(120)"


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    monkeypatch.setattr(kubernetes, "_TRIES", 2)
    with KubernetesApi(tmp_path) as api:
        yield api


@pytest.fixture
def spec(cluster, repo, connection, tmp_path):
    """Makes the arguments of :func:`pod_task`, as JSON."""

    def make(secret=None, code=_READS, **arguments):
        secret = {"repo_id": repo.repo_id, "repo_type": "dataset", **(secret or {})}
        secret["mount_path"] = str(tmp_path / "mount")
        return [secret, {"cmds": [sys.executable, "-c", code], "config_file": str(cluster.config), **arguments}]

    return make


@pytest.fixture
def pod(spec):
    def make(*args, **arguments):
        secret, arguments = spec(*args, **arguments)
        return pod_task(secret, **arguments)

    return make


def _created(cluster):
    return [json.loads(request.body) for request in cluster.requests if request.what == "create secrets"]


def _names(cluster):
    return [each["metadata"]["name"] for each in _created(cluster)]


def _wait(condition, seconds=_MOST_SECONDS):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_pod_gets_its_token_in_a_secret_that_is_deleted_with_the_container(cluster, pod, repo, capfd):
    run = run_one(pod({"scope": "write"}))
    assert run.state == "success", run.error
    assert "scope write" in capfd.readouterr().out
    assert cluster.did() == ["create secrets", "create pods", "patch secrets", "delete secrets", "delete pods"]
    (secret,) = _created(cluster)
    document = json.loads(base64.b64decode(secret["data"]["token.json"]))
    assert (document["repo"], document["scope"]) == (repo.uri, "write")
    assert secret["immutable"] is True
    assert secret["metadata"]["annotations"] == {kubernetes.EXPIRES_AT: document["expires_at"]}
    assert secret["metadata"]["labels"][kubernetes.MANAGED_BY] == "airflow-provider-xethub"
    assert secret["metadata"]["labels"]["task_id"] == "pod"
    (patched,) = [request for request in cluster.requests if request.what == "patch secrets"]
    (owner,) = json.loads(patched.body)["metadata"]["ownerReferences"]
    assert owner["kind"] == "Pod"
    assert owner["uid"] in {each["metadata"]["uid"] for each in cluster.deleted}
    assert not cluster.secrets


def test_the_pod_only_names_the_secret_and_nothing_shows_the_token(cluster, pod, hub, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    earlier = set(hub.access.issued_xet_tokens())
    run = run_one(pod())
    assert run.state == "success", run.error
    issued = set(hub.access.issued_xet_tokens()) - earlier
    (secret,) = _created(cluster)
    seen = [json.dumps(run.rendered), json.dumps(run.xcoms), caplog.text, *capfd.readouterr()]
    seen += [f"{vars(record)}" for record in caplog.records]
    for request in cluster.requests:
        seen += [request.answer.decode(), str(request.query)]
        if request.what != "create secrets":
            seen.append(request.body.decode())
    text = "\n".join(seen)
    assert "response body" in text  # the client logs them at this level
    (created,) = [json.loads(request.body) for request in cluster.requests if request.what == "create pods"]
    assert secret["metadata"]["name"] in json.dumps(created)
    assert secret["metadata"]["name"] in text
    assert_absent([*issued, secret["data"]["token.json"], hub.token()], text)


def test_a_container_that_fails_leaves_no_secret_and_the_retry_has_its_own(cluster, pod):
    task = pod(code="raise SystemExit(3)", on_finish_action="keep_pod")
    assert run_one(task).state == "up_for_retry"
    assert not cluster.secrets
    assert run_one(pod(), try_number=2).state == "success"
    assert len(set(_names(cluster))) == 2
    assert not cluster.secrets


def test_a_pod_that_never_starts_and_is_kept_leaves_no_secret(cluster, pod):
    cluster.pods_start = False
    run = run_one(pod(startup_timeout_seconds=0, on_finish_action="keep_pod"))
    assert "took too long to start" in run.text or run.state == "up_for_retry"
    assert len(cluster.pods) == 1
    assert not cluster.secrets


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_pod_that_is_not_created_leaves_no_secret(cluster, pod, deferrable):
    cluster.denied.add("create pods")
    run = run_one(pod(deferrable=deferrable))
    assert run.state == "up_for_retry"
    assert cluster.did() == ["create secrets", "delete secrets"]


def test_a_timeout_leaves_no_secret(cluster, pod):
    run = run_one(pod(code=_WAITS, execution_timeout=timedelta(seconds=3), on_kill_action="keep_pod"))
    assert run.state == "up_for_retry"
    assert not [name for name in _names(cluster) if name in cluster.secrets and not cluster.pods]


@pytest.mark.parametrize("what", ["create secrets", "create pods"])
def test_a_task_that_is_stopped_before_its_pod_exists_leaves_neither_secret_nor_pod(cluster, spec, what):
    secret, arguments = spec(code=_WAITS)
    with pod_process(secret, **arguments) as process:
        with cluster.paused(what) as came:
            assert came.wait(_MOST_SECONDS)
            process.send_signal(signal.SIGTERM)
            _wait(lambda: "delete secrets" in [request.what for request in cluster.requests])
        assert "was stopped from outside" in process.communicate()[0]
    assert not cluster.secrets
    assert not cluster.pods


def test_a_task_that_is_stopped_deletes_the_pod_and_the_secret(cluster, spec):
    secret, arguments = spec(code=_WAITS)
    with pod_process(secret, **arguments) as process:
        _wait(lambda: "patch secrets" in cluster.did())
        assert cluster.secrets
        process.send_signal(signal.SIGTERM)
        _wait(lambda: not cluster.secrets and not cluster.pods)


def test_what_a_worker_leaves_that_is_killed_before_its_pod_exists_is_deleted_by_the_retry(cluster, spec, pod):
    secret, arguments = spec(code=_WAITS)
    with cluster.paused("create pods") as came, pod_process(secret, **arguments) as process:
        assert came.wait(_MOST_SECONDS)
        process.kill()
        process.wait()
    _wait(lambda: cluster.pods)
    for name in list(cluster.pods):
        cluster.answer("delete", "pods", name, {}, b"", "")
    (left,) = cluster.secrets
    assert run_one(pod(), try_number=2).state == "success"
    assert left in [each["metadata"]["name"] for each in cluster.deleted]
    assert not cluster.secrets


def test_a_retry_that_finds_the_pod_of_a_killed_worker_adopts_its_secret(cluster, spec, pod, capfd):
    cluster.pods_start = False
    secret, arguments = spec()
    with cluster.paused("patch secrets") as came, pod_process(secret, **arguments) as process:
        assert came.wait(_MOST_SECONDS)
        process.kill()
        process.wait()
    (left,) = cluster.secrets
    (running,) = cluster.pods

    def start():
        cluster.pods_start = True

    cluster.before["get pods"] = start
    run = run_one(pod(), try_number=2)
    assert run.state == "success", run.error
    assert "scope read" in capfd.readouterr().out
    assert [request.name for request in cluster.requests if request.what == "patch secrets"][-1] == left
    assert {each["metadata"]["name"] for each in cluster.deleted} == {*_names(cluster), running}
    assert not cluster.secrets


def test_an_expired_secret_of_another_run_is_deleted_and_one_that_is_used_is_kept(cluster, pod):
    def leave(name, run_id, expires_at, **labels):
        metadata = {
            "name": name,
            "labels": {kubernetes.MANAGED_BY: kubernetes.MANAGER, "dag_id": "pods", "task_id": "pod", "run_id": run_id}
            | labels,
            "annotations": {kubernetes.EXPIRES_AT: expires_at},
        }
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {}}
        cluster.answer("create", "secrets", "", {}, json.dumps(body).encode(), "")

    leave("expired", "other", "2026-01-01T00:00:00Z")
    leave("in-use", "other", "2099-01-01T00:00:00Z")
    leave("another-task", "other", "2026-01-01T00:00:00Z", task_id="another")
    assert run_one(pod()).state == "success"
    assert sorted(cluster.secrets) == ["another-task", "in-use"]


def test_airflow_that_may_not_create_secrets_starts_no_pod_and_is_told_what_to_allow(cluster, pod):
    cluster.denied.add("create secrets")
    run = run_one(pod())
    assert "Allow the service account of Airflow's workers to create secrets" in run.text
    assert run.state == "up_for_retry"
    assert not cluster.pods
    assert cluster.did() == []


def test_a_pod_runs_where_airflow_may_only_create_and_delete_secrets(cluster, pod, caplog):
    cluster.denied |= {"patch secrets", "list secrets"}
    assert run_one(pod()).state == "success"
    assert "The Secret stays behind if this worker is killed" in caplog.text
    assert not cluster.secrets


def test_a_moment_of_trouble_with_kubernetes_is_bridged(cluster, pod):
    cluster.failing = {"create secrets": [503], "patch secrets": [500], "delete secrets": [500]}
    assert run_one(pod()).state == "success"
    assert not cluster.secrets


def test_a_task_that_waits_in_the_triggerer_deletes_the_secret_when_it_resumes(cluster, pod, run_dag):
    task = pod(deferrable=True, poll_interval=0.1)
    task.dag.dag_id = f"pods_{time.time_ns()}"
    run = run_dag(task.dag)
    assert run.state == "success", run.states
    assert cluster.did() == ["create secrets", "create pods", "patch secrets", "delete secrets", "delete pods"]


def test_a_token_of_another_task_is_handed_on_with_a_new_life(cluster, repo, connection, hub, tmp_path, run_task):
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

    with new_dag():
        token = XetTokenOperator(task_id="token", repo_id=repo.repo_id, repo_type="dataset", scope="write")
        secret = XetTokenSecret(token.output, mount_path=str(tmp_path / "mount"))
        task = KubernetesPodOperator(
            task_id="pod",
            name="pod",
            namespace="jobs",
            image="python",
            cmds=[sys.executable, "-c", _READS],
            config_file=str(cluster.config),
            in_cluster=False,
            startup_check_interval_seconds=0,
            callbacks=[secret],
        )
    api = ExecutionApi()
    run = run_one(task, api=api)
    assert run.state == "failed"
    assert f"Task token has no token in XCom for the pod. Write token >> {task.task_id}" in run.text
    assert cluster.did() == []
    value = run_one(token, api=api).value
    hub.access.token_life = 1800
    assert run_one(task, api=api).state == "success"
    (created,) = _created(cluster)
    document = json.loads(base64.b64decode(created["data"]["token.json"]))
    assert document["scope"] == "write"
    assert document["expires_at"] > value["expires_at"]


def test_a_token_for_another_repository_starts_no_pod(cluster, repo, make_repo, connection, pod):
    run = run_one(pod({"token": sealed(make_repo(), "read")}))
    assert "not for" in run.text
    assert run.is_final
    assert cluster.did() == []


def test_wrong_arguments_are_refused_in_the_dag_file(tmp_path):
    for arguments, message in (
        ({"scope": "admin"}, "scope 'admin' is unknown"),
        ({"mount_path": "run"}, "must be an absolute path"),
        ({"mount_path": "/"}, "must be an absolute path"),
        ({"file_mode": "0440"}, "must be permissions"),
    ):
        with pytest.raises(XetInputError, match=message):
            XetTokenSecret(**arguments)


def test_the_page_has_every_argument():
    rows = {name for row in table("handover.md", "Argument", "Kubernetes") for name in re.findall(r"`(\w+)`", row[0])}
    assert rows == set(inspect.signature(XetTokenSecret).parameters)


def test_the_example_runs_with_the_programs_of_this_machine(cluster, connection, repo, tmp_path, capfd):
    dag = runpy.run_path(str(EXAMPLE))["dag"]
    token, train = dag.get_task("token"), dag.get_task("train")
    token.repo_id = repo.repo_id
    api = ExecutionApi()
    assert run_one(token, api=api).state == "success"
    train.cmds = [sys.executable, "-c", _READS]
    train.config_file, train.in_cluster, train.startup_check_interval_seconds = str(cluster.config), False, 0
    train.callbacks[0].mount_path = str(tmp_path / "mount")
    run = run_one(train, api=api)
    assert run.state == "success", run.error
    assert "scope read" in capfd.readouterr().out
