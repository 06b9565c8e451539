"""A secrets backend that does not answer for a moment: Airflow says then that the connection is not defined."""

from __future__ import annotations

import json
from importlib import import_module

import pytest
from airflow.providers.common.compat.sdk import BaseHook
from airflow.secrets import BaseSecretsBackend

from airflow_provider_xethub.exceptions import XetAirflowConnectionError, XetHubError, XetInputError
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetListOperator, XetUploadOperator
from airflow_provider_xethub.sensors.xethub import XetFileSensor
from support.builders import binary, publish, sealed, write


class Vault(BaseSecretsBackend):
    """A secrets backend that can be down."""

    error: Exception | None = None
    connections: dict[str, str] = {}  # noqa: RUF012

    def get_conn_value(self, conn_id, team_name=None):
        if Vault.error:
            raise Vault.error
        return Vault.connections.get(conn_id)


@pytest.fixture
def forget_backends():
    def forget():
        """Airflow 3.3 builds its secrets backends once."""
        for name in ("airflow.sdk.configuration", "airflow.configuration"):
            getattr(import_module(name), "_secrets_backend_cache", {}).clear()

    forget()
    yield
    forget()


@pytest.fixture
def vault(forget_backends, hub, monkeypatch, disconnect):
    """The connection is in a secrets backend, which is down."""
    disconnect()
    extra = {"repo_type": "dataset", "revision": "main"}
    value = {"conn_type": "xethub", "host": hub.url, "password": hub.token(), "extra": extra}
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", f"{__name__}.Vault")
    monkeypatch.setattr(Vault, "connections", {"xethub_default": json.dumps(value)})
    monkeypatch.setattr(Vault, "error", ConnectionError("vault is restarting"))
    return Vault


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (XetListOperator, {}),
        (XetFileSensor, {"path": "a.bin"}),
        (XetFileSensor, {"path": "a.bin", "mode": "reschedule"}),
        (XetFileSensor, {"path": "a.bin", "deferrable": True}),
    ],
)
def test_a_retry_reads_the_connection(vault, repo, run_task, tmp_path, monkeypatch, kind, arguments):
    run = run_task(kind, repo_id=repo.repo_id, **arguments)
    assert run.state == "up_for_retry"
    assert isinstance(run.error, XetAirflowConnectionError)
    assert run.text.startswith(
        "Airflow found no connection 'xethub_default'. Create it, or retry if it exists: Airflow"
    )
    assert "vault is restarting" not in run.text
    monkeypatch.setattr(vault, "error", None)
    publish(repo, tmp_path, {"a.bin": binary()})
    assert "a.bin" in str(run_task(kind, repo_id=repo.repo_id, **arguments).value)


def test_a_hook_does_not_remember_that_it_could_not_read_it(vault, repo, monkeypatch):
    hook = XetHubConnection()
    assert not hook.has_connection
    with pytest.raises(XetAirflowConnectionError):
        hook.whoami()
    monkeypatch.setattr(vault, "error", None)
    assert hook.has_connection
    assert hook.whoami()["name"]
    monkeypatch.setattr(vault, "error", ConnectionError())
    assert hook.whoami()["name"]


def test_defaults_of_a_connection_that_cannot_be_read_are_not_guessed(vault, monkeypatch):
    hook = XetHubConnection()
    for named in ((None, "dataset", "main"), ("acme/m", None, "main"), ("acme/m", "dataset", None)):
        with pytest.raises(XetAirflowConnectionError):
            hook.repo(*named)
    assert hook.repo("acme/m", "model", "dev").uri == "hf://acme/m@dev"
    assert hook.repo("acme/b", "bucket").is_bucket
    assert XetHubConnection(None).repo("acme/m").uri == "hf://acme/m@main"
    monkeypatch.setattr(vault, "error", None)
    assert hook.repo("acme/m").uri == "hf://datasets/acme/m@main"


def test_without_a_connection_on_purpose_it_is_final(run_task, repo):
    run = run_task(XetListOperator, repo_id=repo.repo_id, xethub_conn_id=None)
    assert run.is_final
    assert isinstance(run.error, XetInputError)


def test_a_sensor_that_is_waiting_already_waits_on(vault, repo, capsys):
    sensor = XetFileSensor(task_id="wait", path="a.bin", repo_id=repo.repo_id, mode="reschedule")
    with pytest.raises(XetAirflowConnectionError):
        sensor.poke({})
    assert not sensor.poke({"task_reschedule_count": 1})
    assert "Still waiting. Airflow found no connection 'xethub_default'" in capsys.readouterr().out


def test_a_given_token_that_does_not_open_is_replaced_by_the_retry(vault, repo, run_task, tmp_path, monkeypatch):
    source = str(write(tmp_path, {"a.bin": binary()}) / "a.bin")
    monkeypatch.setattr(vault, "error", None)
    token = sealed(repo, "write")
    token["sealed"] = None
    monkeypatch.setattr(vault, "error", ConnectionError())
    arguments = {"source": source, "token": token, "commit": False}
    for names in ({}, {"repo_id": repo.repo_id}, {"repo_id": repo.repo_id, "repo_type": "dataset", "revision": "main"}):
        run = run_task(XetUploadOperator, **arguments, **names)
        assert isinstance(run.error, XetAirflowConnectionError), run.text
        assert run.state == "up_for_retry"
        assert run.text.startswith("No Fernet key where the token was fetched, or it was edited. ")
        assert "Airflow found no connection 'xethub_default'" in run.text
    monkeypatch.setattr(vault, "error", None)
    assert run_task(XetUploadOperator, **arguments, repo_id=repo.repo_id).value


def test_a_record_to_look_up_waits_for_the_connection(vault, repo, run_task, tmp_path, monkeypatch):
    monkeypatch.setattr(vault, "error", None)
    (record,) = publish(repo, tmp_path / "in", {"a.bin": binary()})
    token = sealed(repo)
    monkeypatch.setattr(vault, "error", ConnectionError())
    files = [{**record, "sha256": None}]
    run = run_task(XetDownloadOperator, files=files, token=token, destination=str(tmp_path / "out"))
    assert isinstance(run.error, XetAirflowConnectionError)
    assert "has no sha256 and no blob_id" in run.text
    assert not (tmp_path / "out").exists()


def test_a_backend_that_denies_access_is_our_error_too(vault, monkeypatch):
    denied = getattr(import_module("airflow.exceptions"), "AirflowSecretsBackendAccessDenied", None) or getattr(
        import_module("airflow.sdk.exceptions"), "AirflowSecretsBackendAccessDenied", None
    )
    if denied is None:
        pytest.skip("this Airflow has no such answer")
    monkeypatch.setattr(vault, "error", denied("hf_secret"))
    with pytest.raises(type(vault.error)):
        BaseHook.get_connection("xethub_default")
    with pytest.raises(XetHubError, match="could not read connection 'xethub_default'") as raised:
        XetHubConnection().whoami()
    assert "hf_secret" not in str(raised.value)
