"""Repositories and buckets: created once, deleted only as written, changed only where they differ."""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_xethub import Repo
from airflow_provider_xethub.exceptions import (
    XetConflictError,
    XetForbiddenError,
    XetInputError,
    XetNotFoundError,
    XetResponseError,
    XetServerError,
)
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.operators.repositories import (
    XetCreateRepoOperator,
    XetDeleteRepoOperator,
    XetUpdateRepoOperator,
)
from support.airflow_runs import ExecutionApi, new_dag
from xethub_local.control.faults import Fault

pytestmark = [pytest.mark.airflow, pytest.mark.airflow_unchanged]

CREATE = "POST /api/repos/create|POST /api/buckets/[^/]*/[^/]*"
DELETE = "DELETE /api/.*"
AT_ONCE = {"Retry-After": "0"}
KINDS = ["model", "dataset", "space", "bucket"]


@pytest.fixture
def new_id(connection):
    return f"local/n{uuid.uuid4().hex[:12]}"


def sdk(repo_type):
    return {"space_sdk": "static"} if repo_type == "space" else {}


def stored(hub, repo_id, repo_type):
    """Return the repository as the local Hub has it, or None."""
    found = [each for each in hub.repositories.find_all(f"{repo_type}s") if each.repo_id == repo_id]
    return found[0] if found else None


@pytest.mark.parametrize("repo_type", KINDS)
def test_a_repository_is_created_private_and_then_left_alone(hub, new_id, run_task, repo_type):
    where = {"repo_id": new_id, "repo_type": repo_type, **sdk(repo_type)}
    created = run_task(XetCreateRepoOperator, **where)
    assert created.value == {
        "repo": Repo(new_id, repo_type).uri,
        "url": f"{hub.url}{Repo(new_id, repo_type).web_path}",
        "visibility": "private",
        "gated": False if repo_type in ("model", "dataset") else None,
        "created": True,
        "changed": False,
    }
    assert stored(hub, new_id, repo_type).private
    assert created.xcoms["_link_XetHubLink"].startswith(created.value["url"])
    again = run_task(XetCreateRepoOperator, **where).value
    assert again == {**created.value, "created": False}
    assert len(hub.log.requests(CREATE)) == 1


def test_it_is_public_only_where_the_dag_says_so(hub, new_id, run_task):
    value = run_task(XetCreateRepoOperator, repo_id=new_id, visibility="public").value
    assert (value["visibility"], stored(hub, new_id, "model").private) == ("public", False)


def test_an_existing_repository_of_another_visibility_is_not_used(make_repo, connection, run_task):
    """A DAG that asks for a private repository must not go on to fill a public one."""
    repo = make_repo("dataset")
    run = run_task(XetCreateRepoOperator, repo_id=repo.repo_id, repo_type="dataset", visibility="private")
    assert isinstance(run.error, XetConflictError)
    assert run.is_final
    assert "exists already and is public, not private" in run.text[:100]
    left_out = run_task(XetCreateRepoOperator, repo_id=repo.repo_id, repo_type="dataset").value
    assert (left_out["created"], left_out["visibility"]) == (False, "public")


def test_exist_ok_false_refuses_an_existing_one_at_the_first_try_only(repo, connection, run_task):
    where = {"repo_id": repo.repo_id, "repo_type": "dataset", "exist_ok": False}
    run = run_task(XetCreateRepoOperator, **where)
    assert isinstance(run.error, XetConflictError)
    assert "exists already. Set exist_ok=True" in run.text
    # A retry follows an error that left open whether the repository was created.
    assert run_task(XetCreateRepoOperator, **where, try_number=2).value["created"] is False


@pytest.mark.parametrize("fault", [{"lose_answer": True, "headers": AT_ONCE}, {"drop": "before"}])
@pytest.mark.parametrize("repo_type", ["model", "bucket"])
def test_a_lost_answer_is_no_failure(hub, new_id, run_task, repo_type, fault):
    hub.faults.add(Fault(CREATE, times=1, **fault))
    run = run_task(XetCreateRepoOperator, repo_id=new_id, repo_type=repo_type, exist_ok=False)
    assert run.value["visibility"] == "private"
    assert stored(hub, new_id, repo_type).private
    # Where it was made, the Hub says so, and no second request is needed.
    assert len(hub.log.requests(CREATE)) == (1 if "lose_answer" in fault else 2)


