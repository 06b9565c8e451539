"""The graphs of the example DAGs as SVG, drawn from the DAGs themselves.

    PYTHONPATH=tests python -m support.dag_pictures

writes them to ``docs/_static``. A task that is mapped has ``[ ]`` after its name, a teardown a dashed frame.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path
from typing import Any

from support import svg

_HEIGHT, _BETWEEN, _ASIDE, _TOP, _MARGIN = 46, 34, 22, 44, 12
Place = tuple[str, int]
"""A task in its layer; or, for an edge over several layers, where it passes one: named by the edge."""


def draw(dag: Any) -> str:
    """Return the graph of a DAG, from its first task at the top to its last one at the bottom."""
    tasks = {task.task_id: task for task in dag.topological_sort()}
    layers, ways = arrange(list(tasks), {name: sorted(task.downstream_task_ids) for name, task in tasks.items()})
    widths = {place: _width(tasks.get(place[0])) for layer in layers for place in layer}
    spans = [sum(widths[place] + _ASIDE for place in layer) - _ASIDE for layer in layers]
    heading = f"{dag.dag_id} · {_schedule(dag)}"
    total = max([*spans, 7.2 * len(heading)]) + 2 * _MARGIN
    middle: dict[Place, float] = {}
    for layer, span in zip(layers, spans, strict=True):
        x = (total - span) / 2
        for place in layer:
            middle[place] = x + widths[place] / 2
            x += widths[place] + _ASIDE
    edges = [_edge(way, middle) for way in ways]
    boxes = [_box(tasks[name], middle[name, at], at) for layer in layers for name, at in layer if name in tasks]
    height = _y(len(layers)) - _BETWEEN + _MARGIN
    parts = [svg.label(_MARGIN, 24, heading, faint=True), *edges, *boxes]
    return svg.document(total, height, f"Graph of {dag.dag_id}: {', '.join(tasks)}", parts)


def arrange(names: list[str], after: dict[str, list[str]]) -> tuple[list[list[Place]], list[list[Place]]]:
    """Return the layers, each with its places from left to right, and the places that each edge passes.

    :param names: the tasks, each after those that it depends on.
    :param after: the tasks that come directly after each.
    """
    depth = dict.fromkeys(names, 0)
    for name in names:
        for later in after[name]:
            depth[later] = max(depth[later], depth[name] + 1)
    layers: list[list[Place]] = [[] for _ in range(max(depth.values()) + 1)]
    for name in names:
        layers[depth[name]].append((name, depth[name]))
    ways: list[list[Place]] = []
    for name in names:
        for later in after[name]:
            passed = [(f"{name} {later}", at) for at in range(depth[name] + 1, depth[later])]
            for place in passed:
                layers[place[1]].append(place)
            ways.append([(name, depth[name]), *passed, (later, depth[later])])
    steps = [step for way in ways for step in itertools.pairwise(way)]
    for _ in range(4):  # few edges cross if each place is near the middle of those that it is connected to
        for here, there in ((1, 0), (0, 1)):
            for layer in layers if here else reversed(layers):
                ranks = {place: rank for each in layers for rank, place in enumerate(each)}
                layer.sort(key=_middle_of([step for step in steps if step[here] in layer], here, there, ranks))
    return layers, ways


def _middle_of(
    steps: list[tuple[Place, Place]], here: int, there: int, ranks: dict[Place, int]
) -> Callable[[Place], float]:
    def middle(place: Place) -> float:
        beside = [ranks[step[there]] for step in steps if step[here] == place]
        return sum(beside) / len(beside) if beside else ranks[place]

    return middle


def _y(layer: int) -> float:
    return _TOP + layer * (_HEIGHT + _BETWEEN)


def _name(task: Any) -> str:
    return f"{task.task_id} [ ]" if task.is_mapped else str(task.task_id)


def _kind(task: Any) -> str:
    return str(getattr(task, "operator_name", task.task_type))


def _width(task: Any) -> float:
    return max(8.0 * len(_name(task)), 6.6 * len(_kind(task))) + 20 if task else 2


def _schedule(dag: Any) -> str:
    if dag.schedule is None:
        return "started by hand"
    if isinstance(dag.schedule, str):
        return dag.schedule
    return " and ".join(asset.uri for asset in dag.schedule)


def _box(task: Any, x: float, layer: int) -> str:
    y, width = _y(layer), _width(task)
    dashes = ' stroke-dasharray="5 4"' if task.is_teardown else ""
    frame = (
        f'<rect class="box" x="{x - width / 2:.0f}" y="{y:.0f}" width="{width:.0f}" height="{_HEIGHT}" rx="6"{dashes}/>'
    )
    kind = svg.label(x, y + 36, _kind(task), "middle", faint=True).replace("<text", '<text font-size="11"')
    return f'<g data-task="{escape(task.task_id)}">{frame}{svg.label(x, y + 20, _name(task), "middle")}{kind}</g>'


def _edge(way: list[Place], middle: dict[Place, float]) -> str:
    (x, (name, layer)), later = (middle[way[0]], way[0]), way[-1][0]
    path = f"M{x:.0f},{_y(layer) + _HEIGHT:.0f}"
    for place in way[1:]:
        to_x, to_y, from_y = middle[place], _y(place[1]), _y(place[1]) - _BETWEEN
        half = (from_y + to_y) / 2
        path += f"C{x:.0f},{half:.0f} {to_x:.0f},{half:.0f} {to_x:.0f},{to_y:.0f}"
        if place != way[-1]:
            path += f"V{to_y + _HEIGHT:.0f}"
        x = to_x
    path += f"M{x - 4:.0f},{to_y - 6:.0f}L{x:.0f},{to_y:.0f}L{x + 4:.0f},{to_y - 6:.0f}"
    return f'<path class="line" data-edge="{escape(name)} {escape(later)}" d="{path}" fill="none"/>'


def pictures(folder: Path) -> Iterable[tuple[str, Path, str]]:
    """Return the example, the name of the picture and the picture of each DAG in a folder."""
    from support.documentation import run_as_file

    for path in sorted(folder.glob("*.py")):
        for dag in run_as_file(path.read_text(), path.name):
            if dag.tasks:
                yield path.stem, Path(f"graph-{dag.dag_id}.svg"), draw(dag)


if __name__ == "__main__":
    root = Path(__file__).parents[2]
    for _, name, picture in pictures(root / "dags_example"):
        (root / "docs/_static" / name).write_text(picture)
