"""Which repository a request is about, by its path alone."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.exceptions import XetIdentityError
from airflow_provider_xethub.xet.hub import resources
from airflow_provider_xethub.xet.repo import Repo

HUB = "https://huggingface.co"


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/api/models/acme/m", "acme/m"),
        ("/api/models/acme/m/tree/main", "acme/m"),
        ("/api/datasets/acme/corpus/xet-write-token/refs%2Fpr%2F1", "datasets/acme/corpus"),
        ("/api/spaces/acme/app/commit/main", "spaces/acme/app"),
        ("/api/kernels/acme/k", "kernels/acme/k"),
        ("/acme/m/resolve/main/README.md", "acme/m"),
        ("/datasets/acme/corpus/resolve/main/a/b.bin", "datasets/acme/corpus"),
        ("/acme/m.git/info/lfs/objects/batch", "acme/m"),
        ("/datasets/acme/corpus.git/info/lfs/objects/batch", "datasets/acme/corpus"),
        ("/acme/m.v1/raw/main/x", "acme/m.v1"),
    ],
)
def test_a_path_about_one_repository_names_it(path, resource):
    assert resources.of_path(path).text == resource


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/api/models",
        "/api/models/acme",
        "/api/models/acme/",
        "/api/models//m",
        "/api/models/acme/m%2F..",
        "/api/models/acme/../other",
        "/api/whoami-v2",
        "/api/repos/create",
        "/api/settings/webhooks",
        "/api/validate-yaml",
        "/oauth/token",
        "/acme/m",
        "/acme/m\n/resolve/main",
        "api/models/acme/m",
    ],
)
def test_any_other_path_is_refused_by_name(path):
    with pytest.raises(XetIdentityError, match=r"^A keyless connection cannot request .*Nothing was sent") as error:
        resources.of_path(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["/api/buckets/acme/b/batch", "/buckets/acme/b/resolve/x"])
def test_a_bucket_has_no_publishers(path):
    with pytest.raises(XetIdentityError, match=r"^Bucket acme/b has no trusted publishers"):
        resources.of_path(path)


@pytest.mark.parametrize(
    ("repo_type", "settings"),
    [("model", "/acme/x/settings"), ("dataset", "/datasets/acme/x/settings"), ("space", "/spaces/acme/x/settings")],
)
def test_the_settings_of_a_repository_are_on_its_page(repo_type, settings):
    assert resources.of_repo(Repo("acme/x", repo_type)).settings_url(HUB) == HUB + settings


def test_a_user_is_named_as_such():
    assert str(resources.of_user("acme-bot")) == "user acme-bot"
    assert resources.of_user("acme-bot").is_user
    for name in ("", "acme/m", "../x", "a b"):
        with pytest.raises(XetIdentityError, match=r"^identity_user .* is not the name of a user"):
            resources.of_user(name)
