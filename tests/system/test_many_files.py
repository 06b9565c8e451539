"""Three thousand files, from a folder and from S3, through the Hub and back: the trees are identical.

In ``make test-exhaustive`` they are ten thousand, of which ``XETHUB_MANY_SCALE=1`` makes 4 GiB. What each transfer took
is printed (``pytest -s``).
"""

from __future__ import annotations

import json
import os
import shutil

import pytest

pytest.importorskip("moto", reason="needs the dependency group long")
pytest.importorskip("s3fs", reason="needs the dependency group long")

from support import many_files, task_process
from support.examples import at_length
from support.object_stores import s3_process
from xethub_local.server import LocalHub

pytestmark = [pytest.mark.long, pytest.mark.exhaustive, pytest.mark.timeout(3600)]

COUNT = at_length(3_000, 10_000)
SCALE = float(os.environ.get("XETHUB_MANY_SCALE", "0.08"))


@pytest.fixture
def tree(tmp_path):
    many_files.make(tmp_path / "tree", SCALE, COUNT)
    yield tmp_path / "tree"
    # Too much to be kept for the folders of failed tests.
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def use(monkeypatch):
    """Points the connection to a Hub, and gives an empty repository of it."""

    def point(hub: LocalHub) -> dict[str, str]:
        value = {"conn_type": "xethub", "host": hub.url, "password": hub.token()}
        monkeypatch.setenv("AIRFLOW_CONN_XETHUB_DEFAULT", json.dumps(value))
        hub.access.token_life = 3600
        repo = hub.create_repo("local/many", "dataset")
        hub.log.clear()
        return {"repo_id": repo.repo_id, "repo_type": "dataset"}

    return point


def told(what: str, took: task_process.Took, hub: LocalHub) -> None:
    """Print what a transfer took."""
    counters = hub.log.counters()
    cas = sum(each.requests for each in counters if "/cas/" in each.route)
    rest = sum(each.requests for each in counters) - cas
    print(f"\n{what}: {took}; {rest} requests to the Hub, {cas} to CAS", flush=True)
    hub.log.clear()


def test_many_files_come_back_as_they_were(tree, use, tmp_path, monkeypatch):
    wanted = many_files.digests(tree)
    assert len(wanted) == COUNT
    back = tmp_path / "back"
    with s3_process() as s3:
        s3.connect(monkeypatch)
        s3.client.create_bucket(Bucket="many")

        with LocalHub(tmp_path / "hub") as hub:
            where = use(hub)
            told("folder to Hub", task_process.run("XetUploadOperator", source=f"{tree}/", **where), hub)
            told("Hub to folder", task_process.run("XetDownloadOperator", destination=f"{back}", **where), hub)
            (back / ".gitattributes").unlink()
            assert many_files.digests(back) == wanted
            shutil.rmtree(back)

            took = task_process.run("XetDownloadOperator", destination="s3://aws@many/d/", **where)
            told("Hub to S3", took, hub)
            s3.client.delete_object(Bucket="many", Key="d/.gitattributes")
            assert s3.md5("many", "d/") == many_files.digests(tree, "md5")
            assert s3.unfinished("many") == []
        shutil.rmtree(tree)
        shutil.rmtree(tmp_path / "hub")

        # Another one, which has none of the bytes.
        with LocalHub(tmp_path / "other") as hub:
            where = use(hub)
            took = task_process.run("XetUploadOperator", source="s3://aws@many/d/", **where)
            told("S3 to Hub", took, hub)
            assert took.transfer["bytes_sent"] > 0.9 * took.transfer["bytes"]
            task_process.run("XetDownloadOperator", destination=f"{back}", **where)
            (back / ".gitattributes").unlink()
            assert many_files.digests(back) == wanted
