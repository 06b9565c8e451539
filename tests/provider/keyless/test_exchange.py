"""A keyless connection: which requests it sends with which token, and what it says where it cannot."""

from __future__ import annotations

import io
import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from huggingface_hub.errors import HfHubHTTPError

from airflow_provider_xethub.exceptions import (
    XetForbiddenError,
    XetIdentityError,
    XetNotFoundError,
    XetProtocolError,
    XetPublisherError,
    XetRedirectError,
    XetServerError,
)
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.hub.exchanged_tokens import MARGIN
from airflow_provider_xethub.xet.publish.card import Card
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.repo import Repo
from support.identities import SUBJECT
from xethub_local.control.faults import Fault

EXCHANGE = "POST /oauth/token"


@pytest.fixture
def private(make_repo):
    return make_repo(private=True)


@pytest.fixture
def with_hub_token(hook, connection):
    """A hook whose connection has a Hub token."""
    return XetHubConnection(connection("other"))


@pytest.fixture
def exchanges(hub):
    return lambda: len(hub.log.requests(EXCHANGE))


def publish(hook, repo, name="a.txt", content=b"new"):
    return hook.publish_contents({name: content}, CommitRequest(repo, (), message="Nightly"))


def test_one_exchange_serves_all_requests_about_a_repository(hub, private, hook, publisher, exchanges, tmp_path):
    publisher(private)
    (tmp_path / "large.bin").write_bytes(b"x" * 200_000)
    hook.publish(str(tmp_path / "large.bin"), CommitRequest(private, (), message="Nightly"))
    publish(hook, private)
    files = hook.list_files(private)
    hook.download(str(tmp_path / "out"), files)
    assert (tmp_path / "out" / "large.bin").read_bytes() == b"x" * 200_000
    assert hook.get_conn().get(f"/api/datasets/{private.repo_id}").ok
    assert hook.api.repo_info(private.repo_id, repo_type="dataset").private
    assert exchanges() == 1
    assert not hub.log.requests(status=401)


def test_each_repository_has_a_token_of_its_own(private, make_repo, hook, publisher, exchanges):
    other = make_repo()
    publisher(private)
    publisher(other)
    for repo in (private, other, private.at("main"), other):
        publish(hook, repo, "same.txt")
    assert exchanges() == 2


def test_threads_share_one_exchange(private, hook, publisher, exchanges):
    publisher(private)
    hook.hub  # noqa: B018 - opened before the threads start
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: hook.list_files(private), range(16)))
    assert exchanges() == 1


def test_the_identity_is_read_anew_and_a_token_replaced_before_it_expires(
    hub, private, hook, publisher, exchanges, id_file, monkeypatch
):
    publisher(private)
    publish(hook, private)
    id_file.write_text(hub.identity(SUBJECT, jti="the next"))
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 3600 - MARGIN - 60)
    publish(hook, private, "b.txt")
    assert exchanges() == 1
    monkeypatch.setattr(time, "monotonic", lambda: now + 3600 - MARGIN + 60)
    publish(hook, private, "c.txt")
    assert exchanges() == 2


def test_a_valid_token_is_used_where_it_cannot_be_replaced_yet(
    hub, private, hook, publisher, exchanges, id_file, monkeypatch, caplog
):
    publisher(private)
    publish(hook, private)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 3600 - MARGIN + 60)
    id_file.unlink()
    publish(hook, private, "b.txt")
    assert "is valid for 60 s more, and was not replaced: The identity file" in caplog.text
    monkeypatch.setattr(time, "monotonic", lambda: now + 3601)
    with pytest.raises(XetIdentityError, match=rf"^The identity file {id_file} is missing"):
        publish(hook, private, "c.txt")


def test_a_rejected_token_is_exchanged_again_once(hub, private, hook, publisher, exchanges):
    publisher(private)
    hook.list_files(private)
    hub.faults.add(Fault("GET /api/datasets/.*", times=1, status=401))
    assert hook.list_files(private)
    assert publish(hook, private)["created"]
    assert exchanges() == 2
    hub.faults.add(Fault("GET /api/datasets/.*", status=401))
    hub.log.clear()
    with pytest.raises(
        Exception, match=r"The Hub rejected the token that it exchanged for connection 'xethub_default' \(401\)"
    ):
        hook.list_files(private)
    assert (exchanges(), len(hub.log.requests("GET /api/datasets/.*"))) == (1, 2)


def test_a_removed_publisher_is_named_after_the_token_is_rejected(hub, private, hook, publisher):
    added = publisher(private)
    hook.list_files(private)
    hub.publishers.remove(added.id)
    hub.faults.add(Fault("GET /api/datasets/.*", times=1, status=401))
    with pytest.raises(XetPublisherError, match="has no trusted publisher in datasets/"):
        hook.list_files(private)


