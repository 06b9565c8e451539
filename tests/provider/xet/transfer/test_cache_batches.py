"""The Hugging Face cache, filled from a manifest: in batches, with the ref at the end of the last one."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_xethub import HubCache
from airflow_provider_xethub.exceptions import XetHubError, XetInputError, XetIntegrityError, XetSourceError
from airflow_provider_xethub.hooks.tokens.tokens import TokenUse
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import XetDownloadOperator
from airflow_provider_xethub.xet.manifests import files as manifest_files
from airflow_provider_xethub.xet.manifests.spool import spooled
from support.builders import TEXT, binary
from support.cache_trees import client_download, offline, tree
from xethub_local.control.faults import Fault

FILES = {f"d{n % 2}/{n}.bin": binary(3000, n) for n in range(6)} | {
    "again.bin": binary(3000, 5),
    "config.json": TEXT,
    "empty.bin": b"",
}


@pytest.fixture(autouse=True)
def few_at_a_time(monkeypatch):
    """Three records are a batch, and five files a manifest."""
    monkeypatch.setenv("AIRFLOW__XETHUB__MANIFEST_FILES", "5")
    monkeypatch.setattr(manifest_files, "BATCH", 3)


def refs(cache):
    return list(cache.glob("models--*/refs/*"))


def to_cas(hook, repo, files):
    return hook._manifests.write(spooled([files]), repo, hook._cas.bind(TokenUse("write", repo)))


def test_a_large_model_is_what_the_client_downloads_and_the_result_is_a_manifest(
    hub, hook, model, cache, tmp_path, run_task
):
    run = run_task(XetDownloadOperator, destination=HubCache(cache), repo_id=model.repo_id)
    client_download(hub, model, tmp_path / "theirs")
    assert tree(cache) == tree(tmp_path / "theirs"), "with the listing of the commit, and the ref"
    assert (run.value["manifest"], run.value["destination"]) == ("listing", run.xcoms["snapshot"])
    places = {file["path"]: file["local_path"] for file in hook.read_files(run.value)}
    assert set(places) == {*FILES, ".gitattributes"}
    for path, content in FILES.items():
        assert Path(places[path]).read_bytes() == content
    assert run.xcoms["transfer"]["files"] == len({*FILES.values()}) + 1
    again = run_task(XetDownloadOperator, destination=HubCache(cache), repo_id=model.repo_id)
    assert again.xcoms["transfer"]["files"] == 0
    assert again.xcoms["transfer"]["skipped"] == len(FILES) + 1


def test_a_damaged_file_of_a_later_batch_leaves_no_ref_and_a_retry_takes_the_rest(hub, hook, model, cache):
    files = hook.find_files(model)
    last = [file for file in files if file["xet_hash"] and file["size"]][-1]
    stop = hub.faults.add(Fault(f"GET /cas/.*/reconstructions/{last['xet_hash']}", status=500))
    with pytest.raises(XetHubError):
        hook.download(HubCache(cache), files, ref="main")
    assert not refs(cache)
    hub.faults.remove(stop)
    result = hook.download(HubCache(cache), hook.find_files(model), ref="main")
    assert 0 < result["transfer"]["files"] < len({*FILES.values()})
    assert offline(cache, model).samefile(result["snapshot"])


@pytest.mark.parametrize("field", ["size", "sha256", "xet_hash"])
def test_a_manifest_that_lies_about_a_file_of_a_later_batch_is_refused_before_anything_is_written(
    hook, model, cache, field
):
    lie = {"size": 2999, "sha256": "a" * 64, "xet_hash": "b" * 64}[field]
    records = [{**file, field: lie} if file["path"] == "d1/5.bin" else file for file in hook.list_files(model)]
    with pytest.raises(XetSourceError, match=r"d1/5\.bin .* changed since it was listed"):
        hook.download(HubCache(cache), to_cas(hook, model, records))
    assert not cache.exists()


@pytest.mark.parametrize("field", ["size", "sha256"])
def test_with_a_token_only_a_lie_is_found_by_the_content(hook, model, cache, disconnect, field):
    at = model.at(hook.get_commit_id(model))
    lie = {"size": 2999, "sha256": "a" * 64}[field]
    records = [file for file in hook.list_files(at) if file["xet_hash"]]
    records = [{**file, field: lie} if file["path"] == "d1/5.bin" else file for file in records]
    manifest = to_cas(hook, at, records)
    token = hook.seal_token(hook.get_token(at, "read"))
    disconnect()
    with pytest.raises(XetIntegrityError, match=r"d1/5\.bin .* arrived damaged"):
        XetHubConnection(None).download(HubCache(cache), manifest, token=token, repo=at)
    assert not list(cache.glob("models--*/snapshots/*/d1/5.bin"))


def test_a_path_that_occurs_in_two_batches_is_refused(hook, model, cache):
    records = hook.list_files(model)
    with pytest.raises(XetInputError, match="two of the files would be written to"):
        hook.download(HubCache(cache), to_cas(hook, model, [*records, records[1]]))
    assert not list(cache.glob("models--*/blobs/*"))


KILLED = """
import sys
from airflow_provider_xethub import HubCache
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.manifests import files

files.BATCH = 3
hook = XetHubConnection()
hook.download(HubCache(sys.argv[1]), hook.find_files(hook.repo(sys.argv[2], "model")), ref="main")
"""


def test_a_download_that_is_killed_between_two_batches_resumes(hook, model, cache, kill_at):
    last = [file for file in hook.find_files(model) if file["xet_hash"] and file["size"]][-1]
    fault = Fault(f"GET /cas/.*/reconstructions/{last['xet_hash']}", delay=4, status=500)
    kill_at(fault, KILLED, str(cache), model.repo_id)
    assert not refs(cache)
    result = hook.download(HubCache(cache), hook.find_files(model), ref="main")
    assert 0 < result["transfer"]["files"] < len({*FILES.values()})
    assert offline(cache, model).samefile(result["snapshot"])