def test_the_conflict_of_a_concurrent_creation_has_no_url(hub, new_id, run_task):
    """As the Hub answers at that moment; huggingface_hub's own exist_ok then fails with a KeyError."""
    hub.faults.add(
        Fault(
            CREATE,
            times=1,
            lose_answer=True,
            status=409,
            body='{"error": "A repository with this name already exists"}',
        )
    )
    assert run_task(XetCreateRepoOperator, repo_id=new_id).value["created"] is False


def test_many_tasks_create_it_at_once(hub, new_id, connection):
    repo = Repo(new_id, "dataset")
    with ThreadPoolExecutor(8) as pool:
        made = [*pool.map(lambda _: XetHubConnection().create_repo(repo), range(8))]
    assert sum(each["created"] for each in made) == 1
    assert stored(hub, new_id, "dataset").private


def test_a_read_token_works_where_nothing_is_to_be_created(hub, repo, new_id, connection, run_task):
    connection(password=hub.token("read"))
    assert run_task(XetCreateRepoOperator, repo_id=repo.repo_id, repo_type="dataset").value["created"] is False
    run = run_task(XetCreateRepoOperator, repo_id=new_id)
    assert isinstance(run.error, XetForbiddenError)
    assert f"No permission for model {new_id} (403): use a Hub token that has it" in run.text
    assert hub.token("read") not in run.text


def test_a_taken_name_that_cannot_be_seen_is_refused(hub, new_id, connection, run_task):
    hub.create_repo(new_id, "model", private=True)
    hub.faults.add(Fault(f"GET /api/models/{new_id}.*", status=404, headers={"X-Error-Code": "RepoNotFound"}))
    run = run_task(XetCreateRepoOperator, repo_id=new_id)
    assert isinstance(run.error, XetConflictError)
    assert "cannot be created: the name is taken" in run.text[:100]


def test_a_renamed_repository_exists(hub, repo, new_id, hook, run_task):
    """A new one under the old name would end the redirect that everybody else follows."""
    hook.api.move_repo(repo.repo_id, new_id, repo_type="dataset")
    assert run_task(XetCreateRepoOperator, repo_id=repo.repo_id, repo_type="dataset").value["created"] is False
    assert stored(hub, repo.repo_id, "dataset") is None


def test_a_license_becomes_the_first_card(hub, new_id, hook, run_task):
    where = {"repo_id": new_id, "repo_type": "dataset", "license": "cc-by-4.0"}
    run_task(XetCreateRepoOperator, **where).value  # noqa: B018 - raises what failed
    repo = Repo(new_id, "dataset")
    assert hook.api.dataset_info(new_id).card_data.license == "cc-by-4.0"
    commits = hook.hub.latest_commits(repo, 9)
    assert run_task(XetCreateRepoOperator, **where).value["created"] is False
    assert hook.hub.latest_commits(repo, 9) == commits


def test_a_license_that_the_hub_cannot_check_is_stated(hub, new_id, hook, run_task, caplog):
    hub.faults.add(Fault("POST /api/validate-yaml", status=404))
    run_task(XetCreateRepoOperator, repo_id=new_id, license="mit").value  # noqa: B018
    assert hook.api.model_info(new_id).card_data.license == "mit"
    assert "cannot validate cards, so license mit was not checked" in caplog.text


