"""Paths of the filesystem over a keyless connection."""

from __future__ import annotations

import pytest
from airflow.sdk import ObjectStoragePath

from airflow_provider_xethub.exceptions import XetIdentityError, XetPublisherError


@pytest.fixture(autouse=True)
def _no_other_test_has_opened_it(fs):
    """Airflow keeps a filesystem, with the connection that it was opened with."""


@pytest.fixture
def root(make_repo, publisher, keyless):
    private = make_repo(private=True)
    publisher(private)
    return ObjectStoragePath(f"xethub://xethub_default@datasets/{private.repo_id}")


def test_files_are_written_listed_read_and_removed(hub, root):
    with (root / "a" / "b.txt").open("wb") as file:
        file.write(b"content")
    assert [path.name for path in (root / "a").iterdir()] == ["b.txt"]
    assert (root / "a" / "b.txt").read_bytes() == b"content"
    assert not (root / "missing").exists()
    (root / "a" / "b.txt").unlink()
    assert not (root / "a" / "b.txt").exists()
    assert len(hub.log.requests("POST /oauth/token")) == 1


def test_a_private_repository_without_a_publisher_is_not_a_missing_file(make_repo, keyless):
    private = make_repo(private=True)
    path = ObjectStoragePath(f"xethub://xethub_default@datasets/{private.repo_id}") / "a.txt"
    for use in (path.exists, path.read_bytes):
        with pytest.raises(XetPublisherError, match="has no trusted publisher"):
            use()


def test_a_bucket_is_refused_by_name(keyless):
    path = ObjectStoragePath("xethub://xethub_default@buckets/local/bucket/a.txt")
    with pytest.raises(XetIdentityError, match=r"Bucket local/bucket has no trusted publishers"):
        path.read_bytes()
