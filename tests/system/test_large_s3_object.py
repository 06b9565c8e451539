"""One object of 1 GiB from S3 to the Hub and back: what the task process needs of memory, Amazon's provider included.

In ``make test-exhaustive`` it has 4 GiB, and ``XETHUB_LARGE_S3_MIB`` sets another size.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys

import pytest

pytest.importorskip("s3fs", reason="needs the dependency group long")

from airflow_provider_xethub.xet.cas.limits import DEFAULT_MEMORY
from support import task_process
from support.builders import noise
from support.examples import at_length
from support.object_stores import s3_on_disk
from xethub_local.server import LocalHub

pytestmark = [
    pytest.mark.long,
    pytest.mark.exhaustive,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc"),
]

MIB = 1 << 20
SIZE = int(os.environ.get("XETHUB_LARGE_S3_MIB", at_length(1024, 4096))) * MIB
PART = 16 * MIB
MOST = 400_000_000
"""Bytes of memory of the whole process of a download; Airflow with the Amazon provider alone has nearly 200 MB."""


@pytest.fixture
def hub(tmp_path):
    with LocalHub(tmp_path / "hub") as hub:
        yield hub
    shutil.rmtree(tmp_path / "hub")


@pytest.fixture
def s3(tmp_path):
    with s3_on_disk(tmp_path / "s3") as s3:
        yield s3
    shutil.rmtree(tmp_path / "s3")


def test_a_large_object_goes_from_s3_to_s3_in_bounded_memory(hub, connection, repo, s3, monkeypatch):
    expected, received = hashlib.sha256(), hashlib.sha256()
    s3.connect(monkeypatch)
    s3.client.create_bucket(Bucket="large")
    upload = {"Bucket": "large", "Key": "in/a.bin"}
    upload["UploadId"] = s3.client.create_multipart_upload(**upload)["UploadId"]
    parts = []
    for number in range(SIZE // PART):
        expected.update(data := noise(PART))
        answer = s3.client.upload_part(**upload, PartNumber=number + 1, Body=data)
        parts.append({"PartNumber": number + 1, "ETag": answer["ETag"]})
    s3.client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})

    where = {"repo_id": repo.repo_id, "repo_type": "dataset"}
    up = task_process.run("XetUploadOperator", source="s3://aws@large/in/a.bin", **where)
    print(f"\nS3 to Hub: {up}", flush=True)
    s3.client.delete_object(Bucket="large", Key="in/a.bin")
    down = task_process.run("XetDownloadOperator", path="a.bin", destination="s3://aws@large/out/", **where)
    print(f"Hub to S3: {down}", flush=True)
    body = s3.client.get_object(Bucket="large", Key="out/a.bin")["Body"]
    for data in body.iter_chunks(PART):
        received.update(data)

    assert received.digest() == expected.digest()
    assert up.peak < DEFAULT_MEMORY
    assert down.peak < MOST
