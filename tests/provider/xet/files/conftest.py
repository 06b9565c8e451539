"""An S3 for the tests of one module, and an empty bucket that the connection ``aws`` leads to."""

from __future__ import annotations

import uuid

import pytest

from support.object_stores import s3_server


@pytest.fixture(scope="module")
def s3():
    with s3_server() as server:
        yield server


@pytest.fixture
def bucket(s3, monkeypatch):
    name = f"b{uuid.uuid4().hex[:12]}"
    s3.client.create_bucket(Bucket=name)
    s3.connect(monkeypatch)
    return name
