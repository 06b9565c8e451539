"""``destination=HubCache(…)``: rendered, serialised and mapped as other arguments, and one commit for all files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from airflow.sdk import task

from airflow_provider_xethub import HubCache
from airflow_provider_xethub.exceptions import (
    XetAirflowConnectionError,
    XetInputError,
    XetNotFoundError,
    XetScanError,
    XetSourceError,
    XetTokenTamperedError,
)
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.mirror import XetMirrorOperator
from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetListOperator, XetUploadOperator
from airflow_provider_xethub.xet.publish.request import CommitRequest
from support.airflow_runs import ExecutionApi, new_dag, run_one
from support.builders import binary, publish, sealed, write
from support.cache_trees import MODEL, client_download, offline, tree
from support.documentation import run_as_file

pytestmark = pytest.mark.airflow

IN_CAS = {"model.safetensors": binary(5000), "other.bin": binary(5000, 1)}
FILES = MODEL | IN_CAS


@pytest.fixture
def model(make_repo, connection, tmp_path):
    repo = make_repo("model")
    publish(repo, tmp_path, FILES)
    return repo


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def change(hook, model, **contents):
    files = {name.replace("_", "."): content for name, content in contents.items()}
    return hook.publish_contents(files, CommitRequest(model, (), message="Change"))["oid"]


def download(run_task, cache, **arguments):
    return run_task(XetDownloadOperator, destination=HubCache(cache), **arguments)


def ref(cache, name="main"):
    found = list(cache.glob(f"models--*/refs/{name}"))
    return found[0].read_text() if found else None


def test_a_whole_model_as_the_client_downloads_it(hub, hook, model, cache, tmp_path, run_task):
    run = download(run_task, cache, repo_id=model.repo_id)
    theirs = client_download(hub, model, tmp_path / "theirs")
    assert tree(cache) == tree(tmp_path / "theirs")
    assert run.xcoms["snapshot"] == theirs.replace("theirs", "cache")
    assert {Path(file["local_path"]).read_bytes() for file in run.value} >= {*FILES.values()}
    assert {file["repo"] for file in run.value} == {model.at(hook.get_commit_id(model)).uri}
    assert run.xcoms["transfer"]["files"] == len({*FILES.values()}) + 1
    assert len(hub.log.requests(r"GET .*/tree/.*", client="airflow")) == 1
    again = download(run_task, cache, repo_id=model.repo_id)
    assert again.xcoms["transfer"] | {"seconds": 0} == {
        "files": 0,
        "bytes": 0,
        "bytes_received": 0,
        "skipped": len(FILES) + 1,
        "seconds": 0,
    }


@pytest.mark.parametrize("selection", [{"path": "config.json"}, {"path": "code"}, {"paths": ["config.json"]}])
def test_a_selection_has_a_ref_when_it_is_complete(hook, model, cache, run_task, selection):
    run = download(run_task, cache, repo_id=model.repo_id, **selection)
    assert ref(cache) == hook.get_commit_id(model)
    assert {Path(file["local_path"]).parent.name for file in run.value} <= {"code", ref(cache)}


def test_all_files_are_of_the_commit_at_the_beginning(hub, hook, model, cache, run_task, monkeypatch):
    """Somebody commits between the listing and the download, and between the commit's id and the listing."""
    before = hook.get_commit_id(model)
    listed = XetHubConnection.list_files

    def list_files(self, *args, **kwargs):
        change(hook, model, config_json=b'{"later": 1}')
        found = listed(self, *args, **kwargs)
        change(hook, model, config_json=b'{"later": 2}')
        return found

    monkeypatch.setattr(XetHubConnection, "list_files", list_files)
    run = download(run_task, cache, repo_id=model.repo_id)
    assert ref(cache) == before
    assert (Path(run.xcoms["snapshot"]) / "config.json").read_bytes() == FILES["config.json"]


# --- records


