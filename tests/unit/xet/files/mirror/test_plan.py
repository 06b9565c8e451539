"""The plan of a mirror: what is added, changed, removed and kept, and when it is refused."""

from __future__ import annotations

import pytest

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.files.mirror import plan as mirror_plan
from airflow_provider_xethub.xet.files.mirror.plan import check, compare, rules, summary, table


def plan_of(wanted, there, equal=(), untouchable=(), **options):
    return compare(dict.fromkeys(wanted, 10), there, set(equal), rules(**options), untouchable)


def refusal(wanted, there, has_folders=True, **options):
    chosen = rules(**{"max_delete_share": 1, **options})
    plan = compare(dict.fromkeys(wanted, 10), there, set(), chosen)
    with pytest.raises(XetInputError) as caught:
        check(plan, wanted, there, chosen, "there", has_folders=has_folders)
    return str(caught.value)


def test_each_path_is_of_one_kind():
    plan = plan_of(["new", "same", "other"], ["same", "other", "old"], ["same"])
    assert (plan.added, plan.changed, plan.removed, plan.unchanged, plan.kept) == (
        *(["new"], ["other"], ["old"], ["same"], []),
    )
    assert plan.size == 20
    assert plan.is_needed
    assert not plan_of(["same"], ["same", "kept"], ["same"], protect="kept").is_needed


def test_patterns_apply_below_the_folder():
    there = ["data/a.csv", "data/b.bin", "data/keep/c.csv", "data/d.csv"]
    plan = plan_of([], there, path_in_repo="data/", patterns="*.csv", exclude="d*", protect="keep/")
    assert (plan.removed, plan.kept) == (["data/a.csv"], ["data/keep/c.csv"])


def test_the_untouchable_and_the_always_protected_are_kept():
    plan = plan_of([], ["README.md", "d/README.md", "mine"], untouchable={"mine"}, always_protected=("README.md",))
    assert (plan.removed, plan.kept) == (["d/README.md"], ["README.md", "mine"])


@pytest.mark.parametrize(
    ("removed", "share", "is_refused"), [(2, 0.5, False), (3, 0.5, True), (1, 0, True), (4, 1, False)]
)
def test_at_most_the_given_share_is_removed(removed, share, is_refused):
    there = ["a", "b", "c", "d", "protected"]
    wanted = there[removed:4]
    chosen = rules(protect="protected", max_delete_share=share)
    plan = compare(dict.fromkeys(wanted, 1), there, set(wanted), chosen)
    if not is_refused:
        check(plan, wanted, there, chosen, "there", has_folders=True)
        return
    with pytest.raises(XetInputError, match=f"would remove {removed} of 4 files of there") as caught:
        check(plan, wanted, there, chosen, "there", has_folders=True)
    advised = float(str(caught.value).partition("set max_delete_share=")[2].partition(". ")[0])
    check(plan, wanted, there, rules(protect="protected", max_delete_share=advised), "there", has_folders=True)


@pytest.mark.parametrize(
    ("wanted", "there", "said"),
    [
        (["a/b"], ["a"], "a/b cannot be written to there: a is a file there"),
        (["a/b/c"], ["a"], "a/b/c cannot be written to there: a is a file there"),
        (["a"], ["a/b/c"], "a cannot be written to there: a/b/c is in a folder of that name"),
        (["a", "a/b"], [], "a/b cannot be written to there: a is a file there"),
    ],
)
def test_what_stays_is_not_replaced_by_way_of_a_folder(wanted, there, said):
    assert refusal(wanted, there, protect=there or None).startswith(said)
    chosen = rules(protect=there or None)
    plan = compare(dict.fromkeys(wanted, 1), there, set(), chosen)
    check(plan, wanted, there, chosen, "a bucket", has_folders=False)


def test_names_that_begin_alike_are_no_folders():
    plan = plan_of(["a.b", "ab"], ["a"], protect="a")
    check(plan, ["a.b", "ab"], ["a"], rules(protect="a"), "there", has_folders=True)


@pytest.mark.parametrize("share", [-0.1, 1.1, "x", None, True, float("nan"), [0.5]])
def test_a_share_is_from_0_to_1(share):
    with pytest.raises(XetInputError, match="max_delete_share must be a number from 0 to 1"):
        rules(max_delete_share=share)


@pytest.mark.parametrize("folder", ["..", "a//b", "a/./b", "a\\b", ".git/x", ""])
def test_a_folder_is_a_path_in_the_repository(folder):
    with pytest.raises(XetInputError):
        rules(path_in_repo=folder)


def test_the_table_names_each_path_and_says_what_the_bytes_are():
    plan = plan_of(["new", "other\n"], ["other\n", "old", "kept"], protect="kept").as_record("hf://a/b@main", "")
    assert table(plan, sends=True).splitlines() == [
        "1 added, 1 changed, 1 removed, 0 unchanged, 1 kept",
        *("added    new", "changed  'other\\n'", "removed  old", "kept     kept"),
        "at most 20 B to send; CAS may have parts of it already",
    ]
    assert table(plan, sends=False).endswith("at most 20 B to receive")
    assert summary(plan) == "1 added, 1 changed, 1 removed, 0 unchanged, 1 kept"


def test_a_long_table_is_shortened(monkeypatch):
    monkeypatch.setattr(mirror_plan, "MOST_SHOWN", 2)
    plan = plan_of(["a", "b", "c", "d"], []).as_record("hf://a/b@main", "")
    assert table(plan, sends=True).splitlines()[1:4] == ["added    a", "added    b", "added    … and 2 more"]
