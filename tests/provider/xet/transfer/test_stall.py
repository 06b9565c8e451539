"""A transfer that stands still is ended and tried once more; its error says how far it got."""

from __future__ import annotations

import os
import re

import pytest

from airflow_provider_xethub.exceptions import XetStalledError
from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetUploadOperator
from support.builders import names, publish, write
from xethub_local.control.faults import Fault

SHARDS = "POST /cas/.*/v2/shards"
DATA = "GET /cas/.*/data/.*"
FOR_EVER = 600.0


@pytest.fixture
def where(connection, repo):
    connection(extra={"stall_timeout": 1})
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def record(where, repo, tmp_path):
    [file] = publish(repo, tmp_path / "before", {"a.bin": os.urandom(3 << 20)})
    return file


def test_a_download_that_stands_still_is_tried_once_more(hub, where, record, tmp_path, run_task):
    silent = hub.faults.add(Fault(DATA, times=1, delay=FOR_EVER))

    run = run_task(XetDownloadOperator, path="a.bin", destination=f"{tmp_path}/out/", **where)

    assert run.value
    assert hub.faults.acted(silent) == 1
    assert (tmp_path / "out/a.bin").stat().st_size == record["size"]


def test_an_upload_that_stands_still_is_tried_once_more(hub, where, repo, tmp_path, run_task):
    silent = hub.faults.add(Fault(SHARDS, times=1, delay=FOR_EVER))
    source = write(tmp_path / "in", {"a.bin": os.urandom(3 << 20)})

    run = run_task(XetUploadOperator, source=str(source), **where)

    assert run.value
    assert hub.faults.acted(silent) == 1
    assert [file["path"] for file in run.value["files"]] == ["a.bin"]


def test_a_download_that_never_moves_again_says_how_far_it_got(hub, where, record, tmp_path, run_task):
    silent = hub.faults.add(Fault(DATA, delay=FOR_EVER))

    run = run_task(XetDownloadOperator, path="a.bin", destination=f"{tmp_path}/out/", **where)

    assert isinstance(run.error, XetStalledError)
    assert run.state == "up_for_retry"
    assert hub.faults.acted(silent) >= 2
    assert f"in hf://datasets/{where['repo_id']}@main. Let the task retry" in str(run.error)
    assert re.search(r"The download of 1 file from hf://\S+ was cancelled at 0 B of 3\.1 MB", str(run.error))
    assert not names(tmp_path / "out")
