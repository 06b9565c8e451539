"""OpenLineage: what its provider gets from our operators, hook and assets."""

from __future__ import annotations

import pytest
from airflow.sdk import Asset

from airflow_provider_xethub.assets.xethub import convert_asset_to_openlineage
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetCopyOperator,
    XetDownloadOperator,
    XetListOperator,
    XetUploadOperator,
)
from airflow_provider_xethub.xet.publish.commit import CommitRequest
from support.builders import TEXT, binary, publish, write

pytest.importorskip("airflow.providers.openlineage", reason="the OpenLineage provider is not installed")

pytestmark = pytest.mark.long  # its dependency group has the provider

OID = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def where(repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def extract(hub, connection):
    """Runs an operator, and returns what the OpenLineage provider extracts from it: JSON of inputs and of outputs."""
    from airflow.providers.openlineage.extractors.base import DefaultExtractor
    from openlineage.client.serde import Serde

    def run(kind, **arguments):
        operator = kind(task_id="task", **arguments)
        operator.execute({"ti": Ti()})
        found = DefaultExtractor(operator).extract_on_complete(None)
        assert not found.run_facets
        sides = found.inputs, found.outputs
        return tuple({each.name: Serde.to_dict(each) for each in side} for side in sides)

    return run


class Ti:
    """As much of a task instance as operators ask for."""

    dag_id, run_id, task_id, map_index, try_number = "dag", "run", "task", -1, 1

    def xcom_push(self, **_):
        pass


def namespace(hub):
    return f"hf://{hub.url.removeprefix('http://')}"


def test_an_upload_writes_a_version_of_the_repository(hub, repo, where, extract, hook, tmp_path):
    source = write(tmp_path / "in", {"a.bin": binary(), "b.csv": TEXT})
    inputs, outputs = extract(XetUploadOperator, source=str(source), **where)
    oid = hook.get_latest_commit(repo)["oid"]
    (name,) = outputs
    output = outputs[name]
    assert (output["namespace"], name) == (namespace(hub), f"datasets/{repo.repo_id}")
    assert output["facets"]["version"]["datasetVersion"] == oid
    assert output["facets"]["dataSource"]["uri"] == f"{hub.url}/datasets/{repo.repo_id}/commit/{oid}"
    statistics = output["outputFacets"]["outputStatistics"]
    assert (statistics["size"], statistics["fileCount"]) == (5000 + len(TEXT), 2)
    assert statistics.get("rowCount") is None
    (origin,) = inputs.values()
    assert (origin["namespace"], origin["name"]) == ("file", str(source))


def test_reading_and_writing_have_the_same_names(hub, repo, make_repo, where, extract, tmp_path):
    files = publish(repo, tmp_path, {"a.bin": binary()})
    mine = f"datasets/{repo.repo_id}"
    inputs, outputs = extract(XetDownloadOperator, files=files, destination=str(tmp_path / "out"))
    assert inputs[mine]["inputFacets"]["inputStatistics"]["size"] == 5000
    assert "version" not in inputs[mine]["facets"]
    assert {each["namespace"] for each in outputs.values()} == {"file"}
    target = make_repo()
    inputs, outputs = extract(XetCopyOperator, files=files, repo_id=target.repo_id, repo_type="dataset")
    assert (list(inputs), list(outputs)) == ([mine], [f"datasets/{target.repo_id}"])
    inputs, outputs = extract(XetCommitOperator, delete="a.bin", **where)
    assert (inputs, list(outputs)) == ({}, [mine])
    assert extract(XetListOperator, **where) == ({}, {})


def test_the_files_of_a_commit_are_read_in_its_version(hub, repo, where, extract, hook, tmp_path):
    publish(repo, tmp_path, {"a.bin": binary()})
    oid = hook.get_latest_commit(repo)["oid"]
    inputs, _ = extract(XetDownloadOperator, path="a.bin", revision=oid, destination=str(tmp_path / "out"), **where)
    assert inputs[f"datasets/{repo.repo_id}@{oid}"]["facets"]["version"]["datasetVersion"] == oid


def test_assets_of_hook_and_operators_are_the_same_datasets(hub, repo, hook, extract, where, tmp_path):
    from airflow.providers.openlineage.utils.utils import translate_airflow_asset

    source = write(tmp_path / "in", {"a.bin": binary()})
    _, outputs = extract(XetUploadOperator, source=str(source), **where)
    (theirs,) = outputs.values()
    result = hook.publish(source, CommitRequest(repo, ()))
    told = Asset(uri=hook.lineage.moved[-1].uri, extra=hook.lineage.moved[-1].facts)
    ours = translate_airflow_asset(told, hook)
    assert (ours.namespace, ours.name) == (theirs["namespace"], theirs["name"])
    assert ours.facets["version"].datasetVersion == result["oid"]


def test_an_asset_of_nobody_is_on_the_public_hub():
    dataset = convert_asset_to_openlineage(Asset("hf://datasets/acme/corpus@v1/train"), None)
    assert (dataset.namespace, dataset.name) == ("hf://huggingface.co", "datasets/acme/corpus@v1/train")
    assert dataset.facets["dataSource"].uri == "https://huggingface.co/datasets/acme/corpus/tree/v1"
    assert "version" not in dataset.facets
    assert "version" in convert_asset_to_openlineage(Asset("hf://acme/m", extra={"oid": OID}), object()).facets
    assert "version" not in convert_asset_to_openlineage(Asset("hf://acme/m", extra={"oid": 7}), None).facets


def test_no_facet_has_a_credential(connection):
    from openlineage.client.serde import Serde

    connection(host="https://hf_secret@hub.example")
    operator = XetListOperator(task_id="list", repo_id="acme/m")
    operator.resolve_repo()
    operator.hook.lineage.read(operator.resolve_repo(), [])
    with pytest.raises(ValueError, match="host of connection") as raised:
        operator.get_openlineage_facets_on_complete(None)
    assert "hf_secret" not in str(raised.value)
    connection(host="https://hub.example")
    again = XetListOperator(task_id="again", repo_id="acme/m")
    again.hook.lineage.read(again.resolve_repo(), [])
    text = str([Serde.to_dict(each) for each in again.get_openlineage_facets_on_complete(None).inputs])
    assert "hf://hub.example" in text
    assert XetHubConnection().hub.has_token
    assert "hf_" not in text
