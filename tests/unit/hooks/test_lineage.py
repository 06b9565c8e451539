"""The URIs under which lineage knows places."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.hooks.lineage import _uri_of

pytestmark = pytest.mark.airflow


@pytest.mark.parametrize(
    ("place", "uri"),
    [
        ("/data/a b#c.bin", "file:///data/a%20b%23c.bin"),
        ("/data/2026-*/x.csv", "file:///data"),
        ("/data/2026/*.csv", "file:///data/2026"),
        ("/*.csv", "file:///"),
        ("/data/", "file:///data"),
        ("s3://aws_default@bucket/key/", "s3://bucket/key"),
        ("s3://bucket/day=1/*.csv", "s3://bucket/day=1"),
    ],
)
def test_places_have_uris_without_their_connection(place, uri):
    assert _uri_of(place) == uri
