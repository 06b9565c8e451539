"""Arguments are checked where they are written: in the DAG file, as far as nobody has to be asked."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import ObjectStoragePath, task

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.operators.xethub import (
    XetCommitOperator,
    XetCopyOperator,
    XetDownloadOperator,
    XetForgetTokenOperator,
    XetListOperator,
    XetMirrorOperator,
    XetTokenOperator,
    XetUploadOperator,
)
from airflow_provider_xethub.sensors.xethub import XetFileSensor, XetRevisionSensor
from support.airflow_runs import new_dag

pytestmark = pytest.mark.airflow

REQUIRED = {XetUploadOperator: {"source": "x"}, XetDownloadOperator: {"destination": "x"}}

WRONG = [
    (XetListOperator, "repo_id", [7, "corpus", "a/b/c", ["a/b"]]),
    (XetListOperator, "repo_type", ["table", 7]),
    (XetListOperator, "revision", [2024, "a..b", 1.1]),
    (XetListOperator, "xethub_conn_id", [7, ["a"]]),
    (XetListOperator, "path", [7, ["a"]]),
    (XetListOperator, "patterns", [7, [7], {"*.csv": 1}, {"*.csv"}, b"*"]),
    (XetTokenOperator, "scope", ["admin", 1]),
    (XetUploadOperator, "source", [7, [7], {"a": "b"}]),
    (XetUploadOperator, "path_in_repo", [7]),
    (XetUploadOperator, "commit", ["False", 0, None]),
    (XetUploadOperator, "create_pr", ["False", "{{ params.pr }}"]),
    (XetUploadOperator, "deduplicate", ["no"]),
    (XetListOperator, "inline_content", "yes"),
    (XetUploadOperator, "follow_links", ["yes"]),
    (XetUploadOperator, "exclude", [7, [7]]),
    (XetUploadOperator, "on_empty", ["ignore", None, True]),
    (XetUploadOperator, "on_unchanged", ["fail", None, True]),
    (XetUploadOperator, "commit_message", [7, ["a"]]),
    (XetUploadOperator, "commit_description", [7]),
    (XetUploadOperator, "parent_commit", [7]),
    (XetUploadOperator, "transfer_memory", [0, -1, True, 0.5, "much", "500 M", "-1MB", ["1GB"]]),
    (XetDownloadOperator, "transfer_memory", ["1 GBit", b"1GB"]),
    (XetMirrorOperator, "transfer_memory", ["1 EB"]),
    (XetUploadOperator, "token", ["{{ ti.xcom_pull('token') }}", "hf_secret", 7]),
    (XetCommitOperator, "files", ["a.bin", 7]),
    (XetCommitOperator, "delete", [7, [7], {"a": 1}]),
    (XetCommitOperator, "create_pr", ["False"]),
    (XetCommitOperator, "on_empty", ["ignore"]),
    (XetCommitOperator, "on_unchanged", ["ignore"]),
    (XetCopyOperator, "source_repo_id", ["corpus"]),
    (XetCopyOperator, "source_repo_type", ["table"]),
    (XetCopyOperator, "source_revision", [2024]),
    (XetCopyOperator, "on_empty", ["ignore"]),
    (XetCopyOperator, "on_unchanged", ["ignore"]),
    (XetDownloadOperator, "paths", [7, [None]]),
    (XetDownloadOperator, "destination", [7, ["a"]]),
    (XetDownloadOperator, "files", ["a.bin"]),
    (XetDownloadOperator, "on_empty", ["ignore"]),
    (XetForgetTokenOperator, "token_task_ids", [7, [7]]),
    (XetFileSensor, "paths", [7, [7]]),
    (XetFileSensor, "min_files", [0, -1, "many", 1.5, True]),
    (XetFileSensor, "changed_from", [7]),
    (XetFileSensor, "deferrable", ["yes", None]),
    (XetFileSensor, "may_be_missing", ["file", True]),
    (XetFileSensor, "revision", ["a..b"]),
    (XetRevisionSensor, "newer_than", [7]),
]


@pytest.mark.parametrize(("operator", "name", "values"), WRONG)
def test_a_wrong_argument_is_refused_by_its_name(operator, name, values):
    for value in values:
        with new_dag(), pytest.raises(XetInputError, match=name) as raised:
            operator(task_id="t", **{**REQUIRED.get(operator, {}), name: value})
        # A mapped task is made on the worker: there, too, no retry mends it.
        assert isinstance(raised.value, AirflowFailException)
        assert "hf_secret" not in str(raised.value)


def test_a_wrong_argument_of_the_decorator_is_refused():
    def work(file): ...

    for name, value in {"read_only": "yes", "paths": 7, "revision": 2024, "on_empty": "ignore"}.items():
        with new_dag(), pytest.raises(XetInputError, match=name):
            task.xethub(**{name: value})(work)()


def test_what_is_only_known_when_the_task_runs_is_left_alone():
    with new_dag():
        before = XetTokenOperator(task_id="before")
        for operator, values in (
            (XetListOperator, {"repo_id": "{{ x }}", "revision": before.output, "path": before.output["a"]}),
            (XetDownloadOperator, {"files": before.output, "destination": Path("{{ x }}"), "token": before.output}),
            (XetDownloadOperator, {"paths": ["{{ x }}", before.output], "destination": "x"}),
            (XetUploadOperator, {"source": [before.output, Path("x")], "token": {"xet_token": 1}}),
            (XetUploadOperator, {"source": ObjectStoragePath("file:///data/{{ x }}")}),
            (XetUploadOperator, {"source": [ObjectStoragePath("file:///data/a")], "deduplicate": None}),
            (XetCommitOperator, {"files": [[before.output], {"path": "a"}], "delete": "{% if x %}a{% endif %}"}),
            (XetCommitOperator, {"files": "{{ x }}", "commit_message": before.output}),
            (XetFileSensor, {"min_files": "{{ x }}", "changed_from": {"path": "a"}, "path": before.output}),
            (XetFileSensor, {"changed_from": [{"path": "a"}], "patterns": ("*",), "min_files": "3"}),
            (XetFileSensor, {"path": "a", "poke_interval": timedelta(seconds=1), "timeout": timedelta(hours=1)}),
            (XetListOperator, {"patterns": [], "path": "", "revision": None}),
            (XetUploadOperator, {"source": "x", "transfer_memory": "{{ x }}"}),
            (XetDownloadOperator, {"destination": "x", "transfer_memory": before.output}),
        ):
            operator(task_id=f"t{len(before.dag.tasks)}", **values)
