"""Neither the Hub token nor any Xet token is in a log, an XCom, a rendered field, an error or a ``repr``."""

from __future__ import annotations

import base64
import json
import os
import pickle
import zlib

from airflow.providers.common.compat.sdk import redact
from airflow.sdk import DAG, Asset, task

from airflow_provider_xethub.hooks.tokens import sealing
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.refs import XetCreateBranchOperator, XetCreateTagOperator, XetDeleteTagOperator
from airflow_provider_xethub.operators.repositories import (
    XetCreateRepoOperator,
    XetDeleteRepoOperator,
    XetDeleteUnreferencedFilesOperator,
    XetUpdateRepoOperator,
)
from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetDownloadOperator,
    XetForgetTokenOperator,
    XetListOperator,
    XetTokenOperator,
    XetUploadOperator,
)
from airflow_provider_xethub.sensors.xethub import XetFileSensor
from airflow_provider_xethub.xet.cas import session as cas_session
from airflow_provider_xethub.xet.hub import client as hub_module
from airflow_provider_xethub.xet.publish.commit import STATE
from support.airflow_runs import HAS_STATE_STORE, ExecutionApi, new_dag, run_one, store_dag
from support.builders import TEXT, binary, publish, sealed, write
from support.filesystem_places import at, name
from support.secret_values import HEADER, PROXY_PASSWORD, assert_absent
from support.webhook_bodies import pushed
from support.webhook_server import SECRET, endpoint, post
from xethub_local.control.faults import Fault


def test_a_whole_flow_shows_no_secret(hub, secrets, repo, run_task, tmp_path, seen):
    source = write(tmp_path / "in", {"a.bin": os.urandom(5000), "b.csv": TEXT})
    where = {"repo_id": repo.repo_id, "repo_type": "dataset"}
    with new_dag() as dag:
        token = XetTokenOperator(task_id="token", scope="write", bind="run", consumers=["upload", "download"], **where)
        upload = XetUploadOperator(task_id="upload", source=str(source), commit=False, token=token.output)
        commit = XetCommitOperator(task_id="commit", files=upload.output)
        wait = XetFileSensor(task_id="wait", path="a.bin", **where)
        download = XetDownloadOperator(
            task_id="download", destination=str(tmp_path / "out"), files=commit.output, token=token.output
        )
        look = XetListOperator(task_id="look", **where)
        forget = XetForgetTokenOperator(task_id="forget", token_task_ids="token")
    api = ExecutionApi()
    for each in (token, upload, commit, wait, download, look, forget):
        run = seen.run(run_one(each, api=api))
        assert run.state == "success", run.error
    seen.add(api.xcoms, api.state, dag, upload, download, upload.__dict__)
    text = seen.text()
    assert "Fetched a write token" in text
    assert STATE in text or not HAS_STATE_STORE
    assert f"Deleted the token of task {token.task_id}" in text
    assert len(secrets()) >= 6
    assert {each.split()[0] for each in secrets.proxy.through} >= {"GET", "POST", "PUT"}
    assert_absent(secrets(), text)


