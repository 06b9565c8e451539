"""The identity of the workers in tests of keyless connections."""

from __future__ import annotations

SUBJECT = "system:serviceaccount:ml:airflow-worker"