def test_records_of_a_branch_that_moved_are_refused(hook, model, cache, run_task):
    files = hook.list_files(model)
    change(hook, model, unrelated_json=b"{}")
    assert download(run_task, cache, files=files).state == "success"
    assert ref(cache) == hook.get_commit_id(model)
    change(hook, model, config_json=b'{"changed": 1}')
    run = download(run_task, cache, files=files)
    assert isinstance(run.error, XetSourceError)
    assert "config.json of " in run.text
    assert "changed since it was listed" in run.text


def test_records_of_a_commit_name_the_snapshot(hook, model, cache, run_task):
    old = hook.get_commit_id(model)
    files = hook.list_files(model.at(old))
    new = change(hook, model, config_json=b'{"changed": 1}')
    run = download(run_task, cache, files=files)
    assert Path(run.xcoms["snapshot"]).name == old
    assert (Path(run.xcoms["snapshot"]) / "config.json").read_bytes() == FILES["config.json"]
    assert ref(cache) is None
    for revision in ("main", new):
        run = download(run_task, cache, files=files, repo_id=model.repo_id, revision=revision)
        assert isinstance(run.error, XetSourceError)
        assert "config.json of " in run.text
        same = [file for file in files if file["path"] != "config.json"]
        run = download(run_task, cache, files=same, repo_id=model.repo_id, revision=revision)
        assert Path(run.xcoms["snapshot"]).name == new
        assert ref(cache) == (new if revision == "main" else None) or revision == new
    run = download(run_task, cache, files=[files[0], {**files[1], "repo": model.at(new).uri}])
    assert isinstance(run.error, XetInputError)
    assert f"The files are of several revisions ({old}, {new}), but a snapshot is of one commit" in run.text


def test_records_that_the_hub_does_not_confirm_are_refused(hook, model, cache, run_task):
    commit = hook.get_commit_id(model)
    files = {file["path"]: file for file in hook.list_files(model.at(commit))}
    swapped = {**files["config.json"], "blob_id": files["README.md"]["blob_id"], "size": files["README.md"]["size"]}
    run = download(run_task, cache, files=[swapped])
    assert isinstance(run.error, XetSourceError)
    run = download(run_task, cache, files=[{**files["config.json"], "path": "missing.json"}])
    assert isinstance(run.error, XetNotFoundError)
    assert "missing.json is not in " in run.text
    run = download(run_task, cache, files=[files["config.json"], files["config.json"]])
    assert isinstance(run.error, XetInputError)
    assert "is given twice" in run.text
    assert not cache.exists()


def test_a_worker_with_only_a_token_fills_the_cache_from_records_of_a_commit(
    hub, hook, model, cache, run_task, disconnect
):
    token = sealed(model)
    old = hook.get_commit_id(model)
    files = [file for file in hook.list_files(model.at(old)) if file["path"] in IN_CAS]
    unpinned = [{**file, "repo": model.uri} for file in files]
    disconnect()
    for conn_id in ("xethub_default", None):
        run = download(run_task, cache, files=unpinned, token=token, xethub_conn_id=conn_id)
        assert isinstance(run.error, XetInputError if conn_id is None else XetAirflowConnectionError)
        assert "names no commit, and the Hugging Face cache needs one" in run.text
    hub.log.clear()
    run = download(run_task, cache, files=files, token=token, xethub_conn_id=None)
    assert run.state == "success"
    assert ref(cache) is None
    assert hub.log.requests("[A-Z]+ /api/.*") == []
    at_commit = offline(cache, model.at(old), allow_patterns="*.bin")
    assert at_commit.samefile(run.xcoms["snapshot"])