def test_no_error_shows_a_secret(hub, connection, secrets, repo, run_task, tmp_path, seen, monkeypatch):
    monkeypatch.setattr(cas_session, "RETRIES", 0)
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    where = {"repo_id": repo.repo_id, "repo_type": "dataset"}
    source = str(write(tmp_path / "in", {"a.bin": os.urandom(5000)}) / "a.bin")
    records = publish(repo, tmp_path / "before", {"b.bin": binary()})
    sealed_before = sealed(repo, "write")
    long = write(tmp_path / "inline", {"c.csv": TEXT * 200})
    inline = run_task(XetUploadOperator, source=f"file://{long}/", commit=False, **where).value
    echo = json.dumps({"error": f"Bearer {hub.token()}, {HEADER} or {PROXY_PASSWORD} is bad", "token": hub.token()})
    issued = hub.access.issued_xet_tokens()[-1]
    faults = [
        Fault(".* /api/.*", status=401, body=echo, headers={"X-Error-Message": f"bad {hub.token()}"}),
        Fault(".* /api/.*", status=500, body=echo),
        Fault(".* /api/.*", status=200, body=f"<html>{hub.token()}</html>", headers={"Content-Type": "text/html"}),
        Fault("GET .*-token/.*", status=200, body=json.dumps({"accessToken": issued, "exp": 1, "casUrl": "http://x"})),
        Fault("GET .*-token/.*", status=200, body=json.dumps({"accessToken": issued + "\n", "exp": 1})),
        Fault("GET .*-token/.*", status=302, headers={"Location": f"http://127.0.0.2:1/?t={hub.token()}"}),
        Fault(".* /cas/.*", status=401, body=f"bad token {issued}"),
        Fault(".* /cas/.*", status=500, body=f"bad token {issued}"),
        Fault("POST /cas/.*/shards", status=200, body=f"{issued}"),
        Fault(".* /cas/.*", drop="before"),
    ]
    for fault in faults:
        hub.faults.add(fault)
        for run in (
            run_task(XetTokenOperator, scope="write", **where),
            run_task(XetUploadOperator, source=source, commit=False, **where),
            run_task(XetDownloadOperator, destination=str(tmp_path / "out"), files=records),
            # Without its source, and with it.
            run_task(XetCommitOperator, files=[{k: v for k, v in inline[0].items() if k != "storage_uri"}]),
            run_task(XetCommitOperator, files=[{**inline[0], "storage_uri": "file:///nowhere"}]),
        ):
            seen.run(run)
        assert hub.faults.acted(fault)
        hub.faults.clear()
    broken = sealed_before["sealed"][:-9] + "AAAAAAAA="
    for change in ({"repo": "hf://a/b"}, {"sealed": None}, {"sealed": broken}, {"repo": "hf://a/b", "sealed": broken}):
        for named in ({}, where):
            run = run_task(XetUploadOperator, source=source, token={**sealed_before, **change}, commit=False, **named)
            seen.run(run)
    connection(password=secrets.wrong, extra=json.dumps(secrets.extra))
    assert "401" in seen.run(run_task(XetTokenOperator, **where)).text
    connection(host="http://127.0.0.1:1")
    assert "could not be reached" in seen.run(run_task(XetTokenOperator, **where)).text
    wrong_proxy = {**secrets.extra, "proxy": f"http://anna:{PROXY_PASSWORD}@127.0.0.1:1"}
    connection(extra=json.dumps(wrong_proxy))
    assert "The proxy 127.0.0.1:1 could not be reached" in seen.run(run_task(XetTokenOperator, **where)).text
    assert (
        "It is on the way to CAS"
        in seen.run(run_task(XetUploadOperator, source=source, commit=False, token=sealed_before)).text
    )
    wrong_proxy = {**secrets.extra, "proxy": f"nonsense://anna:{PROXY_PASSWORD}@127.0.0.1:1"}
    connection(extra=json.dumps(wrong_proxy))
    assert "is not the URL of a proxy" in seen.run(run_task(XetTokenOperator, **where)).text
    assert_absent(secrets(), seen.text())


_LOGGED = """
import os, sys, time
import hf_xet  # the DAG's own code, before this provider could set anything
from airflow_provider_xethub.hooks.xethub import XetHubConnection
hook = XetHubConnection()
repo = hook.repo(sys.argv[1], "dataset")
with open(sys.argv[2] + "/a.bin", "wb") as file:
    file.write(os.urandom(100_000))
hook.download(sys.argv[2] + "/out", hook.upload(sys.argv[2] + "/a.bin", repo, deduplicate=True)["files"])
time.sleep(0.5)  # it writes its log in a thread
"""


