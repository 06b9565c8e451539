"""While an operator works, the garbage collector looks only at what it makes."""

from __future__ import annotations

import gc

from airflow_provider_xethub.operators.base import XetOperator


class Frozen(XetOperator):
    def work(self, context):
        return gc.get_freeze_count()


def test_what_airflow_has_loaded_is_not_collected(connection, run_task):
    connection()

    assert run_task(Frozen, repo_id="acme/corpus", repo_type="dataset").value > 10_000
    assert gc.get_freeze_count() == 0
