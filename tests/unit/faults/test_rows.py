"""The rows of the fault matrix: none is missing."""

from __future__ import annotations

from airflow_provider_xethub.decorators.xethub import XetDecoratedOperator
from airflow_provider_xethub.operators.base import XetOperator
from airflow_provider_xethub.operators.xethub import XetForgetTokenOperator, XetUploadOperator
from airflow_provider_xethub.sensors.xethub import XetFileSensor, XetSensor
from airflow_provider_xethub.triggers.xethub import XetFileTrigger
from faults import matrix
from faults.rows import ROWS, kinds_of_the_provider


def test_every_operator_sensor_and_trigger_has_a_row():
    kinds = kinds_of_the_provider()
    assert {row.kind for row in ROWS.values()} == kinds
    assert {XetUploadOperator, XetForgetTokenOperator, XetDecoratedOperator, XetFileSensor, XetFileTrigger} <= kinds
    assert not {XetOperator, XetSensor} & kinds


def test_every_row_was_run():
    """``make faults ARGS=--accept`` adds a new one to the file."""
    assert matrix.load().kinds == {name: row.kind.__name__ for name, row in ROWS.items()}
