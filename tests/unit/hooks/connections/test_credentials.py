"""What a response to whoami says about a Hub token, and what is wider than any task needs."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.hooks.connections.credentials import Credential, advice


def fine_grained(*scoped, everywhere=()):
    """As the Hub's OpenAPI document says, and as public transcripts of whoami show it."""
    token = {
        "displayName": "ci",
        "role": "fineGrained",
        "createdAt": "2026-07-23T10:27:03.276Z",
        "fineGrained": {"canReadGatedRepos": True, "global": list(everywhere), "scoped": list(scoped)},
    }
    return Credential.of({"type": "user", "name": "ana", "auth": {"type": "access_token", "accessToken": token}})


def scope(entity, name, *permissions):
    return {"entity": {"_id": "6a61ec32", "type": entity, "name": name}, "permissions": list(permissions)}


def classic(role):
    return Credential.of({"name": "ana", "auth": {"type": "access_token", "accessToken": {"role": role}}})


def said(credential, repo_id=None):
    return advice(credential, repo_id, str)


def test_a_classic_write_token_is_warned_of_and_what_is_needed_is_named():
    text = said(classic("write"), "acme/corpus")
    assert text.startswith("Warning: it may change and delete every repository that its user may.")
    assert "A fine-grained token for acme/corpus needs repo.content.read, and for uploads repo.write, for" in text
    assert "a connection with an identity needs no token" in text
    assert "for the repositories of your DAGs needs" in said(classic("write"))


def test_a_classic_read_token_reads_too_much():
    assert said(classic("read")).startswith("It may read every private repository that its user may.")


@pytest.mark.parametrize("auth", [{"type": "oauth", "expiresAt": "2099-01-01T00:00:00Z"}, {}, None, 5])
def test_what_another_credential_may_do_is_unknown(auth):
    credential = Credential.of({"name": "ana", "auth": auth})
    assert not credential.is_fine_grained
    assert said(credential).startswith("The Hub does not say what it may do.")


@pytest.mark.parametrize("entity", ["model", "dataset", "space", "bucket"])
def test_a_token_for_single_repositories_needs_no_advice(entity):
    token = fine_grained(
        scope(entity, "acme/corpus", "repo.content.read", "repo.write", "discussion.write"),
        everywhere=["discussion.write"],
    )
    assert token.is_fine_grained
    assert said(token) == ""


@pytest.mark.parametrize("entity", ["user", "org"])
def test_a_token_for_all_repositories_of_an_owner_is_wider_than_needed(entity):
    text = said(fine_grained(scope(entity, "acme", "repo.write"), scope("dataset", "acme/corpus", "repo.write")))
    assert text == ("It covers all repositories of acme: name single ones instead, unless tasks create repositories.")


def test_permissions_that_no_task_needs_are_named():
    held = ["repo.content.read", "repo.write", "inference.serverless.write", "user.billing.read", "job.write"]
    text = said(fine_grained(scope("dataset", "acme/corpus", *held), everywhere=["post.write"]))
    assert text == "No task needs its permissions inference.serverless.write, job.write, post.write and 1 more."
    assert said(fine_grained(scope("org", "acme", "job.write"))) == "No task needs its permission job.write."


def test_parts_with_another_shape_are_left_out():
    odd = [3, {"entity": 4}, {"entity": {"name": "a"}, "permissions": 5}, scope("dataset", "acme/c", "repo.write")]
    token = fine_grained(*odd)
    assert [grant.name for grant in token.grants] == ["acme/c"]
    for wrong in ([], {"auth": []}, {"auth": {"accessToken": {"role": "fineGrained", "fineGrained": []}}}):
        assert said(Credential.of(wrong if isinstance(wrong, dict) else {})) is not None
