"""The fault matrix as a file."""

from __future__ import annotations

import json

from faults import matrix
from faults.matrix import Cell, Matrix
from faults.results import Result
from faults.steps import Step

CELLS = {
    ("upload", "GET /a first", "400 once"): Cell("final", 0, 3, "XetForbiddenError: No", "none"),
    ("upload", "GET /a first", "401 once"): Cell("final", 0, 3, "XetForbiddenError: No", "none"),
    ("upload", "GET /b later", "lost 500 once"): Cell(
        "error", 2, 9, "XetServerError: Busy", "new xorbs: 1 instead of 2"
    ),
    ("list", "GET /a first", "503 lasting"): Cell("success", 1, 4),
}
KINDS = {"upload": "XetUploadOperator", "list": "XetListOperator"}


def test_a_matrix_is_read_as_it_was_written(tmp_path):
    (tmp_path / "matrix.json").write_text(text := matrix.dump(Matrix(CELLS, KINDS)))
    found = matrix.load(tmp_path / "matrix.json")
    assert (found.cells, found.kinds) == (CELLS, KINDS)
    assert matrix.dump(found) == text
    assert "400 once, 401 once" in text


def test_the_committed_one_is_as_it_would_be_written():
    assert matrix.FILE.read_text() == matrix.dump(matrix.load())
    assert json.loads(matrix.FILE.read_text())["format"] == matrix.FORMAT


def test_an_outcome_that_changes_is_reported_and_a_request_more_is_not():
    key = ("list", "GET /a first", "503 lasting")
    for cell, changed in (
        (Cell("success", 1, 5), False),
        (Cell("success", 1, 9), True),
        (Cell("success", 2, 4), True),
        (Cell("error", 1, 4), True),
        (Cell("success", 1, 4, effects="none"), True),
    ):
        assert bool(matrix.changes(Matrix(CELLS, KINDS), Matrix({**CELLS, key: cell}, KINDS))) is changed


def test_a_cell_that_differs_is_run_again():
    """Even if only its requests do: what a task requests ahead may or may not be sent before another one fails."""
    recorded = Matrix(CELLS, KINDS)
    step = Step("GET /a")
    for fault, cell, is_again in (
        ("503 lasting", Cell("success", 1, 4), False),
        ("503 lasting", Cell("success", 1, 9), True),
        ("503 lasting", Cell("error", 1, 4), True),
        ("504 lasting", Cell("error", 1, 4), False),  # a new one
    ):
        assert Result("list", step, fault, cell).may_depend_on_time(recorded) is is_again
    assert not Result("list", step, "503 lasting", Cell("error"), ["A file is left."]).may_depend_on_time(recorded)


def test_a_cell_that_is_new_or_gone_is_reported():
    fewer = dict(list(CELLS.items())[1:])
    assert matrix.changes(Matrix(CELLS, KINDS), Matrix(fewer, KINDS)) == ["upload | GET /a first | 400 once: gone"]
    assert matrix.changes(Matrix(CELLS, KINDS), Matrix(fewer, KINDS), is_sample=True) == []
    (line,) = matrix.changes(Matrix(fewer, KINDS), Matrix(CELLS, KINDS))
    assert "upload | GET /a first | 400 once: new: final" in line


def test_an_update_replaces_rows_and_keeps_what_is_like_it_was():
    recorded = Matrix(dict(CELLS), dict(KINDS))
    key = ("list", "GET /a first", "503 lasting")
    recorded.update(Matrix({key: Cell("success", 1, 5)}, {"list": "XetListOperator"}))
    assert recorded.cells == CELLS
    recorded.update(Matrix({key: Cell("error", 1, 5)}, {"list": "XetListOperator"}))
    assert recorded.cells == {**CELLS, key: Cell("error", 1, 5)}


def test_a_sample_is_always_the_same_and_has_every_row_and_fault():
    cells = [(f"row{row}", "GET /a first", f"{fault} once") for row in range(20) for fault in range(30)]
    chosen = matrix.sample(cells, 60)
    assert chosen == matrix.sample(reversed(cells), 60)
    assert chosen != matrix.sample(cells, 60, "another")
    assert len({*chosen}) == 60
    assert {row for row, _, _ in chosen} == {row for row, _, _ in cells}
    assert {fault for _, _, fault in chosen} == {fault for _, _, fault in cells}
