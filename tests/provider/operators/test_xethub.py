from __future__ import annotations

import json

import airflow
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import task, task_group

from airflow_provider_xethub.exceptions import XetInputError, XetTokenSealError
from airflow_provider_xethub.hooks.tokens import sealing
from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetForgetTokenOperator,
    XetListOperator,
    XetTokenOperator,
    XetUploadOperator,
)
from support.airflow_runs import ExecutionApi, new_dag, run_one
from support.builders import TEXT, binary, publish, sealed, write

pytestmark = [pytest.mark.airflow, pytest.mark.smoke]


# --- XetTokenOperator -------------------------------------------------------------------------------------------------


def test_a_token_task_returns_a_sealed_token_that_nobody_can_read(hub, connection, repo, run_task):
    run = run_task(XetTokenOperator, repo_id=repo.repo_id, repo_type="dataset", scope="write")
    value = run.value
    assert (value["scope"], value["repo"], value["conn_id"]) == ("write", repo.uri, "xethub_default")
    assert value["sealed"].startswith("gAAAA")
    for secret in (hub.access.issued_xet_tokens()[-1], hub.token()):
        assert secret not in json.dumps([run.xcoms, run.rendered])
    assert len(hub.log.requests("GET /api/.*/xet-write-token/main")) == 1
    assert len(hub.log.requests()) == 1


def test_a_token_task_asks_for_read_unless_told_otherwise(hub, connection, repo, run_task):
    assert run_task(XetTokenOperator, repo_id=repo.repo_id, repo_type="dataset").value["scope"] == "read"
    assert not hub.log.requests("GET .*write.*")


def test_the_connection_gives_defaults_and_templates_are_rendered(hub, connection, make_repo, run_task):
    repo = make_repo()
    extra = {"repo_type": "dataset", "repo_id": repo.repo_id}
    connection(extra=json.dumps(extra))
    assert run_task(XetTokenOperator).value["repo"] == repo.uri
    other = make_repo()
    run = run_task(XetTokenOperator, repo_id="local/{{ params.name }}", params={"name": other.repo_id.split("/")[1]})
    assert run.value["repo"] == other.uri
    assert run.rendered["repo_id"] == other.repo_id


def test_a_token_for_a_missing_repository_fails_for_good_and_says_which(hub, connection, run_task):
    run = run_task(XetTokenOperator, repo_id="local/nothing", repo_type="dataset")
    assert run.is_final
    assert "hf://datasets/local/nothing@main" in run.text
    assert isinstance(run.error, AirflowFailException)


def test_without_any_key_the_xcom_is_a_reference_and_consumers_that_name_the_repository_fetch_their_own(
    hub, connection, repo, run_task, tmp_path, monkeypatch, disconnect
):
    monkeypatch.setattr(sealing, "_airflow", lambda: None)
    source = write(tmp_path, {"a.bin": binary()}) / "a.bin"
    value = run_task(XetTokenOperator, repo_id=repo.repo_id, repo_type="dataset", scope="write").value
    assert value["sealed"] is None
    hub.log.clear()
    upload = {"source": str(source), "commit": False, "token": value}
    where = {"repo_id": repo.repo_id, "repo_type": "dataset"}
    run = run_task(XetUploadOperator, **upload, **where)
    assert run.value[0]["repo"] == repo.uri
    assert len(hub.log.requests("GET .*/xet-write-token/main")) == 1
    hub.log.clear()
    for names, connection_of, missing in (
        ({}, {}, "repo_id (with repo_type and revision)."),
        ({}, {"xethub_conn_id": None}, "repo_id (with repo_type and revision) and xethub_conn_id."),
        ({}, {"xethub_conn_id": "gone"}, "repo_id (with repo_type and revision) and the connection 'gone'."),
        (where, {"xethub_conn_id": None}, "xethub_conn_id."),
        (where, {"xethub_conn_id": "gone"}, "the connection 'gone'."),
    ):
        run = run_task(XetUploadOperator, **upload, **names, **connection_of)
        assert run.is_final
        assert isinstance(run.error, XetTokenSealError)
        assert run.text.startswith(
            "No Fernet key where the token was fetched, or it was edited. Set the same [core] fernet_key on all "
            "workers (or [xethub] fernet_key), or let this task fetch a token of its own: it lacks "
            f"{missing} Nothing confirms"
        ), run.text
    assert not hub.log.requests()


@pytest.mark.parametrize("key", ["", "{FERNET_KEY}", "too short"])
def test_what_airflow_shows_as_key_where_it_has_none_seals_nothing(
    connection, repo, run_task, monkeypatch, fernet_cache, key
):
    if key and airflow.__version__.startswith("3.0."):
        pytest.skip("Airflow 3.0 reads no connection with such a key")
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", key)
    assert run_task(XetTokenOperator, repo_id=repo.repo_id, repo_type="dataset").value["sealed"] is None


def test_a_key_of_the_providers_own_that_is_none_seals_nothing(connection, repo, run_task, monkeypatch):
    monkeypatch.setenv("AIRFLOW__XETHUB__FERNET_KEY", "not a key")
    run = run_task(XetTokenOperator, repo_id=repo.repo_id, repo_type="dataset")
    assert run.value["sealed"] is None


