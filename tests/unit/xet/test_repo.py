from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.repo import (
    REPO_TYPES,
    Repo,
    check_path,
    check_ref_name,
    check_repo_id,
    check_revision,
    folders_above,
)

NAME_CHARS = "abcXYZ019_"
NAMES = st.builds(
    lambda first, middle, last: first + middle.replace("--", "-").replace("..", ".") + last,
    st.sampled_from(NAME_CHARS),
    st.text(NAME_CHARS, max_size=40) | st.sampled_from(["a.b", "a-b.c_d", "-", "."]),
    st.sampled_from("abcXYZ019_"),
)


REVISION_CHARS = "aZ09_+%@#&=;!'\"()<>|ü✨é\u0301\u202e\U0001f600"
REVISIONS = (
    st.lists(st.text(REVISION_CHARS, min_size=1, max_size=8), min_size=1, max_size=3).map("/".join)
    | st.integers(1, 10**6).map("refs/pr/{}".format)
    | st.text("0123456789abcdef", min_size=40, max_size=40)
    | st.sampled_from(["main", "refs/heads/ünï/✨", "50%", "%2F", "a@b", "@", "v1.0+build;x=1&y", "a#b", "a'b"])
)
REPOS = st.builds(
    lambda namespace, name, kind, revision: Repo(f"{namespace}/{name}", kind, "main" if kind == "bucket" else revision),
    NAMES,
    NAMES,
    st.sampled_from(REPO_TYPES),
    REVISIONS,
)


@pytest.mark.parametrize(
    ("repo_type", "api_path", "web_path", "uri"),
    [
        ("model", "/api/models/acme/m", "/acme/m", "hf://acme/m@main"),
        ("dataset", "/api/datasets/acme/m", "/datasets/acme/m", "hf://datasets/acme/m@main"),
        ("space", "/api/spaces/acme/m", "/spaces/acme/m", "hf://spaces/acme/m@main"),
        ("bucket", "/api/buckets/acme/m", "/buckets/acme/m", "hf://buckets/acme/m"),
    ],
)
def test_each_type_has_its_paths(repo_type, api_path, web_path, uri):
    repo = Repo("acme/m", repo_type)
    assert (repo.api_path, repo.web_path, repo.uri, str(repo)) == (api_path, web_path, uri, uri)


def test_the_type_is_model_and_the_revision_main_where_left_out():
    assert Repo("acme/m") == Repo("acme/m", "model", "main")


@pytest.mark.parametrize(
    ("repo", "path"),
    [
        (Repo("acme/m"), "/api/models/acme/m/xet-read-token/main"),
        (Repo("acme/m", "dataset", "refs/pr/7"), "/api/datasets/acme/m/xet-read-token/refs%2Fpr%2F7"),
        (Repo("acme/m", "space", "für alle".replace(" ", "_")), "/api/spaces/acme/m/xet-read-token/f%C3%BCr_alle"),
        (Repo("acme/m", "model", "50%"), "/api/models/acme/m/xet-read-token/50%25"),
        (Repo("acme/m", "bucket"), "/api/buckets/acme/m/xet-read-token"),
    ],
)
def test_the_refresh_route_names_scope_repository_and_encoded_revision(repo, path):
    assert repo.token_path("read") == path
    assert repo.token_path("write") == path.replace("xet-read-token", "xet-write-token")


@pytest.mark.parametrize("scope", ["", "admin", "READ", None])
def test_an_unknown_scope_has_no_refresh_route(scope):
    with pytest.raises(XetInputError, match=f"scope {re.escape(repr(scope))} is unknown; use 'read' or 'write'"):
        Repo("acme/m").token_path(scope)


@given(REVISIONS)
def test_an_encoded_revision_is_one_path_segment_and_means_the_revision(revision):
    quoted = Repo("acme/m", revision=revision).quoted_revision
    assert re.fullmatch(r"[A-Za-z0-9_.~%-]+", quoted)
    assert unquote(quoted) == revision


@given(REPOS)
def test_a_repository_survives_its_uri(repo):
    assert Repo.from_uri(repo.uri) == repo


@pytest.mark.parametrize(
    ("uri", "repo"),
    [
        ("hf://acme/m", Repo("acme/m")),
        ("hf://models/acme/m", Repo("acme/m")),
        ("hf://datasets/acme/m@v1", Repo("acme/m", "dataset", "v1")),
        ("hf://datasets/acme/m@refs%2Fpr%2F1", Repo("acme/m", "dataset", "refs/pr/1")),
        ("hf://datasets/acme/m@refs/pr/1", Repo("acme/m", "dataset", "refs/pr/1")),
        ("hf://acme/m@a@b", Repo("acme/m", revision="a@b")),
        ("hf://buckets/acme/m", Repo("acme/m", "bucket")),
        ("hf://buckets/acme/m@main", Repo("acme/m", "bucket")),
    ],
)
def test_uris_may_leave_out_what_has_a_default(uri, repo):
    assert Repo.from_uri(uri) == repo


