"""The same seed gives the same files, tasks and kills."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

import pytest

from chaos import plan

WORKERS, OTHERS = ("one", "two"), ("scheduler", "triggerer", "redis", "hub")


def test_a_seed_always_gives_the_same_files_kills_and_clock() -> None:
    def drawn(seed: int) -> list[object]:
        items = plan.items(seed, 12)
        contents = [each.files(seed) for each in items[:3]]
        return [items, contents, list(islice(plan.kills(seed, WORKERS, OTHERS), 50)), plan.clock_offset(seed)]

    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)


def test_each_round_of_kills_ends_each_server_in_each_way() -> None:
    blows = plan.blows(WORKERS, OTHERS)
    for seed in range(5):
        drawn = plan.kills(seed, WORKERS, OTHERS)
        for _ in range(2):
            found = [plan.Blow(kill.target, kill.how, kill.moment) for kill in islice(drawn, len(blows))]
            assert sorted(map(str, found)) == sorted(map(str, blows))


def test_without_redis_nobody_kills_it() -> None:
    kills = islice(plan.kills(1, WORKERS, ("scheduler", "hub")), 60)
    assert {kill.target for kill in kills} == {*WORKERS, "scheduler", "hub"}


def test_a_clock_is_off_by_a_third_of_a_minute_to_a_minute_in_both_directions() -> None:
    offsets = {plan.clock_offset(seed) for seed in range(200)}
    assert all(20 <= abs(offset) < 60 for offset in offsets)
    assert min(offsets) < 0 < max(offsets)


@pytest.mark.parametrize("tasks", [1, 2, 30, 100])
def test_no_two_items_have_the_same_path_or_title_except_parts(tasks: int) -> None:
    items = plan.items(3, tasks)
    assert sum(each.kind == "item" for each in items) == tasks
    assert len({each.folder for each in items}) == len({each.name for each in items}) == len(items)
    titles = [each.title for each in items if each.kind != "part"]
    assert len({*titles, plan.PARTS_TITLE}) == len(titles) + 1


def test_the_parameters_of_the_run_name_every_item_once() -> None:
    items = plan.items(3, 10)
    conf: Mapping[str, Any] = plan.conf(items, "/sources", "/shared")
    named = [each["path_in_repo"] for name in ("published", "direct", "parts") for each in conf[name]]
    assert sorted(named) == sorted(each.folder for each in items)
    places = {each["destination"].rpartition("/")[0] for each in conf["fetched"]}
    assert places == {"/shared", "~/inbox"}
