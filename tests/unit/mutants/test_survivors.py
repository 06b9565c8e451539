"""Which mutants may survive, and which modules are checked at all."""

from __future__ import annotations

import pytest

from mutants import modules, survivors
from mutants.survivors import Change

DIFF = """\
--- xet/token.py
+++ xet/token.py
@@ -1,4 +1,4 @@
 def x():
-    return a < b
+    return a <= b
     # -- not this
"""


def test_a_change_is_known_by_its_lines_and_not_by_the_number_of_the_mutant():
    assert survivors.change("xet/token.py:x", DIFF) == Change("xet/token.py:x", "return a < b", "return a <= b")


@pytest.mark.parametrize(
    ("before", "after", "is_framed"),
    [
        ('raise E("it is empty")', 'raise E("XXit is emptyXX")', True),
        ("raise E(f'{a} is empty')", "raise E(f'{a} is empty')", False),
        ('raise E("it is empty")', 'raise E("IT IS EMPTY")', False),
        ('raise E("it is empty", 1)', 'raise E("XXit is emptyXX", None)', False),
        ('value["scope"]', 'value["XXscopeXX"]', False),
        ('"."', '"XX.XX"', False),
    ],
)
def test_only_a_frame_around_several_words_may_go_unnoticed(before, after, is_framed):
    assert survivors.is_framed_sentence(Change("x", before, after)) is is_framed


@pytest.mark.parametrize(
    ("before", "after", "is_cast"),
    [
        ('return cast("list[int]", x)', 'return cast("LIST[INT]", x)', True),
        ('return cast("list[int]", x)', "return cast(None, x)", True),
        ('return cast("list[int]", x)', 'return cast("list[int]", None)', False),
        ('return cast("list[int]", x or y)', 'return cast("list[int]", x and y)', False),
        ('forecast("rain", x)', "forecast(None, x)", False),
    ],
)
def test_the_type_of_a_cast_may_go_unnoticed(before, after, is_cast):
    assert survivors.is_cast(Change("x", before, after)) is is_cast


@pytest.fixture
def listed(tmp_path, monkeypatch):
    file = tmp_path / "equivalent.toml"
    monkeypatch.setattr(survivors, "FILE", file)
    found = Change("xet/token.py:x", "a < b", "a <= b")
    file.write_text(survivors.as_toml(found).replace('why = ""', 'why = "a is never b"'))
    return found


def test_a_survivor_without_a_reason_is_reported(listed):
    other = Change("xet/token.py:y", "a < b", "a <= b")
    assert survivors.listed() == {listed: "a is never b"}
    assert survivors.unlisted([listed, other]) == [other]


def test_a_reason_whose_mutant_did_not_survive_is_reported_once_its_module_was_checked(listed):
    assert survivors.outdated([listed], ["xet/token.py"]) == []
    assert survivors.outdated([], ["xet/repo.py"]) == []
    assert survivors.outdated([], ["xet/token.py"]) == [listed]


def test_every_reason_is_in_words():
    assert all(" " in why for why in survivors.listed().values())


def test_every_module_and_every_test_of_the_list_exists_once():
    every = modules.groups().values()
    named = [module for each in every for module in each.modules]
    assert len(named) == len(set(named))
    assert all((modules.ROOT / "provider" / modules.PACKAGE / module).is_file() for module in named)
    assert all((modules.ROOT / "tests" / test).exists() for each in every for test in (*each.tests, *each.slow))


def test_every_listed_mutant_is_of_a_module_that_is_checked():
    named = {module for each in modules.groups().values() for module in each.modules}
    assert {each.function.partition(":")[0] for each in survivors.listed()} <= named


def test_coverage_is_measured_of_all_modules_by_all_tests_once():
    arguments = modules.coverage_arguments()
    assert "--cov=airflow_provider_xethub.xet.token" in arguments
    assert "tests/unit/xet/test_token.py" in arguments
    assert len(arguments) == len(set(arguments))


def test_a_test_in_a_folder_that_is_measured_is_named_once(tmp_path, monkeypatch):
    (tmp_path / "modules.toml").write_text('[a]\nmodules = ["xet/a.py"]\ntests = ["p/b.py", "q.py"]\nslow = ["p"]\n')
    monkeypatch.setattr(modules, "FILE", tmp_path / "modules.toml")
    assert modules.coverage_arguments() == ["--cov=airflow_provider_xethub.xet.a", "tests/p", "tests/q.py"]
