"""Results of more files than a list may have: listed, waited for, mapped, downloaded, copied and committed."""

from __future__ import annotations

import json

import pytest
from airflow.sdk import task

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetCopyOperator,
    XetDownloadOperator,
    XetListOperator,
    XetUploadOperator,
)
from airflow_provider_xethub.sensors.xethub import XetFileSensor
from airflow_provider_xethub.triggers import xethub as triggers
from airflow_provider_xethub.xet.manifests import files as manifests
from airflow_provider_xethub.xet.manifests.spool import spooled
from airflow_provider_xethub.xet.records import xet_file_record
from support.airflow_runs import new_dag
from support.builders import TEXT, publish, sealed, write
from support.commit_builders import tree
from support.folding import FoldingLocal

FILES = {f"d{n % 4}/s{n % 2}/{n:02}.bin": b"\0%d" % n for n in range(19)} | {"top.csv": TEXT}


@pytest.fixture(autouse=True)
def limit(monkeypatch):
    """More than five files are many, and four are a batch."""
    monkeypatch.setenv("AIRFLOW__XETHUB__MANIFEST_FILES", "5")
    monkeypatch.setattr(manifests, "BATCH", 4)
    monkeypatch.setattr(triggers, "MAX_FILES", 5)


@pytest.fixture
def storage(monkeypatch, tmp_path):
    folder = tmp_path / "manifests"
    folder.mkdir()
    monkeypatch.setenv("AIRFLOW__XETHUB__MANIFEST_STORAGE", f"file://{folder}")
    return folder


@pytest.fixture
def where(repo, connection, tmp_path):
    publish(repo, tmp_path, FILES)
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def listed(where, run_task):
    """The manifest of all files, as it is in XCom."""
    return run_task(XetListOperator, patterns=["d*", "top*"], **where).value


def on_disk(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.airflow
def test_what_is_listed_is_downloaded_in_another_task(run_dag, where, tmp_path):
    with new_dag() as dag:
        found = XetListOperator(task_id="found", patterns=["d*", "top*"], **where)
        XetDownloadOperator(task_id="fetch", files=found.output, destination=str(tmp_path / "out"))
    run = run_dag(dag)
    assert run.state == "success"
    assert on_disk(tmp_path / "out") == FILES
    [manifest], [fetched], [figures] = run.xcoms("found"), run.xcoms("fetch"), run.xcoms("fetch", "transfer")
    assert (manifest["manifest"], manifest["file_count"]) == ("listing", 20)
    assert fetched == {**manifest, "destination": str(tmp_path / "out")}
    assert (figures["files"], figures["skipped"]) == (20, 0)
    places = [file["local_path"] for file in XetHubConnection().read_files(fetched)]
    assert sorted(places) == sorted(str(tmp_path / "out" / name) for name in FILES)


@pytest.mark.airflow
def test_batches_are_mapped_over(run_dag, where, tmp_path):
    with new_dag() as dag:
        found = XetListOperator(task_id="found", patterns=["d*"], batch_files=6, **where)
        XetDownloadOperator.partial(task_id="fetch", destination=str(tmp_path / "out")).expand(files=found.output)
    run = run_dag(dag)
    assert run.state == "success"
    [batches] = run.xcoms("found")
    assert [batch["folders"] for batch in batches] == [["d0/"], ["d1/"], ["d2/"], ["d3/"]]
    assert len(json.dumps(batches)) < 64 << 10
    assert {**on_disk(tmp_path / "out"), "top.csv": TEXT} == FILES


@pytest.mark.airflow
def test_a_list_that_is_mapped_over_stays_a_list(run_dag, where, tmp_path, monkeypatch):
    def dag_of(tasks):
        with new_dag() as dag:
            found = XetListOperator(task_id="found", patterns="d*", **where)
            tasks(found)
        return run_dag(dag)

    def one_by_one(found):
        XetDownloadOperator.partial(task_id="fetch", destination=str(tmp_path / "out")).expand(files=found.output)

    run = dag_of(one_by_one)
    assert run.state == "success"
    assert len(run.xcoms("fetch")) == 19
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "10")
    assert dag_of(one_by_one).state == "failed"


