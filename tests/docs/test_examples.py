"""The page of examples shows every example, with its purpose and the graph that it has."""

from __future__ import annotations

import ast
import re
from functools import cache
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from support import svg
from support.dag_pictures import pictures
from support.documentation import BLOCKS, DOCS, ROOT, included

EXAMPLES = sorted((ROOT / "dags_example").glob("*.py"))
SVG = "{http://www.w3.org/2000/svg}"


def section(name: str) -> str:
    text = (DOCS / "examples.md").read_text()
    assert text.count(f"\n## {name}\n") == 1
    return text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


@cache
def text_of_tests() -> str:
    return "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py") if path.parent != ROOT / "tests/docs")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_shown_with_its_purpose_and_run_by_a_test(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert section(path.stem).lstrip().startswith(docstring.partition("\n")[0] + "\n")
    assert docstring.partition("\n")[0].endswith(".")
    shown = [included(block.page, block) for block in BLOCKS if block.info.startswith("{literalinclude}")]
    assert path in shown
    assert re.search(rf'\b{path.stem}(\.py)?"', text_of_tests()), "no test runs it"


def test_there_are_as_many_examples_as_promised():
    assert len(EXAMPLES) >= 15
    assert set(re.findall(r"^## (\w+)$", (DOCS / "examples.md").read_text(), re.MULTILINE)) == {
        path.stem for path in EXAMPLES
    }


def test_the_picture_of_a_graph_is_that_of_the_dag():
    """Draw them again with ``PYTHONPATH=tests python -m support.dag_pictures``."""
    drawn = {name.name: (example, picture) for example, name, picture in pictures(ROOT / "dags_example")}
    assert set(drawn) == {path.name for path in (DOCS / "_static").glob("graph-*.svg")}
    for name, (example, picture) in drawn.items():
        assert (DOCS / "_static" / name).read_text() == picture, name
        title = ElementTree.fromstring(picture).findtext(f"{SVG}title")  # noqa: S314 - our own
        assert f'_static/{name}\n:alt: "{title}"' in section(example)


def test_a_picture_has_every_task_and_edge_and_nothing_overlaps():
    from support.documentation import run_as_file

    for path in EXAMPLES:
        for dag in filter(lambda dag: dag.tasks, run_as_file(path.read_text(), path.name)):
            root = ElementTree.parse(DOCS / f"_static/graph-{dag.dag_id}.svg").getroot()  # noqa: S314 - our own
            assert {each.get("data-task") for each in root.iter(f"{SVG}g")} == set(dag.task_ids)
            edges = {each.get("data-edge") for each in root.iter(f"{SVG}path")}
            assert edges == {f"{task.task_id} {later}" for task in dag.tasks for later in task.downstream_task_ids}
            rows: dict[int, list[tuple[int, int]]] = {}
            for box in root.iter(f"{SVG}rect"):
                x, y, width = (int(box.get(name)) for name in ("x", "y", "width"))
                assert 0 <= x < x + width <= int(root.get("width"))
                rows.setdefault(y, []).append((x, x + width))
            for boxes in map(sorted, rows.values()):
                assert all(right < left for (_, right), (left, _) in pairwise(boxes))


def luminance(colour: str) -> float:
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("path", sorted((DOCS / "_static").glob("*.svg")), ids=lambda path: path.stem)
def test_a_drawing_is_readable_on_a_light_and_on_a_dark_page(path):
    text = path.read_text()
    light, dark = re.search(
        r"<style>\n(.*?)@media \(prefers-color-scheme: dark\) \{(.*?)\}\n</style>", text, re.DOTALL
    ).groups()
    for style, background in ((light, svg.BACKGROUNDS["light"]), (dark, svg.BACKGROUNDS["dark"])):
        for colour in re.findall(r"(?:text|faint) \{ fill: (#\w{6})", style):
            assert contrast(colour, background) >= 4.5, colour
        box = re.search(r"box \{ fill: (#\w{6})", style)[1]
        assert all(contrast(colour, box) >= 4.5 for colour in re.findall(r"(?:text|faint) \{ fill: (#\w{6})", style))
        for colour in re.findall(r' (?:fill|stroke)="(#\w+)"', text):
            assert contrast(colour, background) >= 3, colour