def test_a_missing_publisher_is_described_so_that_it_can_be_typed_in(hub, private, hook, id_file, exchanges):
    id_file.write_text(hub.identity(SUBJECT, namespace="ml", cluster="prod"))
    with pytest.raises(XetPublisherError) as error:
        publish(hook, private)
    said = str(error.value)
    resource = f"datasets/{private.repo_id}"
    assert said.startswith(
        f"The Hub has no trusted publisher in {resource} for this worker (400, invalid_grant). Add one"
    )
    assert f"at {hub.url}/{resource}/settings with issuer '{hub.issuer}', subject '{SUBJECT}', other claims: " in said
    assert "cluster='prod', namespace='ml'" in said
    assert f"The ID token is that of file {id_file}." in said
    assert "asks for x-request-id " in said
    assert id_file.read_text() not in said
    assert id_file.read_text().rpartition(".")[2] not in said
    assert exchanges() == 1, "retried in vain"
    assert not error.value.retryable


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"sub": "somebody else"}, "has no trusted publisher"),
        ({"iss": "https://unreachable.invalid"}, "cannot reach the issuer"),
    ],
)
def test_other_claims_and_an_unreachable_issuer_are_refused_once(
    hub, private, hook, publisher, id_file, exchanges, claims, reason
):
    publisher(private)
    hub.publisher(private, issuer="https://unreachable.invalid", sub=SUBJECT)
    id_file.write_text(hub.identity(**{"sub": SUBJECT, **claims}))
    with pytest.raises(XetPublisherError, match=reason):
        publish(hook, private)
    assert exchanges() == 1


def test_a_read_only_publisher_reads_and_says_what_writing_needs(hub, private, hook, publisher):
    publisher(private, read_only=True)
    assert hook.list_files(private)
    for write in (lambda: publish(hook, private), lambda: hook.get_token(private, "write")):
        with pytest.raises(XetForbiddenError) as error:
            write()
        assert "its trusted publisher may be read-only. Let it write at " in str(error.value)[:200]
        assert f"{hub.url}/datasets/{private.repo_id}/settings, for issuer '{hub.issuer}', subject '{SUBJECT}'" in str(
            error.value
        )


def test_a_public_repository_of_others_is_read_without_a_credential_but_not_written(
    hub, make_repo, hook, exchanges, with_hub_token
):
    repo = make_repo()
    publish(with_hub_token, repo, "public.txt")
    hub.log.clear()
    files = hook.list_files(repo)
    assert [file["path"] for file in files] == [".gitattributes", "public.txt"]
    assert hook.get_token(repo, "read").scope == "read"
    with pytest.raises(XetNotFoundError, match="Revision not found"):
        hook.list_files(repo.at("missing"))
    assert exchanges() == 1
    with pytest.raises(XetPublisherError, match="has no trusted publisher"):
        hook.get_token(repo, "write")
    with pytest.raises(XetPublisherError, match="has no trusted publisher"):
        publish(hook, repo)
    assert len(hook.list_files(repo)) == 2


def test_a_private_repository_of_others_says_which_publisher_it_needs(private, hook):
    with pytest.raises(XetPublisherError, match="has no trusted publisher"):
        hook.list_files(private)


@pytest.mark.parametrize(
    "request_it",
    [
        lambda hook: hook.whoami(),
        lambda hook: hook.get_conn().get("/api/whoami-v2"),
        lambda hook: hook.get_conn().get("/api/datasets"),
        lambda hook: hook.get_conn().get("/api/models?limit=1"),
        lambda hook: hook.get_conn().post("/api/repos/create", json={}),
        lambda hook: hook.api.whoami(),
        lambda hook: list(hook.api.list_models(limit=1)),
        lambda hook: hook.api.create_repo("local/new"),
        lambda hook: hook.api.move_repo("local/a", "local/b"),
    ],
)
def test_what_is_about_no_repository_is_refused_before_anything_is_sent(hub, hook, request_it):
    with pytest.raises(XetIdentityError, match=r"^A keyless connection cannot (request|call) .*Nothing was sent\."):
        request_it(hook)
    assert not hub.log.requests()


def test_a_bucket_is_refused_before_anything_is_sent(hub, hook):
    bucket = Repo("local/bucket", "bucket")
    for use in (
        lambda: hook.list_files(bucket),
        lambda: hook.get_token(bucket, "write"),
        lambda: publish(hook, bucket),
        lambda: hook.api.repo_info("local/bucket", repo_type="bucket"),
    ):
        with pytest.raises(XetIdentityError, match=r"^Bucket local/bucket has no trusted publishers"):
            use()
    assert not hub.log.requests()


