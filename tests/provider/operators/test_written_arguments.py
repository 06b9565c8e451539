"""What a mapped task is given is checked when it runs."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.operators.xethub import (
    XetListOperator,
)
from support.airflow_runs import ExecutionApi, new_dag, run_one

pytestmark = pytest.mark.airflow


def test_what_a_mapped_task_is_given_is_checked_for_good(connection):
    with new_dag():
        mapped = XetListOperator.partial(task_id="t", retries=2, repo_id="acme/corpus").expand(revision=["main", 7])
    done = run_one(mapped, map_index=1, api=ExecutionApi())
    assert isinstance(done.error, XetInputError)
    assert done.is_final
    assert "revision must be a string, not 7" in done.text