def test_a_worker_with_only_a_token_fills_it_with_the_content_that_the_records_bring(
    hub, hook, model, cache, run_task, disconnect, tmp_path
):
    token = sealed(model)
    files = hook.list_files(model, inline_content=True)
    old = hook.get_commit_id(model)
    change(hook, model, config_json=b'{"changed": 1}')
    theirs = client_download(hub, model, tmp_path / "theirs", revision=old)
    disconnect()
    hub.log.clear()
    given = {"token": token, "xethub_conn_id": None}
    run = download(run_task, cache, files=files, **given)
    assert run.state == "success", run.text
    assert hub.log.requests("[A-Z]+ /(api|local)/.*") == []
    assert (
        Path(run.xcoms["snapshot"]).name == Path(theirs).name == ref(cache) == old
    )  # the seal says that main was there
    for part in ("blobs", "snapshots"):
        folder = f"models--{model.repo_id.replace('/', '--')}/{part}"
        assert tree(cache / folder) == tree(tmp_path / "theirs" / folder)
    assert not [file for file in run.value if "sealed_content" in file]
    swapped = [{**file, "blob_id": "0" * 40} if file["path"] == "config.json" else file for file in files]
    assert isinstance(download(run_task, cache, files=swapped, **given).error, XetTokenTamperedError)
    elsewhere = [{**file, "repo": model.at("0" * 40).uri} for file in files]
    run = download(run_task, cache, files=elsewhere, **given)
    assert isinstance(run.error, XetInputError)
    assert f"the records are of commit {'0' * 40}, but their content is of {old}" in run.text


def test_only_what_the_scan_found_safe(hub, model, cache, run_task):
    hub.scans.set("unsafe", "model.safetensors")
    try:
        run = download(run_task, cache, repo_id=model.repo_id, require_safe=True)
    finally:
        hub.scans.clear()
    assert isinstance(run.error, XetScanError)
    assert "model.safetensors" in run.text
    assert not cache.exists()
    assert download(run_task, cache, repo_id=model.repo_id, require_safe=True).state == "success"


def test_a_record_of_an_upload_is_verified_by_both_of_its_digests(hook, model, cache, run_task, tmp_path):
    source = write(tmp_path / "more", {"new.json": b"[1]", "new.bin": binary(seed=9)})
    uploaded = hook.publish(source, CommitRequest(model, (), message="More"))["files"]
    run = download(run_task, cache, files=uploaded)
    assert run.state == "success", run.text
    assert {Path(file["local_path"]).read_bytes() for file in run.value} == {b"[1]", binary(seed=9)}
    wrong = [{**file, "sha256": "0" * 64} if file["path"] == "new.json" else file for file in uploaded]
    assert isinstance(download(run_task, cache, files=wrong).error, XetSourceError)


# --- the argument


@pytest.mark.parametrize("native", [True, False])
def test_the_path_is_a_template(model, cache, native):
    dag = new_dag()
    dag.render_template_as_native_obj = native
    destination = HubCache("{{ ti.xcom_pull('where') }}/{{ '2026_01' }}")
    with dag:
        made = XetDownloadOperator(task_id="task", repo_id=model.repo_id, path="config.json", destination=destination)
    run = run_one(made, api=ExecutionApi(xcoms={("where", "return_value", -1): str(cache)}))
    assert run.xcoms["snapshot"].startswith(f"{cache}/2026_01/models--")
    assert run.rendered["destination"] == f"HubCache(path='{cache}/2026_01')"
    assert destination.path.startswith("{{ ti")  # another task of the DAG may share it


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("{{ none }}", "destination is HubCache('{{ none }}'), but the template or task returned no value"),
        ("{{ '' }}", "HubCache has an empty path"),
        ("{{ 's3://bucket/cache' }}", "HubCache needs a folder on the worker or on a shared volume, not 's3://"),
    ],
)
def test_a_path_that_is_rendered_to_nothing_usable_is_refused(model, hub, path, message):
    with new_dag():
        made = XetDownloadOperator(task_id="task", repo_id=model.repo_id, destination=HubCache(path))
    hub.log.clear()
    run = run_one(made)
    assert run.state == "failed"
    assert message in run.text
    assert hub.log.requests() == []


@pytest.mark.parametrize("value", ["", "  ", 7, ["a"], "s3://bucket/x"])
def test_a_wrong_path_is_refused_in_the_dag_file(value):
    with pytest.raises(XetInputError, match="HubCache"):
        HubCache(value)