def test_a_repository_that_does_not_exist_is_not_created(hub, hook):
    with pytest.raises(XetPublisherError, match=r"local/new does not exist"):
        hook.create_repo(Repo("local/new", "dataset"))
    assert not hub.log.requests("POST /api/.*")


def test_a_wrong_audience_is_not_sent(hub, private, hook, publisher, id_file):
    publisher(private)
    id_file.write_text(hub.identity(SUBJECT, aud="https://huggingface.co"))
    with pytest.raises(
        XetIdentityError, match=r"is for 'https://huggingface.co', not for http://127.0.0.1:\d+: not sent"
    ):
        publish(hook, private)
    assert not hub.log.requests()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "it is empty"),
        ("x" * 20_000, "larger than 16 KiB"),
        ("hf_" + "a" * 34, "not a signed JWT"),
        (None, "is missing"),
    ],
)
def test_a_file_without_an_id_token_is_refused_before_anything_is_sent(hub, private, hook, id_file, content, said):
    if content is None:
        id_file.unlink()
    else:
        id_file.write_text(content)
    with pytest.raises(XetIdentityError, match=said) as error:
        publish(hook, private)
    assert not hub.log.requests()
    assert not error.value.retryable
    assert "hf_aaa" not in str(error.value)


def test_an_expired_id_token_is_not_sent(hub, private, hook, id_file):
    id_file.write_text(hub.identity(SUBJECT, lifetime=-120))
    with pytest.raises(XetIdentityError, match=r"expired 2 min ago \(.*Z\): not sent\. What writes it has to renew it"):
        hook.list_files(private)
    assert not hub.log.requests()


def test_a_busy_hub_is_asked_again(hub, private, hook, publisher, exchanges):
    publisher(private)
    hub.faults.add(Fault(EXCHANGE, times=2, status=503))
    assert publish(hook, private)["created"]
    assert exchanges() == 3
    hub.faults.add(Fault(EXCHANGE, times=1, status=429, headers={"Retry-After": "0"}))
    assert XetHubConnection().list_files(private)
    assert exchanges() == 5


def test_a_hub_that_stays_busy_is_retried_once_per_attempt(hub, private, hook, publisher, exchanges, monkeypatch):
    publisher(private)
    hub.faults.add(Fault(EXCHANGE, status=503, body="the ID token"))
    monkeypatch.setattr("airflow_provider_xethub.xet.hub.client.MAX_TRIES", 3)
    with pytest.raises(XetServerError, match=r"^The Hub answered 503 for"):
        hook.list_files(private)
    assert exchanges() <= 7


def test_threads_that_wait_for_a_failing_exchange_fail_with_it(hub, private, hook, publisher, exchanges):
    publisher(private)
    hub.faults.add(Fault(EXCHANGE, status=503, delay=0.3))
    hook.hub.retries_enabled = False
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(hook.list_files, private) for _ in range(8)]
    errors = [each.exception() for each in waiting]
    assert {type(error).__name__ for error in errors} == {"XetServerError"}
    assert len({id(error) for error in errors}) == 8
    assert exchanges() < 4


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        ({"status": 404}, XetIdentityError, "does not exchange ID tokens (404"),
        ({"status": 307, "headers": {"Location": "/elsewhere"}}, XetRedirectError, "redirects the exchange"),
        (
            {"status": 307, "headers": {"Location": "https://evil.example/"}},
            XetRedirectError,
            "redirects to https://evil",
        ),
        ({"status": 200, "body": "<html>"}, XetProtocolError, "did not answer like a Hub"),
        ({"status": 200, "body": "[]"}, XetProtocolError, "did not answer like a Hub"),
        (
            {"status": 200, "body": '{"access_token": "a b", "token_type": "bearer"}'},
            XetProtocolError,
            "'access_token'",
        ),
        ({"status": 200, "body": '{"access_token": "ab", "token_type": "mac"}'}, XetProtocolError, "'token_type'"),
        (
            {"status": 200, "body": '{"access_token": "ab", "token_type": "bearer", "expires_in": 0}'},
            XetProtocolError,
            "'expires_in'",
        ),
    ],
)
def test_what_is_no_exchange_is_refused(hub, private, hook, publisher, exchanges, fault, kind, said):
    publisher(private)
    hub.faults.add(Fault(EXCHANGE, **fault))
    with pytest.raises(kind) as error:
        publish(hook, private)
    assert said in str(error.value)
    assert exchanges() == 1
    assert not hub.log.requests("GET /elsewhere")


