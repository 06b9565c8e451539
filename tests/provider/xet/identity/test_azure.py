"""Identity azure: the real azure-identity against stand-ins for the metadata services and for Entra ID."""

from __future__ import annotations

import logging
import socket
import time
from urllib.parse import urlsplit

import pytest

from airflow_provider_xethub.exceptions import XetIdentityError, XetIdentityUnavailableError
from airflow_provider_xethub.xet.identity import azure as identity
from airflow_provider_xethub.xet.identity.azure import AzureIdentity
from support.cloud_services import FEDERATED, IDENTITY_HEADER, app_service, azure_metadata, entra, jwt
from support.private_network import Proxy, TlsFront, private_certificate
from support.small_server import Answer, SmallServer

HUB = "https://hub.contoso.com"


@pytest.fixture
def virtual_machine(monkeypatch):
    """Makes azure-identity ask a server as the metadata service of a VM."""
    return lambda url: monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", url)


@pytest.mark.parametrize("client_id", [None, "11111111-2222-3333-4444-555555555555"])
def test_a_managed_identity_of_a_vm(virtual_machine, monkeypatch, client_id):
    if client_id:
        monkeypatch.setenv("AZURE_CLIENT_ID", client_id)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with SmallServer(azure_metadata(jwt, {HUB}, client_id)) as server:
        virtual_machine(server.url)
        assert AzureIdentity().id_token(HUB) == jwt(HUB)
    assert [each.query["resource"] for each in server.asked] == [[HUB]]


def test_a_managed_identity_of_app_service(monkeypatch):
    with SmallServer(app_service(jwt, {HUB})) as server:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{server.url}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", IDENTITY_HEADER)
        assert AzureIdentity().id_token(HUB) == jwt(HUB)


@pytest.fixture
def pod(monkeypatch, tmp_path):
    """A pod of AKS with a workload identity; Entra's own host is a server on loopback, behind a proxy."""
    pem = private_certificate(tmp_path / "entra.pem", "login.microsoftonline.com")
    federated = tmp_path / "azure-identity-token"
    federated.write_text(FEDERATED)
    monkeypatch.setenv("AZURE_TENANT_ID", "tenant")
    monkeypatch.setenv("AZURE_CLIENT_ID", "client")
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(federated))
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pem))
    with (
        SmallServer(entra(jwt, {HUB})) as server,
        TlsFront(urlsplit(server.url).port, pem) as front,
        Proxy(routes={"login.microsoftonline.com:443": front.port}) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
        yield federated


def test_a_workload_identity_of_aks(pod):
    assert AzureIdentity().id_token(HUB) == jwt(HUB)


def test_a_federated_token_that_entra_rejects(pod):
    pod.write_text("another")
    with pytest.raises(
        XetIdentityError, match=r"Azure issued no token for https://hub.contoso.com.*AADSTS700213"
    ) as caught:
        AzureIdentity().id_token(HUB)
    assert not caught.value.retryable


def test_a_federated_token_that_is_missing(pod):
    pod.unlink()
    with pytest.raises(XetIdentityUnavailableError, match=r"No such file or directory"):
        AzureIdentity().id_token(HUB)


def test_a_tenant_without_an_application_for_the_hub(virtual_machine):
    with SmallServer(azure_metadata(jwt, {HUB})) as server:
        virtual_machine(server.url)
        with pytest.raises(XetIdentityError, match=r"an application with this ID URI.*AADSTS500011") as caught:
            AzureIdentity().id_token("https://huggingface.co")
    assert not caught.value.retryable
    assert len(server.asked) == 1


def test_a_vm_without_the_identity(virtual_machine):
    with SmallServer(azure_metadata(jwt, {HUB}, "another")) as server:
        virtual_machine(server.url)
        with pytest.raises(XetIdentityError, match=r"The worker needs an identity.*Identity not found") as caught:
            AzureIdentity().id_token(HUB)
    assert not caught.value.retryable


@pytest.mark.parametrize("cause", ["refused", "silent", "broken", "starting"])
def test_an_unreachable_metadata_service_fails_within_seconds(virtual_machine, monkeypatch, cause):
    monkeypatch.setitem(identity._LIMITS, "read_timeout", 0.5)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        SmallServer(Answer(b"no", 500)) as broken,
        SmallServer(Answer(b"gone", 410)) as starting,
    ):
        urls = {
            "refused": "http://127.0.0.1:1",
            "silent": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "broken": broken.url,
            "starting": starting.url,
        }
        virtual_machine(urls[cause])
        started = time.monotonic()
        with pytest.raises(XetIdentityUnavailableError, match=r"may reach its metadata service") as caught:
            AzureIdentity().id_token(HUB)
        assert time.monotonic() - started < 4
    assert caught.value.retryable


@pytest.mark.parametrize("body", [b"", b"<html>portal</html>", b"eyJhbGciOiJub25lIn0.e30.AAAA", b"[]"])
def test_a_response_without_a_token_is_an_error_that_does_not_repeat_it(virtual_machine, body):
    with SmallServer(Answer(body, headers={"Content-Type": "application/json"})) as server:
        virtual_machine(server.url)
        with pytest.raises(XetIdentityError, match="Azure issued no token") as caught:
            AzureIdentity().id_token(HUB)
    assert caught.value.__context__ is None
    assert "eyJ" not in str(caught.value)
    assert "portal" not in str(caught.value)


def test_no_log_shows_a_token(pod, caplog):
    caplog.set_level(logging.DEBUG)
    for name in ("azure", "azure.core.pipeline.policies.http_logging_policy", "msal"):
        caplog.set_level(logging.DEBUG, name)
    assert AzureIdentity().id_token(HUB)
    assert "login.microsoftonline.com" in caplog.text
    assert "eyJ" not in caplog.text
    assert FEDERATED not in caplog.text
