from __future__ import annotations

import re
from xml.etree import ElementTree

from benchmarks.chart import Group, draw

SVG = "{http://www.w3.org/2000/svg}"


def test_all_bars_of_a_chart_have_one_scale():
    chart = ElementTree.fromstring(draw([Group("a", {"x": 1, "y": 4}), Group("b", {"x": 2, "y": 8})], "Seconds", "s"))  # noqa: S314
    bars = [int(bar.get("width")) for bar in chart.iter(f"{SVG}rect") if bar.find(f"{SVG}title") is not None]
    longest = max(bars)
    assert bars == [round(longest * share) for share in (1 / 8, 4 / 8, 2 / 8, 1)]


def test_a_legend_that_is_too_long_gets_another_line():
    names = [f"contender number {number}" for number in range(5)]
    chart = draw([Group("upload", dict.fromkeys(names, 1.0))], "Seconds", "s")
    places = [
        (int(x), int(y))
        for x, y, name in re.findall(r'<text x="(\d+)" y="(\d+)" text-anchor="start">([^<]*)<', chart)
        if name in names
    ]
    assert len({y for _, y in places}) == 2
    assert all(x + 8 * len(names[0]) < 760 for x, _ in places)


def test_small_figures_do_not_become_zero():
    assert ">0.04 s<" in draw([Group("start", {"x": 0.04, "y": 0.5})], "Seconds", "s")
