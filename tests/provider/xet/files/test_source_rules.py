"""The rule for what is uploaded of a folder, in real uploads."""

from __future__ import annotations

from huggingface_hub import HfApi

from airflow_provider_xethub.operators.xethub import XetUploadOperator
from airflow_provider_xethub.sensors.xethub import XetFileSensor
from support.builders import TEXT, binary, publish, write


def test_the_operator_renders_exclude_and_follows_links(connection, repo, run_task, tmp_path):
    write(tmp_path, {"in/a.csv": b"x", "in/drafts/b.csv": b"x", "out/c.csv": b"x"})
    (tmp_path / "in/link").symlink_to("../out")
    arguments = {"source": str(tmp_path / "in"), "repo_id": repo.repo_id, "repo_type": "dataset"}
    run = run_task(XetUploadOperator, **arguments)
    assert run.is_final
    assert "in/link -> " in run.text
    files = run_task(XetUploadOperator, exclude=["{{ 'drafts' }}/", "li*k"], **arguments).value["files"]
    assert [file["path"] for file in files] == ["a.csv"]
    files = run_task(XetUploadOperator, exclude="drafts/", follow_links=True, commit=False, **arguments).value
    assert [file["path"] for file in files] == ["a.csv", "link/c.csv"]


def test_a_snapshot_of_the_real_client_can_be_uploaded(hub, connection, repo, make_repo, run_task, tmp_path):
    publish(repo, tmp_path, {"a.csv": TEXT, "sub/b.bin": binary()})
    api = HfApi(endpoint=hub.url, token=hub.token("read"))
    snapshot = api.snapshot_download(repo.repo_id, repo_type="dataset", cache_dir=tmp_path / "cache")
    local = api.snapshot_download(repo.repo_id, repo_type="dataset", local_dir=tmp_path / "local")
    for folder in (snapshot, local):
        other = make_repo()
        run_task(XetUploadOperator, source=folder, repo_id=other.repo_id, repo_type="dataset").value  # noqa: B018
        assert api.list_repo_files(other.repo_id, repo_type="dataset") == [".gitattributes", "a.csv", "sub/b.bin"]


def test_a_folder_as_a_pattern_means_what_is_in_it_everywhere(hook, repo, tmp_path):
    publish(repo, tmp_path, {"photos/a.bin": binary(), "photos/x/b.csv": TEXT, "c.csv": TEXT})
    assert [file["path"] for file in hook.list_files(repo, patterns="photos/")] == ["photos/a.bin", "photos/x/b.csv"]
    sensor = XetFileSensor(task_id="t", patterns="photos/x/", repo_id=repo.repo_id, repo_type="dataset")
    [file] = sensor.poke({}).xcom_value
    assert file["path"] == "photos/x/b.csv"
