"""A download that is killed outright keeps what it had verified, and its retry removes what else it left."""

from __future__ import annotations

import json
import os

import pytest
import requests

from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import XetDownloadOperator
from airflow_provider_xethub.xet.files.object_targets import STATE
from support.airflow_runs import HAS_STATE_STORE, ExecutionApi
from support.builders import binary, names, publish
from support.killed_task import kill_when
from support.object_stores import forget_filesystems, s3_server, sftp_server
from xethub_local.control.faults import Fault

pytestmark = pytest.mark.long

SMALL, LARGE = 40, 80_000_000
READS = "GET /cas/.*/v./reconstructions/.*"
DATA = "GET /cas/.*/data/.*"


@pytest.fixture
def published(hub, connection, repo, tmp_path):
    """Many small files, and a large one in several xorbs of its own: the records, and the contents by path."""
    small = {f"d/{number:03}.bin": binary(20_000, f"{repo}{number}") for number in range(SMALL)}
    large = {"d/large.bin": os.urandom(LARGE)}
    publish(repo, tmp_path / "large", large)
    publish(repo, tmp_path / "small", small)
    files = XetHubConnection().list_files(repo, "d")
    hub.log.clear()
    return files, small | large


def hold(hub, repo, files):
    """Let the last xorb of the large file never come, nor the plans of every eighth of the others; return these."""
    (large,) = (file for file in files if file["size"] == LARGE)
    late = [file for file in files if file is not large][::8]
    token = XetHubConnection().get_token(repo)
    url = f"{token.cas_url}/v2/reconstructions/{large['xet_hash']}"
    plan = requests.get(url, headers={"Authorization": f"Bearer {token.access_token}"}, timeout=30).json()
    xorbs = list(dict.fromkeys(term["hash"] for term in plan["terms"]))
    assert len(xorbs) >= 2
    hub.log.clear()
    hub.faults.add(Fault(f"GET /cas/.*/data/{xorbs[-1]}", delay=3600))
    hub.faults.add(Fault(f"{READS[:-2]}({'|'.join(file['xet_hash'][:20] for file in late)}).*", delay=3600))
    return [large, *late]


def part_files_of(folder):
    return [folder / name for name in names(folder) if name.endswith(".xetpart")]


def is_half_there(folder, held):
    """Whether all small files that may come are there, and 30 MB of the large one."""

    def look():
        whole = [name for name in names(folder) if not name.endswith(".xetpart")]
        if len(whole) < SMALL + 1 - len(held):
            return False
        return any(part.stat().st_size > 30_000_000 for part in part_files_of(folder))

    return look


def assert_undamaged(folder, contents):
    for name in names(folder):
        assert name.endswith(".xetpart") or (folder / name).read_bytes() == contents[name]


def test_the_retry_on_the_worker_asks_only_for_what_was_not_whole(hub, repo, published, run_task, tmp_path):
    files, contents = published
    out = tmp_path / "out"
    held = hold(hub, repo, files)
    kill_when("XetDownloadOperator", {"destination": str(out), "files": files}, is_half_there(out, held))
    assert part_files_of(out)
    assert_undamaged(out, contents)
    hub.faults.clear()
    hub.log.clear()

    run = run_task(XetDownloadOperator, destination=str(out), files=files, try_number=2)

    assert run.xcoms["transfer"]["skipped"] == len(files) - len(held)
    assert names(out) == sorted(contents)
    assert_undamaged(out, contents)
    asked = {request.path.rpartition("/")[2] for request in hub.log.requests(READS)}
    assert asked == {file["xet_hash"] for file in held}
    sent = sum(request.bytes_out for request in hub.log.requests(DATA))
    assert sent < 1.01 * sum(file["size"] for file in held)


def test_what_a_killed_try_left_of_a_file_that_came_another_way_is_removed_too(
    hub, repo, published, run_task, tmp_path
):
    files, contents = published
    out = tmp_path / "out"
    held = hold(hub, repo, files)
    kill_when("XetDownloadOperator", {"destination": str(out), "files": files}, is_half_there(out, held))
    for file in held:
        (out / file["path"]).write_bytes(contents[file["path"]])
    assert part_files_of(out)
    run = run_task(XetDownloadOperator, destination=str(out), files=files, try_number=2)
    assert run.xcoms["transfer"]["skipped"] == len(files)
    assert names(out) == sorted(contents)


@pytest.fixture(params=["file", "sftp"])
def storage(request, tmp_path, monkeypatch):
    """A folder, and its URI as object storage."""
    folder = tmp_path / "remote"
    folder.mkdir()
    if request.param == "file":
        yield folder, f"file://{folder}/"
    else:
        with sftp_server(folder) as server:
            server.connect(monkeypatch)
            (folder / "out").mkdir()
            yield folder / "out", "sftp://files@/out/"
            forget_filesystems()


def test_what_a_killed_try_left_in_object_storage_is_removed_by_the_retry(
    hub, repo, published, run_task, tmp_path, storage
):
    files, contents = published
    folder, uri = storage
    held = hold(hub, repo, files)
    theirs = folder / "d" / f".{'0' * 32}.xetpart"

    def is_begun():
        return any(part.stat().st_size > 5_000_000 for part in part_files_of(folder))

    kill_when("XetDownloadOperator", {"destination": uri, "files": files}, is_begun)
    left = part_files_of(folder)
    theirs.touch()
    assert left
    assert_undamaged(folder, contents)
    hub.faults.clear()

    assert run_task(XetDownloadOperator, destination=uri, files=files, try_number=2).state == "success"

    assert names(folder) == sorted([*contents, theirs.relative_to(folder).as_posix()])
    theirs.unlink()
    assert_undamaged(folder, contents)
    assert held


@pytest.fixture
def s3(monkeypatch):
    with s3_server() as server:
        server.connect(monkeypatch)
        server.client.create_bucket(Bucket="bucket")
        yield server
        forget_filesystems()


@pytest.mark.skipif(not HAS_STATE_STORE, reason="this Airflow has no task state store")
def test_what_a_killed_try_left_in_s3_is_aborted_by_the_retry(hub, repo, published, run_task, s3, tmp_path):
    files, contents = published
    hold(hub, repo, files)
    theirs = s3.client.create_multipart_upload(Bucket="bucket", Key="d/large.bin")["UploadId"]
    state = tmp_path / "state.json"
    arguments = {"destination": "s3://aws@bucket/", "files": files}

    def is_begun():
        return state.exists() and len(s3.unfinished("bucket")) == 2

    kill_when("XetDownloadOperator", arguments, is_begun, state=state)
    hub.faults.clear()
    api = ExecutionApi(state=json.loads(state.read_text()))
    assert list(api.state[STATE]["uploads"]) == ["s3://aws@bucket/d/large.bin"]

    assert run_task(XetDownloadOperator, **arguments, try_number=2, api=api).state == "success"

    assert s3.content("bucket") == contents
    # Only what is known to be of this task.
    [left] = s3.client.list_multipart_uploads(Bucket="bucket")["Uploads"]
    assert left["UploadId"] == theirs


def test_without_a_state_store_the_retry_to_s3_is_through_as_well(hub, repo, published, run_task, s3):
    files, contents = published
    arguments = {"destination": "s3://aws@bucket/", "files": files}
    hold(hub, repo, files)
    kill_when("XetDownloadOperator", arguments, lambda: s3.unfinished("bucket"))
    hub.faults.clear()
    assert run_task(XetDownloadOperator, **arguments, try_number=2).state == "success"
    assert s3.content("bucket") == contents