def test_it_is_the_destination_of_downloads_and_nothing_else():
    with new_dag(), pytest.raises(XetInputError, match="source must"):
        XetUploadOperator(task_id="task", repo_id="a/b", source=HubCache("/x"))
    with new_dag(), pytest.raises(XetInputError, match="destination must be a string"):
        XetMirrorOperator(task_id="task", repo_id="a/b", destination=HubCache("/x"))
    with new_dag():
        of_task = XetListOperator(task_id="list", repo_id="a/b")
        with pytest.raises(XetInputError, match=r"not PlainXComArg. For the output of a task, write a template"):
            HubCache(of_task.output)


def parsed():
    from airflow.sdk import DAG

    with DAG("cache", schedule=None) as dag:
        XetDownloadOperator(task_id="one", repo_id="a/b", destination=HubCache("{{ params.cache }}"))
        XetDownloadOperator(task_id="two", repo_id="a/b", destination=HubCache())
        caches = [HubCache("/x"), HubCache("/y")]
        XetDownloadOperator.partial(task_id="three", repo_id="a/b").expand(destination=caches)
        XetDownloadOperator.partial(task_id="four", destination=HubCache("/x")).expand(repo_id=["a/b"])
    return dag


def test_the_serialised_dag_is_the_same_after_every_parse():
    try:
        from airflow.serialization.serialized_objects import DagSerialization as Serialized
    except ImportError:  # before Airflow 3.2
        from airflow.serialization.serialized_objects import SerializedDAG as Serialized
    dags = [parsed(), parsed()]  # both exist, so that nothing of one is at the address of the other
    first, second = (json.dumps(Serialized.to_dict(dag), sort_keys=True) for dag in dags)
    assert first == second
    assert "HubCache(path='{{ params.cache }}')" in first
    assert "HubCache(path='/y')" in first


def test_it_is_mapped_and_one_task_hands_the_folder_to_the_next(hook, model, tmp_path, run_dag):
    with new_dag("cache") as dag:
        fill = XetDownloadOperator.partial(task_id="fill", repo_id=model.repo_id).expand(
            destination=[HubCache(tmp_path / "a"), HubCache(f"{tmp_path}/{{{{ 'b' }}}}")]
        )

        @task
        def load(folders: list[str]) -> list[str]:
            return [(Path(folder) / "config.json").read_text() for folder in folders]

        load(fill.output["snapshot"])
    done = run_dag(dag)
    assert done.state == "success"
    assert done.xcoms("load") == [[FILES["config.json"].decode()] * 2]
    assert ref(tmp_path / "a") == ref(tmp_path / "b") == hook.get_commit_id(model)


# --- nothing to do, and trouble


def test_nothing_selected_leaves_no_cache(model, make_repo, cache, run_task):
    run = download(run_task, cache, repo_id=model.repo_id, patterns="*.none", on_empty="skip")
    assert run.state == "skipped"
    assert download(run_task, cache, repo_id=model.repo_id, patterns="*.none").state == "failed"
    assert download(run_task, cache, files=[], on_empty="skip").state == "skipped"
    bucket = make_repo("bucket")
    run = download(run_task, cache, repo_id=bucket.repo_id, repo_type="bucket")
    assert run.state == "failed"
    assert not cache.exists()


def test_a_bucket_is_refused_with_a_way_out(make_repo, connection, cache, run_task, tmp_path):
    bucket = make_repo("bucket")
    publish(bucket, tmp_path, {"a.bin": binary()})
    run = download(run_task, cache, repo_id=bucket.repo_id, repo_type="bucket")
    assert run.is_final
    assert "is a bucket: it has no commits" in run.text[:200]
    assert "Give destination a folder instead of HubCache" in run.text


def test_the_example_fills_a_cache_and_reads_it_offline(repo, connection, tmp_path, run_dag):
    publish(repo, tmp_path, {"penguins.csv": b"species\nAdelie\n", "photo.bin": binary()})
    source = Path(__file__).parents[3] / "dags_example/xethub_cache.py"
    code = source.read_text().replace("local/penguins", repo.repo_id)
    [dag] = [dag for dag in run_as_file(code, str(source)) if dag.dag_id == "xethub_cache"]
    dag.params["cache"] = str(tmp_path / "cache")
    done = run_dag(dag)
    assert done.state == "success"
    assert done.xcoms("read_offline") == [True]
