"""The Hub's rules for names: the local Hub and the provider, each with rules of its own, agree about them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet import repo as provider
from xethub_local import repo as local

PIECES = ["a", "Z", "9", "_", "-", ".", "--", "..", "/", "models", "datasets", "spaces", "buckets", ".git", ".GIT", "ü"]
NAMES = st.lists(st.sampled_from([*PIECES, "a" * 96]), max_size=6).map("".join)
TEXT = st.text(st.sampled_from("aZ9_-.~^:?*[\\@{} \t\x7f\0/\ud800ü"), max_size=8)
VALID = st.from_regex(r"[A-Za-z0-9_]([A-Za-z0-9_]|[.-](?=[A-Za-z0-9_])){0,20}", fullmatch=True)


def refused(check: Callable[[str], object], value: str) -> bool:
    try:
        check(value)
    except (XetInputError, local.InvalidNameError):
        return True
    return False


@given(NAMES | st.tuples(NAMES, NAMES).map("/".join))
@example("models/x")
@example("bucket/x")
@example("acme/x.git")
@example("acme/" + "x" * 97)
@example("acme/x\n")
def test_both_refuse_the_same_repository_ids(repo_id: str) -> None:
    assert refused(local.check_repo_id, repo_id) == refused(provider.check_repo_id, repo_id)


@given(
    TEXT | st.lists(st.sampled_from(["refs/pr/1", "v1", ".lock", "main", "@{", "x" * 255]), max_size=3).map("/".join)
)
def test_both_refuse_the_same_revisions(revision: str) -> None:
    assert refused(local.check_revision, revision) == refused(provider.check_revision, revision)


@given(TEXT | NAMES | st.integers(4090, 4100).map(lambda length: "x" * length))
@example("a/.Git/x")
@example("ü" * 2048)
@example("ü" * 2049)
def test_both_refuse_the_same_paths_without_backslashes(path: str) -> None:
    path = path.replace("\\", "")
    assert refused(local.check_path, path) == refused(provider.check_path, path)


def test_only_the_hub_takes_a_backslash_for_a_character_like_any_other() -> None:
    assert refused(provider.check_path, "a\\b")
    assert not refused(local.check_path, "a\\b")
    assert refused(local.check_path, "..\\b")


@given(VALID, VALID, st.sampled_from(provider.REPO_TYPES), st.sampled_from(["main", "v1", "refs/pr/7", "50%", "ü"]))
def test_a_repo_of_the_local_hub_takes_the_place_of_one_of_the_provider(
    namespace: str, name: str, repo_type: provider.RepoType, revision: str
) -> None:
    revision = "main" if repo_type == "bucket" else revision
    if refused(provider.check_repo_id, f"{namespace}/{name}"):
        return
    own = local.Repo(f"{namespace}/{name}", repo_type, revision)
    theirs = provider.Repo(f"{namespace}/{name}", repo_type, revision)
    public = [each for each in dir(provider.Repo) if not each.startswith("_") and each != "from_uri"]
    assert {*public} <= {*dir(own)}
    for each in public:
        if not callable(getattr(theirs, each)):
            assert getattr(own, each) == getattr(theirs, each), each
    scopes: list[provider.Scope] = ["read", "write"]
    for scope in scopes:
        assert own.token_path(scope) == theirs.token_path(scope)
    assert (own == theirs, theirs == own, own != theirs, hash(own) == hash(theirs)) == (True, True, False, True)
    assert str(own) == str(theirs)
    assert theirs.is_same_repo(own)  # type: ignore[arg-type]
    if repo_type != "bucket":
        assert own.at("v2") == theirs.at("v2") != own
        assert own.is_same_repo(theirs.at("v2"))  # type: ignore[arg-type]
    assert own != "another value"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("acme/x", "models"), "repo_type 'models' is unknown"),
        (("acme", "model"), "is not of the form"),
        (("acme/x", "model", ""), "not a valid git reference"),
        (("acme/x", "bucket", "v1"), "bucket acme/x is not at revision 'v1'"),
    ],
)
def test_what_is_no_repository_is_refused(values: tuple[str, ...], message: str) -> None:
    with pytest.raises(local.InvalidNameError, match=message):
        local.Repo(*values)  # type: ignore[arg-type]
