"""The pytest fixtures, as a user's test run meets them: real pytest in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest

from xethub_local.local_store import LocalStore

PLUGIN = "xethub_local.pytest_plugin"

BASICS = """
import json, os
import pytest
import requests

def whoami(xethub):
    headers = {"Authorization": f"Bearer {xethub.token}"}
    return requests.get(f"{xethub.url}/api/whoami-v2", headers=headers, timeout=20)
"""


class Runner:
    """Runs pytest in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, source: str, name: str = "test_it.py") -> None:
        (self.folder / name).write_text(BASICS + textwrap.dedent(source))

    def start(self, *arguments: str, plugin: str = PLUGIN, **environment: str) -> subprocess.Popen[str]:
        # Of the plugins of this machine only ours: some take seconds to load.
        command = [sys.executable, "-m", "pytest", "-q", "-p", plugin, "-p", "no:cacheprovider", "-c", os.devnull]
        return subprocess.Popen(
            [*command, "--rootdir=.", *arguments, "."],
            cwd=self.folder,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, *arguments: str, status: int = 0, **environment: str) -> str:
        process = self.start(*arguments, **environment)
        printed = process.communicate(timeout=120)[0]
        assert process.returncode == status, printed[-5000:]
        return printed


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def test_a_test_has_a_user_a_namespace_and_a_connection_of_its_own(runner: Runner) -> None:
    runner.write(
        """
        def test_user(xethub):
            assert whoami(xethub).json()["name"] == xethub.namespace
            assert os.environ["NO_PROXY"] == "example.com,127.0.0.1,localhost"
            connection = json.loads(os.environ["AIRFLOW_CONN_XETHUB_DEFAULT"])
            assert connection == {"conn_type": "xethub", "host": xethub.url, "password": xethub.token}

        def test_only_its_own_namespace_can_be_written(xethub):
            headers = {"Authorization": f"Bearer {xethub.token}"}
            for namespace, status in ((xethub.namespace, 200), ("acme", 403)):
                body = {"name": "new", "organization": namespace}
                answer = requests.post(f"{xethub.url}/api/repos/create", json=body, headers=headers, timeout=20)
                assert answer.status_code == status
            control = requests.post(f"{xethub.url}/_local/reset", json={}, headers=headers, timeout=20)
            assert control.status_code == 403

        def test_another_connection(xethub):
            assert xethub.connect("other", password="", extra={"timeout": 1}) == "other"
            assert json.loads(os.environ["AIRFLOW_CONN_OTHER"])["extra"] == {"timeout": 1}
        """
    )
    down = "http://127.0.0.1:1"  # a proxy that the environment names is not asked
    assert "3 passed" in runner.run(HTTP_PROXY=down, http_proxy=down, NO_PROXY="example.com", no_proxy="")


def test_nothing_of_a_test_is_left_for_the_next(runner: Runner) -> None:
    runner.write(
        """
        seen = {}

        def clean(xethub):
            assert xethub.server.repositories.find_all() == []
            assert (xethub.faults.armed(), xethub.requests(), xethub.log.counters()) == ([], [], [])
            assert (xethub.token_life, xethub.data_url_life, xethub.clock_offset) == (900, 900, 0)
            assert (xethub.exchanged_token_lifetime, xethub.server.publishers.find()) == (3600, [])
            assert [one.user for one in xethub.server.access.identities()] == ["local", "local", xethub.namespace]
            assert [name for name in os.environ if name.startswith("AIRFLOW_CONN")] == ["AIRFLOW_CONN_XETHUB_DEFAULT"]
            seen.setdefault("url", xethub.url)
            assert seen["url"] == xethub.url
            assert xethub.token not in seen.values() and xethub.namespace not in seen.values()
            seen["token"], seen["namespace"] = xethub.token, xethub.namespace

        def dirty(xethub):
            for kind in ("model", "dataset", "space", "bucket"):
                xethub.put(xethub.create_repo("corpus", kind), "f.bin", bytes(1000))
            whoami(xethub)
            xethub.faults.add("hub-down")
            xethub.token_life, xethub.data_url_life, xethub.clock_offset = 1, -1, 1e6
            xethub.exchanged_token_lifetime = 1
            xethub.publisher(f"{xethub.namespace}/corpus", sub="pod")
            xethub.publisher(xethub.namespace, sub="pod")
            assert xethub.identity("pod").count(".") == 2
            xethub.connect("more")

        @pytest.mark.parametrize("number", range(3))
        def test_each(xethub, number):
            clean(xethub)
            dirty(xethub)

        def test_one_that_fails(xethub):
            clean(xethub)
            dirty(xethub)
            assert False

        def test_one_that_stops_the_server(xethub):
            clean(xethub)
            xethub.server.stop()

        def test_one_that_uses_the_server_alone(xethub_server):
            xethub_server.faults.add("hub-down")

        def test_last(xethub):
            clean(xethub)
            assert whoami(xethub).status_code == 200

        def test_without(request):
            assert not [name for name in os.environ if name.startswith("AIRFLOW_CONN")]
        """
    )
    assert "1 failed, 7 passed" in runner.run(status=1)


