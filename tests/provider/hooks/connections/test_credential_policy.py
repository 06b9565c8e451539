"""``[xethub] minimum_credential`` refuses weaker connections before anything is sent with them, and asks once."""

from __future__ import annotations

import asyncio
import json
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_xethub.exceptions import XetInputError, XetServerError, XetWeakCredentialError
from airflow_provider_xethub.hooks.connections import credential_policy
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import XetListOperator, XetTokenOperator, XetUploadOperator
from airflow_provider_xethub.sensors.xethub import XetFileSensor
from airflow_provider_xethub.triggers.xethub import XetFileTrigger
from airflow_provider_xethub.xet.hub import client
from support.builders import binary, commits, publish, sealed, write
from support.secret_values import assert_absent
from xethub_local.control.faults import Fault

WHOAMI = "/api/whoami-v2"


@pytest.fixture(autouse=True)
def _nothing_is_known():
    vars(credential_policy)["_answers"].clear()


@pytest.fixture
def require(monkeypatch):
    def require(minimum):
        monkeypatch.setenv("AIRFLOW__XETHUB__MINIMUM_CREDENTIAL", minimum)

    return require


@pytest.fixture
def fine_grained(hub, repo, connection):
    """Give the connection a fine-grained token for the repository, and return it."""
    token = hub.add_user("fay", role="fineGrained", grants={f"datasets/{repo.repo_id}": "write"})
    connection(password=token)
    return token


def whoami(hub, **auth):
    hub.faults.add(
        Fault(
            f"GET {WHOAMI}",
            status=200,
            headers={"Content-Type": "application/json"},
            body=json.dumps({"name": "ana", "type": "user", "auth": auth}),
        )
    )


def paths(hub):
    return [entry.path for entry in hub.log.requests()]


# --- what is refused --------------------------------------------------------------------------------------------------


def test_every_connection_is_accepted_by_default_and_nothing_is_asked(hub, hook, repo):
    hook.list_files(repo)
    assert WHOAMI not in paths(hub)


@pytest.mark.parametrize("role", ["read", "write"])
def test_a_classic_token_is_refused_before_it_is_used(hub, connection, repo, require, run_task, role, tmp_path):
    require("fine_grained")
    connection(password=hub.token(role))
    before = commits(hub, repo)
    hub.log.clear()
    source = str(write(tmp_path, {"a.bin": binary()}) / "a.bin")
    for operator, arguments in (
        (XetTokenOperator, {}),
        (XetListOperator, {}),
        (XetUploadOperator, {"source": source}),
        (XetFileSensor, {"path": "a.bin"}),
    ):
        run = run_task(operator, repo_id=repo.repo_id, repo_type="dataset", **arguments)
        assert isinstance(run.error, XetWeakCredentialError), run.error
        assert run.is_final
        assert (
            f"Connection 'xethub_default' has a classic {role} token. Store a fine-grained one as its password, or "
            "choose an identity: the administrator requires [xethub] minimum_credential = fine_grained. Create it at "
            f"{hub.url}/settings/tokens, with repo.content.read"
        ) in run.text
        assert "hf_" not in run.text
    assert paths(hub) == [WHOAMI]
    assert commits(hub, repo) == before


@pytest.mark.parametrize(
    ("auth", "kind"),
    [
        ({"type": "oauth", "expiresAt": "2099-01-01T00:00:00.000Z"}, "an OAuth token"),
        ({"type": "access_token", "accessToken": {"role": "god"}}, "a credential of the kind god"),
        ({"type": "fineGrained"}, "a fine-grained token"),
        ({}, "a credential of the kind unknown"),
        ({"accessToken": {"role": ["fineGrained"]}}, "a credential of the kind ['fineGrained']"),
    ],
)
def test_what_is_not_known_to_be_fine_grained_is_refused(hub, hook, repo, require, auth, kind):
    require("fine_grained")
    whoami(hub, **auth)
    with pytest.raises(XetWeakCredentialError) as caught:
        hook.list_files(repo)
    assert kind in str(caught.value)


def test_a_fine_grained_token_works(hub, fine_grained, repo, require, run_task, tmp_path):
    require("fine_grained")
    source = str(write(tmp_path, {"a.bin": binary()}) / "a.bin")
    run = run_task(XetUploadOperator, source=source, repo_id=repo.repo_id, repo_type="dataset")
    assert run.state == "success", run.error
    assert paths(hub).count(WHOAMI) == 1


@pytest.mark.parametrize("token", ["classic", "fine-grained", "exchanged"])
def test_keyless_refuses_every_hub_token_without_asking(hub, fine_grained, connection, repo, require, token):
    require("keyless")
    connection(password={"classic": hub.token(), "fine-grained": fine_grained, "exchanged": "hf_jwt_0123456789"}[token])
    hub.log.clear()
    with pytest.raises(XetWeakCredentialError, match="Remove it and choose an identity: the administrator") as caught:
        XetHubConnection().list_files(repo)
    assert isinstance(caught.value, AirflowFailException)
    assert not paths(hub)


