"""A token that is bound to a DAG, a run or some tasks is of no use to all others, whoever copies its XCom."""

from __future__ import annotations

import pytest
from airflow.sdk import TaskGroup, task

from airflow_provider_xethub.exceptions import (
    XetInputError,
    XetTokenBindingError,
    XetTokenTamperedError,
)
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.xethub import XetDownloadOperator, XetTokenOperator, XetUploadOperator
from airflow_provider_xethub.xet.repo import Repo
from support import decorated
from support.airflow_runs import RUN_ID, new_dag, run_one
from support.builders import binary, commits, publish, write
from support.secret_values import assert_absent


@pytest.fixture
def where(repo):
    return {"repo_id": repo.repo_id, "repo_type": "dataset"}


@pytest.fixture
def source(tmp_path):
    return str(write(tmp_path / "in", {"a.bin": binary()}))


@pytest.fixture
def fetch(where, connection):
    """Run a token task in a DAG that also has the tasks ``use`` and ``group.use``, and return its XCom."""

    def fetch(scope="write", **binding):
        with new_dag() as dag:
            token = XetTokenOperator(task_id="token", scope=scope, **where, **binding)
            task(lambda: None, task_id="use")()
            with TaskGroup("group"):
                task(lambda: None, task_id="use")()
        return dag, run_one(token)

    return fetch


def record(repo):
    return {"path": "a.bin", "size": 1, "sha256": "0" * 64, "xet_hash": "0" * 64, "repo": repo.uri}


def in_dag(dag_id, consumer, **arguments):
    """Run a consumer as task ``use`` of a DAG."""
    with new_dag() as dag:
        dag.dag_id = dag_id
        operator = consumer(task_id="use", retries=2, **arguments)
    return run_one(operator)


# --- who may use it ---------------------------------------------------------------------------------------------------


@pytest.mark.airflow
@pytest.mark.parametrize("binding", [{"bind": "dag"}, {"bind": "run", "consumers": ["use"]}], ids=str)
def test_the_tasks_that_it_is_for_use_it(hub, fetch, source, binding, disconnect):
    dag, fetched = fetch(**binding)
    token = fetched.value
    assert token["bound_to"]["dag_id"] == dag.dag_id
    disconnect()
    run = in_dag(dag.dag_id, XetUploadOperator, source=source, token=token, commit=False, xethub_conn_id=None)
    assert run.state == "success", run.error


@pytest.mark.airflow
@pytest.mark.parametrize(
    ("binding", "conn_id"),
    [({"bind": "dag"}, "xethub_default"), ({"bind": "run"}, None), ({"consumers": ["use"]}, None)],
)
def test_another_dag_that_copies_the_xcom_is_refused(hub, repo, fetch, source, binding, conn_id, secrets):
    """Also where it names the repository and has a connection: nobody meant it to work with that token."""
    token = fetch(**binding)[1].value
    before = commits(hub, repo)
    hub.log.clear()
    run = in_dag(
        "thief",
        XetUploadOperator,
        source=source,
        token=token,
        repo_id=repo.repo_id,
        repo_type="dataset",
        xethub_conn_id=conn_id,
    )
    assert isinstance(run.error, XetTokenBindingError), run.error
    assert run.is_final
    assert "and this is DAG 'thief'. Fetch a token in this DAG (XetTokenOperator)" in run.text
    assert_absent(secrets(), run.text)
    assert not hub.log.requests()
    assert commits(hub, repo) == before


def test_another_run_is_refused(fetch, source, where, monkeypatch):
    dag, fetched = fetch(bind="run")
    assert fetched.value["bound_to"]["run_id"] == RUN_ID
    monkeypatch.setattr("support.airflow_runs.RUN_ID", "manual__2027")
    run = in_dag(dag.dag_id, XetUploadOperator, source=source, token=fetched.value)
    assert f"bound to run '{RUN_ID}', and this is run 'manual__2027'" in run.text
    assert run.is_final


def test_another_task_is_refused(fetch, source):
    dag, fetched = fetch(consumers=["group.use"])
    run = in_dag(dag.dag_id, XetUploadOperator, source=source, token=fetched.value)
    assert "may not be used by task 'use'. Add it to consumers" in run.text
    assert "which allows 'group.use'" in run.text


