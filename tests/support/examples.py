"""How many examples a property test tries."""

from __future__ import annotations

from hypothesis import settings

USUAL = 100


def examples(number: int) -> int:
    """Return how many examples the Hypothesis profile asks for, where a test tries ``number`` instead of the usual 100.

    ``make test-exhaustive`` has a profile of its own, with as many times more examples for each test.
    """
    return number * settings().max_examples // USUAL
