"""A listing brings the content of inline files by itself if a later task takes records and has no connection."""

from __future__ import annotations

import pytest
from airflow.sdk import task

from airflow_provider_xethub.hooks.inline_content import is_needed_after
from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetListOperator, XetUploadOperator
from support.airflow_runs import new_dag

pytestmark = pytest.mark.airflow


@task
def split(files):
    return [files]


@task.xethub(xethub_conn_id=None, token={}, read_only=True)
def look_into(files): ...


@task.xethub(read_only=True)
def look_with_connection(files): ...


def download(files, conn_id=None):
    return XetDownloadOperator(task_id="get", files=files, destination="/data", token={}, xethub_conn_id=conn_id)


def mapped(files, conn_id=None):
    wanted = {"destination": "/data", "token": {}, "xethub_conn_id": conn_id}
    return XetDownloadOperator.partial(task_id="get", **wanted).expand(files=files)


LATER = {
    "a download": (download, True),
    "a mapped download": (mapped, True),
    "a mapped download of lists": (lambda files: mapped(split(files)), True),
    "a function": (lambda files: look_into(files=files), True),
    "a mapped function": (lambda files: look_into.expand(files=split(files)), True),
    "a download with the connection": (lambda files: download(files, "xethub_default"), False),
    "a mapped download with the connection": (lambda files: mapped(files, "xethub_default"), False),
    "a function with the connection": (lambda files: look_with_connection(files=files), False),
    "an upload": (
        lambda files: files.operator >> XetUploadOperator(task_id="up", source="/a", xethub_conn_id=None),
        False,
    ),
    "nothing": (lambda files: None, False),
}


@pytest.mark.parametrize("name", LATER)
def test_what_comes_later_decides(name):
    later, expected = LATER[name]
    with new_dag():
        look = XetListOperator(task_id="look", repo_id="acme/m")
        later(look.output)
    assert is_needed_after(look) is expected


def test_what_comes_before_or_in_another_dag_does_not():
    with new_dag():
        look = XetListOperator(task_id="look", repo_id="acme/m")
        download([]) >> look
    with new_dag():
        download([])
    assert not is_needed_after(look)
