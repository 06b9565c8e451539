from __future__ import annotations

from xml.etree import ElementTree

import pytest

from benchmarks.line_chart import Line, draw, extrapolated, slope

PROPORTIONAL = [(10.0**n, 3 * 10.0**n) for n in range(1, 6)]


def test_the_slope_is_the_exponent_of_growth():
    assert slope(PROPORTIONAL) == pytest.approx(1)
    assert slope([(x, x**0.5) for x, _ in PROPORTIONAL]) == pytest.approx(0.5)
    assert slope([(x, 7.0) for x, _ in PROPORTIONAL]) == pytest.approx(0)


def test_what_is_constant_at_first_and_grows_at_the_end_is_judged_by_its_end():
    assert slope([(1, 100), (10, 100), (100, 100), *((x, x) for x in (1e3, 1e4, 1e5))]) == pytest.approx(1)


def test_growth_is_continued_and_never_turned_into_shrinking():
    assert extrapolated(PROPORTIONAL, 1e7) == pytest.approx(3e7)
    assert extrapolated([(10, 9.0), (100, 8.0), (1000, 7.0)], 1e7) == pytest.approx(7)
    assert extrapolated([(10, 9.0)], 1e7) is None


def test_what_is_extrapolated_is_dashed_and_says_so():
    chart = draw([Line("upload", tuple(PROPORTIONAL)), Line("one", ((10, 5.0),))], "Seconds", 1e7, str, str)
    ElementTree.fromstring(chart)  # noqa: S314 - our own
    assert chart.count("stroke-dasharray") == 1
    assert "dashed: extrapolated" in chart
    assert "slope 1.00" in chart


def test_an_axis_on_which_nothing_differs_has_one_label():
    chart = draw([Line("upload", ((1, 3.0), (10, 3.0)))], "Requests", 100, lambda x: f"{x:.0f} files", str)
    assert chart.count(">3.0</text>") == 1
