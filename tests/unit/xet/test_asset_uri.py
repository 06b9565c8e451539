"""The one URI of each place on the Hub, and how Airflow's ``Asset`` takes it."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS
from airflow.sdk import Asset
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xethub.assets.xethub import create_asset, sanitize_uri
from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.asset_uri import AssetPlace, parse
from airflow_provider_xethub.xet.repo import REPO_TYPES, Repo

pytestmark = pytest.mark.airflow

SAME = {
    "hf://datasets/acme/corpus": [
        "hf://datasets/acme/corpus/",
        "hf://datasets/acme/corpus@main",
        "HF://datasets/acme/corpus",
        "hf://xethub_default@datasets/acme/corpus@main",
    ],
    "hf://acme/m": ["hf://models/acme/m", "hf://acme/m@main/"],
    "hf://buckets/acme/b/x": ["hf://buckets/acme/b@main/x", "hf://buckets/acme/b/x/"],
    "hf://spaces/acme/s@v1": ["hf://spaces/acme/s@v1/", "hf://spaces/acme/s@v%31"],
    "hf://datasets/acme/corpus@refs%2Fpr%2F3/a.bin": [
        "hf://datasets/acme/corpus@refs/pr/3/a.bin",
        "hf://datasets/acme/corpus@refs%2fpr%2f3/a.bin",
    ],
    "hf://datasets/acme/corpus@feature%2Fnew": ["hf://c@datasets/acme/corpus@feature%2Fnew"],
    "hf://datasets/acme/corpus/day=1/a%20b%23.bin": [
        "hf://datasets/acme/corpus/day%3D1/a b%23.bin",
    ],
    "hf://datasets/acme/corpus/%C3%BC/100%25.csv": ["hf://datasets/acme/corpus/ü/100%.csv"],
}
WRONG = {
    "hf://": "",
    "hf://datasets": "does not name a repository",
    "hf://datasets/acme": "does not name a repository",
    "hf://acme": "does not name a repository",
    "hf://acme/": "does not name a repository",
    "hf:///acme/m": "is not the URI",
    "hf://acme/m@": "without a revision",
    "hf://acme/m@a..b": "not a valid git reference",
    "hf://acme/-m": "is not valid",
    "hf://datasets/acme/corpus?x=1": "%3F",
    "hf://datasets/acme/corpus/../other": "segment",
    "hf://datasets/acme/corpus/a//b": "segment",
    "hf://datasets/acme/corpus/a%00b": "control character",
    "hf://datasets/acme/corpus/%2e%2e/x": "segment",
    "hf://datasets/acme/corpus/%FF": "UTF-8",
    "hf://buckets/acme/b@v1": "buckets have no revisions",
}


@pytest.mark.parametrize(("one", "other"), [(one, other) for one, others in SAME.items() for other in [one, *others]])
def test_what_is_the_same_is_one_asset(one, other):
    if other.isascii() or AIRFLOW_V_3_1_PLUS:  # the raw text is also its name, which 3.0 wants in ASCII
        assert Asset(other).uri == one
    assert Asset(name="corpus", uri=other) == Asset(name="corpus", uri=one)
    assert Asset(one).normalized_uri == one


@pytest.mark.parametrize("uri", [uri for uri in WRONG if uri != "hf://"])
def test_a_wrong_uri_is_refused_where_the_dag_is_written(uri):
    with pytest.raises(ValueError, match=WRONG[uri]):
        Asset(uri)
    with pytest.raises(XetInputError, match=WRONG[uri]):
        parse(uri)


def test_what_is_no_uri_of_the_hub_is_refused():
    for uri in ("hf://", "s3://bucket/key", "corpus", ""):
        with pytest.raises(XetInputError, match="is not the URI"):
            parse(uri)


def test_no_message_shows_a_credential():
    for uri in ("hf://user:hf_secret@datasets/acme", "hf://hf_secret@datasets/acme?x=1", "x://hf_secret@datasets/a/b"):
        with pytest.raises(XetInputError) as raised:
            parse(uri)
        assert "secret" not in str(raised.value)


def test_a_password_is_not_in_the_asset():
    with pytest.warns(UserWarning, match="password"):
        asset = Asset(name="corpus", uri="hf://user:hf_secret@datasets/acme/corpus")
    assert asset.uri == "hf://datasets/acme/corpus"


NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_]{0,8}", fullmatch=True)
SEGMENTS = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="./\\"), min_size=1, max_size=8
) | st.sampled_from(["...", ".env", "a.b", "git", ".gitignore"])
PATHS = st.lists(SEGMENTS, max_size=3)
REVISIONS = st.sampled_from(["main", "v1", "feature/new", "refs/pr/12", "refs/convert/parquet", "a@b", "ünï", "50%"])


@given(st.sampled_from(REPO_TYPES), NAMES, NAMES, REVISIONS, PATHS.map("/".join))
def test_a_uri_means_the_place_that_it_was_made_of(kind, namespace, name, revision, path):
    place = AssetPlace(Repo(f"{namespace}_/{name}", kind, "main" if kind == "bucket" else revision), path)
    assert parse(place.uri) == place
    assert place.uri.isascii()
    asset = create_asset(repo_id=place.repo.repo_id, repo_type=kind, revision=place.repo.revision, path=path)
    assert asset.uri == place.uri
    assert sanitize_uri(urlsplit(asset.uri)) == urlsplit(asset.uri)


def test_a_place_knows_what_is_in_it():
    place = AssetPlace(Repo("acme/m"), "train")
    assert [place.has(path) for path in ("train", "train/a.bin", "training/a.bin", "a.bin")] == [
        True,
        True,
        False,
        False,
    ]
    assert AssetPlace(Repo("acme/m")).has("anything")


def test_the_factory_refuses_what_is_wrong():
    with pytest.raises(ValueError, match="not of the form"):
        create_asset(repo_id="corpus")
    with pytest.raises(ValueError, match="segment"):
        create_asset(repo_id="acme/corpus", path="../x")
    assert create_asset(repo_id="acme/m", path="/a/", extra={"a": 1}).extra == {"a": 1}