def test_more_than_airflow_maps_over_is_refused_with_the_ways_out(where, run_task, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "10")
    with new_dag():
        found = XetListOperator(task_id="found", patterns="d*", **where)
        XetDownloadOperator.partial(task_id="fetch", destination="/x").expand(files=found.output)
    run = run_task(found)
    assert isinstance(run.error, XetInputError)
    assert str(run.error).startswith("19 files are more than Airflow maps over (10): map over XetListOperator(batch_fi")


@pytest.mark.airflow
def test_a_task_that_is_mapped_over_a_manifest_all_the_same_says_what_to_do(run_dag, where, listed, tmp_path):
    with new_dag() as dag:

        @task
        def indirect():
            return listed

        XetDownloadOperator.partial(task_id="fetch", destination=str(tmp_path / "out")).expand(files=indirect())
    run = run_dag(dag)
    assert run.state == "failed"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("item", [["manifest", "listing"], ("file_count", 20)])
def test_the_field_of_a_manifest_is_refused(item, where, run_task, tmp_path):
    run = run_task(XetDownloadOperator, files=item, destination=str(tmp_path / "out"), **where)
    assert "give it without expand(), or map over XetListOperator(batch_files=" in str(run.error)[:110]


@pytest.mark.parametrize(
    ("batch_files", "folders"),
    [
        (100, [["/"]]),
        (3, [[""], ["d0/s0"], ["d1/s1"], ["d2/s0"], ["d3/s1"]]),
        (10, [["", "d0/"], ["d1/", "d2/"], ["d3/"]]),
    ],
)
def test_batches_are_whole_folders(batch_files, folders, where, run_task, repo, hook):
    batches = run_task(XetListOperator, batch_files=batch_files, **where).value
    assert [batch["folders"] for batch in batches] == folders
    found = hook.read_files(batches)
    assert sorted(file["path"] for file in found) == sorted([*FILES, ".gitattributes"])
    assert len(found) == 21
    assert all(len(hook.read_files(batch)) <= max(batch_files, 5) for batch in batches)


def test_batches_are_kept_in_the_storage(where, run_task, storage):
    batches = run_task(XetListOperator, batch_files=6, path="d1", patterns="*.bin", **where).value
    assert [(batch["manifest"], batch["file_count"]) for batch in batches] == [("storage", 5)]
    batches = run_task(XetListOperator, batch_files=6, patterns="d*", **where).value
    assert [batch["file_count"] for batch in batches] == [5, 5, 5, 4]
    found = XetHubConnection(None).read_files(batches)
    assert sorted(file["path"] for file in found) == sorted(name for name in FILES if name != "top.csv")


def test_batches_of_nothing_are_none(where, run_task):
    assert run_task(XetListOperator, batch_files=6, patterns="*.none", **where).value == []


@pytest.mark.parametrize("value", [0, -1, True, "many", 1.5, "None"])
def test_batch_files_is_a_number(value, where, run_task):
    assert "batch_files" in str(run_task(XetListOperator, batch_files=value, **where).error)[:30]


def test_a_file_is_not_divided(where, run_task):
    error = run_task(XetListOperator, batch_files=5, path="top.csv", **where).error
    assert "batch_files divides folders, but top.csv is a file" in str(error)


def test_a_whole_repository_is_downloaded_in_batches(where, run_task, tmp_path, repo, hook):
    run = run_task(XetDownloadOperator, destination=str(tmp_path / "out"), **where)
    assert set(on_disk(tmp_path / "out")) == {*FILES, ".gitattributes"}
    assert run.value["repo"] == repo.at(hook.get_latest_commit(repo)["oid"]).uri
    assert run.value["destination"] == str(tmp_path / "out")


