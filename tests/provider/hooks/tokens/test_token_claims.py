"""What somebody can do who may edit the XCom of a token: break it, and nothing for another repository.

What a value says is a claim until its seal confirms it. The value itself: test_token_sealed.py.
"""

from __future__ import annotations

import logging
import time
import traceback

import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xethub.exceptions import (
    XetHubError,
    XetInputError,
    XetTokenScopeError,
    XetTokenSealError,
    XetTokenTamperedError,
)
from airflow_provider_xethub.hooks.tokens import sealing
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetTokenOperator, XetUploadOperator
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.token import SealedToken, XetToken
from support import decorated
from support.airflow_runs import ExecutionApi, new_dag, run_one
from support.builders import TEXT, binary, commits, names, publish, sealed, write

SECRET = "xet_0123456789abcdefghijklmnopqrstuvwxyz"
LATER = "2099-01-01T00:00:00Z"
SHUT = ["null", "empty", "broken", "another key"]
TOKENS = "GET .*-token/.*"
LINK = "_link_XetHubLink"


@pytest.fixture
def evil(make_repo, connection, tmp_path):
    """A repository that nobody meant, with files that somebody would like to be read."""
    evil = make_repo()
    publish(evil, tmp_path / "evil", {"a.bin": binary(seed="evil"), "b.csv": b"evil\n"})
    return evil


