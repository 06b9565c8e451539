"""Identity aws: the real botocore against stand-ins for STS and for the credentials of a container."""

from __future__ import annotations

import logging
import socket
import time
from urllib.parse import urlsplit

import pytest

from airflow_provider_xethub.exceptions import XetIdentityError, XetIdentityUnavailableError
from airflow_provider_xethub.xet.identity import aws as identity
from airflow_provider_xethub.xet.identity.aws import AwsIdentity
from support.cloud_services import FEDERATED, ROLE, SECRET_KEY, SESSION_TOKEN, container_credentials, jwt, sts
from support.private_network import Proxy, TlsFront, private_certificate
from support.small_server import Answer, SmallServer

HUB = "https://huggingface.co"


@pytest.fixture(autouse=True)
def aws(monkeypatch, tmp_path):
    """A worker with nothing of AWS but its region."""
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / name))


@pytest.fixture
def container(monkeypatch):
    """The credentials of a container."""
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pod-identity")
    with SmallServer(container_credentials) as server:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{server.url}/v1/credentials")
        yield server


@pytest.fixture
def service(monkeypatch):
    """Makes botocore ask a server as STS."""
    return lambda server: monkeypatch.setenv("AWS_ENDPOINT_URL_STS", server.url)


def test_the_role_of_a_container(container, service):
    with SmallServer(sts(jwt)) as server:
        service(server)
        assert AwsIdentity().id_token(HUB) == jwt(HUB)
    assert len(server.asked) == 1


def test_the_role_of_a_service_account(service, monkeypatch, tmp_path):
    federated = tmp_path / "token"
    federated.write_text(FEDERATED)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(federated))
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    with SmallServer(sts(jwt)) as server:
        service(server)
        assert AwsIdentity().id_token(HUB) == jwt(HUB)


@pytest.mark.parametrize(
    ("region", "host"),
    [("us-east-1", "sts.us-east-1.amazonaws.com"), ("cn-north-1", "sts.cn-north-1.amazonaws.com.cn")],
)
@pytest.mark.parametrize("setting", ["legacy", "regional", ""])
def test_the_regional_endpoint_is_asked(container, monkeypatch, tmp_path, region, host, setting):
    monkeypatch.setenv("AWS_REGION", region)
    if setting:
        monkeypatch.setenv("AWS_STS_REGIONAL_ENDPOINTS", setting)
    pem = private_certificate(tmp_path / "sts.pem", host)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(pem))
    with (
        SmallServer(sts(jwt)) as server,
        TlsFront(urlsplit(server.url).port, pem) as front,
        Proxy(routes={f"{host}:443": front.port}) as proxy,
    ):
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
        assert AwsIdentity().id_token(HUB) == jwt(HUB)
        assert proxy.through == [f"CONNECT {host}:443"]


@pytest.mark.parametrize("region", ["", "aws-global"])
def test_a_worker_without_a_region(monkeypatch, region):
    monkeypatch.setenv("AWS_REGION", region)
    with pytest.raises(XetIdentityError, match=r"^Identity aws needs a region.*set AWS_REGION") as caught:
        AwsIdentity().id_token(HUB)
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("refusal", "remedy"),
    [
        ((403, "AccessDenied", "User is not authorized to perform: sts:GetWebIdentityToken"), "Allow the role sts:"),
        ((403, "OutboundWebIdentityFederationDisabledException", "Not enabled"), "Enable outbound identity federation"),
    ],
)
def test_what_sts_refuses_for_good_is_not_retried(container, service, refusal, remedy):
    with SmallServer(sts(jwt, refusal)) as server:
        service(server)
        with pytest.raises(XetIdentityError, match=rf"^AWS STS in eu-west-1 issued no ID token. {remedy}") as caught:
            AwsIdentity().id_token(HUB)
    assert not caught.value.retryable
    assert refusal[2] in str(caught.value)
    assert len(server.asked) == 1


def test_a_session_that_is_about_to_end_is_retried(container, service):
    refusal = (403, "SessionDurationEscalationException", "beyond its original expiration time")
    with SmallServer(sts(jwt, refusal)) as server:
        service(server)
        with pytest.raises(XetIdentityUnavailableError, match="beyond its original expiration time"):
            AwsIdentity().id_token(HUB)


def test_a_worker_without_credentials(service):
    with SmallServer(sts(jwt)) as server:
        service(server)
        with pytest.raises(XetIdentityUnavailableError, match=r"Check that this worker has a role.*NoCredentialsError"):
            AwsIdentity().id_token(HUB)
    assert not server.asked


@pytest.mark.parametrize("cause", ["refused", "silent", "broken"])
def test_an_unreachable_sts_fails_within_seconds(container, monkeypatch, cause):
    monkeypatch.setitem(identity._SETTINGS, "read_timeout", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent, SmallServer(Answer(b"no", 500)) as broken:
        urls = {
            "refused": "http://127.0.0.1:1",
            "silent": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "broken": broken.url,
        }
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", urls[cause])
        started = time.monotonic()
        with pytest.raises(XetIdentityUnavailableError, match=r"may reach the regional endpoint of STS") as caught:
            AwsIdentity().id_token(HUB)
        assert time.monotonic() - started < 5
    assert caught.value.retryable


def test_unreachable_credentials_of_a_container_fail_within_seconds(service, monkeypatch):
    with SmallServer(sts(jwt)) as server:
        service(server)
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/v1/credentials")
        started = time.monotonic()
        with pytest.raises(XetIdentityUnavailableError, match="CredentialRetrievalError"):
            AwsIdentity().id_token(HUB)
        assert time.monotonic() - started < 15
    assert not server.asked


@pytest.mark.parametrize("body", [b"", b"<html>captive portal eyJhbGciOiJub25lIn0.e30.AAAA</html>", b"not xml"])
def test_a_response_without_a_token_is_an_error_that_does_not_repeat_it(container, service, body):
    with SmallServer(Answer(body, headers={"Content-Type": "text/xml"})) as server:
        service(server)
        with pytest.raises(XetIdentityError, match="issued no ID token") as caught:
            AwsIdentity().id_token(HUB)
    assert caught.value.__context__ is None
    assert "eyJ" not in str(caught.value)
    assert "portal" not in str(caught.value)


def test_no_log_shows_a_token_or_a_credential(service, monkeypatch, tmp_path, caplog):
    federated = tmp_path / "token"
    federated.write_text(FEDERATED)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(federated))
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    for name in ("", "botocore", "botocore.parsers", "botocore.endpoint"):
        caplog.set_level(logging.DEBUG, name)
    with SmallServer(sts(jwt)) as server:
        service(server)
        assert AwsIdentity().id_token(HUB)
    assert "Found endpoint for sts" in caplog.text
    for secret in ("eyJ", FEDERATED, SECRET_KEY, SESSION_TOKEN):
        assert secret not in caplog.text
    logging.getLogger("botocore.parsers").debug("Something else")
    assert "Something else" in caplog.text
