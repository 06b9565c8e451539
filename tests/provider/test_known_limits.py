"""What docs/security.md says that this provider does not prevent. Who closes one of these changes that page, too."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.exceptions import XetHubError
from airflow_provider_xethub.hooks.tokens import sealing
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetTokenOperator
from airflow_provider_xethub.xet.hub import client
from airflow_provider_xethub.xet.token import SealedToken
from support.airflow_runs import new_dag, run_one
from support.builders import binary, publish
from support.small_server import Answer, SmallServer


@pytest.fixture
def bound(repo, connection):
    with new_dag():
        token = XetTokenOperator(task_id="token", repo_id=repo.repo_id, repo_type="dataset", bind="run")
    return run_one(token).value


def test_code_with_the_key_opens_every_sealed_token_whatever_it_is_bound_to(hub, bound):
    token = SealedToken.from_xcom(bound).open(sealing.fernets())
    assert token.access_token in hub.access.issued_xet_tokens()


def test_a_token_works_until_it_expires_also_after_its_xcom_and_the_hub_token_are_gone(hub, repo, tmp_path, connection):
    records = publish(repo, tmp_path, {"a.bin": binary()})
    token_of_user = hub.add_user("eve", role="read")
    connection(password=token_of_user)
    hook = XetHubConnection()
    given = hook.seal_token(hook.get_token(repo))
    hub.access.revoke("eve")  # the Hub token; the Xet token stays
    with new_dag():
        download = XetDownloadOperator(
            task_id="use", files=records, destination=str(tmp_path / "out"), token=given, xethub_conn_id=None
        )
    assert run_one(download).state == "success"


def test_who_edits_the_host_of_a_connection_receives_its_hub_token(hub, connection, repo, monkeypatch):
    """As with every connection of Airflow: its form keeps the password. A keyless connection has none."""
    monkeypatch.setattr(client, "MAX_TRIES", 1)
    with SmallServer(lambda _: Answer(status=500)) as hostile:
        connection(host=hostile.url)
        with pytest.raises(XetHubError):
            XetHubConnection().get_token(repo)
        received = [each.headers.get("authorization") for each in hostile.asked]
    assert received == [f"Bearer {hub.token()}"]


def test_a_record_decides_from_which_repository_a_task_reads_that_names_none(connection, repo, make_repo, tmp_path):
    records = publish(repo, tmp_path / "one", {"a.bin": binary(seed="meant")})
    other = publish(make_repo(), tmp_path / "two", {"a.bin": binary(seed="other")})
    edited = [{**record, **{name: of[name] for name in ("repo", "sha256", "xet_hash")}}
              for record, of in zip(records, other, strict=True)]  # fmt: skip
    with new_dag():
        download = XetDownloadOperator(task_id="use", files=edited, destination=str(tmp_path / "out"))
    assert run_one(download).state == "success"
    assert (tmp_path / "out/a.bin").read_bytes() == binary(seed="other")
