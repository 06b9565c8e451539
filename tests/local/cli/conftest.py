"""Commands of ``xethub-local``, run in the test's process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from xethub_local.cli.main import main


@pytest.fixture
def run_on(capsys: pytest.CaptureFixture[str]) -> Callable[[Path], Callable[..., str]]:
    """Bind commands to a data folder: each call runs one and returns what it prints; of a failure its one line."""

    def bind(folder: Path) -> Callable[..., str]:
        def run(*arguments: str, status: int = 0) -> str:
            capsys.readouterr()
            assert main([*arguments, "--folder", str(folder)]) == status
            printed = capsys.readouterr()
            if status:
                assert printed.out == ""
                assert printed.err.count("\n") == 1
                return printed.err
            assert printed.err == ""
            return printed.out

        return run

    return bind