@pytest.mark.parametrize(
    "uri",
    [None, 5, "", "acme/m", "https://huggingface.co/acme/m", "HF://acme/m", "hf:/acme/m"],
)
def test_what_does_not_begin_like_a_repository_uri_is_refused(uri):
    with pytest.raises(XetInputError, match=r"is not a repository URI; expected hf://\[datasets/\]namespace/name"):
        Repo.from_uri(uri)


@pytest.mark.parametrize(
    "uri",
    ["hf://", "hf://acme", "hf://acme/m@", "hf://datasets/acme/m/file.csv", "hf://gists/acme/m", "hf://acme/m/x@main"],
)
def test_a_uri_that_is_no_repository_is_refused(uri):
    with pytest.raises(XetInputError, match="is not a repository URI; expected hf://") as caught:
        Repo.from_uri(uri)
    assert repr(uri) in str(caught.value)


def test_a_uri_with_a_bad_name_is_refused_for_the_name():
    with pytest.raises(XetInputError, match="'-bad' must have 1 to 96"):
        Repo.from_uri("hf://acme/-bad")


@given(st.text(max_size=60))
def test_a_uri_is_parsed_or_refused_whatever_it_is(text):
    try:
        repo = Repo.from_uri(f"hf://{text}")
    except XetInputError:
        return
    assert Repo.from_uri(repo.uri) == repo


@pytest.mark.parametrize("repo_type", ["models", "", "Dataset", None])
def test_an_unknown_type_is_refused_with_those_that_are_known(repo_type):
    with pytest.raises(XetInputError, match="is unknown; use one of model, dataset, space, bucket") as caught:
        Repo("acme/m", repo_type)
    assert repr(repo_type) in str(caught.value)


def test_a_bucket_at_a_revision_is_refused():
    with pytest.raises(XetInputError, match=r"bucket acme/b cannot be used at revision 'v1'.*Leave revision out"):
        Repo("acme/b", "bucket", "v1")


@pytest.mark.parametrize("repo_id", [None, 7, "", "acme", "acme/m/x", "datasets/acme/m"])
def test_an_id_that_is_not_two_names_is_refused(repo_id):
    with pytest.raises(XetInputError, match="is not of the form 'namespace/name'") as caught:
        check_repo_id(repo_id)
    assert repr(repo_id) in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-m",
        "m-",
        ".m",
        "m.",
        "a--b",
        "a..b",
        "m.git",
        "a b",
        "a\n",
        "a%2f",
        "ü",
        "a" * 97,
        "..",
        "a@b",
        "a:b",
        "a?",
    ],
)
@pytest.mark.parametrize("form", ["acme/{}", "{}/m"])
def test_a_bad_name_in_an_id_is_refused(form, name):
    repo_id = form.format(name)
    with pytest.raises(XetInputError) as caught:
        Repo(repo_id)
    assert str(caught.value) == (
        f"repo_id {repo_id!r} is not valid: {name!r} must have 1 to 96 letters, digits, '-', '_' or '.', "
        "must not begin or end with '-' or '.', and must not contain '--' or '..' or end with '.git'."
    )


@pytest.mark.parametrize("name", ["m", "M1", "_m_", "a.b", "a-b", "a_-b", "a" * 96, "0", "git", "m.gitx"])
def test_a_good_name_in_an_id_is_accepted(name):
    assert Repo(f"{name}/{name}").repo_id == f"{name}/{name}"


@pytest.mark.parametrize("revision", [None, 1, "", "x" * 256])
def test_a_revision_must_be_a_text_of_bearable_length(revision):
    with pytest.raises(XetInputError, match=r"is not a branch, tag, commit or refs/pr/N\."):
        check_revision(revision)


BAD_ENDS = ["-a", "/a", ".a", "a/", "a.", "a.lock"]
BAD_CHARS = ["a b", "a\n", "a\x00", "a\x7f", "a~1", "a^", "a:b", "a?", "a*", "a[0]", "a\\b", "\ud800"]
BAD_PAIRS = ["a..b", "a@{1}", "a//b", "..", "../../whoami"]