def test_a_hub_that_repeats_the_tokens_is_not_believed_in_messages(hub, private, hook, publisher, id_file):
    publisher(private)
    hook.list_files(private)
    (token,) = set(hub.access.exchanged_tokens.issued()[-1:])
    said = f"{id_file.read_text()} and {token}"
    hub.faults.add(Fault("GET /api/datasets/.*", status=403, headers={"X-Error-Message": said}))
    hub.faults.add(Fault(EXCHANGE, status=500, headers={"X-Error-Message": said}))
    with pytest.raises(XetForbiddenError) as error:
        hook.list_files(private)
    assert token not in str(error.value)
    assert id_file.read_text() not in str(error.value)
    other = XetHubConnection()
    other.hub.retries_enabled = False
    with pytest.raises(XetServerError) as failed:
        other.list_files(private)
    assert id_file.read_text() not in str(failed.value)


def test_neither_the_hook_nor_its_hub_can_carry_a_token_away(private, hook, publisher, hub):
    publisher(private)
    hook.list_files(private)
    (token,) = hub.access.exchanged_tokens.issued()[-1:]
    assert token.encode() not in pickle.dumps(hook)
    for each in (hook.hub, hook.hub.exchanged, hook.get_conn()):
        assert token not in repr(each)
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dump(each, io.BytesIO())


def test_copies_between_two_repositories_take_two_exchanges(hub, make_repo, hook, publisher, exchanges, tmp_path):
    source, target = make_repo(), make_repo()
    publisher(source)
    publisher(target)
    (tmp_path / "large.bin").write_bytes(b"y" * 150_000)
    hook.publish(str(tmp_path / "large.bin"), CommitRequest(source, (), message="Nightly"))
    publish(hook, source, "small.txt", b"inline")
    copied = hook.copy(hook.list_files(source), CommitRequest(target, (), message="Copy"))
    assert copied["copied"]["files"] >= 2
    assert exchanges() == 2


def test_a_private_source_of_a_copy_is_refused_with_the_way_round(hub, private, make_repo, hook, publisher, tmp_path):
    target = make_repo()
    publisher(private)
    publisher(target)
    (tmp_path / "large.bin").write_bytes(b"z" * 150_000)
    hook.publish(str(tmp_path / "large.bin"), CommitRequest(private, (), message="Nightly"))
    with pytest.raises(
        XetIdentityError, match=r"the source must be public\. None of these files was committed\. Download with"
    ):
        hook.copy(hook.list_files(private, "large.bin"), CommitRequest(target, (), message="Copy"))


def test_a_card_is_validated_with_the_token_of_its_repository(hub, private, hook, publisher, exchanges):
    publisher(private)
    request = CommitRequest(private, (), message="Card", card=Card(data={"license": "mit"}))
    assert hook.publish_contents({"a.txt": b"new"}, request)["created"]
    assert [asked.status for asked in hub.log.requests("POST /api/validate-yaml")] == [200]
    assert exchanges() == 1


def test_gated_repositories_of_a_user_are_read_with_the_users_token(
    hub, make_repo, keyless, publisher, exchanges, with_hub_token
):
    repo, other = make_repo(), make_repo()
    with_hub_token.update_repo(repo, gated="manual")
    hub.add_user("reader", role="read")
    publisher("reader")
    keyless(identity_user="reader")
    hook = XetHubConnection()
    assert hook.list_files(repo)
    assert hook.list_files(other)
    assert exchanges() == 1
    with pytest.raises(XetForbiddenError, match="its trusted publisher may be read-only"):
        hook.get_token(repo, "write")


def test_the_session_of_the_hook_follows_no_redirect_with_the_id_token(hub, private, hook, publisher):
    publisher(private)
    assert isinstance(hook.get_conn(), requests.Session)
    with pytest.raises(XetIdentityError, match="cannot request '/oauth/token'"):
        hook.get_conn().post("/oauth/token", json={})
    assert not hub.log.requests()


def test_branches_tags_and_pull_requests_work(private, hook, publisher, exchanges):
    publisher(private)
    publish(hook, private)
    assert hook.create_branch(private, "next")["name"] == "next"
    assert hook.create_tag(private, "v1")["name"] == "v1"
    assert {ref["name"] for ref in hook.list_refs(private)} >= {"main", "next", "v1"}
    request = CommitRequest(private, (), message="Nightly", create_pr=True)
    made = hook.publish_contents({"b.txt": b"b"}, request)
    assert hook.merge_pull_request(private, made["pull_request_number"])["created"]
    assert hook.delete_branch(private, "next")
    assert exchanges() == 1


def test_an_error_of_the_api_does_not_show_the_exchanged_token(hub, hook, private, publisher):
    publisher(private)
    hook.get_token(private)
    (token,) = hub.access.exchanged_tokens.issued()[-1:]
    hub.faults.add(Fault("GET /api/.*", status=403, headers={"X-Error-Message": f"bad: {token}"}))
    with pytest.raises(HfHubHTTPError, match=r"bad: \*\*\*") as caught:
        hook.api.repo_info(private.repo_id, repo_type="dataset")
    assert token not in f"{caught.value} {vars(caught.value)}"
