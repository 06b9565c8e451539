"""Spans of real work against the local Hub: in this process, and in a task's, whose Airflow sends them by OTLP."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_xethub import CommitRequest
from airflow_provider_xethub.exceptions import XetConflictError, XetIntegrityError
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from support import supervised_task
from support.builders import write
from support.spans import Collector, Span, recording
from xethub_local.control.fault import Fault

DAG_FILE = """
from airflow.sdk import DAG

from airflow_provider_xethub.operators.xethub import XetMirrorOperator

with DAG("traced", schedule=None):
    XetMirrorOperator(task_id="publish", source={source!r}, repo_id={repo_id!r}, repo_type="dataset")
"""


def attributes(span: Span) -> dict[str, Any]:
    return {name.removeprefix("xethub."): value for name, value in span.attributes.items()}


def named(spans: list[Span], name: str) -> dict[str, Any]:
    (found,) = [attributes(span) for span in spans if span.name == f"xethub.{name}"]
    return found


def test_an_upload_is_a_token_a_transfer_and_a_commit(hook, hub, repo, tmp_path):
    source = write(tmp_path / "in", {"a.bin": os.urandom(70_000), "b.bin": os.urandom(5000), "c.txt": b"text"})
    with recording() as spans:
        published = hook.publish(source, CommitRequest(repo, ()))
    of_repo = {"repository": repo.repo_id, "repo_type": "dataset", "revision": "main", "outcome": "success"}

    assert named(spans, "token") == {**of_repo, "scope": "write", "requests": 1, "retries": 0}
    figures = {name: value for name, value in published["transfer"].items() if name != "seconds"}
    assert figures["files"] == 2
    assert named(spans, "upload") == {**of_repo, **figures, "direction": "upload", "requests": 0, "retries": 0}
    commit = named(spans, "commit")
    assert commit == {
        **of_repo,
        "files": 3,
        "skipped": 0,
        "commit": published["oid"],
        "requests": commit["requests"],
        "retries": 0,
    }
    assert len({span.parent for span in spans}) == 1, "all are children of the task's span"
    of_commit = hub.log.requests(f".*/api/datasets/{repo.repo_id}/(commit|commits|paths-info|refs)/.*")
    assert commit["requests"] == len([each for each in of_commit if each.client.startswith("airflow-provider")])

    with recording() as spans:
        again = hook.publish(source, CommitRequest(repo, ()))
    assert again["created"] is False
    commit = named(spans, "commit")
    assert (commit["outcome"], commit["files"], commit["skipped"]) == ("unchanged", 0, 3)


def test_a_download_has_what_came_over_the_network(hook, repo, tmp_path):
    source = write(tmp_path / "in", {"a.bin": os.urandom(70_000), "c.txt": b"text"})
    hook.publish(source, CommitRequest(repo, ()))
    with recording() as spans:
        received = hook.download(tmp_path / "out", hook.list_files(repo))
    listing, download = named(spans, "listing"), named(spans, "download")
    assert (listing["files"], listing["requests"], listing["outcome"]) == (3, 1, "success")  # with .gitattributes
    figures = {name: value for name, value in received["transfer"].items() if name != "seconds"}
    assert {name: download[name] for name in figures} == figures
    assert download["direction"] == "download"
    assert download["requests"] == 2, "the two inline files"
    (token,) = [span for span in spans if span.name == "xethub.token"]
    assert token.parent == next(span.id for span in spans if span.name == "xethub.download")


def test_a_bucket_and_object_storage_have_the_same_spans(hook, make_repo, tmp_path):
    bucket = make_repo("bucket")
    source = write(tmp_path / "in", {"a.bin": os.urandom(70_000)})
    with recording() as spans:
        hook.publish(source, CommitRequest(bucket, ()))
        received = hook.download(f"file://{tmp_path}/out/", hook.list_files(bucket))
    assert received["files"][0]["storage_uri"] == f"file://{tmp_path}/out/a.bin"
    assert {span.name.removeprefix("xethub.") for span in spans} == {"token", "upload", "commit", "listing", "download"}
    assert named(spans, "commit")["files"] == named(spans, "download")["files"] == 1


def test_retries_are_counted(hook, hub, repo, tmp_path):
    hub.faults.add(Fault("GET .*/xet-write-token/.*", times=2, status=503, headers={"Retry-After": "0"}))
    hub.faults.add(Fault("POST .*/commit/.*", times=1, status=503, headers={"Retry-After": "0"}))
    with recording() as spans:
        # The token is fetched early only for a file that is certainly binary.
        hook.publish(write(tmp_path / "in", {"a.bin": b"\0" + os.urandom(9000)}), CommitRequest(repo, ()))
    commit = named(spans, "commit")
    tokens = [attributes(span) for span in spans if span.name == "xethub.token"]
    # The early request is not repeated in its own thread.
    assert [(each["requests"], each["retries"], each["outcome"]) for each in tokens] == [
        (1, 0, "failed"),
        (2, 1, "success"),
    ]
    assert (commit["retries"], commit["outcome"]) == (1, "success")


def test_a_download_that_is_repeated_with_another_token_counts_it(hook, hub, repo, tmp_path):
    hook.publish(write(tmp_path / "in", {"a.bin": os.urandom(9000)}), CommitRequest(repo, ()))
    files = hook.get_files(repo, ["a.bin"])
    hub.faults.add(Fault("GET /cas/.*/reconstructions/.*", times=1, status=401))
    with recording() as spans:
        hook.download(tmp_path / "out", files)
    assert named(spans, "download")["retries"] == 1
    assert len([span for span in spans if span.name == "xethub.token"]) == 2


def test_what_fails_is_named(hook, hub, repo, tmp_path):
    source = write(tmp_path / "in", {"a.bin": os.urandom(9000)})
    hook.publish(source, CommitRequest(repo, ()))
    files = hook.get_files(repo, ["a.bin"])
    hub.faults.add("corrupt-data")
    with recording() as spans, pytest.raises(XetIntegrityError):
        hook.download(tmp_path / "out", files)
    download = named(spans, "download")
    assert (download["outcome"], download["error.type"], download["retries"]) == ("failed", "XetIntegrityError", 1)

    write(tmp_path / "in", {"b.bin": os.urandom(9000)})
    with recording() as spans, pytest.raises(XetConflictError):
        hook.publish(source, CommitRequest(repo, (), parent_commit="0" * 40))
    commit = named(spans, "commit")
    assert (commit["outcome"], commit["error.type"]) == ("failed", "XetConflictError")
    assert named(spans, "upload")["outcome"] == "success"


def test_airflow_sends_them_as_children_of_the_task(hub, connection, repo, tmp_path):
    source = write(tmp_path / "in", {"a.bin": os.urandom(70_000)})
    file = tmp_path / "dags" / "traced.py"
    file.parent.mkdir()
    file.write_text(DAG_FILE.format(source=str(source), repo_id=repo.repo_id))
    connection()
    with Collector() as collector:
        done = supervised_task.run(file, "traced", "publish", collector.variables())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Mirrored source: 1 added" in done.stdout + done.stderr
    (task,) = [span for span in collector.spans if span.name == "worker.publish"]
    inside = [span for span in collector.spans if span.parent == task.id]
    ours = [span.name for span in inside if span.name.startswith("xethub.")]
    assert set(ours) == {"xethub.listing", "xethub.token", "xethub.upload", "xethub.commit"}
    assert {span.trace_id for span in inside} == {supervised_task.TRACE_ID}
    assert all(task.start <= span.start <= span.end <= task.end for span in inside)
    sent = b"".join(collector.bodies) + json.dumps([span.as_json() for span in collector.spans]).encode()
    for secret in (hub.token("write"), *hub.access.issued_xet_tokens()):
        assert secret.encode() not in sent


def test_no_span_has_a_secret(hub, secrets, repo, tmp_path):
    """Also where everything fails, and with all that a connection can have."""
    source = write(tmp_path / "in", {"a.bin": os.urandom(70_000), "c.txt": b"text"})
    seen: list[Span] = []
    for fault in (None, "hub-down", "token-refused", "branch-moved", "corrupt-data", "html-instead-of-json"):
        write(source, {f"{fault}.bin": os.urandom(9000)})
        if fault:
            hub.faults.add(fault)
        hook = XetHubConnection()  # another one would use its token again
        hook.hub.retries_enabled = False
        with recording() as spans:
            for work in (
                partial(hook.publish, source, CommitRequest(repo, ())),
                lambda hook=hook, fault=fault: hook.download(tmp_path / f"out-{fault}", hook.list_files(repo)),
            ):
                try:
                    work()
                except Exception as error:
                    seen.append(Span(type(error).__name__, "", None, "", 0, 0, {}))
        seen += spans
        hub.faults.clear()
    sent = json.dumps([span.as_json() for span in seen])
    assert {"xethub.token", "xethub.commit", "xethub.download", "XetForbiddenError"} <= {span.name for span in seen}
    for secret in secrets():
        assert secret not in sent
    assert str(Path(source)) not in sent