def test_a_license_is_added_after_an_attempt_that_was_killed_before(hub, new_id, hook, run_task):
    where = {"repo_id": new_id, "license": "mit"}
    hub.faults.add(Fault("POST .*/commit/.*", status=503, headers=AT_ONCE))
    assert isinstance(run_task(XetCreateRepoOperator, **where).error, XetServerError)
    hub.faults.clear()
    run_task(XetCreateRepoOperator, **where, try_number=2).value  # noqa: B018
    assert hook.api.model_info(new_id).card_data.license == "mit"


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"license": "No License!"}, "is not the identifier of a license"),
        ({"license": "mit", "repo_type": "bucket"}, "A bucket has no card"),
        ({"repo_type": "space"}, "needs space_sdk"),
        ({"space_sdk": "static"}, "is not a Space: leave out space_sdk"),
        ({"visibility": "protected"}, "only a Space can"),
        ({"revision": "v2"}, "leave out revision"),
        ({"repo_id": "{{ none }}"}, "repo_id is missing"),
        ({"repo_id": "{{ '' }}"}, "repo_id is empty"),
        ({"visibility": "secret"}, "visibility 'secret' is unknown"),
        ({"exist_ok": "False"}, "exist_ok must be True or False"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(hub, new_id, run_task, wrong, text):
    run = run_task(XetCreateRepoOperator, **{"repo_id": new_id, **wrong})
    assert isinstance(run.error, XetInputError)
    assert text in run.text
    assert not hub.log.requests()


def test_a_license_that_the_hub_rejects_creates_nothing(hub, new_id, run_task):
    hub.faults.add(Fault("POST /api/validate-yaml", status=400, body=json.dumps({"errors": [{"message": "no such"}]})))
    run = run_task(XetCreateRepoOperator, repo_id=new_id, license="my-own")
    assert isinstance(run.error, XetResponseError)
    assert "no such" in run.text
    assert stored(hub, new_id, "model") is None


# --- delete


@pytest.mark.parametrize("repo_type", KINDS)
def test_a_repository_is_deleted(hub, make_repo, connection, run_task, repo_type):
    repo = make_repo(repo_type)
    run = run_task(XetDeleteRepoOperator, repo_id=repo.repo_id, repo_type=repo_type, confirm=repo.repo_id)
    assert run.value == {"repo": repo.uri, "name": None, "deleted": True}
    assert stored(hub, repo.repo_id, repo_type) is None
    assert run.xcoms["_link_XetHubLink"] == ""  # its page is gone


@pytest.mark.parametrize("confirm", ["local/other", "", "LOCAL", None, "{{ params.repo }}", "{{ ti.task_id }}"])
def test_what_confirm_does_not_name_is_not_deleted(hub, repo, connection, run_task, confirm):
    run = run_task(XetDeleteRepoOperator, repo_id=repo.repo_id, repo_type="dataset", confirm=confirm)
    assert isinstance(run.error, XetInputError)
    assert run.is_final
    assert "confirm" in run.text[:100]
    assert not hub.log.requests()
    assert stored(hub, repo.repo_id, "dataset")


def test_the_default_repository_of_the_connection_needs_its_name_as_well(hub, repo, connection, run_task):
    connection(extra=json.dumps({"repo_id": repo.repo_id, "repo_type": "dataset", "revision": "v2"}))
    assert isinstance(run_task(XetDeleteRepoOperator, confirm="local/another").error, XetInputError)
    assert run_task(XetDeleteRepoOperator, confirm=repo.repo_id).value["deleted"]


def test_a_revision_is_refused_because_the_whole_repository_would_go(hub, repo, connection, run_task):
    run = run_task(
        XetDeleteRepoOperator, repo_id=repo.repo_id, repo_type="dataset", revision="draft", confirm=repo.repo_id
    )
    assert "leave out revision ('draft')" in run.text
    assert stored(hub, repo.repo_id, "dataset")


def test_a_missing_repository_is_an_error_unless_it_may_be_missing_or_was_deleted_before(new_id, run_task):
    where = {"repo_id": new_id, "confirm": new_id}
    run = run_task(XetDeleteRepoOperator, **where)
    assert isinstance(run.error, XetNotFoundError)
    assert run.is_final
    assert f"model {new_id} does not exist" in run.text[:100]
    assert run_task(XetDeleteRepoOperator, **where, missing_ok=True).value["deleted"] is False
    assert run_task(XetDeleteRepoOperator, **where, try_number=2).value["deleted"] is False


@pytest.mark.parametrize("repo_type", ["model", "bucket"])
def test_a_deletion_whose_answer_was_lost_is_done(hub, make_repo, connection, run_task, repo_type):
    repo = make_repo(repo_type)
    hub.faults.add(Fault(DELETE, times=1, lose_answer=True, headers=AT_ONCE))
    where = {"repo_id": repo.repo_id, "repo_type": repo_type, "confirm": repo.repo_id}
    assert run_task(XetDeleteRepoOperator, **where).value["deleted"] is True
    assert len(hub.log.requests(DELETE)) == 1


def test_a_renamed_repository_is_not_deleted_under_its_old_name(hub, repo, new_id, hook, run_task):
    hook.api.move_repo(repo.repo_id, new_id, repo_type="dataset")
    run = run_task(XetDeleteRepoOperator, repo_id=repo.repo_id, repo_type="dataset", confirm=repo.repo_id)
    assert isinstance(run.error, XetConflictError)
    assert f"{repo.repo_id} is now called {new_id}" in run.text[:100]
    assert stored(hub, new_id, "dataset")


def test_a_read_token_deletes_nothing(hub, repo, connection, run_task):
    connection(password=hub.token("read"))
    where = {"repo_id": repo.repo_id, "repo_type": "dataset", "confirm": repo.repo_id}
    assert isinstance(run_task(XetDeleteRepoOperator, **where).error, XetForbiddenError)
    assert stored(hub, repo.repo_id, "dataset")


def test_mapped_tasks_delete_what_the_dag_file_names(hub, make_repo, connection, run_task):
    from airflow.sdk import task

    kept, *gone = (make_repo("model").repo_id for _ in range(3))
    pair = [{"repo_id": kept, "confirm": kept}]
    with new_dag():

        @task
        def pairs():
            return pair

        computed = XetDeleteRepoOperator.partial(task_id="computed").expand_kwargs(pairs())
        one = XetDeleteRepoOperator.partial(task_id="one", confirm=gone[0]).expand(repo_id=[kept, gone[0]])
        literal = XetDeleteRepoOperator.partial(task_id="literal").expand_kwargs(
            [{"repo_id": gone[1], "confirm": gone[1]}]
        )
    run = run_task(computed, map_index=0, api=ExecutionApi(xcoms={("pairs", "return_value", -1): pair}))
    assert "confirm comes from another task. Nothing was deleted." in run.text
    assert "confirm is" in run_task(one, map_index=0).text
    assert run_task(one, map_index=1).value["deleted"]
    assert run_task(literal, map_index=0).value["deleted"]
    assert stored(hub, kept, "model")
    assert not any(stored(hub, each, "model") for each in gone)


# --- update


def test_visibility_and_gates_are_changed_where_they_differ(hub, make_repo, connection, run_task):
    repo = make_repo("dataset")
    where = {"repo_id": repo.repo_id, "repo_type": "dataset", "visibility": "private", "gated": "manual"}
    changed = run_task(XetUpdateRepoOperator, **where).value
    assert (changed["visibility"], changed["gated"], changed["changed"]) == ("private", "manual", True)
    assert stored(hub, repo.repo_id, "dataset").private
    again = run_task(XetUpdateRepoOperator, **where).value
    assert again == {**changed, "changed": False}
    assert len(hub.log.requests("PUT .*/settings")) == 1
    ungated = run_task(XetUpdateRepoOperator, **{**where, "visibility": None, "gated": False}).value
    assert (ungated["visibility"], ungated["gated"], ungated["changed"]) == ("private", False, True)


@pytest.mark.parametrize("repo_type", ["bucket", "space"])
def test_a_bucket_and_a_space_have_a_visibility_only(hub, make_repo, connection, run_task, repo_type):
    repo = make_repo(repo_type)
    where = {"repo_id": repo.repo_id, "repo_type": repo_type}
    assert run_task(XetUpdateRepoOperator, visibility="private", **where).value["changed"]
    assert stored(hub, repo.repo_id, repo_type).private
    assert "cannot be gated" in run_task(XetUpdateRepoOperator, gated="auto", **where).text


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({}, "give visibility or gated"),
        ({"gated": True}, "gated True is unknown"),
        ({"visibility": "{{ params.seen_by }}"}, "is unknown; use"),
        ({"visibility": "private", "revision": "v1"}, "leave out revision"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_sent(hub, repo, connection, run_task, wrong, text):
    run = run_task(XetUpdateRepoOperator, repo_id=repo.repo_id, repo_type="dataset", **wrong)
    assert isinstance(run.error, XetInputError)
    assert text in run.text
    assert not hub.log.requests()


def test_a_missing_repository_has_no_settings(new_id, run_task):
    run = run_task(XetUpdateRepoOperator, repo_id=new_id, visibility="private")
    assert isinstance(run.error, XetNotFoundError)
    assert "does not exist" in run.text[:100]