def test_a_download_that_was_killed_resumes(listed, where, run_task, tmp_path):
    options = {"files": listed, "destination": str(tmp_path / "out"), **where}
    assert run_task(XetDownloadOperator, **options).value
    (tmp_path / "out/d0/s0/04.bin").unlink()
    (tmp_path / "out/d1/s1/17.bin").write_bytes(b"x")
    run = run_task(XetDownloadOperator, try_number=2, **options)
    assert (run.xcoms["transfer"]["files"], run.xcoms["transfer"]["skipped"]) == (2, 18)
    assert on_disk(tmp_path / "out") == FILES


def test_into_object_storage(listed, where, run_task, tmp_path):
    run = run_task(XetDownloadOperator, files=listed, destination=f"file://{tmp_path}/out", **where)
    assert on_disk(tmp_path / "out") == FILES
    places = [file["storage_uri"] for file in XetHubConnection().read_files(run.value)]
    assert sorted(places) == sorted(f"file://{tmp_path}/out/{name}" for name in FILES)


def test_with_a_token_only_a_listing_needs_the_storage(listed, where, repo, run_task, tmp_path, monkeypatch):
    token = sealed(repo.at(XetHubConnection().get_latest_commit(repo)["oid"]))
    options = {"token": token, "destination": str(tmp_path / "out"), "xethub_conn_id": None}
    run = run_task(XetDownloadOperator, files=listed, **options)
    assert "set xethub_conn_id, or [xethub] manifest_storage" in str(run.error)[:100]
    (tmp_path / "kept").mkdir()
    monkeypatch.setenv("AIRFLOW__XETHUB__MANIFEST_STORAGE", f"file://{tmp_path}/kept")
    kept = run_task(XetListOperator, patterns="d*", **where).value
    run = run_task(XetDownloadOperator, files=kept, **options)
    assert run.value == {**kept, "destination": str(tmp_path / "out")}
    assert {**on_disk(tmp_path / "out"), "top.csv": TEXT} == FILES


def in_cas(hook, repo, files):
    from airflow_provider_xethub.hooks.tokens.tokens import TokenUse

    return hook._manifests.write(spooled([files]), repo, hook._cas.bind(TokenUse("write", repo)))


def test_what_was_uploaded_is_downloaded_with_a_token_only(repo, hook, where, run_task, tmp_path):
    files = run_task(
        XetUploadOperator,
        source=str(write(tmp_path / "in", {f"{n}.bin": b"\0%d" % n for n in range(3)})),
        commit=False,
        **where,
    ).value
    manifest = in_cas(hook, repo, files)
    options = {"destination": str(tmp_path / "out"), "xethub_conn_id": None}
    run = run_task(XetDownloadOperator, files=[manifest], token=sealed(repo), **options)
    assert run.value["destination"] == str(tmp_path / "out")
    assert len(on_disk(tmp_path / "out")) == 3


def test_manifests_of_mapped_uploads_are_committed_together(repo, hook, where, run_task, tmp_path, hub):
    values = []
    for part in ("a", "b"):
        source = write(tmp_path / part, {f"{part}{n}.bin": b"\0%d" % n for n in range(3)})
        files = run_task(XetUploadOperator, source=str(source), commit=False, **where).value
        values.append(in_cas(hook, repo, files) if part == "a" else files)
    result = run_task(XetCommitOperator, files=values, **where).value
    assert result["created"]
    assert set(tree(hub, repo)) >= {f"{part}{n}.bin" for part in "ab" for n in range(3)}


def test_manifests_of_several_repositories_are_refused(listed, make_repo, where, run_task, tmp_path):
    other = make_repo()
    publish(other, tmp_path / "other", FILES)
    second = run_task(XetListOperator, repo_id=other.repo_id, repo_type="dataset").value
    run = run_task(XetDownloadOperator, files=[listed, second], destination=str(tmp_path / "out"))
    assert "the files are of several repositories" in str(run.error)
    assert not (tmp_path / "out").exists()


