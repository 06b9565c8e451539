"""What must be there after changes, half made changes and changes that are made twice."""

from __future__ import annotations

from simulation.model import SAME, Change, difference, lost_changes, torn_paths, unexplained_commits

BEFORE = {"a": b"1", "d/b": b"2"}
PUT = Change("r", {"a": b"3", "c": b"4"})
DELETE = Change("r", deletes=frozenset(["a"]))
MIRROR = Change("r", {"d/e": b"5"}, mirrored="d/")


def test_changes_apply_to_a_tree() -> None:
    assert PUT.apply(BEFORE) == {"a": b"3", "c": b"4", "d/b": b"2"}
    assert DELETE.apply(BEFORE) == {"d/b": b"2"}
    assert MIRROR.apply(BEFORE) == {"a": b"1", "d/e": b"5"}


def test_whole_changes_in_any_order_explain_commits() -> None:
    first = MIRROR.apply(BEFORE)
    assert unexplained_commits(BEFORE, [first, PUT.apply(first)], [PUT, MIRROR]) == []


def test_half_a_change_is_no_commit_unless_it_may_be_divided() -> None:
    half = {**BEFORE, "c": b"4"}
    assert "not one whole change: missing" not in (wrong := unexplained_commits(BEFORE, [half], [PUT]))[0]
    assert "commit 1 of 1 is not one whole change: unexpected 'c'" in wrong[0]
    assert unexplained_commits(BEFORE, [half, PUT.apply(half)], [PUT], may_be_parts=True) == []
    torn = {**BEFORE, "c": b"half"}
    assert unexplained_commits(BEFORE, [torn], [PUT], may_be_parts=True)


def test_a_change_that_is_committed_twice_is_noticed() -> None:
    once = PUT.apply(BEFORE)
    assert unexplained_commits(BEFORE, [once, once], [PUT])
    assert unexplained_commits(BEFORE, [once, once], [PUT], may_be_parts=True)


def test_what_was_acknowledged_and_is_missing_is_named() -> None:
    assert lost_changes(PUT.apply(BEFORE), [[PUT]]) == []
    assert "'a' has 1 bytes that differ" in lost_changes(BEFORE, [[PUT]])[0]
    other = Change("r", {"c": b"0"})
    assert lost_changes(other.apply(BEFORE), [[PUT, other]]) == [], "one alternative is enough"


def test_a_file_of_a_bucket_is_the_old_or_the_new_one() -> None:
    assert torn_paths(BEFORE, {**BEFORE, "c": b"4"}, [PUT]) == []
    assert torn_paths(BEFORE, {**BEFORE, "c": b"?"}, [PUT]) == ["c"]
    assert torn_paths(BEFORE, {"d/b": b"2"}, [PUT]) == ["a"]


def test_trees_without_a_difference_have_none() -> None:
    assert difference(BEFORE, dict(BEFORE)) == SAME