def test_the_life_cycle_of_a_repository_shows_no_secret(hub, secrets, repo, run_task, seen, monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    where = {"repo_id": repo.repo_id, "repo_type": "dataset"}
    new = {"repo_id": f"{repo.repo_id}-new", "repo_type": "dataset"}

    def run_all():
        return [
            run_task(XetCreateRepoOperator, **new),
            run_task(XetCreateBranchOperator, branch="dev", exist_ok=True, **where),
            run_task(XetCreateTagOperator, tag="v1", **where),
            run_task(XetDeleteTagOperator, tag="v1", **where),
            run_task(XetDeleteUnreferencedFilesOperator, dry_run=False, min_age=0, **where),
            run_task(XetUpdateRepoOperator, visibility="private", **where),
            run_task(XetDeleteRepoOperator, confirm=new["repo_id"], **new),
        ]

    echo = json.dumps({"error": f"Bearer {hub.token()}, {HEADER} or {PROXY_PASSWORD} is bad", "token": hub.token()})
    changes = "(POST|PUT|DELETE) /api/.*"
    for fault in (
        Fault(changes, status=400, body=echo),
        Fault(changes, status=403, body=echo),
        Fault(changes, status=500, body=echo),
        Fault(changes, status=200, body=f"<html>{hub.token()}</html>", headers={"Content-Type": "text/html"}),
        Fault(changes, drop=True),
    ):
        hub.faults.clear()
        hub.faults.add(fault)
        runs = [seen.run(run) for run in run_all()]
        assert sum(run.error is not None for run in runs) >= 2, fault
    hub.faults.clear()
    assert all(seen.run(run).error is None for run in run_all())
    assert_absent(secrets(), seen.text())


def test_the_log_of_the_client_shows_no_secret(hub, secrets, repo, tmp_path, fork_server):
    """Whatever the level, and although it was imported before: at ``info`` it writes down all headers that it gets."""
    logs = tmp_path / "logs"
    logs.mkdir()
    # Each request asks for another token first.
    hub.access.token_life = 31
    hub.faults.add(Fault("GET /cas/.*/v1/chunks/.*", delay=1.5, times=1))
    hub.faults.add(Fault("POST /cas/.*/v1/xorb-grants/.*", delay=1.5, times=1))
    environment = {"RUST_LOG": "trace", "HF_XET_LOG_DEST": f"{logs}/"}
    status, printed = fork_server.run(_LOGGED, repo.repo_id, str(tmp_path), environment=environment)
    hub.access.token_life = 900
    hub.faults.clear()
    assert status == 0, printed
    text = "".join(path.read_text() for path in logs.iterdir()) + printed
    assert "HTTP client configured" in text  # where it writes down the headers that it was given
    assert len(hub.log.requests(rf"GET {repo.token_path('write')}")) >= 2  # it asked for another token
    for form in (base64.b64encode(f"anna:{PROXY_PASSWORD}".encode()).decode(), "X-Proxy-Key", "x-proxy-key"):
        assert form not in text
    assert_absent(secrets(), text)


def test_the_debug_log_of_the_hub_library_shows_no_token(hub, secrets, repo, hook, tmp_path, seen):
    """Its HTTP client would log all headers of responses, and the Hub sends Xet tokens in one."""
    publish(repo, tmp_path / "before", {"a.bin": binary()})
    before = len(secrets())
    hook.api.hf_hub_download(repo.repo_id, "a.bin", repo_type="dataset", cache_dir=tmp_path / "cache")
    text = seen.text()
    assert len(secrets()) > before  # the library fetched a token of its own
    assert "HTTP Request: GET" in text
    assert_absent(secrets(), text)


def test_the_content_of_inline_files_is_nowhere_in_clear(hub, secrets, repo, run_task, tmp_path, seen, disconnect):
    """Not in an XCom, a rendered field, a log or an error, whether a task without a connection takes or refuses it."""
    private = b'{"internal_name": "project-hunter2", "note": "not for everybody"}\n'
    publish(repo, tmp_path / "before", {"config.json": private, "a.bin": binary()})
    where = {"repo_id": repo.repo_id, "repo_type": "dataset"}
    with new_dag() as dag:
        token = XetTokenOperator(task_id="token", **where)
        look = XetListOperator(task_id="look", **where)
        download = XetDownloadOperator(
            task_id="download",
            destination=str(tmp_path / "out"),
            files=look.output,
            token=token.output,
            xethub_conn_id=None,
        )
    api = ExecutionApi()
    for each in (token, look):
        assert seen.run(run_one(each, api=api)).state == "success"
    hub.faults.add(Fault("GET .*/config.json", corrupt=True))
    assert "damaged" in seen.run(run_one(look)).text
    hub.faults.clear()
    disconnect()
    run = seen.run(run_one(download, api=api))
    assert run.state == "success", run.error
    assert (tmp_path / "out/config.json").read_bytes() == private
    files = api.xcoms["look", "return_value", -1]
    [config] = [file for file in files if file["path"] == "config.json"]
    spoiled = [{"blob_id": "0" * 40}, {"sealed_content": config["sealed_content"][:-40]}, {"path": "other.json"}]
    for change in (*spoiled, {"repo": "hf://acme/other"}):
        options = {"token": api.xcoms["token", "return_value", -1], "destination": str(tmp_path / "new")}
        assert seen.run(
            run_task(XetDownloadOperator, files=[{**config, **change}], xethub_conn_id=None, **options)
        ).error
    seen.add(api.xcoms, api.state, dag, look, download, download.__dict__)
    text = seen.text()
    assert "Sealed the content of 2 inline files" in text
    assert "sealed_content" in text
    forms = {"project-hunter2", *(base64.b64encode(form).decode()[:40] for form in (private, zlib.compress(private)))}
    assert_absent({*secrets(), *forms}, text)


def test_neither_link_nor_asset_event_nor_lineage_shows_a_secret(hub, secrets, repo, run_task, hook, tmp_path, seen):
    source = write(tmp_path / "in", {"a.bin": os.urandom(5000)})
    corpus = Asset(f"hf://datasets/{repo.repo_id}")
    where = {"repo_id": repo.repo_id, "repo_type": "dataset", "outlets": [corpus]}
    for options in ({}, {"create_pr": True, "path_in_repo": "pull/"}):
        run = seen.run(run_task(XetUploadOperator, source=str(source), **where, **options))
        assert run.xcoms["_link_XetHubLink"].startswith(hub.url)
        assert run.message.outlet_events[0]["extra"]["files"]
    hook.download(tmp_path / "out", hook.list_files(repo))
    seen.add(hook.lineage.moved, corpus)
    assert len(hook.lineage.moved) == 2
    text = seen.text()
    assert "Moved(direction='input'" in text
    assert_absent(secrets(), text)


def test_the_filesystem_shows_no_secret(hub, secrets, repo, fs, tmp_path, seen, monkeypatch):
    """Neither its errors, nor what it tells of files and itself, nor what it hands to another process."""
    monkeypatch.setattr(cas_session, "RETRIES", 0)
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    publish(repo, tmp_path / "before", {"a.bin": binary(), "b.csv": TEXT})
    with fs.open(name(repo, "a.bin"), "rb") as file:
        seen.add(fs, vars(fs), fs.to_json(), pickle.dumps(fs), file, vars(file), file.read(5))
    seen.add(fs.ls(name(repo)), fs.info(name(repo, "a.bin")), at(repo, "a.bin"), at(repo, "a.bin").storage_options)
    issued = hub.access.issued_xet_tokens()[-1]
    bad = json.dumps({"error": f"Bearer {hub.token()}, {issued}, {HEADER} and {PROXY_PASSWORD} are bad"})
    for route in (".* /api/.*", ".* /cas/.*", ".*/resolve/.*"):
        for fault in (Fault(route, status=401, body=bad), Fault(route, status=500, body=bad), Fault(route, drop=True)):
            hub.faults.add(fault)
            for work in (
                lambda: fs.cat_file(name(repo, "a.bin")),
                lambda: fs.cat_file(name(repo, "b.csv")),
                lambda: fs.pipe_file(name(repo, "new.bin"), os.urandom(100)),
            ):
                fs.invalidate_cache()
                try:
                    work()
                except Exception as error:
                    seen.add(error)
            assert hub.faults.acted(fault)
            hub.faults.clear()
    text = seen.text()
    assert "The Hub answered 401" in text
    assert_absent(secrets(), text)


def test_the_decorator_shows_no_secret(hub, secrets, repo, tmp_path, seen, monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    publish(repo, tmp_path / "before", {"a.bin": binary()})
    faults = [
        None,
        Fault("POST /api/.*", status=401),
        Fault("GET .*-token/.*", status=500),
        Fault(".* /api/.*", drop=True),
    ]
    for fault in faults:
        if fault:
            hub.faults.add(fault)
        with new_dag():

            @task.xethub(repo_id=repo.repo_id, repo_type="dataset", path="a.bin", path_in_repo="new")
            def look(file, output):
                seen.add(file, output)
                (output / "made.bin").write_bytes(file.read_bytes()[::-1])

            made = look()
        run = seen.run(run_one(made.operator))
        assert (run.state == "success") == (fault is None), run.error
        assert fault is None or hub.faults.acted(fault)
        seen.add(made.operator, vars(made.operator))
        hub.faults.clear()
    text = seen.text()
    assert "made.bin" in text
    assert_absent(secrets(), text)


def test_no_repr_shows_a_secret(hub, secrets, repo, hook, seen):
    token = hook.get_token(repo, "write")
    access = hook.cas_access()(token)
    value = hook.seal_token(token)
    seen.add(hook, hook.hub, hook.hub.session, hook.get_conn(), hook.hub.session.auth, token, access, value)
    seen.add(hook.hub.secrets, access.refresh, access.secrets)
    text = seen.text()
    assert "CasAccess(token=XetToken(" in text
    assert token.access_token in secrets()
    assert_absent(secrets(), text)
    assert "Authorization" not in hook.get_conn().headers


def test_a_token_is_masked_once_it_is_fetched(hub, connection, hook, repo):
    token = hook.get_token(repo, "read").access_token
    assert redact(f"it is {token}!") == "it is ***!"


def test_a_sealed_token_is_masked_once_it_is_opened(hub, connection, repo, monkeypatch):
    hook = XetHubConnection()
    token = hook.hub.xet_token(repo, "read")  # past the hook's own masking
    value = hook.seal_token(token)
    assert redact(f"it is {token.access_token}!") == f"it is {token.access_token}!"
    assert XetHubConnection(None).fresh_token(value, "read", repo).access_token == token.access_token
    assert redact(f"it is {token.access_token}!") == "it is ***!"


def test_the_secrets_of_a_connection_are_masked(secrets, hook):
    assert hook.hub.has_token
    assert redact(f"it is {HEADER}!") == "it is ***!"
    assert redact(f"it is {PROXY_PASSWORD}!") == "it is ***!"


def test_a_webhook_shows_no_secret(airflow_db, secrets, repo, hub, monkeypatch, seen):
    """Neither its own, nor the Hub token with which the API server asks for the commits, nor those of a proxy."""
    monkeypatch.setenv("AIRFLOW__XETHUB__WEBHOOK_SECRET", SECRET)
    store_dag(DAG(f"hooked_{repo.repo_id.split('/')[1]}", schedule=[Asset(f"hf://datasets/{repo.repo_id}")]))
    with endpoint() as url:
        for fault in (None, Fault("GET /api/.*", status=401), Fault("GET /api/.*", drop=True)):
            hub.faults.clear()
            if fault:
                hub.faults.add(fault)
            for given in (SECRET, f"{SECRET}-wrong"):
                before = f"{len(hub.faults.armed())}" * 40
                answer = post(url, pushed(repo, before, before.replace("0", "2").replace("1", "3")), secret=given)
                seen.add(answer.status_code, answer.text, answer.headers)
    text = seen.text()
    assert "POST /xethub/webhook" in text
    assert "events have no titles" in text
    assert_absent({*secrets(), SECRET}, text)
    assert redact(f"it is {SECRET}!") == "it is ***!"


def test_tokens_of_one_repository_do_not_open_the_other(hub, connection, repo, make_repo):
    hook = XetHubConnection()
    one, other = sealed(repo, "read"), sealed(make_repo(), "read")
    assert one["sealed"] != other["sealed"]
    assert all(part not in json.dumps([one, other]) for part in hub.access.issued_xet_tokens()[-2:])
    assert sealing.fernets()
    assert hook.fresh_token(one, "read", repo).repo == repo
