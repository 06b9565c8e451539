"""A keyless connection whose ID tokens come from a cloud: the real libraries, and stand-ins for its services."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.exceptions import XetIdentityError
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.publish.request import CommitRequest
from support.cloud_services import azure_metadata, container_credentials, google, jwt, sts
from support.identities import SUBJECT
from support.small_server import SmallServer


@pytest.fixture
def cloud(hub, monkeypatch, tmp_path):
    """Puts the worker into a cloud; the services there issue what a function returns for an audience."""
    running = []

    def serve(answer):
        running.append(SmallServer(answer))
        return running[-1].__enter__().url

    def enter(kind, issue):
        monkeypatch.setenv("AIRFLOW__XETHUB__IDENTITY_ENDPOINTS", hub.url)
        if kind == "google":
            from google.auth.compute_engine import _metadata

            # The library reads GCE_METADATA_HOST when it is imported.
            monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", serve(google(issue)).removeprefix("http://"))
        elif kind == "azure":
            monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", serve(azure_metadata(issue, {hub.url})))
        else:
            monkeypatch.setenv("AWS_REGION", "eu-west-1")
            monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
            monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
            monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pod-identity")
            monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{serve(container_credentials)}/v1")
            monkeypatch.setenv("AWS_ENDPOINT_URL_STS", serve(sts(issue)))

    yield enter
    for server in running:
        server.__exit__()


@pytest.mark.parametrize("kind", ["google", "azure", "aws"])
def test_a_worker_in_a_cloud_commits_and_reads(hub, make_repo, connection, publisher, cloud, kind):
    repo = make_repo(private=True)
    publisher(repo)
    cloud(kind, lambda audience: hub.identity(SUBJECT, aud=audience))
    where = {"repo_id": repo.repo_id, "repo_type": "dataset"}
    connection(password=None, extra={"identity": kind, **where})
    hook = XetHubConnection()
    assert hook.publish_contents({"a.txt": b"new"}, CommitRequest(repo, (), message="Nightly"))["created"]
    assert "a.txt" in [file["path"] for file in hook.list_files(repo)]
    is_ok, said = hook.test_connection()
    assert is_ok, said
    assert f"identity {kind}" in said.lower()
    assert SUBJECT in said


@pytest.mark.parametrize("kind", ["google", "azure", "aws"])
@pytest.mark.parametrize(
    "token", [jwt("https://another.example"), jwt(["https://another.example"]), "none", "eyJhbGciOiJub25lIn0.e30."]
)
def test_what_is_no_id_token_for_the_hub_is_not_sent(hub, repo, connection, cloud, kind, token):
    cloud(kind, lambda _: token)
    connection(password=None, extra={"identity": kind})
    hub.log.clear()
    with pytest.raises(XetIdentityError) as caught:
        XetHubConnection().get_token(repo, "write")
    assert not caught.value.retryable
    assert token not in str(caught.value)
    assert not hub.log.requests()


@pytest.mark.parametrize("kind", ["google", "azure", "aws"])
def test_a_hub_that_is_not_listed_is_refused_before_the_cloud_is_asked(hub, repo, connection, cloud, monkeypatch, kind):
    asked = []
    cloud(kind, lambda audience: asked.append(audience) or jwt(audience))
    monkeypatch.setenv("AIRFLOW__XETHUB__IDENTITY_ENDPOINTS", "")
    connection(password=None, extra={"identity": kind})
    with pytest.raises(XetIdentityError, match="No identity may be sent to"):
        XetHubConnection().get_token(repo, "write")
    assert asked == []
