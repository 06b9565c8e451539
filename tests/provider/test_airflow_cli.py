"""What administrators see: the provider and its connections on Airflow's command line, and the Test button."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.hub import client as hub_module
from xethub_local.control.faults import Fault

pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    """Runs ``airflow`` with a home of its own and no database, and returns its output, parsed where it is JSON."""
    home = tmp_path_factory.mktemp("airflow")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    environment |= {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "COLUMNS": "200"}

    def run(*arguments):
        command = [str(Path(sys.executable).parent / "airflow"), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "xethub" not in done.stderr.lower(), done.stderr
        start = done.stdout.find("[{" if "json" in arguments else "")
        return json.loads(done.stdout[start:]) if "json" in arguments else done.stdout

    return run


def test_airflow_lists_the_provider_and_its_hook(airflow):
    [provider] = [
        each for each in airflow("providers", "list", "-o", "json") if each["package_name"] == "airflow-provider-xethub"
    ]
    assert "Xet storage" in provider["description"]
    [hook] = [each for each in airflow("providers", "hooks", "-o", "json") if each["connection_type"] == "xethub"]
    assert hook["class"] == "airflow_provider_xethub.hooks.xethub.XetHubConnection"
    assert hook["hook_name"] == "Hugging Face (Xet)"
    assert hook["conn_id_attribute_name"] == "xethub_conn_id"
    assert hook["package_name"] == "airflow-provider-xethub"


@pytest.mark.airflow_independent
def test_a_connection_added_on_the_command_line_comes_back_as_it_was(airflow):
    airflow("db", "migrate")
    airflow(
        "connections", "add", "hub", "--conn-type", "xethub", "--conn-host", "https://hub.example",
        "--conn-password", "hf_secret", "--conn-extra", '{"repo_id": "acme/corpus", "timeout": 7}',
    )  # fmt: skip
    [found] = airflow("connections", "get", "hub", "-o", "json")
    assert (found["conn_type"], found["host"]) == ("xethub", "https://hub.example")
    assert "acme/corpus" in str(found["extra_dejson"])


# --- the Test button --------------------------------------------------------------------------------------------------


@pytest.fixture
def test_it(connection, monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)

    def test(**fields):
        connection(**fields)
        good, text = XetHubConnection().test_connection()
        assert "hf_" not in text
        return good, text

    return test


def test_a_good_connection_says_who_with_which_token_and_where(hub, test_it):
    good, text = test_it()
    assert good
    assert f"Connected to {hub.url} as local, with the write token" in text


def test_a_read_only_token_is_called_that(hub, test_it):
    good, text = test_it(password=hub.token("read"))
    assert good
    assert "with the read token" in text


def test_a_wrong_token_is_not_accepted(test_it):
    good, text = test_it(password="hf_" + "z" * 34)
    assert not good
    assert "answered 401 to the whoami request" in text


def test_a_hub_that_is_down_cannot_be_reached(hub, test_it):
    good, text = test_it(host="http://127.0.0.1:1")
    assert not good
    assert "The Hub at http://127.0.0.1:1 could not be reached" in text


def test_a_page_is_no_hub(hub, test_it):
    hub.faults.add(Fault(".*", status=200, headers={"Content-Type": "text/html"}, body="<html>"))
    good, text = test_it()
    assert not good
    assert "with an HTML page. Check that the host of the connection is a Hub" in text


def test_without_a_token_only_public_repositories_work(hub, test_it):
    good, text = test_it(password=None)
    assert good
    assert f"{hub.url} responds. Without a Hub token (password), only public repositories work" in text
    hub.faults.add(Fault(".*", status=200, headers={"Content-Type": "text/html"}, body="<html>"))
    good, text = test_it(password=None)
    assert not good


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"host": "ftp://hub.example"}, "The host of this connection is not the URL of a Hub"),
        ({"host": "https://user:pw@hub.example"}, "is not the URL of a Hub"),
        ({"password": "hf_a b"}, "is not a Hub token: it contains whitespace, control or non-ASCII characters"),
        ({"extra": '{"timeout": "soon"}'}, "The extra 'timeout' of this connection must be between 1 and 600"),
        ({"extra": '{"timeout": 1e9}'}, "must be between 1 and 600 seconds"),
        ({"extra": '{"secret_headers": "no json"}'}, "'secret_headers' of this connection is not a JSON"),
        ({"extra": '{"ca_bundle": "/nowhere/ca.pem"}', "host": "https://127.0.0.1:1"}, "/nowhere/ca.pem"),
    ],
)
def test_a_field_that_is_wrong_is_named(hub, test_it, fields, text):
    good, said = test_it(**fields)
    assert not good
    assert text in said
    assert "pw" not in said
    assert not hub.log.requests()
