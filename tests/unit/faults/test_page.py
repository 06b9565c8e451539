"""The page of the fault matrix: it says what the file says."""

from __future__ import annotations

from faults import matrix, page
from faults.columns import COLUMNS
from faults.matrix import OUTCOMES, Cell, Matrix
from faults.rows import ROWS


def test_page_and_file_agree():
    recorded = matrix.load()
    missing = [name for name in ROWS if name not in recorded.kinds]
    assert page.FILE.read_text() == page.render(recorded, missing), "run make faults ARGS=--accept"


def test_faults_that_end_the_same_share_a_line():
    cells = {
        ("upload", "GET /a first", "400 once"): Cell("final"),
        ("upload", "GET /a first", "401 once"): Cell("final"),
        ("upload", "GET /a first", "401 lasting"): Cell("final"),
        ("upload", "GET /a first", "400 lasting"): Cell("final"),
        ("upload", "GET /b first", "503 once"): Cell("success"),
        ("upload", "GET /a first", "503 once"): Cell("retried"),
        ("upload", "GET /a first", "503 lasting"): Cell("error"),
    }
    shown = page.render(Matrix(cells, {"upload": "XetUploadOperator", "forget": "XetForgetTokenOperator"}))
    assert "| 400, 401 | ✗ final | ✗ final |" in shown
    assert "| 503 | ↻ retried (1), ✓ succeeds (1) | ! fails |" in shown
    assert "Requests: `GET /a`, `GET /b`." in shown
    assert "### Forget\n\nThis task sends no request to the Hub." in shown


def test_every_outcome_and_fault_is_explained():
    assert page.WORDS.keys() == set(OUTCOMES)
    statuses = {name for name in COLUMNS if name.isdigit()}
    assert {*page.FAULTS} - {"400 to 504"} == COLUMNS.keys() - statuses
