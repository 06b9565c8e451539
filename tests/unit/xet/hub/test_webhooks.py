"""What the body of a webhook means, without a server."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.hub import webhooks
from airflow_provider_xethub.xet.hub.webhooks import RefUpdate, WebhookSecrets
from airflow_provider_xethub.xet.repo import Repo
from support.webhook_bodies import ONE, THREE, TWO, ZERO, pushed

CORPUS = Repo("acme/corpus", "dataset")
PAGE = "https://huggingface.co/datasets/acme/corpus"


def moves(body: object) -> list[RefUpdate]:
    return webhooks.parse_ref_updates(json.dumps(body).encode())


def commit(oid: str, title: str = "") -> dict[str, str]:
    return {"oid": oid, "url": f"{PAGE}/commit/{oid}", "repo": "wrong", "title": title, "description": ""}


def test_a_push_is_a_move_of_its_branch():
    assert moves(pushed(CORPUS, ONE, TWO)) == [RefUpdate(CORPUS, ONE, TWO, f"{PAGE}/commit/{TWO}")]


@pytest.mark.parametrize(
    ("ref", "revision"),
    [
        ("refs/heads/main", "main"),
        ("refs/heads/feature/x", "feature/x"),
        ("refs/tags/v1.0", "v1.0"),
        ("refs/pr/7", "refs/pr/7"),
        ("refs/convert/parquet", "refs/convert/parquet"),
    ],
)
def test_a_ref_is_the_revision_that_its_asset_has(ref, revision):
    (move,) = moves(pushed(CORPUS, ONE, TWO, ref=ref))
    assert move.repo == CORPUS.at(revision)


@pytest.mark.parametrize("repo", [Repo("acme/m"), Repo("acme/s", "space"), CORPUS])
def test_all_types_that_have_commits(repo):
    assert [move.repo for move in moves(pushed(repo, ONE, TWO))] == [repo]


def test_a_branch_and_a_tag_of_one_name_are_one_move():
    refs = [{"ref": f"refs/{kind}/v1", "oldSha": ONE, "newSha": TWO} for kind in ("heads", "tags", "heads")]
    assert len(moves(pushed(CORPUS, ONE, TWO, updatedRefs=refs))) == 1


@pytest.mark.parametrize(
    "body",
    [
        pushed(CORPUS, None, TWO),
        pushed(CORPUS, ONE, None),
        pushed(CORPUS, ONE, ONE),
        pushed(CORPUS, ONE, TWO, updatedRefs=[]),
        pushed(CORPUS, ONE, TWO, updatedRefs=None),
        pushed(CORPUS, ONE, TWO, event={"action": "create", "scope": "discussion"}),
        pushed(CORPUS, ONE, TWO, event={"action": "update", "scope": "repository"}),
        pushed(CORPUS, ONE, TWO, repo={"type": "model", "name": "gpt2"}),
        pushed(CORPUS, ONE, TWO, repo={"type": "collection", "name": "acme/corpus"}),
        pushed(CORPUS, ONE, TWO, repo={"type": "bucket", "name": "acme/corpus"}),
        pushed(CORPUS, ONE, TWO, ref="refs/heads/../x"),
    ],
)
def test_what_is_no_move_of_something_that_can_be_an_asset_is_none(body):
    assert moves(body) == []


@pytest.mark.parametrize("scope", ["repo", "repo.content", "repo.content.commits"])
def test_a_narrower_scope_counts_as_its_broader_one(scope):
    assert moves(pushed(CORPUS, ONE, TWO, event={"action": "update", "scope": scope}))


def test_a_branch_moves_once_in_one_push():
    """Each move costs questions to the database: a body of a megabyte with one branch again and again took a minute."""
    refs = [{"ref": "refs/heads/main", "oldSha": f"{n:040x}", "newSha": f"{n + 1:040x}"} for n in range(2)]
    with pytest.raises(XetInputError, match=r"updatedRefs\[1\] is not the only update of its ref"):
        moves(pushed(CORPUS, ONE, TWO, updatedRefs=refs))
    other = {**refs[1], "ref": "refs/heads/other"}
    assert len(moves(pushed(CORPUS, ONE, TWO, updatedRefs=[refs[0], refs[0], other]))) == 2


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "JSON object"),
        (None, "JSON object"),
        ({}, "event"),
        ({"event": "push"}, "event"),
        (pushed(CORPUS, ONE, TWO, event={"scope": 1}), "event.scope"),
        (pushed(CORPUS, ONE, TWO, repo=[]), "repo"),
        (pushed(CORPUS, ONE, TWO, repo={"name": "a/b"}), "repo.type"),
        (pushed(CORPUS, ONE, TWO, repo={"type": "model", "name": {"a": 1}}), "repo.name"),
        (pushed(CORPUS, ONE, TWO, updatedRefs={}), "updatedRefs"),
        (pushed(CORPUS, ONE, TWO, updatedRefs=[[]]), "updatedRefs[0]"),
        (pushed(CORPUS, ONE, TWO, updatedRefs=[{"ref": 5}]), "updatedRefs[0].ref"),
        (pushed(CORPUS, ONE, "secret-value"), "updatedRefs[0].newSha"),
        (pushed(CORPUS, "ABCDEF" * 7, TWO), "updatedRefs[0].oldSha"),
        (pushed(CORPUS, 1, TWO), "updatedRefs[0].oldSha"),
    ],
)
def test_another_body_is_refused_by_the_name_of_the_field_and_its_value_is_not_shown(body, field):
    with pytest.raises(XetInputError, match="body") as caught:
        moves(body)
    assert field in str(caught.value)
    assert "secret-value" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe{",
        b"{",
        b"event=push",
        b"[" * 500_000,
        b'{"a":' * 200_000,
        b"1" * 5000,
        b'{"event": NaN',
    ],
)
def test_what_is_no_json_is_refused(body):
    with pytest.raises(XetInputError, match="body"):
        webhooks.parse_ref_updates(body)


@given(st.binary(max_size=200) | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps))
def test_any_bytes_are_a_list_or_refused(body):
    with suppress(XetInputError):
        assert webhooks.parse_ref_updates(body if isinstance(body, bytes) else body.encode()) == []


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(["event", "repo", "updatedRefs", "webhook"]), _JSON)
def test_any_value_in_a_field_is_a_list_or_refused(field, value):
    with suppress(XetInputError):
        assert len(moves(pushed(CORPUS, ONE, TWO, **{field: value}))) <= 1


@pytest.mark.parametrize(
    "web",
    [
        None,
        5,
        "javascript:alert(1)",
        "ftp://hub/datasets/acme/corpus",
        "https://user:pass@hub/datasets/acme/corpus",
        "https://hub/other",
        "http://[",
    ],
)
def test_an_address_that_is_none_of_the_repository_is_not_taken_over(web):
    repo = {"type": "dataset", "name": "acme/corpus", "url": {"web": web}}
    (move,) = moves(pushed(CORPUS, ONE, TWO, repo=repo))
    assert move.commit_url == f"{PAGE}/commit/{TWO}"


def test_the_address_of_another_hub_is_taken_over_without_what_follows_it():
    repo = {"type": "dataset", "name": "acme/corpus", "url": {"web": "http://hub:7777/datasets/acme/corpus?x=1#y"}}
    (move,) = moves(pushed(CORPUS, ONE, TWO, repo=repo))
    assert move.commit_url == f"http://hub:7777/datasets/acme/corpus/commit/{TWO}"


MOVE = RefUpdate(CORPUS, ONE, THREE, f"{PAGE}/commit/{THREE}")


def test_each_commit_of_a_push_is_told_oldest_first_with_the_one_before():
    told = webhooks.event_payloads(MOVE, [commit(THREE, "c"), commit(TWO, "b"), commit(ONE, "a"), commit(ZERO)])
    assert [(each["oid"], each["previous"], each["title"]) for each in told] == [(TWO, ONE, "b"), (THREE, TWO, "c")]
    assert {each["repo"] for each in told} == {CORPUS.uri}


def test_after_a_rewritten_history_only_the_newest_is_told():
    (told,) = webhooks.event_payloads(MOVE, [commit(THREE, "c"), commit(TWO, "b")])
    assert (told["oid"], told["previous"], told["title"]) == (THREE, ONE, "c")


@pytest.mark.parametrize("history", [[], [commit(TWO), commit(ONE)], [commit(ONE)]])
def test_without_the_history_there_is_one_event_without_a_title(history):
    expected = {**commit(THREE), "repo": CORPUS.uri, "previous": ONE}
    assert webhooks.event_payloads(MOVE, history) == [expected]


def test_a_secret_is_one_of_those_that_are_set():
    secrets = WebhookSecrets("first-0123456789, second-0123456789")
    assert secrets
    assert secrets.matches("first-0123456789")
    assert secrets.matches("second-0123456789")
    for wrong in (
        "",
        "first-0123456788",
        "first-0123456789 ",
        "first-0123456789, second-0123456789",
        "é" * 20,
        "\ud8ff",
    ):
        assert not secrets.matches(wrong)
    assert not WebhookSecrets("")
    assert not WebhookSecrets(" , ").matches("")


@pytest.mark.parametrize(
    "text", ["short", "with a blank in it", "umläut-0123456789", "good-0123456789abcdef,bad", "x" * 20 + "\n1"]
)
def test_a_secret_that_cannot_protect_is_refused_and_not_shown(text):
    with pytest.raises(XetInputError, match="16 ASCII") as caught:
        WebhookSecrets(text)
    assert text not in str(caught.value)


def test_secrets_do_not_show_themselves():
    secrets = WebhookSecrets("first-0123456789")
    assert "first" not in f"{secrets!r} {vars(secrets)}"
