"""The first card of a repository, which states its license."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.exceptions import XetForbiddenError, XetInputError, XetNotFoundError
from airflow_provider_xethub.xet.publish import license_card
from airflow_provider_xethub.xet.repo import Repo

MODEL = Repo("acme/m")


class Hub:
    """A Hub whose repository has so many commits and these files."""

    endpoint = "https://hub.example"

    def __init__(self, error=None, commits=1, paths=()):
        self.error, self.commits, self.paths, self.sent = error, commits, paths, []

    def json(self, method, path, **options):
        self.sent.append((method, path, options))
        if self.error:
            raise self.error

    def latest_commits(self, repo, limit):
        assert repo == MODEL
        return [*range(self.commits)][:limit]

    def existing_paths(self, repo, paths):
        assert repo == MODEL
        return {path for path in paths if path in self.paths}


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_card_is_returned_after_the_hub_accepted_it(kind):
    hub, repo = Hub(), Repo("acme/m", kind)
    assert license_card.checked(hub, repo, "cc-by-4.0") == b'---\nlicense: "cc-by-4.0"\n---\n'
    assert hub.sent == [
        (
            "POST",
            "/api/validate-yaml",
            {
                "about": f"the check of license cc-by-4.0 for {kind} acme/m",
                "json": {"repoType": kind, "content": '---\nlicense: "cc-by-4.0"\n---\n'},
                "repo": repo,
            },
        )
    ]


def test_a_hub_that_cannot_check_cards_accepts_each(caplog):
    hub = Hub(XetNotFoundError("There is no such route.", status=404))
    assert b"mit" in license_card.checked(hub, MODEL, "mit")
    assert caplog.messages == ["The Hub at https://hub.example cannot validate cards, so license mit was not checked."]


def test_a_license_that_the_hub_rejects_is_an_error():
    with pytest.raises(XetForbiddenError):
        license_card.checked(Hub(XetForbiddenError("No.", status=403)), MODEL, "mit")


@pytest.mark.parametrize(
    ("kind", "remedy"), [("space", "Write it into its README.md."), ("bucket", "A bucket has no card.")]
)
def test_what_has_no_card_cannot_have_a_license(kind, remedy):
    hub = Hub()
    with pytest.raises(XetInputError) as caught:
        license_card.checked(hub, Repo("acme/m", kind), "mit")
    assert str(caught.value) == f"{kind} acme/m cannot be created with a license. {remedy}"
    assert hub.sent == []


@pytest.mark.parametrize("text", ["MIT", "mit\n", "", 'mit"', "-mit", "x" * 101])
def test_what_is_no_identifier_is_not_sent(text):
    hub = Hub()
    with pytest.raises(XetInputError) as caught:
        license_card.checked(hub, MODEL, text)
    assert str(caught.value) == (
        f"license {text!r:.80} is not the identifier of a license, such as apache-2.0, mit or cc-by-4.0."
    )
    assert hub.sent == []


@pytest.mark.parametrize(
    ("commits", "paths", "is_wanted"), [(1, (), True), (2, (), False), (3, (), False), (1, ("README.md",), False)]
)
def test_a_repository_in_use_is_left_as_it_is(commits, paths, is_wanted):
    assert license_card.is_wanted(Hub(commits=commits, paths=paths), MODEL) is is_wanted


def test_the_commit_says_what_it_is_for():
    request = license_card.commit_request(MODEL)
    assert (request.repo, [*request.files], request.message) == (MODEL, [], "Add the license")
