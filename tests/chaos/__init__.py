"""Chaos with whole processes: a distributed Airflow works while they are killed in an order drawn from a seed.

From the lowest to the highest: :mod:`plan` (a seed becomes files, tasks and kills), :mod:`verdict` (what must be true
at the end, as pure functions of facts), :mod:`servers` (processes that are killed and started again), :mod:`hub`,
:mod:`deployment` (Airflow with its database, broker, Hub and workers), :mod:`facts` (what is there at the end),
:mod:`run` (kills while the DAG in ``dags`` runs), and the command line in :mod:`__main__`. ``docs/chaos.md`` says how
to use it, and what it found.
"""