@pytest.fixture
def where(repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def source(tmp_path):
    return str(write(tmp_path / "in", {"a.bin": binary(), "b.csv": TEXT}))


@pytest.fixture
def edited(hub, connection, repo, make_repo, monkeypatch):
    """Edits the value of a token for ``repo``, and its seal; then clears the request log."""

    def edit(fetched, shut, **changes):
        value = sealed(repo, fetched)
        if shut == "another key":
            with monkeypatch.context() as context:
                context.setenv("AIRFLOW__XETHUB__FERNET_KEY", "c29tZSBvdGhlciBrZXkgZm9yIHRoZSB0ZXN0cyEhISE=")
                value = sealed(repo, fetched)
        elif shut == "of another token":
            changes = {**changes, "sealed": sealed(make_repo(), fetched)["sealed"]}
        elif shut != "kept":
            changes = {
                **changes,
                "sealed": {"null": None, "empty": "", "broken": value["sealed"][:-9] + "AAAAAAAA="}[shut],
            }
        hub.log.clear()
        return {**value, **changes}

    return edit


@pytest.fixture
def untouched(hub, repo, evil):
    """Afterwards neither repository has another commit, and the Hub was asked nothing about the one nobody meant."""
    before = commits(hub, repo), commits(hub, evil)
    yield
    asked = [entry.path for entry in hub.log.requests() if evil.repo_id in entry.path]
    assert not asked
    assert (commits(hub, repo), commits(hub, evil)) == before


def refused(run, *kinds):
    """Assert that a task failed for good, and shows and links nothing as if it was known."""
    assert isinstance(run.error, kinds or XetTokenSealError), repr(run.error)
    assert run.is_final
    assert run.xcoms[LINK] == ""
    assert "return_value" not in run.xcoms
    return run


# --- the repository comes from the token ------------------------------------------------------------------------------


@pytest.mark.parametrize("shut", ["kept", "null", "another key"])
def test_nothing_is_uploaded_to_a_repository_that_only_a_claim_names(
    hub, untouched, evil, edited, source, run_task, caplog, shut
):
    caplog.set_level(logging.INFO)
    for commit in (True, False):
        token = edited("write", shut, repo=evil.uri, **({"expires_at": LATER} if commit else {}))
        with_task = run_task(XetUploadOperator, source=source, token=token, commit=commit)
        if shut in SHUT:
            text = refused(with_task).text
            assert "it lacks repo_id (with repo_type and revision). Nothing confirms what the token says" in text
        else:
            refused(with_task, XetTokenTamperedError)
        assert not hub.log.requests()
    assert not [record for record in caplog.records if evil.repo_id in record.getMessage() and not record.exc_info]


@pytest.mark.parametrize("shut", ["kept", "null"])
def test_nothing_is_downloaded_from_a_repository_that_only_a_claim_names(
    hub, untouched, repo, evil, edited, run_task, tmp_path, shut
):
    out = tmp_path / "out"
    for wanted in ({"path": "a.bin"}, {"path": "b.csv"}, {}):
        token = edited("read", shut, repo=evil.uri)
        refused(run_task(XetDownloadOperator, destination=str(out), token=token, **wanted))
    # Whoever can edit one XCom can edit another one: records do not confirm a token.
    records = XetHubConnection().list_files(evil)
    token = edited("read", shut, repo=evil.uri)
    hub.log.clear()
    refused(run_task(XetDownloadOperator, destination=str(out), token=token, files=records))
    named = {"repo_id": repo.repo_id, "repo_type": "dataset"}
    refused(
        run_task(XetDownloadOperator, destination=str(out), token=token, files=records, **named), XetTokenTamperedError
    )
    token = edited("read", "null")
    run = run_task(XetDownloadOperator, destination=str(out), token=token, files=records, **named)
    assert isinstance(run.error, XetTokenScopeError)
    assert not hub.log.requests()
    assert not out.exists()


@pytest.mark.parametrize("shut", ["kept", "null"])
def test_a_decorated_function_is_not_called_for_a_repository_that_only_a_claim_names(
    hub, untouched, evil, edited, shut
):
    def work(file=None, output=None):
        raise AssertionError("called")

    def look(file):
        raise AssertionError("called")

    records = XetHubConnection().list_files(evil)
    for arguments in ({}, {"path": "a.bin"}, {"files": records[:1]}):
        for scope, function, options in (("write", work, {}), ("read", look, {"read_only": True})):
            token = edited(scope, shut, repo=evil.uri)
            refused(decorated.run(function, token=token, **arguments, **options))
            assert not hub.log.requests()


def test_a_token_that_is_gone_is_not_replaced_for_what_records_name(hub, untouched, evil, tmp_path):
    records = XetHubConnection().list_files(evil)
    hub.log.clear()
    with new_dag():
        token = XetTokenOperator(task_id="token", repo_id="a/b")
        download = XetDownloadOperator(
            task_id="download", destination=str(tmp_path / "out"), files=records, token=token.output
        )
    run = run_one(download, api=ExecutionApi())
    refused(run, XetInputError)
    assert "repo_id is missing" in run.text
    assert not hub.log.requests()


# --- the task names the repository ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shut", "by"), [("null", "arguments"), ("another key", "connection")])
def test_a_token_that_does_not_open_is_replaced_for_what_the_task_names(
    hub,
    connection,
    repo,
    where,
    edited,
    source,
    run_task,
    tmp_path,
    shut,
    by,
):
    if by == "connection":
        connection(extra={"repo_id": repo.repo_id, "repo_type": "dataset"})
    names_it = where if by == "arguments" else {}
    token = edited("write", shut, cas_url="http://127.0.0.1:1", expires_at=LATER)
    assert run_task(XetUploadOperator, source=source, token=token, **names_it).value["repo"] == repo.uri
    assert len(hub.log.requests("GET .*/xet-write-token/main")) == 1
    token = edited("write", shut)
    run = run_task(XetDownloadOperator, destination=str(tmp_path / "out"), path="a.bin", token=token, **names_it)
    assert run.value[0]["repo"] == repo.uri
    assert len(hub.log.requests("GET .*/xet-read-token/main")) == 1
    assert not hub.log.requests("GET .*/xet-write-token/.*")


@pytest.mark.parametrize(
    ("fetched", "named", "what"),
    [
        ("v2", {"repo_type": "dataset"}, "{fetched}, but this task names {repo},"),
        ("main", {}, "{fetched}, but this task names hf://{repo.repo_id}@main,"),
        ("main", {"repo_type": "dataset", "revision": "v2"}, "{fetched}, but this task names {v2},"),
    ],
)
def test_what_the_task_leaves_out_is_not_taken_from_a_token_that_does_not_open(
    hub, repo, edited, source, run_task, fetched, named, what
):
    """It is what it would be without a token: the connection's defaults, then ``model`` and ``main``."""
    fetched = repo.at(fetched)
    token = edited("write", "broken", repo=fetched.uri)
    run = run_task(XetUploadOperator, source=source, token=token, repo_id=repo.repo_id, **named)
    refused(run, XetTokenTamperedError)
    assert what.format(fetched=fetched, repo=repo, v2=repo.at("v2")) in run.text
    assert "Give this task the repo_id, repo_type and revision of its token task" in run.text
    assert not hub.log.requests()


def test_what_the_task_leaves_out_is_taken_from_a_token_that_opens(hook, repo, source, run_task):
    hook.api.create_branch(repo.repo_id, repo_type="dataset", branch="v2")
    token = sealed(repo.at("v2"), "write")
    run = run_task(XetUploadOperator, source=source, token=token, commit=False, repo_id=repo.repo_id)
    assert run.value[0]["repo"] == repo.at("v2").uri


CORPUS = Repo("acme/corpus", "dataset")
MILLENNIUM = pendulum.datetime(9999, 1, 1)
GENUINE = SealedToken.seal(
    XetToken(CORPUS, "write", "https://cas.example", MILLENNIUM, access_token=SECRET), sealing.fernets()[0]
).to_xcom()


@given(
    st.dictionaries(
        st.sampled_from(sorted(GENUINE)),
        st.sampled_from([None, "", "read", "hf://acme/other@main", LATER, "https://evil.example", 1, [], {}])
        | st.text(max_size=20),
        max_size=3,
    )
)
def test_a_worker_with_the_token_alone_gets_what_was_sealed_or_one_of_our_errors(edits):
    value = {**GENUINE, **edits}
    hook = XetHubConnection(None)
    for use in (
        lambda: hook.token_repo(value),
        lambda: hook.token_repo(value, "acme/mine", "dataset"),
        lambda: hook.fresh_token(value, "read").repo,
        lambda: hook.fresh_token(value, "write", CORPUS).repo,
    ):
        try:
            repo = use()
        except XetHubError as error:
            shown = "".join(traceback.format_exception(error))
            assert SECRET not in shown
            assert value != GENUINE
        else:
            assert value == GENUINE
            assert repo.uri in (GENUINE["repo"], "hf://datasets/acme/mine@main")


CHANGES = {
    "repo": lambda repo: {"repo": f"{repo.uri}x"},
    "revision": lambda repo: {"repo": repo.at("v2").uri},
    "scope": lambda _: {"scope": "write"},
    "cas_url": lambda _: {"cas_url": "https://evil.example"},
    "expires_at": lambda _: {"expires_at": LATER},
    "conn_id": lambda _: {"conn_id": "other"},
    "no conn_id": lambda _: {"conn_id": None},
}


@pytest.mark.parametrize("shut", ["kept", "of another token", *SHUT])
def test_each_claim_is_compared_and_none_is_used(hub, hook, repo, edited, shut):
    for change, changes in CHANGES.items():
        token = edited("read", shut, **changes(repo))
        for use in (hook.token_repo, lambda token: hook.fresh_token(token, "read"), hook.check_token):
            with pytest.raises(XetTokenSealError):
                use(token, *(["read"] if use == hook.check_token else []))
        if shut not in SHUT or change in ("repo", "revision"):
            for use in (hook.fresh_token, hook.check_token):
                with pytest.raises(XetTokenTamperedError):
                    use(token, "read", repo)
            assert not hub.log.requests()
        elif change == "conn_id":
            with pytest.raises(XetTokenSealError, match="it lacks xethub_conn_id='other', if the token came from"):
                hook.fresh_token(token, "read", repo)
            assert not hub.log.requests()
        else:
            fresh = XetHubConnection().fresh_token(token, "read", repo)
            assert (fresh.repo, fresh.scope, fresh.conn_id) == (repo, "read", "xethub_default")
            assert fresh.cas_url.startswith(hub.url)
            # The claim "write" does not make a task that reads ask for it.
            assert [entry.path for entry in hub.log.requests()] == [repo.token_path("read")]


def test_a_claim_of_scope_fetches_no_write_token(hub, repo, where, edited, source, run_task, tmp_path):
    token = edited("read", "null", scope="write")
    refused(run_task(XetUploadOperator, source=source, token=token, commit=False))
    assert not hub.log.requests()
    token = edited("read", "null")
    run = run_task(XetUploadOperator, source=source, token=token, commit=False, **where)
    assert isinstance(run.error, XetTokenScopeError)
    assert not hub.log.requests()


# --- a token that opens -----------------------------------------------------------------------------------------------


def test_an_expired_token_is_replaced_for_what_its_seal_says(hub, hook, repo, source, run_task, monkeypatch):
    token = sealed(repo, "write")
    hub.log.clear()
    monkeypatch.setattr("time.time", lambda now=time.time: now() + 1000)
    hub.access.token_life = 3000
    assert run_task(XetUploadOperator, source=source, token=token, commit=False).value[0]["repo"] == repo.uri
    assert [entry.path for entry in hub.log.requests(TOKENS)] == [repo.token_path("write")]


def test_a_task_that_reads_replaces_a_write_token_by_a_read_token(hub, hook, repo, tmp_path, run_task):
    files = publish(repo, tmp_path / "before", {"a.bin": binary()})
    hub.access.token_life = 20
    token = sealed(repo, "write")
    hub.access.token_life = 900
    hub.log.clear()
    assert run_task(XetDownloadOperator, destination=str(tmp_path / "out"), files=files, token=token).value
    assert [entry.path for entry in hub.log.requests(TOKENS)] == [repo.token_path("read")]
    assert names(tmp_path / "out") == ["a.bin"]


def test_the_refresh_route_of_a_task_that_reads_is_for_reading(hub, hook, repo):
    access = hook.with_cas_access(sealed(repo, "write"), "read", repo, lambda access: access)
    hub.log.clear()
    route = access.refresh.route()
    assert access.refresh.answer(route.headers["Authorization"])[0] == 200
    assert [entry.path for entry in hub.log.requests(TOKENS)] == [repo.token_path("read")]
    assert access.token.access_token


def test_a_replayed_value_is_used_unless_the_task_names_its_repository(hub, repo, evil, where, source, run_task):
    """A whole value of another token is genuine: documented, as nothing binds it to a task."""
    replayed = sealed(evil, "write")
    assert run_task(XetUploadOperator, source=source, token=replayed, commit=False).value[0]["repo"] == evil.uri
    hub.log.clear()
    run = run_task(XetUploadOperator, source=source, token=replayed, commit=False, **where)
    assert isinstance(run.error, XetTokenScopeError)
    assert not hub.log.requests()


def test_a_mapped_worker_without_connection_and_names_works_with_the_token_alone(
    hub, repo, source, run_task, disconnect
):
    token = sealed(repo, "write")
    disconnect()
    run = run_task(XetUploadOperator, source=source, token=token, commit=False, xethub_conn_id=None)
    assert {file["repo"] for file in run.value} == {repo.uri}


@pytest.mark.parametrize(
    ("shut", "has_key", "reason"),
    [
        ("kept", False, "No Fernet key on this worker"),
        ("another key", True, "Another Fernet key"),
        ("null", True, "No Fernet key where the token was fetched"),
    ],
)
def test_the_error_names_the_fernet_key_first_and_its_option(
    edited, where, source, run_task, monkeypatch, shut, has_key, reason
):
    """Workers that share neither a database nor a configuration, such as edge workers, fail with nothing but this."""
    token = edited("write", shut)
    if not has_key:
        monkeypatch.setattr(sealing, "_airflow", lambda: None)
    run = refused(run_task(XetUploadOperator, source=source, token=token, commit=False))
    assert run.text.startswith(reason)
    assert "Set the same [core] fernet_key" in run.text[:100]
    assert run_task(XetUploadOperator, source=source, token=token, commit=False, **where).value


def test_the_key_is_asked_for_once_in_each_task(connection, repo, source, run_task, monkeypatch, tmp_path):
    """It may come from a command or from a secrets backend."""
    fernets, asked = sealing.fernets, []
    monkeypatch.setattr(sealing, "fernets", lambda: asked.append(1) or fernets())
    for kind, options in (
        (XetUploadOperator, {"source": source}),
        (XetDownloadOperator, {"destination": str(tmp_path / "out"), "path": "a.bin"}),
    ):
        token = sealed(repo, "write")
        asked.clear()
        assert run_task(kind, token=token, **options).value
        assert len(asked) == 1


def test_a_hook_that_is_given_several_tokens_opens_each(hub, hook, repo, make_repo):
    other = make_repo()
    one, two = sealed(repo), sealed(other)
    assert [hook.token_repo(each) for each in (one, two, one)] == [repo, other, repo]
    assert hook.fresh_token(two, "read").access_token != hook.fresh_token(one, "read").access_token
    one["repo"] = other.uri
    with pytest.raises(XetTokenTamperedError):
        hook.token_repo(one)
