"""Real things for every test: a local Hub, a connection to it, and an Airflow home of its own.

The environment is set before the first import of Airflow and of the client libraries, which read it only once.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_xethub.xet.repo import RepoType

_HOME = Path(tempfile.mkdtemp(prefix="xethub-tests-"))
# Set by test_on_postgresql.py: what an SQLAlchemy URL has after its driver.
_POSTGRESQL = os.environ.get("XETHUB_TESTS_POSTGRESQL")
for _name in [name for name in os.environ if name.startswith(("AIRFLOW", "HF_", "HUGGING"))]:
    del os.environ[_name]
os.environ |= {
    "AIRFLOW_HOME": str(_HOME / "airflow"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    # Empty: before each DAG that a test runs, Airflow parses and stores all that are in there.
    "AIRFLOW__CORE__DAGS_FOLDER": str(_HOME / "dags"),
    "AIRFLOW__CORE__FERNET_KEY": "dGhpcyBpcyBvbmx5IHVzZWQgaW4gdGhlIHRlc3RzISE=",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_HOME / 'airflow.db'}",
    "HF_HOME": str(_HOME / "huggingface"),
    "HF_XET_CACHE": str(_HOME / "xet"),
    # Where a server fails on purpose, two tries show as much as the client's five, and take less time.
    "HF_XET_CLIENT_RETRY_BASE_DELAY": "20ms",
    "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "2",
    "HF_XET_LOG_DEST": os.devnull,
    "RUST_LOG": "warn",
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
}
if _POSTGRESQL:
    os.environ |= {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{_POSTGRESQL}",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": f"postgresql+asyncpg://{_POSTGRESQL}",
    }

Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"]).mkdir()

# hf_xet reads what it trusts for each transfer: 12 ms of processor time for a folder of certificates, 1 for a bundle.
_BUNDLE = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
if Path(_BUNDLE).is_file():
    os.environ["SSL_CERT_FILE"] = _BUNDLE
    os.environ.pop("SSL_CERT_DIR", None)

# With Airflow in memory, a look for garbage after every 700 new objects takes a fifteenth of the processor time.
gc.set_threshold(10_000, 10, 10)

import pytest  # noqa: E402
import structlog.dev  # noqa: E402
from hypothesis import HealthCheck, Phase, settings  # noqa: E402

from airflow_provider_xethub.xet.cas import session as _cas_session  # noqa: E402
from airflow_provider_xethub.xet.hub import client as _hub_client  # noqa: E402
from support.masked_secrets import forget_masked_secrets  # noqa: E402
from xethub_local.server import LocalHub  # noqa: E402

# For the same reason; tests/unit/xet/hub/test_retries.py has the first one as it is, processes of their own have both.
_hub_client.FIRST_DELAY = 0.05
_cas_session.RETRY_DELAY = "20ms"

if TYPE_CHECKING:
    from airflow.sdk import DAG

    from airflow_provider_xethub.hooks.xethub import XetHubConnection
    from airflow_provider_xethub.xet.repo import Repo
    from support.airflow_runs import DagRun, TaskRun
    from support.fork_server import ForkServer


if version("apache-airflow").startswith("3.0."):
    # A task that runs in the process of this Airflow logs as structlog does by itself: the traceback of a failure in
    # colour, with the values of all variables, takes as long as ten tasks. Later ones write it plainly.
    _plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], _plain])

# By itself Hypothesis has other settings where CI is set, and fails tests whose input is slow to generate, as it is on
# a busy machine. These are the same examples for everybody: a new one must not fail somebody else's change. To look
# for new ones, make test-exhaustive chooses the other profile with --hypothesis-profile.
_SETTINGS = settings(
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("xethub", _SETTINGS, derandomize=True)
settings.register_profile("exhaustive", _SETTINGS, max_examples=2000)
# For make mutants, where it counts that a test fails, not by how small an example.
settings.register_profile("mutants", _SETTINGS, derandomize=True, phases=[Phase.explicit, Phase.generate])
settings.load_profile("xethub")

# The files of tests that take longest, longest first. One process runs all tests of a file, and those that start last
# should be short, lest it works on when the others have nothing left.
_LONGEST = (
    "system/test_watcher_killed.py",
    "system/test_stopped_at_any_moment.py",
    "system/ui/test_user_interface.py",
    "system/test_upload_resume.py",
    "system/test_installing.py",
    "system/test_on_postgresql.py",
    "system/test_many_files.py",
    "system/test_benchmark.py",
    "system/test_crawling_link.py",
    "system/test_fan_out_on_celery.py",
    "system/test_four_gib.py",
    "system/ui/test_failed_tasks.py",
    "system/test_documentation_in_chromium.py",
    "system/test_pages_in_chromium.py",
    "system/test_triggerer_many.py",
    "system/test_example_watch.py",
    "system/test_large_s3_object.py",
    "system/test_kubernetes_pods.py",
    "system/test_example_nightly.py",
    "system/test_demo_kept.py",
    "system/test_release_walk.py",
    "system/test_keyless_walk.py",
    "local/openapi/test_routes_fuzzed.py",
    "provider/operators/test_fan_out.py",
    "system/test_hub_killed.py",
    "system/test_triggerer.py",
    # Of what make test runs.
    "docs/test_snippets.py",
    "provider/xet/network/test_private_network.py",
    "provider/hooks/tokens/test_token_life.py",
    "docs/test_shell.py",
    "unit/test_import_cost.py",
)

# The browser's remote control is in the dependency group long, and a conftest cannot skip itself.
collect_ignore = [] if importlib.util.find_spec("playwright") else ["system/ui"]
# What the tests of the client libraries need beside them: make test-clients copies it there.
collect_ignore += ["local/clients/suites"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, all others in their order."""
    # None of what was imported, Airflow most of all, ever becomes garbage.
    gc.freeze()
    place = {Path(__file__).parent / file: number for number, file in enumerate(_LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(autouse=True)
def _telemetry_is_as_it_was() -> Iterator[None]:
    """``hook.api`` switches the reports of ``huggingface_hub`` off for its process, which other tests share."""
    yield
    os.environ.pop("HF_HUB_DISABLE_TELEMETRY", None)


@pytest.fixture(autouse=True)
def _masked_secrets_are_those_of_one_test() -> Iterator[None]:
    """With those of a thousand tests, each token took half a second."""
    yield
    forget_masked_secrets()


@pytest.fixture(scope="session")
def running_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture
def hub(running_hub: LocalHub) -> Iterator[LocalHub]:
    """The local Hub, without faults and with an empty request log."""
    running_hub.begin_waiting()
    running_hub.faults.clear()
    running_hub.log.clear()
    yield running_hub
    running_hub.faults.clear()
    running_hub.scans.clear()
    running_hub.access.token_life = 900


@pytest.fixture
def make_repo(hub: LocalHub, request: pytest.FixtureRequest) -> Callable[..., Repo]:
    """Makes an empty repository that no other test uses."""
    import uuid

    from airflow_provider_xethub.xet.repo import Repo

    def make(repo_type: RepoType = "dataset", **options: bool) -> Repo:
        made = hub.create_repo(f"local/r{uuid.uuid4().hex[:12]}", repo_type, **options)
        return Repo(made.repo_id, made.repo_type)

    return make


@pytest.fixture
def repo(make_repo: Callable[..., Repo]) -> Repo:
    return make_repo()


@pytest.fixture
def connection(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Sets the Airflow connection ``xethub_default``; called again, with other fields."""

    def connect(conn_id: str = "xethub_default", **fields: object) -> str:
        value = {"conn_type": "xethub", "host": hub.url, "password": hub.token(), **fields}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(value))
        return conn_id

    connect()
    return connect


@pytest.fixture
def hook(connection: Callable[..., str]) -> XetHubConnection:
    from airflow_provider_xethub.hooks.xethub import XetHubConnection

    return XetHubConnection()


@pytest.fixture
def run_task() -> Callable[..., TaskRun]:
    """Runs one operator as a real task: :func:`support.airflow_runs.run_task`."""
    from support.airflow_runs import run_task

    return run_task


@pytest.fixture(scope="session")
def airflow_db() -> None:
    """Airflow's metadata database, made once: in SQLite, or where :mod:`test_on_postgresql` runs a test, there."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def run_dag(airflow_db: None) -> Callable[[DAG], DagRun]:
    """Runs a whole DAG: :func:`support.airflow_runs.run_dag`."""
    from support.airflow_runs import run_dag

    return run_dag


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """A process that has imported what a worker of Airflow has; it runs code in forks."""
    from support.fork_server import ForkServer

    running = ForkServer()
    yield running
    running.close()


@pytest.fixture
def disconnect(connection: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Takes the Airflow connection away, as on a worker that has none."""

    def remove() -> None:
        monkeypatch.delenv("AIRFLOW_CONN_XETHUB_DEFAULT")

    return remove


@pytest.fixture
def fernet_cache():
    """Airflow keeps its Fernet key for the life of the process."""

    def forget() -> None:
        try:
            from airflow.sdk.crypto import get_fernet
        except ImportError:  # before 3.2
            from airflow.models import crypto

            vars(crypto)["_fernet"] = None
        else:
            get_fernet.cache_clear()

    forget()
    yield
    forget()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def not_a_folder(tmp_path: Path) -> Path:
    """A path that nobody can make a folder of, not even root."""
    (tmp_path / "file").write_bytes(b"")
    return tmp_path / "file" / "cache"


@pytest.fixture
def share(tmp_path: Path) -> Path:
    """An empty folder, for a destination that does not tell names apart."""
    folder = tmp_path / "share"
    folder.mkdir()
    return folder
