"""A connection in each form that Airflow takes, and the Test button, whatever somebody wrote into the form."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from types import SimpleNamespace
from urllib.parse import quote

import airflow
import pytest
from airflow.models.connection import Connection
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_xethub.get_provider_info import CONNECTION_FIELDS
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.hub import client as hub_module
from support.examples import examples
from support.private_network import Proxy
from support.secret_values import HEADER, assert_absent
from xethub_local.control.faults import Fault

pytestmark = pytest.mark.airflow

EXTRA = {"repo_type": "dataset", "repo_id": "acme/corpus", "revision": "next", "timeout": 7, "stall_timeout": "8"}
HEADERS = {"X-Proxy-Key": "key-3c1f"}


# --- the forms --------------------------------------------------------------------------------------------------------


def in_environment(conn_id, hub, monkeypatch, tmp_path, extra):
    value = {"conn_type": "xethub", "host": hub.url, "password": hub.token(), "extra": extra}
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(value))


def with_extra_as_text(conn_id, hub, monkeypatch, tmp_path, extra):
    in_environment(conn_id, hub, monkeypatch, tmp_path, json.dumps(extra))


def as_uri(conn_id, hub, monkeypatch, tmp_path, extra):
    query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in extra.items())
    address = hub.url.removeprefix("http://")
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", f"xethub://:{hub.token()}@{address}/http?{query}")


def as_uri_of_airflow(conn_id, hub, monkeypatch, tmp_path, extra):
    """As ``airflow connections get -o json`` shows it, and as the Test button passes it on."""
    uri = Connection("x", "xethub", host=hub.url, password=hub.token(), extra=json.dumps(extra)).get_uri()
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", uri)


@pytest.fixture
def conn_id():
    """One that no other test has used: Airflow may remember a connection."""
    return f"hub_{uuid.uuid4().hex[:8]}"


FORMS = [in_environment, with_extra_as_text, as_uri, as_uri_of_airflow]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_form_says_the_same(form, conn_id, hub, monkeypatch, tmp_path):
    form(conn_id, hub, monkeypatch, tmp_path, EXTRA)
    hook = XetHubConnection(conn_id)
    assert hook.repo().uri == "hf://datasets/acme/corpus@next"
    assert hook.hub.endpoint == hub.url
    assert hook.hub.timeout == 7
    assert hook.whoami()["name"] == "local"
    works, message = hook.test_connection()
    assert works, message


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_form_takes_the_fields_that_are_secret(form, conn_id, hub, monkeypatch, tmp_path):
    with Proxy("anna", "p@ss") as proxy:
        url = f"http://anna:p%40ss@{proxy.address}"
        form(conn_id, hub, monkeypatch, tmp_path, {"proxy": url, "secret_headers": json.dumps(HEADERS)})
        works, message = XetHubConnection(conn_id).test_connection()
        assert works, message
        assert proxy.through
    assert hub.log.requests("GET /api/whoami-v2")


def in_a_file(hub):
    value = {"conn_type": "xethub", "host": hub.url, "password": hub.token(), "extra": EXTRA}
    return "connections.json", json.dumps({"stored": value})


def in_a_file_of_uris(hub):
    uri = Connection("x", "xethub", host=hub.url, password=hub.token(), extra=json.dumps(EXTRA)).get_uri()
    return "connections.env", f"stored={uri}\n"


@pytest.mark.parametrize("form", [in_a_file, in_a_file_of_uris], ids=lambda form: form.__name__)
def test_a_secrets_backend_may_have_it(form, hub, tmp_path):
    """In a process of its own: Airflow reads once which secrets backend there is."""
    name, text = form(hub)
    (tmp_path / name).write_text(text)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "AIRFLOW__SECRETS__BACKEND": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"connections_file_path": str(tmp_path / name)}),
    }
    code = (
        "from airflow_provider_xethub.hooks.xethub import XetHubConnection as Hook; hook = Hook('stored'); "
        "print(hook.repo(), hook.hub.timeout, *hook.test_connection())"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert f"hf://datasets/acme/corpus@next 7.0 True Connected to {hub.url} as local" in done.stdout, done.stderr


# --- the Test button --------------------------------------------------------------------------------------------------


@pytest.fixture
def press(connection):
    def press(**fields):
        connection(**fields)
        works, message = XetHubConnection().test_connection()
        assert "hf_" not in message
        return works, message

    return press


def whoami(**fields):
    return Fault(
        "GET /api/whoami-v2", status=200, headers={"Content-Type": "application/json"}, body=json.dumps(fields)
    )


def test_it_says_what_a_fine_grained_token_is_for(hub, press):
    grants = {"datasets/acme/corpus": "write", "acme": "read"}
    token = hub.access.add_user("fay", token_name="pipelines", role="fineGrained", grants=grants)
    works, message = press(password=token)
    assert works
    assert f"Connected to {hub.url} as fay, with the fine-grained token 'pipelines' (" in message
    assert "acme/corpus: write" in message
    assert "acme: read" in message
    assert "It covers all repositories of acme: name single ones instead" in message


def test_it_warns_of_a_token_that_may_change_everything(press):
    works, message = press(extra=json.dumps({"repo_id": "acme/corpus"}))
    assert works
    assert "Warning: it may change and delete every repository that its user may." in message
    assert "A fine-grained token for acme/corpus needs repo.content.read, and for uploads repo.write" in message


def test_it_has_no_advice_for_a_token_for_one_repository(hub, press):
    token = hub.access.add_user("fay", token_name="one", role="fineGrained", grants={"datasets/acme/corpus": "write"})
    message = press(password=token)[1]
    assert "'one' (acme/corpus: write). Not tested:" in message


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"name": "acme", "type": "org", "auth": {"accessToken": {"role": "read", "displayName": "ci"}}},
         "as the organization acme, with the read token 'ci'."),
        ({"name": "ana", "auth": {"type": "oauth"}}, "as ana, with a credential of the kind oauth."),
        ({"name": "ana", "auth": None}, "as ana, with a credential of the kind unknown."),
        ({"name": "ana", "auth": {"accessToken": {"role": "god"}}}, "with the god token 'without a name'."),
        ({"name": "ana", "auth": {"accessToken": {"role": "fineGrained", "fineGrained": {"scoped": [3, {"entity": 4}, {
            "entity": {"name": "a"}, "permissions": ["repo.write"]}]}}}}, "grained token 'without a name' (a: write)."),
    ],
)  # fmt: skip
def test_it_says_who_whatever_kind_of_credential(hub, press, answer, text):
    hub.faults.add(whoami(**answer))
    works, message = press()
    assert works
    assert text in message


def test_it_says_that_a_token_has_expired(hub, press):
    said = json.dumps({"error": 'User Access Token "pipelines" is expired'})
    hub.faults.add(Fault("GET /api/whoami-v2", status=401, headers={"Content-Type": "application/json"}, body=said))
    works, message = press()
    assert not works
    assert "The Hub token of this connection is missing, wrong or expired" in message
    assert 'The Hub says: User Access Token "pipelines" is expired' in message


@pytest.mark.parametrize("token", [None, "hf_x"])
@pytest.mark.parametrize("status", [404, 405, 200])
def test_another_service_is_no_hub(hub, press, status, token):
    hub.faults.add(Fault(".*", status=status, headers={"Content-Type": "application/json"}, body='{"status": "up"}'))
    works, message = press(password=token)
    assert not works
    assert f"{hub.url} " in message
    assert "it is not a Hub. The host of the connection must be the URL of the Hub alone" in message
    assert "repo_type" not in message


def test_the_page_of_a_repository_is_no_hub(hub, repo, press):
    works, message = press(host=f"{hub.url}/datasets/{repo.repo_id}")
    assert not works
    assert "without a repository" in message


def test_it_asks_once_where_a_task_asks_again(hub, press, monkeypatch):
    monkeypatch.setattr(hub_module, "RETRY_BUDGET", 1)
    hub.faults.add(Fault(".*", status=503))
    works, message = press()
    assert not works
    assert "answered 503" in message
    assert len(hub.log.requests("GET /api/whoami-v2")) == 1


def test_a_wrong_field_is_not_said_to_be_of_a_connection_that_nobody_knows(hub, press):
    for fields in ({"host": "ftp://x"}, {"password": "a b"}, {"extra": {"timeout": 0}}, {"extra": {"proxy": "x"}}):
        works, message = press(**fields)
        assert not works
        assert "xethub_default" not in message
        assert "of this connection" in message


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2),
    max_leaves=4,
)
urls = st.builds(
    "{}{}{}".format, st.sampled_from(["", "http://", "https://", "://"]), st.text(max_size=12), st.text(max_size=8)
)


@pytest.mark.airflow_unchanged
@settings(max_examples=examples(150))
@given(
    host=urls | st.text(max_size=20),
    password=st.none() | st.text(max_size=20),
    port=st.none() | st.integers(-1, 70000),
    extra=st.dictionaries(st.sampled_from(sorted(CONNECTION_FIELDS)), anything | urls, max_size=3) | anything,
)
def test_whatever_is_in_the_form_the_button_answers(monkeypatch, host, password, port, extra):
    """Nothing is sent: what is not refused ends where a name would be asked for."""
    import requests

    def refuse(*_, **__):
        raise requests.exceptions.ConnectionError("nobody is there")

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", refuse)
    # Airflow's masker grows with every value.
    monkeypatch.setattr("airflow_provider_xethub.hooks.tokens.sealing.mask", lambda _: None)
    hook = XetHubConnection("any")
    fields = {"conn_id": "any", "host": host, "schema": None, "password": password, "port": port}
    hook._connection._found = SimpleNamespace(**fields, extra_dejson=extra)
    works, message = hook.test_connection()
    assert works is False
    assert len(message) > 20


# --- in Airflow's API -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """Airflow's own API server in this process, with everybody an administrator."""
    pytest.importorskip("fastapi")
    from unittest import mock

    from airflow.utils.db import initdb
    from fastapi.testclient import TestClient

    environment = {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True", "AIRFLOW__CORE__TEST_CONNECTION": "Enabled"}
    with mock.patch.dict("os.environ", environment):
        initdb()
        from airflow.api_fastapi.app import create_app

        with TestClient(create_app(apps="core")) as client:
            token = client.get("/auth/token").json()["access_token"]
            client.headers["Authorization"] = f"Bearer {token}"
            yield client


def test_the_form_has_every_field_with_label_placeholder_and_help(api):
    (form,) = [each for each in api.get("/ui/connections/hook_meta").json() if each["connection_type"] == "xethub"]
    assert form["hook_name"] == "Hugging Face (Xet)"
    standard = form["standard_fields"]
    assert standard["host"]["title"] == "Hub endpoint"
    assert standard["host"]["placeholder"] == "https://huggingface.co"
    assert standard["password"]["title"] == "Hub token"
    assert {name for name, field in standard.items() if field and field["hidden"]} == {"url_schema", "login"}
    assert list(form["extra_fields"]) == list(CONNECTION_FIELDS)
    for name, field in CONNECTION_FIELDS.items():
        shown = form["extra_fields"][name]
        assert shown["schema"]["title"] == field["label"]
        assert shown["description"] == field["description"]
        if airflow.__version__ >= "3.2":  # a plain text field before
            assert shown["schema"].get("enum") == field["schema"].get("enum")
        assert shown["schema"].get("format") == field["schema"].get("format")


def test_the_button_answers_through_airflows_api(api, hub):
    body = {"connection_id": "form", "conn_type": "xethub", "host": hub.url, "password": hub.token()}
    body["extra"] = json.dumps({"repo_id": "acme/corpus", "secret_headers": json.dumps(HEADERS)})
    answer = api.post("/api/v2/connections/test", json=body).json()
    assert answer["status"] is True
    assert f"Connected to {hub.url} as local, with the write token" in answer["message"]
    answer = api.post("/api/v2/connections/test", json={**body, "password": "hf_wrong"}).json()
    assert answer["status"] is False
    assert "The Hub token of this connection is missing, wrong or expired" in answer["message"]
    answer = api.post("/api/v2/connections/test", json={**body, "host": "ftp://x"}).json()
    assert answer["message"].startswith("The host of this connection is not the URL of a Hub")
    assert "airflow_provider_xethub.hooks.xethub" in sys.modules


def test_the_api_shows_no_secret_of_a_connection(api, hub):
    """Also to those who may edit connections: roles that may are Op and Admin."""
    body = {"connection_id": "shown", "conn_type": "xethub", "host": hub.url, "password": hub.token()}
    body["extra"] = json.dumps({"repo_id": "acme/corpus", "secret_headers": json.dumps({"X-Proxy-Key": HEADER})})
    assert api.post("/api/v2/connections", json=body).status_code == 201
    try:
        answers = [api.get("/api/v2/connections/shown").text, api.get("/api/v2/connections").text]
        assert all("acme/corpus" in answer for answer in answers)
        assert_absent([hub.token(), HEADER], "".join(answers))
    finally:
        api.delete("/api/v2/connections/shown")


def test_the_api_shows_no_key_of_the_configuration(api, monkeypatch):
    """To those who may read the configuration, where the administrator exposes what is not sensitive."""
    monkeypatch.setenv("AIRFLOW__API__EXPOSE_CONFIG", "non-sensitive-only")
    monkeypatch.setenv("AIRFLOW__XETHUB__MINIMUM_CREDENTIAL", "fine_grained")
    keys = {"FERNET_KEY": "key-3b1f77a0c2e94d", "WEBHOOK_SECRET": "hook-91c2a7d04be88f"}
    for name, key in keys.items():
        monkeypatch.setenv(f"AIRFLOW__XETHUB__{name}", key)
    answer = api.get("/api/v2/config", headers={"Accept": "application/json"})
    assert '"fine_grained"' in answer.text, answer.text[:500]
    assert_absent(keys.values(), answer.text)