def test_the_providers_own_key_wins_and_airflows_still_opens(connection, repo, run_task, tmp_path, monkeypatch):
    from cryptography.fernet import Fernet

    under_airflow = sealed(repo, "write")
    monkeypatch.setenv("AIRFLOW__XETHUB__FERNET_KEY", Fernet.generate_key().decode())
    under_own = sealed(repo, "write")
    source = write(tmp_path, {"a.bin": binary()}) / "a.bin"
    for value in (under_airflow, under_own):
        assert run_task(XetUploadOperator, source=str(source), commit=False, token=value, xethub_conn_id=None).value
    monkeypatch.delenv("AIRFLOW__XETHUB__FERNET_KEY")
    run = run_task(XetUploadOperator, source=str(source), commit=False, token=under_own, xethub_conn_id=None)
    assert run.is_final
    assert run.text.startswith("Another Fernet key sealed the token, or it is broken. Set the same [core] fernet_key")


# --- XetListOperator --------------------------------------------------------------------------------------------------


def test_a_list_task_returns_records_of_all_or_of_some(hub, connection, repo, run_task, tmp_path):
    publish(repo, tmp_path, {"a.csv": TEXT, "d/b.bin": binary(), "d/c.csv": TEXT})
    where = {"repo_id": repo.repo_id, "repo_type": "dataset"}

    def paths(**arguments):
        return [file["path"] for file in run_task(XetListOperator, **where, **arguments).value]

    assert {"a.csv", "d/b.bin", "d/c.csv"} <= set(paths())
    assert paths(path="d") == ["d/b.bin", "d/c.csv"]
    assert paths(path="a.csv") == ["a.csv"]
    assert paths(patterns="*.csv") == ["a.csv", "d/c.csv"]
    assert paths(patterns=["*.bin", "a.*"]) == ["a.csv", "d/b.bin"]
    assert paths(patterns="nothing*") == []
    record = run_task(XetListOperator, **where, path="d/b.bin").value[0]
    assert record["repo"] == repo.uri
    assert len(record["xet_hash"]) == len(record["sha256"]) == 64


def test_a_list_task_says_what_is_missing(connection, repo, run_task):
    run = run_task(XetListOperator, repo_id=repo.repo_id, repo_type="dataset", path="nothing")
    assert run.is_final
    assert "nothing in hf://datasets/" in run.text


# --- XetForgetTokenOperator -------------------------------------------------------------------------------------------


def test_a_teardown_forgets_the_token_of_its_setup_task(connection, repo, run_dag):
    with new_dag("forget") as dag:
        token = XetTokenOperator(task_id="token", repo_id=repo.repo_id, repo_type="dataset")
        look = XetListOperator(task_id="look", repo_id=repo.repo_id, repo_type="dataset")
        token >> look >> XetForgetTokenOperator(task_id="forget").as_teardown(setups=token)
    run = run_dag(dag)
    assert run.states == {"token": "success", "look": "success", "forget": "success"}
    assert run.xcoms("token") == []
    assert len(run.xcoms("look")) == 1


def test_a_teardown_forgets_the_tokens_of_all_mapped_tasks(connection, make_repo, run_dag):
    repos = [make_repo().repo_id for _ in range(3)]
    seen = []
    with new_dag("forget") as dag:
        tokens = XetTokenOperator.partial(task_id="token", repo_type="dataset").expand(repo_id=repos)

        @task(task_id="look")
        def look(ti=None):
            seen.extend(ti.xcom_pull(task_ids="token", map_indexes=[0, 1, 2]))

        tokens >> look() >> XetForgetTokenOperator(task_id="forget", token_task_ids=["token"])
    run = run_dag(dag)
    assert run.state == "success"
    assert [value["repo"].partition("@")[0][len("hf://datasets/") :] for value in seen] == repos
    assert run.xcoms("token") == []


def test_a_teardown_forgets_the_tokens_of_a_mapped_task_group(connection, make_repo, run_dag):
    repos = [make_repo().repo_id for _ in range(2)]
    with new_dag("forget") as dag:

        @task_group(group_id="each")
        def each(repo_id):
            XetTokenOperator(task_id="token", repo_type="dataset", repo_id=repo_id)

        each.expand(repo_id=repos) >> XetForgetTokenOperator(task_id="forget", token_task_ids="each.token")
    run = run_dag(dag)
    assert run.state == "success"
    assert run.states["each.token", 1] == "success"
    assert run.xcoms("each.token") == []


def test_a_teardown_in_a_mapped_task_group_forgets_only_the_token_of_its_own_instance(connection, repo):
    with new_dag("forget") as dag:

        @task_group(group_id="each")
        def each(repo_id):
            token = XetTokenOperator(task_id="token", repo_type="dataset", repo_id=repo_id)
            token >> XetForgetTokenOperator(task_id="forget").as_teardown(setups=token)

        each.expand(repo_id=["a/b", "a/c", "a/d"])
    key = ("each.token", "return_value")
    api = ExecutionApi(xcoms={(*key, index): {"n": index} for index in range(3)}, mapped={"each.token": 3})
    assert run_one(dag.get_task("each.forget"), map_index=1, api=api).state == "success"
    assert set(api.xcoms) == {(*key, 0), (*key, 2)}


def test_a_teardown_that_knows_no_token_says_what_to_write(run_task):
    run = run_task(XetForgetTokenOperator)
    assert run.is_final
    assert isinstance(run.error, XetInputError)
    assert "task.as_teardown(setups=<token task>)" in run.text


def test_forgetting_what_is_not_there_is_no_error(connection, repo):
    with new_dag("forget") as dag:
        token = XetTokenOperator(task_id="token", repo_id=repo.repo_id, repo_type="dataset")
        token >> XetForgetTokenOperator(task_id="forget").as_teardown(setups=token)
    assert run_one(dag.get_task("forget")).state == "success"


def test_a_commit_task_needs_something_to_commit(hub, connection, repo, run_task):
    run = run_task(XetCommitOperator, repo_id=repo.repo_id, repo_type="dataset")
    assert run.is_final
    assert "Nothing to commit" in run.text
    assert not hub.log.requests()