@pytest.mark.parametrize("minimum", ["fine_grained", "keyless"])
def test_a_connection_without_a_credential_reads_what_is_public(hub, connection, repo, require, minimum, tmp_path):
    publish(repo, tmp_path, {"a.bin": binary()})
    require(minimum)
    connection(password=None)
    assert XetHubConnection().get_files(repo, ["a.bin"])
    assert WHOAMI not in paths(hub)


@pytest.mark.parametrize("minimum", ["fine_grained", "keyless"])
def test_a_task_with_a_sealed_token_alone_needs_no_credential(repo, connection, require, run_task, minimum, tmp_path):
    token = sealed(repo, "write")
    require(minimum)
    source = str(write(tmp_path, {"a.bin": binary()}) / "a.bin")
    run = run_task(XetUploadOperator, source=source, token=token, commit=False, xethub_conn_id=None)
    assert run.state == "success", run.error


@pytest.mark.parametrize("wrong", ["fine-grained", "none", "keyles"])
def test_a_wrong_setting_accepts_nothing(hub, hook, repo, require, wrong):
    require(wrong)
    with pytest.raises(XetInputError, match=rf"\[xethub\] minimum_credential is '{wrong}'; use any, fine_grained or k"):
        hook.list_files(repo)
    assert not paths(hub)


def test_every_way_to_the_hub_is_refused(hub, connection, hook, repo, require):
    require("fine_grained")
    ways = [
        lambda: hook.get_conn().get("/api/models"),
        lambda: hook.api.whoami(),
        lambda: hook.create_branch(repo, "next"),
        lambda: hook.get_token(repo),
        lambda: hook.whoami(),
    ]
    for way in ways:
        with pytest.raises(XetWeakCredentialError):
            way()
    with hook.prefetch_token(repo, "read"), pytest.raises(XetWeakCredentialError):
        hook.get_token(repo)
    assert paths(hub) == [WHOAMI]


def test_the_filesystem_is_refused(hub, fs, repo, require):
    require("fine_grained")
    path = f"datasets/{repo.repo_id}/a.bin"
    for way in (lambda: fs.ls(f"datasets/{repo.repo_id}"), lambda: fs.exists(path), lambda: fs.pipe(path, b"x")):
        with pytest.raises(XetWeakCredentialError):
            way()
    assert paths(hub) == [WHOAMI]


# --- how often the Hub is asked ---------------------------------------------------------------------------------------


def test_it_is_asked_once_for_a_credential_however_many_hooks_and_threads_use_it(hub, fine_grained, repo, require):
    require("fine_grained")
    hub.faults.add(Fault(f"GET {WHOAMI}", delay=0.2))
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: XetHubConnection().list_files(repo), range(8)))
    assert all(found)
    assert paths(hub).count(WHOAMI) == 1


def test_another_credential_is_asked_about_again(hub, fine_grained, connection, repo, require):
    require("fine_grained")
    XetHubConnection().list_files(repo)
    connection(password=hub.token("write"))
    with pytest.raises(XetWeakCredentialError):
        XetHubConnection().list_files(repo)
    connection(password=fine_grained)
    XetHubConnection().list_files(repo)
    assert paths(hub).count(WHOAMI) == 2


def test_a_question_without_an_answer_is_asked_again(hub, fine_grained, repo, require, monkeypatch):
    require("fine_grained")
    monkeypatch.setattr(client, "MAX_TRIES", 1)
    hub.faults.add(Fault(f"GET {WHOAMI}", status=503, times=1))
    with pytest.raises(XetServerError, match="whoami"):
        XetHubConnection().list_files(repo)
    assert paths(hub) == [WHOAMI]
    XetHubConnection().list_files(repo)


def test_the_credential_itself_is_not_remembered(hub, fine_grained, repo, require, caplog):
    caplog.set_level(logging.DEBUG)
    require("fine_grained")
    XetHubConnection().list_files(repo)
    known = vars(credential_policy)["_answers"]
    assert len(known) == 1
    assert_absent([fine_grained], f"{known!r} {caplog.text}")


# --- sensors and triggers ---------------------------------------------------------------------------------------------


def test_a_trigger_reports_it_and_asks_outside_of_the_event_loop(hub, connection, repo, require):
    require("fine_grained")
    hub.faults.add(Fault(f"GET {WHOAMI}", delay=0.5))
    trigger = XetFileTrigger(repo_id=repo.repo_id, repo_type="dataset", paths=["a.bin"], poke_interval=1)

    async def run():
        ticks, event = 0, asyncio.ensure_future(anext(trigger.run()))
        while not event.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks, event.result()

    ticks, event = asyncio.run(run())
    assert ticks > 10  # the loop went on while the Hub was slow
    assert "Connection 'xethub_default' has a classic write token." in json.dumps(event.payload)
    assert "XetWeakCredentialError" in json.dumps(event.payload)
    assert paths(hub) == [WHOAMI]


# --- the Test button --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("minimum", ["fine_grained", "keyless"])
def test_the_test_button_says_that_a_connection_would_be_refused(hub, connection, require, minimum):
    require(minimum)
    works, message = XetHubConnection().test_connection()
    assert not works
    assert f"[xethub] minimum_credential = {minimum}." in message
    assert message.startswith("This connection has a ")
