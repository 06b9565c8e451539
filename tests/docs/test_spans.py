"""What the page for platform teams says about spans: the tables, the dashboard and the picture."""

from __future__ import annotations

import json
import re
from itertools import combinations
from typing import Any, get_args
from xml.etree import ElementTree

import pytest

from airflow_provider_xethub.hooks import metrics
from airflow_provider_xethub.xet import records, tracing
from support import waterfall
from support.documentation import DOCS, table

DASHBOARD = json.loads((DOCS / "_static/grafana-xethub.json").read_text())
SPANS = set(get_args(tracing.Name))
ATTRIBUTES = {f"xethub.{name}" for name in get_args(tracing.Attribute)}


def test_the_tables_name_every_span_and_every_attribute():
    assert {row[0].strip("`") for row in table("platform.md", "Span", "Watch it")} == SPANS
    shown = re.findall(r"`([\w.]+)`", " ".join(row[0] for row in table("platform.md", "Attribute", "Watch it")))
    assert len(shown) == len(set(shown))
    assert set(shown) == ATTRIBUTES | {"error.type"}


def emitted_metrics() -> set[str]:
    """Return the names of all metrics, as they are counted, with underscores and the default prefix."""
    found = set()

    class Stats:
        def timing(self, name: str, *_: Any, **__: Any) -> None:
            found.add(name)

        incr = timing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "_stats", Stats)
        metrics.count_transfer("upload", dict.fromkeys(records.XetTransfer.__annotations__, 1), "dataset")
        metrics.count_transfer("download", dict.fromkeys(records.XetReceived.__annotations__, 1), "dataset")
    return {f"airflow_{name.replace('.', '_')}" for name in found}


def queries() -> list[tuple[str, str]]:
    """Return the type of the source and the text of each query of the dashboard."""
    return [
        (target["datasource"]["type"], target.get("expr") or target["query"])
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    ]


def test_the_dashboard_asks_only_for_what_is_emitted():
    known = emitted_metrics()
    assert len(known) == 10
    kinds = [kind for kind, _ in queries()]
    assert set(kinds) == {"prometheus", "tempo"}
    for kind, query in queries():
        if kind == "prometheus":
            names = re.findall(r'__name__=~"(\w+)\(_total\)\?"', query)
            assert names
            assert set(names) <= known, query
        else:
            attributes = set(re.findall(r"span\.([\w.]+)", query))
            assert attributes or "name =~" in query
            assert attributes <= ATTRIBUTES | {"error.type"}, query
            for pattern in re.findall(r'name =~ "([^"]+)"', query):
                assert [name for name in SPANS if re.fullmatch(pattern, name)], query
            for outcome in re.findall(r'xethub\.outcome = "(\w+)"', query):
                assert f"`{outcome}`" in str(table("platform.md", "Attribute", "Watch it")), query


def test_the_dashboard_is_one_that_grafana_can_lay_out():
    """By what Grafana's documentation of the JSON model requires; nothing here has a Grafana."""
    assert {"title", "uid", "panels", "schemaVersion", "templating", "time"} <= set(DASHBOARD)
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 6
    sources = {f"${{{each['name']}}}": each["query"] for each in DASHBOARD["templating"]["list"]}
    for panel in panels:
        assert panel["title"]
        assert panel["type"] in ("timeseries", "table")
        for target in panel["targets"]:
            assert sources[target["datasource"]["uid"]] == target["datasource"]["type"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y


def test_the_picture_shows_what_was_recorded():
    """``PYTHONPATH=tests .venv/bin/python -m support.waterfall`` draws it, ``--record`` records it again."""
    spans = waterfall.read()
    task, *ours = spans
    assert task.name == "worker.publish"
    assert {span.name for span in ours} == {"xethub.listing", "xethub.token", "xethub.upload", "xethub.commit"}
    assert {name for span in ours for name in span.attributes} <= ATTRIBUTES
    assert {span.parent for span in ours} == {task.id}
    drawn = waterfall.PICTURE.read_text()
    assert drawn == waterfall.draw(spans)
    assert ElementTree.fromstring(drawn).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 - our own file
