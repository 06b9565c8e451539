"""Seeded simulation: the provider in a world full of faults, in which everything that it promises is checked.

From lowest to highest: :mod:`contents` and :mod:`generator` (a seed becomes a plan, which is plain JSON),
:mod:`model` (what must exist), :mod:`world` (the local Hub, folders and connection), :mod:`faults`,
:mod:`invariants`, :mod:`operations` (tasks, as Airflow runs and retries them), :mod:`simulate` (runs a plan),
:mod:`shrink`, and the command line in :mod:`__main__`.
"""
