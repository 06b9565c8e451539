"""What is an address of object storage, and how it is shown."""

from __future__ import annotations

import pytest
from airflow.sdk import ObjectStoragePath

from airflow_provider_xethub.xet.files import object_storage
from airflow_provider_xethub.xet.files.object_storage import Location, location

pytestmark = pytest.mark.airflow


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("s3://aws_default@bucket/a b/ü#x?y%20.bin", ("s3", "aws_default", "bucket/a b/ü#x?y%20.bin")),
        ("s3://bucket/prefix/", ("s3", None, "bucket/prefix/")),
        ("s3://bucket/a@b", ("s3", None, "bucket/a@b")),
        ("file:///data/x", ("file", None, "/data/x")),
        ("GS://conn@bucket", ("gs", "conn", "bucket")),
        ("sftp://files@host/data/x", ("sftp", "files", "/data/x")),
    ],
)
def test_a_uri_is_scheme_connection_and_path_and_nothing_is_decoded(uri, parts):
    where = location(uri)
    assert (where.scheme, where.conn_id, where.path) == parts


@pytest.mark.parametrize("local", ["/data/x", "x.bin", "~/x", "a:b", "://x", "C:/x", ObjectStoragePath("/data/x")])
def test_what_has_no_scheme_is_local(local):
    assert location(local) is None


def test_an_object_storage_path_is_the_same_place_as_its_uri():
    path = ObjectStoragePath("file:///data/x #?.bin")
    place = location(path)
    assert (place.scheme, place.conn_id, place.path) == ("file", None, "/data/x #?.bin")
    assert str(place) == "file:///data/x #?.bin"


def test_texts_of_a_storage_are_shown_without_passwords_and_signatures():
    error = OSError("GET https://user:pass@host/b/k?X-Amz-Signature=abc failed, ftp://u:p@h")
    shown = str(object_storage.unusable(Location("s3", "aws", "b/k"), error))
    assert "s3://aws@b/k cannot be reached: OSError: GET https://…host/b/k… failed, ftp://…h" in shown
