from __future__ import annotations

import random

import pytest

from benchmarks.ratios import paired


def test_five_pairs_are_told_by_their_median_and_their_whole_range():
    ratio = paired([1.2, 0.9, 1.0, 1.1, 3.0])
    assert (ratio.median, ratio.low, ratio.high, ratio.pairs) == (1.1, 0.9, 3.0, 5)
    assert ratio.confidence == pytest.approx(0.9375)


def test_one_of_ten_pairs_may_be_disturbed_at_either_end():
    ratio = paired([9.0, 0.1, *(1 + number / 100 for number in range(8))])
    assert (ratio.low, ratio.high) == (1.0, 1.07)
    assert ratio.confidence >= 0.95


def test_one_pair_is_its_own_interval():
    ratio = paired([1.5])
    assert (ratio.median, ratio.low, ratio.high, ratio.confidence) == (1.5, 1.5, 1.5, 0.0)


def test_no_pair_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        paired([])


@pytest.mark.parametrize("count", [5, 8, 10, 25])
def test_the_interval_has_the_true_median_as_often_as_it_says(count):
    """Of a skewed distribution, whose true median is 1."""
    chance = random.Random(count)
    found = [paired(chance.lognormvariate(0, 0.5) for _ in range(count)) for _ in range(2_000)]
    hits = sum(each.low <= 1 <= each.high for each in found) / len(found)
    assert hits == pytest.approx(found[0].confidence, abs=0.02)
