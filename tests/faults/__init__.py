"""Every operator, sensor and trigger against every fault of the local Hub, at every step: ``make faults``.

``rows`` has the tasks, ``columns`` the faults, and ``steps`` divides what a task requests without faults into steps.
``lab`` runs one cell: a task whose requests of one step fail in one way. ``invariants`` has what must hold in every
cell, and ``matrix.json`` what came out of each; ``page`` makes the documentation from it.
"""
