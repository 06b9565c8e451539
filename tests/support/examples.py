"""How much a test tries: usually, and in ``make test-exhaustive``."""

from __future__ import annotations

from hypothesis import settings

USUAL = 100


def examples(number: int) -> int:
    """Return how many examples the Hypothesis profile asks for, where a test tries ``number`` instead of the usual 100.

    ``make test-exhaustive`` has a profile of its own, with as many times more examples for each test.
    """
    return number * settings().max_examples // USUAL


def at_length(usual: int, exhaustive: int) -> int:
    """Return how much a test with the marker ``exhaustive`` does: repetitions, or bytes."""
    return exhaustive if settings().max_examples > USUAL else usual
