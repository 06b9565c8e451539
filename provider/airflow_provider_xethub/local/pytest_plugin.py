"""pytest fixtures for tests of DAGs: a local Hub, and for each test a namespace of its own in it.

pytest loads this module in every run, used or not: it imports nothing but pytest until a fixture is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow_provider_xethub.local.server import LocalHub
    from airflow_provider_xethub.local.testing import IsolatedHub

_KEEP = "--xethub-keep"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the one option there is."""
    parser.getgroup("xethub", "local Hub for tests of DAGs").addoption(
        _KEEP,
        metavar="FOLDER",
        type=Path,
        help="keep there what the tests put into the local Hub; look at it with: xethub-local serve --folder FOLDER",
    )


@pytest.fixture(scope="session")
def xethub_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    """Run a local Hub for all tests of this process."""
    try:
        from airflow_provider_xethub.local.server import LocalHub
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("airflow_provider_xethub"):
            raise
        pytest.fail(
            f"{error.name} is not installed; the fixtures of the local Hub need airflow-provider-xethub[local].",
            pytrace=False,
        )
    with LocalHub(_kept_folder(request.config) or tmp_path_factory.mktemp("xethub")) as hub:
        yield hub


@pytest.fixture
def xethub(
    xethub_server: LocalHub, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[IsolatedHub]:
    """Give a test a namespace of its own in the local Hub, and the Airflow connection ``xethub_default`` to it."""
    from airflow_provider_xethub.local.testing import IsolatedHub

    hub = IsolatedHub(xethub_server, monkeypatch)
    hub.connect()
    yield hub
    hub.close(keep=_kept_folder(request.config) is not None)


def _kept_folder(config: pytest.Config) -> Path | None:
    folder: Path | None = config.getoption(_KEEP)
    if folder is None:
        return None
    # pytest-xdist's processes have a server each; two on one folder would share what they store.
    worker: str = getattr(config, "workerinput", {}).get("workerid", "")
    return folder / worker