@pytest.mark.parametrize("revision", BAD_ENDS + BAD_CHARS + BAD_PAIRS)
def test_a_revision_that_git_refuses_is_refused(revision):
    with pytest.raises(XetInputError, match="is not a valid git reference; use a branch, tag, commit or refs/pr/N"):
        Repo("acme/m", revision=revision)


@pytest.mark.parametrize("revision", ["x" * 255, "a/b/c", "v1.0", "a@b", "50%", "é", "HEAD", "a-", "lock"])
def test_other_revisions_are_accepted(revision):
    check_revision(revision)


PROTECTED = "is refused: main and HEAD are never created or deleted, and a name does not begin with refs/."


@pytest.mark.parametrize("kind", ["branch", "tag"])
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a b", "is not valid: revision 'a b' is not a valid git reference; use a branch, tag, commit or refs/pr/N."),
        ("main", PROTECTED),
        ("HEAD", PROTECTED),
        (
            "refs/heads/v1",
            "is refused: main and HEAD are never created or deleted, and a name does not begin with refs/.",
        ),
        ("0af" * 13 + "0", "is refused: it looks like the id of a commit. Choose another name."),
    ],
)
def test_a_name_that_no_branch_or_tag_may_have_is_refused(kind, name, why):
    with pytest.raises(XetInputError) as caught:
        check_ref_name(kind, name)
    assert str(caught.value) == f"{kind} {name!r} {why}"


@pytest.mark.parametrize("name", ["v1.0", "release/2026", "refs", "head", "0af" * 13, "0af" * 13 + "0a"])
def test_any_other_name_of_a_branch_or_tag_is_accepted(name):
    check_ref_name("tag", name)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "it is empty"),
        (None, "it is empty"),
        (5, "it is empty"),
        ("/etc/passwd", "it is absolute"),
        ("a\\b", "it contains a backslash"),
        ("a\nb", "it contains a control character"),
        ("a\x7f", "it contains a control character"),
        ("a\x00b", "it contains a control character"),
        ("..", "it contains an empty, '.' or '..' segment"),
        ("a/../../b", "it contains an empty, '.' or '..' segment"),
        ("./a", "it contains an empty, '.' or '..' segment"),
        ("a//b", "it contains an empty, '.' or '..' segment"),
        ("a/", "it contains an empty, '.' or '..' segment"),
        (".git", "it is inside .git"),
        (".git/hooks/post-checkout", "it is inside .git"),
        ("vendored/.git/hooks/post-checkout", "it is inside .git"),
        (".GIT/config", "it is inside .git"),
        ("é" * 2049, "it is longer than 4096 bytes"),
        ("a\ud800", "it is not valid Unicode"),
    ],
)
def test_a_path_that_could_mean_another_place_is_refused(path, why):
    with pytest.raises(XetInputError) as caught:
        check_path(path)
    assert str(caught.value) == f"path {path!r} in a repository is not valid: {why}."


@pytest.mark.parametrize(
    "path",
    ["a", "a/b/c.txt", ".gitattributes", ".github/x", "a/.gitignore", "...", "a b", "é/✨", "~", "a:b", "é" * 2048],
)
def test_any_other_path_is_accepted(path):
    check_path(path)


@pytest.mark.parametrize(("path", "folders"), [("a", []), ("a/b", ["a"]), ("x/ab/c.txt", ["x/ab", "x"])])
def test_the_folders_above_a_path_come_deepest_first(path, folders):
    assert list(folders_above(path)) == folders


@given(st.text(st.characters(), max_size=30))
def test_an_accepted_path_stays_below_where_it_is_put(path):
    try:
        check_path(path)
    except XetInputError:
        return
    assert not path.startswith("/")
    assert not {"", ".", ".."} & set(path.split("/"))
    assert path.encode().decode() == path


def test_the_same_repository_at_another_revision_is_the_same_repository():
    main, other = Repo("acme/m", "dataset"), Repo("acme/m", "dataset").at("v1")
    assert other == Repo("acme/m", "dataset", "v1")
    assert main != other
    assert main.is_same_repo(other)
    assert not main.is_same_repo(Repo("acme/m", "model"))
    assert not main.is_same_repo(Repo("acme/n", "dataset"))


@pytest.mark.parametrize("namespace", ["models", "datasets", "spaces", "buckets"])
def test_a_repository_type_is_no_namespace(namespace):
    with pytest.raises(XetInputError) as caught:
        Repo.from_uri(f"hf://{namespace}/corpus")
    assert str(caught.value) == (
        f"repo_id '{namespace}/corpus' begins with a repository type. Write it as repo_type='{namespace[:-1]}', and "
        "the namespace before the name."
    )