def test_a_download_is_refused_before_the_folder_is_touched(fetch, repo, tmp_path):
    records = publish(repo, tmp_path, {"a.bin": binary()})
    token = fetch("read", bind="dag")[1].value
    run = in_dag("thief", XetDownloadOperator, files=records, destination=str(tmp_path / "out"), token=token)
    assert isinstance(run.error, XetTokenBindingError)
    assert not (tmp_path / "out").exists()


def test_a_decorated_function_is_not_called(fetch, where):
    token = fetch(bind="dag")[1].value
    called = []

    def work(output):
        called.append(output)

    run = decorated.run(work, token=token, **where)
    assert isinstance(run.error, XetTokenBindingError), run.error
    assert not called


@pytest.mark.parametrize(
    "use",
    [
        lambda hook, token, repo: hook.check_token(token, "write", repo),
        lambda hook, token, repo: hook.fresh_token(token, "write", repo),
        lambda hook, token, repo: hook.token_repo(token, repo.repo_id, repo.repo_type),
        lambda hook, token, repo: hook.confirmed_repo(token),
        lambda hook, token, repo: hook.with_cas_access(token, "write", repo, print),
        lambda hook, token, repo: hook.download("/nowhere", [record(repo)], token=token, repo=repo),
    ],
)
def test_the_hook_refuses_it_outside_of_tasks(hub, fetch, repo, use):
    token = fetch(bind="dag")[1].value
    hub.log.clear()
    with pytest.raises(XetTokenBindingError, match="no Airflow task runs here") as caught:
        use(XetHubConnection(), token, repo)
    assert not caught.value.retryable
    assert not hub.log.requests()


# --- what somebody can do who edits the XCom --------------------------------------------------------------------------


def test_a_binding_that_was_taken_away_or_changed_is_refused(fetch, source):
    token = fetch(bind="dag")[1].value
    for changed in (
        {name: value for name, value in token.items() if name != "bound_to"},
        {**token, "bound_to": {**token["bound_to"], "dag_id": "thief"}},
    ):
        run = in_dag("thief", XetUploadOperator, source=source, token=changed)
        assert isinstance(run.error, XetTokenTamperedError), run.error
        assert run.is_final


def test_a_reference_without_a_token_is_refused_too(fetch, source, where):
    """The value has no secret, so that its binding protects nothing; but nobody meant it for this DAG."""
    token = {**fetch(bind="dag")[1].value, "sealed": None}
    assert isinstance(
        in_dag("thief", XetUploadOperator, source=source, token=token, **where).error, XetTokenBindingError
    )


# --- new tokens in place of old ones ----------------------------------------------------------------------------------


@pytest.fixture
def resealed(where):
    """Run a function in a task of the DAG that a token is bound to, and return what it returns."""

    def run(dag_id, function):
        with new_dag() as dag:
            dag.dag_id = dag_id
            made = task(function, task_id="use")()
        return run_one(made.operator)

    return run


@pytest.mark.parametrize("life", [900, 5])
def test_a_token_that_is_sealed_again_keeps_its_binding(hub, fetch, resealed, life):
    hub.access.token_life = life
    dag, fetched = fetch(bind="dag")
    hub.access.token_life = 900

    def seal(token):
        hook = XetHubConnection()
        return hook.seal_token(hook.fresh_token(token, "write"))

    again = resealed(dag.dag_id, lambda: seal(fetched.value)).value
    assert again["bound_to"] == fetched.value["bound_to"]
    assert (again["expires_at"] == fetched.value["expires_at"]) == (life == 900)
    assert isinstance(resealed("thief", lambda: seal(again)).error, XetTokenBindingError)


def test_a_renewed_token_keeps_its_binding(fetch, resealed):
    dag, fetched = fetch(bind="dag")

    def renew():
        hook = XetHubConnection()
        return hook.seal_token(hook.refresh_token(hook.fresh_token(fetched.value, "write")))

    assert resealed(dag.dag_id, renew).value["bound_to"] == fetched.value["bound_to"]


def test_a_task_may_narrow_a_binding_and_not_widen_it(fetch, resealed):
    dag, fetched = fetch(bind="dag", consumers=["use"])

    def seal(**binding):
        hook = XetHubConnection()
        return hook.seal_token(hook.fresh_token(fetched.value, "write"), **binding)

    narrower = resealed(dag.dag_id, lambda: seal(bind="run")).value["bound_to"]
    assert narrower == {"dag_id": dag.dag_id, "run_id": RUN_ID, "consumers": ["use"]}
    wider = resealed(dag.dag_id, lambda: seal(consumers=["use", "use"])).value["bound_to"]
    assert wider == fetched.value["bound_to"]


