"""What commits tell the assets of their task: the repository's event has the commit, its files and their sizes."""

from __future__ import annotations

import logging
import runpy
from pathlib import Path

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS
from airflow.sdk import Asset, AssetAlias, task

from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetCopyOperator,
    XetDownloadOperator,
    XetListOperator,
    XetUploadOperator,
)
from airflow_provider_xethub.xet.asset_uri import AssetPlace
from airflow_provider_xethub.xet.repo import Repo
from support.airflow_runs import new_dag
from support.builders import TEXT, binary, publish, write

pytestmark = pytest.mark.airflow


@pytest.fixture
def where(repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def source(tmp_path):
    return str(write(tmp_path / "in", {"train/a.bin": binary(), "train/b.csv": TEXT, "notes.csv": TEXT}))


def events(run):
    """The asset events that a task which succeeded sent to Airflow, by the URI of their asset."""
    assert run.state == "success", run.error
    return {event["dest_asset_key"]["uri"]: event["extra"] for event in run.message.outlet_events}


def paths(extra):
    return [file["path"] for file in extra["files"]]


def test_an_upload_tells_the_outlet_what_it_committed(hub, connection, repo, where, source, run_task):
    corpus = Asset(f"hf://datasets/{repo.repo_id}")
    run = run_task(XetUploadOperator, source=source, outlets=[corpus], **where)
    extra = events(run)[corpus.uri]
    assert {name: extra[name] for name in ("oid", "url", "repo", "created", "pull_request")} == {
        name: run.value[name] for name in ("oid", "url", "repo", "created", "pull_request")
    }
    listed = XetHubConnection().list_files(repo.at(extra["oid"]), patterns=["train/*", "notes.csv"])
    assert [{**file, "sha256": None if "blob_id" in file else file["sha256"]} for file in extra["files"]] == listed
    assert all(file["sha256"] for file in extra["files"])
    assert {file["repo"] for file in extra["files"]} == {f"hf://datasets/{repo.repo_id}@{extra['oid']}"}
    assert (extra["file_count"], extra["bytes"]) == (3, 5000 + 2 * len(TEXT))
    assert (extra["complete"], extra["path"], extra["commits"]) == (True, "", [extra["oid"]])
    assert (extra["deleted"], extra["deleted_count"]) == ([], 0)
    again = run_task(XetUploadOperator, source=source, outlets=[corpus], task_id="again", **where)
    told = events(again)[corpus.uri]
    assert (told["oid"], told["created"], told["files"], told["bytes"]) == (extra["oid"], False, [], 0)
    assert (told["complete"], told["commits"]) == (True, [])


def test_commits_and_copies_tell_it_too(hub, connection, repo, where, source, run_task):
    corpus = Asset(f"hf://datasets/{repo.repo_id}@main")
    uploaded = run_task(XetUploadOperator, source=source, commit=False, outlets=[corpus], **where)
    assert events(uploaded) == {}  # nothing was published
    committed = run_task(XetCommitOperator, files=uploaded.value, outlets=[corpus], **where)
    assert events(committed)[corpus.uri]["oid"] == committed.value["oid"]
    copied = run_task(XetCopyOperator, path="train", path_in_repo="copy", outlets=[corpus], **where)
    assert paths(events(copied)[corpus.uri]) == ["copy/train/a.bin", "copy/train/b.csv"]
    deleted = run_task(XetCommitOperator, delete=["copy/", "notes.csv"], outlets=[corpus], **where)
    assert events(deleted)[corpus.uri]["deleted"] == ["copy/", "notes.csv"]


def test_the_asset_of_a_folder_hears_of_that_folder(hub, connection, repo, where, source, run_task):
    train, test = (Asset(f"hf://datasets/{repo.repo_id}/{name}") for name in ("train", "test"))
    run = run_task(XetUploadOperator, source=source, outlets=[train, test], **where)
    told = events(run)
    assert paths(told[train.uri]) == ["train/a.bin", "train/b.csv"]
    assert (told[test.uri]["oid"], told[test.uri]["files"]) == (run.value["oid"], [])


def test_an_asset_with_a_name_only_hears_of_it_and_other_storage_does_not(
    hub, connection, repo, where, source, run_task
):
    named, elsewhere = Asset("corpus"), Asset(name="copy", uri="s3://bucket/copy")
    run = run_task(XetUploadOperator, source=source, outlets=[named, elsewhere], **where)
    assert events(run)["corpus"]["oid"] == run.value["oid"]
    assert elsewhere.uri not in events(run)


@pytest.mark.parametrize("other", ["hf://datasets/{}@v1", "hf://{}", "hf://datasets/local/other"])
def test_another_repository_hears_nothing_and_the_log_says_why(
    other, hub, connection, repo, where, source, run_task, caplog
):
    asset = Asset(other.format(repo.repo_id))
    with caplog.at_level(logging.WARNING):
        run = run_task(XetUploadOperator, source=source, outlets=[asset], **where)
    assert events(run) == {}
    assert (
        f"The event of the outlet {asset.uri} does not describe the commit, because this task committed to {repo.uri}"
        in caplog.text
    )


def test_a_pull_request_is_told_as_one(hub, connection, repo, where, source, run_task):
    corpus = Asset(f"hf://datasets/{repo.repo_id}")
    run = run_task(XetUploadOperator, source=source, create_pr=True, outlets=[corpus], **where)
    extra = events(run)[corpus.uri]
    assert extra["pull_request"] == run.value["pull_request"] is not None
    assert extra["repo"].endswith("@refs%2Fpr%2F1")


def test_a_bucket_is_an_asset_as_well(hub, connection, make_repo, source, run_task):
    bucket = make_repo("bucket")
    asset = Asset(f"hf://buckets/{bucket.repo_id}")
    run = run_task(XetUploadOperator, source=source, outlets=[asset], repo_id=bucket.repo_id, repo_type="bucket")
    extra = events(run)[asset.uri]
    assert (extra["oid"], extra["file_count"]) == ("", 3)


def test_an_outlet_that_cannot_be_told_does_not_fail_a_commit_that_is_made(
    hub, connection, repo, where, source, run_task, caplog, monkeypatch
):
    monkeypatch.setattr("airflow_provider_xethub.assets.outlets.event_extra", lambda *_: 1 / 0)
    corpus = Asset(f"hf://datasets/{repo.repo_id}")
    with caplog.at_level(logging.WARNING):
        run = run_task(XetUploadOperator, source=source, outlets=[corpus], **where)
    assert run.value["created"]
    assert f"{corpus.uri}" in caplog.text
    assert "does not describe the commit: ZeroDivisionError." in caplog.text


# --- a whole DAG ------------------------------------------------------------------------------------------------------


def stored_events(uri):
    """The events of an asset as Airflow's database has them, which a DAG scheduled on it gets."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        query = select(AssetEvent).join(AssetModel, AssetModel.id == AssetEvent.asset_id).where(AssetModel.uri == uri)
        return [event.extra for event in session.scalars(query.order_by(AssetEvent.id))]


def test_a_dag_gives_the_next_one_what_it_needs_to_fetch_it(
    hub, connection, repo, where, source, run_dag, run_task, tmp_path
):
    corpus = Asset(f"hf://datasets/{repo.repo_id}")
    with new_dag() as dag:
        XetUploadOperator(task_id="upload", source=source, outlets=[corpus], **where)

        @task
        def unrelated():
            return 1

        unrelated()
    assert set(run_dag(dag).states.values()) == {"success"}
    (extra,) = stored_events(AssetPlace(repo).uri)
    pinned = Repo.from_uri(extra["repo"]).at(extra["oid"])
    download = run_task(
        XetDownloadOperator, files=extra["files"], destination=str(tmp_path / "out"), revision=pinned.revision
    )
    assert len(download.value) == extra["file_count"] == 3
    assert (tmp_path / "out/train/a.bin").read_bytes() == binary()


def test_an_alias_gets_the_asset_of_a_repository_that_the_dag_file_does_not_know(
    hub, connection, repo, where, source, run_dag
):
    with new_dag() as dag:
        XetUploadOperator(task_id="upload", source=source, outlets=[AssetAlias(f"alias-{repo.repo_id}")], **where)
    assert run_dag(dag).states == {"upload": "success"}
    (extra,) = stored_events(AssetPlace(repo).uri)
    assert extra["file_count"] == 3
    assert ("files" in extra) == AIRFLOW_V_3_1_PLUS


def test_task_code_can_say_the_same(hub, connection, repo, source, run_dag):
    from airflow_provider_xethub.assets.xethub import create_asset
    from airflow_provider_xethub.assets.xethub import event_extra as public

    corpus = create_asset(repo_id=repo.repo_id, repo_type="dataset")
    uri = corpus.uri
    with new_dag() as dag:

        @task(outlets=[corpus])
        def publish_it(outlet_events=None):
            from airflow_provider_xethub.hooks.xethub import XetHubConnection
            from airflow_provider_xethub.xet.publish.commit import CommitRequest

            result = XetHubConnection().publish(source, CommitRequest(repo, ()))
            outlet_events[corpus].extra.update(public(result))

        publish_it()
    assert run_dag(dag).states == {"publish_it": "success"}
    (extra,) = stored_events(uri)
    assert extra["file_count"] == 3


def test_listing_tells_no_asset(hub, connection, repo, where, run_task, tmp_path):
    publish(repo, tmp_path, {"a.csv": TEXT})
    assert events(run_task(XetListOperator, outlets=[Asset(f"hf://datasets/{repo.repo_id}")], **where)) == {}


@pytest.mark.airflow_independent
def test_no_two_examples_disagree_about_the_watchers_of_an_asset():
    """Airflow would replace the watcher each time that it parses one of them."""
    kinds: dict[str, set[bool]] = {}
    for example in (Path(__file__).parents[3] / "dags_example").glob("*.py"):
        for value in runpy.run_path(str(example)).values():
            if isinstance(value, Asset):
                kinds.setdefault(value.uri, set()).add(bool(value.watchers))
    assert {True} in kinds.values()
    assert {uri for uri, found in kinds.items() if len(found) > 1} == set()
