"""While an operator works, the garbage collector looks only at what it makes."""

from __future__ import annotations

import gc

from airflow_provider_xethub.operators.base import XetOperator


class Frozen(XetOperator):
    def work(self, context):
        return gc.get_freeze_count()


def test_what_airflow_has_loaded_is_not_collected(connection, run_task):
    connection()
    gc.unfreeze()  # the tests' own

    assert run_task(Frozen, repo_id="acme/corpus", repo_type="dataset").value > 10_000
    assert gc.get_freeze_count() == 0


def test_what_others_have_frozen_stays_frozen(connection, run_task):
    connection()
    gc.freeze()
    before = gc.get_freeze_count()

    run_task(Frozen, repo_id="acme/corpus", repo_type="dataset").value  # noqa: B018

    assert gc.get_freeze_count() >= before / 2