def test_the_hook_binds_a_token_that_it_seals(repo, hook, resealed):
    repo_of_test = Repo(repo.repo_id, "dataset")
    run = resealed("nightly", lambda: XetHubConnection().seal_token(hook.get_token(repo_of_test), bind="run"))
    assert run.value["bound_to"] == {"dag_id": "nightly", "run_id": RUN_ID, "consumers": None}


# --- wrong arguments --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("binding", "text"),
    [
        ({"bind": "task"}, "bind 'task' is unknown; use 'dag' or 'run'"),
        ({"bind": ""}, "bind is empty"),
        ({"bind": True}, "bind must be a string, not True (bool)"),
        ({"bind": "{{ None }}"}, "bind is a template that was rendered to None"),
        ({"bind": "{{ 'dags' }}"}, "bind 'dags' is unknown"),
        ({"consumers": []}, "consumers is empty: []. It selects nothing; leave consumers out to allow all tasks"),
        ({"consumers": ""}, "consumers is empty"),
        ({"consumers": [""]}, "consumers is empty"),
        ({"consumers": "{{ None }}"}, "consumers is a template that was rendered to None"),
        ({"consumers": 3}, "consumers must be a string or a list of strings, not"),
        ({"consumers": [3]}, "consumers must contain strings only"),
        ({"consumers": ["typo"]}, "consumers names 'typo', but DAG"),
        ({"consumers": ["group"]}, "consumers names 'group', but DAG"),
    ],
)
def test_a_wrong_restriction_fails_before_a_token_is_fetched(hub, fetch, binding, text):
    hub.log.clear()
    try:
        run = fetch(**binding)[1]
    except XetInputError as error:
        message = str(error)
    else:
        assert run.is_final
        message = run.text
        assert "return_value" not in run.xcoms
    assert text in message
    assert not hub.log.requests()


def test_templates_restrict_it(fetch):
    dag, fetched = fetch(bind="{{ 'run' }}", consumers=["{{ 'use' }}"])
    assert fetched.value["bound_to"] == {"dag_id": dag.dag_id, "run_id": RUN_ID, "consumers": ["use"]}
    assert fetch(bind=None, consumers=None)[1].value.keys() == fetch()[1].value.keys()


def test_nothing_is_bound_where_no_task_runs(hook, repo):
    with pytest.raises(XetInputError, match="can be bound only in an Airflow task"):
        hook.seal_token(hook.get_token(repo), bind="dag")


def test_a_dag_file_that_forgets_a_consumer_does_not_parse(where, source):
    with new_dag():
        token = XetTokenOperator(task_id="token", consumers=["upload"], **where)
        XetUploadOperator(task_id="upload", source=source, token=token.output)
        with TaskGroup("group"), pytest.raises(XetInputError, match=r"Add 'group\.upload' to consumers of token"):
            XetUploadOperator(task_id="upload", source=source, token=token.output)
        with pytest.raises(XetInputError, match="Add 'clean' to consumers of token"):
            task.xethub(token=token.output)(lambda output: None).override(task_id="clean")()
        many = XetTokenOperator.partial(task_id="tokens", consumers=["upload"]).expand(repo_id=["acme/a", "acme/b"])
        with pytest.raises(XetInputError, match="Add 'other' to consumers of tokens"):
            XetUploadOperator(task_id="other", source=source, token=many.output)
        for later in ("{{ params.task }}", ["{{ params.task }}"]):
            named = XetTokenOperator(task_id=f"token{len(later)}", consumers=later, **where)
            XetUploadOperator(task_id=f"upload{len(later)}", source=source, token=named.output)


# --- other runs of the same task, and other versions of the provider ------------------------------------------------


def test_a_second_attempt_in_the_same_run_uses_it(fetch, source, where):
    dag, fetched = fetch(bind="run", consumers=["use"])
    with new_dag() as again:
        again.dag_id = dag.dag_id
        use = XetUploadOperator(task_id="use", source=source, token=fetched.value, commit=False, retries=2)
    for try_number in (1, 2):
        assert run_one(use, try_number=try_number).state == "success"


def test_an_older_provider_would_refuse_it(fetch):
    """Its check was that a value has exactly the fields that it knows."""
    token = fetch(bind="dag")[1].value
    assert set(token) - set(fetch()[1].value) == {"bound_to"}
    assert set(fetch()[1].value) == {"xet_token", "scope", "repo", "cas_url", "expires_at", "conn_id", "sealed"}
