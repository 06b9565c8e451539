"""Seeded simulation: the provider in a world full of faults, in which everything that it promises is checked.

From the lowest to the highest: :mod:`contents` and :mod:`generator` (a seed becomes a plan, which is plain JSON),
:mod:`model` (what must exist), :mod:`world` (repositories, folders, connection), :mod:`faults`, :mod:`invariants`,
:mod:`operations` (the steps of a plan as tasks), :mod:`attempts` (one try of one task), :mod:`simulate` (runs a plan),
:mod:`shrink`, and the command line in :mod:`__main__`. ``docs/simulation.md`` says how to use it, and what it found.
"""
