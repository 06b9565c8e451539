"""What docs/security.md says that this provider does not prevent. Who closes one of these changes that page, too."""

from __future__ import annotations

import json

import pytest

from airflow_provider_xethub.assets.changes import files_of
from airflow_provider_xethub.exceptions import XetHubError
from airflow_provider_xethub.hooks.tokens import sealing
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetDownloadOperator,
    XetTokenOperator,
    XetUploadOperator,
)
from airflow_provider_xethub.xet.hub import client
from airflow_provider_xethub.xet.manifest import Totals
from airflow_provider_xethub.xet.token import SealedToken
from support.airflow_runs import ExecutionApi, new_dag, run_one
from support.builders import TEXT, binary, content, publish, write
from support.small_server import Answer, SmallServer
from xethub_local.control.faults import Fault
from xethub_token.recipient import RecipientKey


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


def test_a_manifest_that_was_made_anew_with_its_digest_is_read(hook, repo, tmp_path, monkeypatch):
    """As a list of records in its place would be: a manifest is compared with itself, and nothing seals it."""
    monkeypatch.setenv("AIRFLOW__XETHUB__MANIFEST_FILES", "3")
    publish(repo, tmp_path, {f"{name}/{number}.bin": binary() for name in ("meant", "other") for number in range(4)})
    meant = json.loads(json.dumps(hook.xcom_files(hook.find_files(repo, "meant"))))
    other = list(hook.find_files(repo, "other"))
    totals = Totals()
    totals.add(other)
    edited = {**meant, "path": "other", "digest": totals.digest, "bytes": totals.bytes}
    assert list(hook.read_files(edited)) == other
    assert list(hook.read_files(other)) == other


def test_who_returns_records_decides_which_paths_a_commit_publishes(hub, hook, repo, run_task, tmp_path):
    """A worker that has a write token and nothing else uploads what it wants, and names it as it wants."""
    publish(repo, tmp_path / "before", {"model.bin": binary(seed="meant")})
    where = {"repo_id": repo.repo_id, "repo_type": "dataset"}
    evil = str(write(tmp_path / "in", {"part.bin": binary(seed="evil")}))
    [record] = run_task(XetUploadOperator, source=evil, path_in_repo="parts", commit=False, **where).value
    assert record["path"] == "parts/part.bin"
    assert run_task(XetCommitOperator, files=[{**record, "path": "model.bin"}], **where).value
    assert content(hub, repo, "model.bin", tmp_path) == binary(seed="evil")


def test_a_commit_reads_the_source_that_a_record_names_if_its_size_and_digest_are_known(
    hub, repo, run_task, tmp_path, connection
):
    """Only of a file that the Hub wants inline, and that CAS does not have."""
    private = TEXT * 200
    path = write(tmp_path / "in", {"a.csv": private}) / "a.csv"
    where = {"repo_id": repo.repo_id, "repo_type": "dataset"}
    [record] = run_task(XetUploadOperator, source=str(path), commit=False, **where).value
    hub.faults.add(Fault("GET /cas/.*/reconstructions/.*", status=404))
    edited = {**record, "storage_uri": f"file://{path}"}
    for wrong, says in (
        ({**edited, "storage_uri": "file:///nowhere"}, "file:///nowhere no longer exists"),
        ({**edited, "sha256": "0" * 64}, "has changed since"),
    ):
        assert says in run_task(XetCommitOperator, files=[wrong], **where).text
    assert run_task(XetCommitOperator, files=[edited], **where).value
    hub.faults.clear()
    assert content(hub, repo, "a.csv", tmp_path) == private


def test_what_a_dag_takes_from_an_xcom_is_used_as_it_is(hub, repo, connection, tmp_path):
    """Here the source of an upload; the same holds for destinations, for paths to delete, and for pull requests."""
    secret = write(tmp_path / "elsewhere", {"secret.bin": binary(seed="secret")}) / "secret.bin"
    with new_dag():
        made = XetTokenOperator(task_id="made", repo_id=repo.repo_id, repo_type="dataset")
        upload = XetUploadOperator(task_id="use", source=made.output, repo_id=repo.repo_id, repo_type="dataset")
    run = run_one(upload, api=ExecutionApi(xcoms={("made", "return_value", -1): str(secret)}))
    assert run.state == "success", run.error
    assert content(hub, repo, "secret.bin", tmp_path) == binary(seed="secret")


def test_who_replaces_the_public_key_of_a_recipient_opens_the_token(repo, connection):
    key = RecipientKey.generate()
    with new_dag():
        made = XetTokenOperator(task_id="made", repo_id=repo.repo_id, repo_type="dataset")
        token = XetTokenOperator(task_id="use", repo_id=repo.repo_id, repo_type="dataset", recipient=made.output)
    run = run_one(token, api=ExecutionApi(xcoms={("made", "return_value", -1): key.public}))
    assert key.open(run.value)["repo"] == repo.uri


def test_an_asset_event_decides_from_which_repository_its_files_are():
    """Also where that is not the repository of the asset: Op and Admin create events with any content."""
    oid, digest = "1" * 40, "2" * 64
    file = {"path": "a.bin", "size": 1, "sha256": digest, "xet_hash": digest, "repo": f"hf://datasets/evil/own@{oid}"}
    extra = {"repo": "hf://datasets/evil/own@main", "oid": oid, "files": [file], "file_count": 1}
    assert files_of(extra, xethub_conn_id=None) == [file]


def test_a_hub_decides_what_the_content_of_a_file_is(hub, hook, repo, tmp_path):
    """The digest that a download is compared with comes from the Hub, too, unless a record brings it."""
    [record] = publish(repo, tmp_path / "one", {"a.bin": binary(seed="meant")})
    publish(repo, tmp_path / "two", {"a.bin": binary(seed="other")})
    where = str(tmp_path / "out")
    hook.download(where, hook.list_files(repo, "a.bin"))
    assert (tmp_path / "out/a.bin").read_bytes() == binary(seed="other")
    hook.download(where, [record])
    assert (tmp_path / "out/a.bin").read_bytes() == binary(seed="meant")
