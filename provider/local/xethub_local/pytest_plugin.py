"""pytest fixtures for DAG tests: a local Hub in which each test has a namespace of its own.

pytest loads this module in every run, used or not, so it imports only pytest until a fixture is requested.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xethub_local.server import LocalHub
    from xethub_local.testing import IsolatedHub

_KEEP = "--xethub-keep"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option ``--xethub-keep``."""
    parser.getgroup("xethub", "local Hub for DAG tests").addoption(
        _KEEP,
        metavar="FOLDER",
        type=Path,
        help="keep the data of the local Hub in FOLDER; view it with: xethub-local serve --folder FOLDER",
    )


@pytest.fixture(scope="session")
def xethub_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    """Run one local Hub for all tests of this process."""
    try:
        from xethub_local.server import LocalHub
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("xethub_local"):
            raise
        pytest.fail(f"{error.name} is not installed; install xethub-local again.", pytrace=False)
    with LocalHub(_kept_folder(request.config) or tmp_path_factory.mktemp("xethub")) as hub:
        yield hub


@pytest.fixture
def xethub(
    xethub_server: LocalHub, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[IsolatedHub]:
    """Provide a namespace of its own in the local Hub, with the Airflow connection ``xethub_default``."""
    from xethub_local.testing import IsolatedHub

    hub = IsolatedHub(xethub_server, monkeypatch)
    hub.connect()
    yield hub
    hub.close(keep=_kept_folder(request.config) is not None)


def _kept_folder(config: pytest.Config) -> Path | None:
    folder: Path | None = config.getoption(_KEEP)
    if folder is None:
        return None
    # Each process of pytest-xdist runs a server of its own; on one folder they would share their data.
    worker: str = getattr(config, "workerinput", {}).get("workerid", "")
    return folder / worker