def test_a_manifest_is_copied(listed, make_repo, run_task, hub):
    target = make_repo()
    result = run_task(XetCopyOperator, files=listed, repo_id=target.repo_id, repo_type="dataset").value
    assert result["copied"]["files"] == 20
    assert set(tree(hub, target)) >= set(FILES)


def test_an_empty_manifest_is_an_empty_list(hook, repo, where, run_task, tmp_path):
    empty = in_cas(hook, repo, [])
    options = {"files": empty, "destination": str(tmp_path / "out"), **where}
    assert "files is empty" in str(run_task(XetDownloadOperator, **options).error)
    assert run_task(XetDownloadOperator, on_empty="skip", **options).state == "skipped"


@pytest.mark.parametrize(
    ("last", "part"),
    [
        ("../../etc/passwd", "'../../etc/passwd'"),
        ("/etc/x", "'/etc/x'"),
        ("a/1", "two of the files would be written to"),
    ],
)
def test_names_are_checked_over_all_batches_before_anything_is_written(
    last, part, hook, repo, where, run_task, tmp_path
):
    files = [
        xet_file_record(name, 1, repo.uri, sha256="a" * 64, xet_hash="b" * 64)
        for name in ["a/1", "a/2", "a/3", "a/4", last]
    ]
    run = run_task(XetDownloadOperator, files=in_cas(hook, repo, files), destination=str(tmp_path / "out"), **where)
    assert isinstance(run.error, XetInputError)
    assert part in str(run.error)
    assert not (tmp_path / "out").exists()


def test_names_that_the_destination_takes_for_one_are_refused_over_all_batches(
    hook, repo, where, run_task, tmp_path, monkeypatch
):
    from airflow_provider_xethub.xet.files import spellings

    monkeypatch.setattr(spellings, "Local", lambda: FoldingLocal(tmp_path))
    names = ["d/A.bin", "d/1", "d/2", "d/3", "d/4", "d/a.bin"]
    files = [xet_file_record(name, 1, repo.uri, sha256="a" * 64, xet_hash="b" * 64) for name in names]
    run = run_task(XetDownloadOperator, files=in_cas(hook, repo, files), destination=str(tmp_path / "out"), **where)
    assert "d/A.bin and d/a.bin would share one file" in str(run.error)


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_sensor_returns_a_manifest(deferrable, where, repo, run_task, hook):
    value = run_task(XetFileSensor, patterns="d*", min_files=7, deferrable=deferrable, **where).value
    assert (value["manifest"], value["file_count"], value["patterns"]) == ("listing", 19, ["d*"])
    assert len(list(hook.read_files(value))) == 19


def test_an_event_of_many_files_is_short_and_the_task_finds_them_again(where, repo, hook):
    import asyncio

    trigger = triggers.XetFileTrigger(repo_id=repo.repo_id, repo_type="dataset", patterns=["d*"], min_files=7)

    async def first():
        return await anext(aiter(trigger.run()))

    event = asyncio.run(first()).payload
    assert event == {"status": "found", "value": None, "file_count": 19}
    sensor = XetFileSensor(task_id="wait", patterns="d*", min_files=7, deferrable=True, **where)
    value = sensor.execute_complete({}, event)
    assert value["file_count"] == 19


def test_a_sensor_does_not_store_a_manifest_in_its_trigger(listed, where, run_task):
    run = run_task(XetFileSensor, patterns="d*", changed_from=listed, **where)
    assert "changed_from takes no manifest" in str(run.error)
    assert "newer_than" in str(run.error)


def test_a_function_gets_the_files_of_a_manifest(listed, where, run_task, tmp_path):
    seen = {}

    def read(files, folder):
        seen["files"] = [str(path.relative_to(folder)) for path in files]

    with new_dag():
        made = task.xethub(task_id="work", read_only=True, files=listed, **where)(read)()
    run_task(made.operator)
    assert seen["files"] == sorted(FILES)