def test_files_are_put_and_read_back_wherever_they_are_stored(runner: Runner) -> None:
    runner.write(
        """
        from xethub_local.store.errors import EntryNotFoundError, RepoNotFoundError

        @pytest.mark.parametrize("kind", ["model", "dataset", "bucket"])
        def test_files(xethub, kind):
            repo = xethub.create_repo("corpus", kind)
            assert xethub.files(repo) == []
            contents = {"a/b.bin": bytes(range(256)) * 1000, "empty": b"", "t.csv": b"x"}
            for path, content in contents.items():
                xethub.put(repo, path, content)
            xethub.put(repo, "t.csv", "\\u00e9\\n")
            contents["t.csv"] = "\\u00e9\\n".encode()
            assert xethub.files(repo) == sorted(contents)
            assert {path: xethub.read(repo, path) for path in contents} == contents
            for path in ("none", "a"):
                with pytest.raises(EntryNotFoundError):
                    xethub.read(repo, path)
            if kind != "bucket":
                assert [commit.title for commit in xethub.commits(repo)][-2:] == ["Put a/b.bin", "initial commit"]
                prefix = "datasets/" if kind == "dataset" else ""
                url = f"{xethub.url}/{prefix}{repo.repo_id}/resolve/main/a/b.bin"
                answer = requests.get(url, timeout=20)
                assert answer.content == contents["a/b.bin"]
                assert len(answer.headers["X-Xet-Hash"]) == 64
                assert "X-Xet-Hash" not in requests.head(url.replace("a/b.bin", "t.csv"), timeout=20).headers

        def test_no_repository(xethub):
            repo = xethub.create_repo("corpus")
            xethub.server.repositories.delete(f"models/{repo.repo_id}")
            for ask in (lambda: xethub.put(repo, "a", "b"), lambda: xethub.files(repo)):
                with pytest.raises(RepoNotFoundError):
                    ask()
        """
    )
    assert "4 passed" in runner.run()


def test_what_was_put_is_kept_where_asked(runner: Runner) -> None:
    runner.write(
        """
        def test_it(xethub):
            xethub.put(xethub.create_repo("corpus"), "a.txt", "a")
        """
    )
    assert "1 passed" in runner.run("--xethub-keep", "kept")
    store = LocalStore(runner.folder / "kept")
    try:
        (kept,) = store.repositories.find_all()
        assert kept.repo_id.endswith("/corpus")
        assert [one.user for one in store.access.identities()] == ["local", "local"]
    finally:
        store.close()


def test_a_run_that_does_not_use_it_pays_nothing(runner: Runner) -> None:
    runner.write(
        """
        import sys

        def test_it(request):
            heavy = {"airflow", "starlette", "uvicorn", "blake3", "lz4", "awscrt", "sqlite3", "hf_xet"}
            assert not heavy & {name.partition(".")[0] for name in sys.modules}
            ours = {name for name in sys.modules if name.startswith(("airflow_provider_xethub", "xethub_local"))}
            assert ours == {"xethub_local", "xethub_local.pytest_plugin"}
        """
    )
    source = (runner.folder / "test_it.py").read_text().replace("import requests\n", "")
    (runner.folder / "test_it.py").write_text(source)
    assert "1 passed" in runner.run()


@pytest.mark.parametrize("missing", ["starlette", "lz4"])
def test_a_missing_dependency_is_named_with_what_to_install(runner: Runner, missing: str) -> None:
    assert find_spec(missing)
    runner.write(
        f"""
        import sys
        sys.modules["{missing}"] = None  # what the import system takes for "not installed"

        def test_it(xethub):
            pass

        def test_other():
            pass
        """
    )
    printed = runner.run(status=1)
    assert re.search(rf"{missing}\S* is not installed; install xethub-local again", printed)
    assert "1 passed, 1 error" in printed
    assert "Traceback" not in printed


def test_the_old_path_of_the_plugin_works_too(runner: Runner) -> None:
    runner.write("def test_it(xethub):\n    assert whoami(xethub).status_code == 200\n")
    printed = runner.run(plugin="airflow_provider_xethub.local.pytest_plugin")
    assert "1 passed" in printed
    assert "airflow_provider_xethub.local.pytest_plugin has moved to xethub_local.pytest_plugin" in printed


def test_without_airflow_and_the_provider_it_works_too(runner: Runner) -> None:
    runner.write(
        """
        import sys
        sys.modules["airflow"] = sys.modules["airflow_provider_xethub"] = None  # as if they were not installed

        def test_it(xethub):
            repo = xethub.create_repo("corpus", "dataset")
            xethub.put(repo, "a.txt", "a")
            assert (xethub.read(repo, "a.txt"), repo.repo_id) == (b"a", f"{xethub.namespace}/corpus")
            assert whoami(xethub).json()["name"] == xethub.namespace
        """
    )
    assert "1 passed" in runner.run()


def test_tests_run_in_any_order_and_in_several_processes_at_once(runner: Runner) -> None:
    runner.write(
        """
        import hashlib, threading

        @pytest.mark.parametrize("number", range(6))
        def test_it(xethub, number):
            repo = xethub.create_repo("corpus", "dataset")
            xethub.put(repo, "f.bin", bytes([number]) * 5000)
            fault = xethub.faults.add("hub-busy", times=1)
            assert [whoami(xethub).status_code for _ in range(2)] == [429, 200]
            assert xethub.faults.acted(fault) == 1
            assert xethub.files(repo) == ["f.bin"]
            assert len(xethub.requests()) == 2
        """
    )
    (runner.folder / "conftest.py").write_text(
        "import os, random\n"
        "def pytest_collection_modifyitems(items):\n"
        "    random.Random(os.environ['SEED']).shuffle(items)\n"
    )
    for process in [runner.start(SEED=str(seed)) for seed in range(3)]:
        printed = process.communicate(timeout=120)[0]
        assert "6 passed" in printed, printed
