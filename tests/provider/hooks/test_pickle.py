"""What crosses to another process, with a real Hub: a hook works afterwards, and credentials stay behind."""

from __future__ import annotations

import copy
import json
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_xethub import exceptions
from airflow_provider_xethub.hooks.xethub import XetHubConnection


def read_what_is_missing(hook: XetHubConnection) -> None:
    hook.list_files(hook.repo("local/nothing-here", "dataset"))


def test_an_error_of_a_process_pool_still_fails_the_task_at_once(hook):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        error = pool.submit(read_what_is_missing, hook).exception()
    assert isinstance(error, exceptions.XetNotFoundError)
    assert isinstance(error, AirflowFailException)
    assert (error.status, error.service) == (404, "Hub")


def test_a_used_hook_is_pickled_as_its_connection_id_and_works_afterwards(hook, hub, repo, connection):
    connection(password=(secret := hub.token()), extra=json.dumps({"secret_headers": '{"X-Gate": "gate-secret"}'}))
    hook.get_token(repo)
    hook.list_files(repo)
    hook.api  # noqa: B018 - what it leaves in the hook
    blob = pickle.dumps(hook)
    assert secret.encode() not in blob
    assert b"gate-secret" not in blob
    for other in (pickle.loads(blob), copy.deepcopy(hook)):  # noqa: S301 - our own
        assert other.xethub_conn_id == "xethub_default"
        assert other.list_files(repo) == hook.list_files(repo)


def test_what_holds_a_credential_refuses_to_be_pickled(hook, repo):
    token = hook.get_token(repo)
    for holder in (token, hook.hub, hook.get_conn(), hook.cas_access()(token)):
        with pytest.raises(TypeError, match=r"cannot be pickled\. (Seal|Pickle)"):
            pickle.dumps(holder)


def test_a_token_that_a_function_returns_does_not_become_an_xcom_in_plain_text(hook, repo):
    from airflow.sdk.serde import serialize

    with pytest.raises(exceptions.XetInputError, match=r"Return hook\.seal_token\(token\)"):
        serialize({"token": [hook.get_token(repo)]})
