"""The local Hub runs where nothing of Airflow, of the provider or of the clients is installed."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

WITHOUT = """
import sys

class Missing:
    names = {"airflow", "airflow_provider_xethub", "xethub_token", "requests", "urllib3", "hf_xet", "huggingface_hub"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"{name} must not be imported", name=name)

sys.meta_path.insert(0, Missing())
"""


def run(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + textwrap.dedent(code)],
        cwd=folder,
        text=True,
        timeout=60,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_every_module_can_be_imported(tmp_path: Path) -> None:
    code = """
        import importlib, pkgutil
        import xethub_local
        names = [each.name for each in pkgutil.walk_packages(xethub_local.__path__, "xethub_local.")]
        for name in names:
            if not name.endswith("__main__"):
                importlib.import_module(name)
        print(len(names))
        """
    assert int(run(code, tmp_path)) > 100


def test_it_serves_and_its_commands_work(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("a\n")
    code = """
        from urllib.request import urlopen
        from xethub_local.cli.main import main
        from xethub_local.server import LocalHub

        for arguments in (["create-repo", "dataset:acme/corpus"], ["put", "in", "dataset:acme/corpus"]):
            assert main([*arguments, "--folder", "hub"]) == 0
        with LocalHub("hub") as hub, urlopen(f"{hub.url}/datasets/acme/corpus/resolve/main/a.csv") as answer:
            print(answer.read())
        """
    assert run(code, tmp_path).splitlines()[-1] == "b'a\\n'"
