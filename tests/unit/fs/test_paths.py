"""The repository, revision and path that an address names."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.exceptions import (
    XetInputError,
)
from airflow_provider_xethub.fs.paths import HubPath, connection_of, parse, strip
from airflow_provider_xethub.xet.repo import Repo

pytestmark = pytest.mark.airflow


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("acme/m", HubPath(Repo("acme/m"), "", "acme/m")),
        ("models/acme/m/x", HubPath(Repo("acme/m"), "x", "models/acme/m")),
        ("datasets/acme/c/a/b@c.bin", HubPath(Repo("acme/c", "dataset"), "a/b@c.bin", "datasets/acme/c")),
        ("datasets/acme/c@v1/a@b", HubPath(Repo("acme/c", "dataset", "v1"), "a@b", "datasets/acme/c@v1")),
        ("acme/m@refs%2Fpr%2F1/x", HubPath(Repo("acme/m", revision="refs/pr/1"), "x", "acme/m@refs%2Fpr%2F1")),
        ("acme/m@refs/pr/1/x/y", HubPath(Repo("acme/m", revision="refs/pr/1"), "x/y", "acme/m@refs/pr/1")),
        ("buckets/acme/raw/x", HubPath(Repo("acme/raw", "bucket"), "x", "buckets/acme/raw")),
        ("", None),
        ("datasets", None),
        ("datasets/acme", None),
        ("acme", None),
    ],
)
def test_a_path_names_repository_revision_and_path(path, expected):
    assert parse(path) == expected
    if expected and expected.path:
        assert expected.name_of(expected.path) == path


@pytest.mark.parametrize("path", ["buckets/acme/raw@v1/x", "acme/m@/x", "acme/..", "acme/m@a%20b/x", "-a/b/c"])
def test_names_that_the_hub_does_not_know_are_refused(path):
    with pytest.raises(XetInputError):
        parse(path)


def test_scheme_and_connection_are_not_part_of_a_path():
    for text in ("hf://c@datasets/a/b@r/x", "xethub://datasets/a/b@r/x/", "/datasets/a/b@r/x", "datasets/a/b@r/x"):
        assert strip(text) == "datasets/a/b@r/x"
    assert connection_of("xethub://my_conn@datasets/a/b@r/x") == "my_conn"
    assert connection_of("xethub://datasets/a/b@r/x") is None
