"""The distributions as users install them: into environments of their own, with pip or uv, from wheels or sdists.

Other packages have the versions of ``constraints.txt``. After ``make setup``, uv finds them in its cache.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import metadata
from pathlib import Path

import pytest

from support import debian_python
from support.distributions import FOLDERS, PACKAGES, ROOT, build, build_all
from support.documentation import snippets
from support.terminals import follow_the_quick_start

pytestmark = pytest.mark.long

UV = Path(sys.executable).parent / "uv"
CONSTRAINTS = ROOT / "constraints.txt"
LOCAL = "airflow-provider-xethub[local]"
OLD = "0.1.0"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    build_all("wheel", folder)
    return folder


@pytest.fixture(scope="module")
def sdists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdists")
    build_all("sdist", folder)
    return folder


class Environment:
    """A virtual environment, and what is done in it."""

    def __init__(self, folder: Path, python: str | Path = sys.executable) -> None:
        self.folder = folder
        self.python = folder / "bin/python"
        self.run(UV, "venv", "--quiet", "--seed", "--python", python, folder)

    def run(self, *command: str | Path, status: int = 0, variables: Mapping[str, str] | None = None) -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON"))}
        environment["PATH"] = f"{self.folder / 'bin'}{os.pathsep}{environment['PATH']}"
        done = subprocess.run(
            [*map(str, command)],
            cwd=self.folder.parent,
            env=environment
            | {"PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
            | dict(variables or {}),
            text=True,
            timeout=300,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    def install(self, *arguments: str | Path) -> None:
        """Install with uv."""
        self.run(UV, "pip", "install", "--quiet", "--python", self.python, "--constraint", CONSTRAINTS, *arguments)

    def pip(self, *arguments: str | Path) -> str:
        return self.run(self.python, "-m", "pip", "--disable-pip-version-check", *arguments)

    def execute(self, code: str, status: int = 0) -> str:
        return self.run(self.python, "-W", "ignore", "-c", code, status=status).strip()

    def installed(self) -> dict[str, str]:
        """Our distributions in it, with their versions."""
        listed = self.run(UV, "pip", "freeze", "--quiet", "--python", self.python)
        found = dict(re.findall(r"^([\w-]*xethub[\w-]*)(?:==(\S+)| @ .*)$", listed, re.MULTILINE))
        return {name: value or "from a folder" for name, value in found.items()}

    @property
    def packages(self) -> Path:
        (found,) = self.folder.glob("lib/python*/site-packages")
        return found

    def has(self, path: str) -> bool:
        return (self.packages / path).exists()

    def files(self) -> dict[str, bytes]:
        """Our import packages and their metadata, as they were installed."""
        folders = [*self.packages.glob("airflow_provider_xethub*"), *self.packages.glob("xethub_*")]
        paths = [path for folder in folders for path in folder.rglob("*") if path.suffix != ".pyc"]
        found = {path.relative_to(self.packages).as_posix(): path for path in paths if path.is_file()}
        # What else is in there says how they were installed.
        kept = ("METADATA", "entry_points.txt", "LICENSE")
        return {n: p.read_bytes() for n, p in found.items() if ".dist-info/" not in n or n.endswith(kept)}

    @contextmanager
    def serving(self, data: Path) -> Iterator[dict[str, str]]:
        """Run ``xethub-local serve``, and yield the variables for clients that it prints."""
        command = [self.folder / "bin/xethub-local", "serve", "--port", "0", "--folder", data]
        command += ["--create-repo", "dataset:acme/corpus"]
        with subprocess.Popen([*map(str, command)], text=True, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout
                printed = ""
                for line in process.stdout:
                    printed += line
                    if "Ctrl-C" in line:
                        break
                yield dict(re.findall(r"(HF_\w+)=(\S+)", printed))
            finally:
                process.terminate()
                process.communicate(timeout=60)
        assert process.returncode == 0


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "environment")


def check_local_hub(environment: Environment, tmp_path: Path) -> None:
    """The local Hub takes a file from the real client, and gives it back."""
    content = bytes(range(256)) * 1000
    (tmp_path / "data.bin").write_bytes(content)
    with environment.serving(tmp_path / "data") as variables:
        environment.run(
            environment.python,
            "-c",
            "from huggingface_hub import HfApi; HfApi().upload_file(path_or_fileobj='data.bin', path_in_repo='d.bin',"
            " repo_id='acme/corpus', repo_type='dataset')",
            variables=variables,
        )
    environment.run("xethub-local", "get", "dataset:acme/corpus:d.bin", "copy.bin", "--folder", tmp_path / "data")
    assert (tmp_path / "copy.bin").read_bytes() == content


def test_the_local_hub_without_airflow(environment: Environment, wheels: Path, tmp_path: Path) -> None:
    environment.install("--find-links", wheels, "xethub-local", "huggingface_hub", "pytest")
    assert set(environment.installed()) == {"xethub-local"}
    for missing in ("airflow", "airflow_provider_xethub", "xethub_token"):
        assert f"No module named '{missing}'" in environment.execute(f"import {missing}", status=1)
    check_local_hub(environment, tmp_path)

    (readme,) = re.findall(r"```python\n(.*?)```", (FOLDERS["xethub-local"] / "README.md").read_text(), re.DOTALL)
    (tmp_path / "test_readme.py").write_text(readme)
    assert "1 passed" in environment.run("pytest", "-q", "-p", "no:cacheprovider", "test_readme.py")


def test_the_script_for_tokens_without_airflow(environment: Environment, wheels: Path) -> None:
    environment.install("--find-links", wheels, "xethub-token")
    assert set(environment.installed()) == {"xethub-token"}
    assert environment.run("xethub-token", "--version").startswith("xethub-token ")


def test_the_extra_from_sdists_and_what_is_left_when_one_is_uninstalled(
    environment: Environment, sdists: Path, wheels: Path, tmp_path: Path
) -> None:
    environment.install("--find-links", sdists, LOCAL)
    versions = environment.installed()
    assert set(versions) == {"airflow-provider-xethub", "xethub-local"}
    assert len({*versions.values()}) == 1
    old = "from airflow_provider_xethub.local.testing import IsolatedHub as one; "
    new = "from xethub_local.testing import IsolatedHub as other; "
    assert environment.execute(f"{old}{new}print(one is other)") == "True"
    environment.pip("uninstall", "--quiet", "--yes", "xethub-local")
    assert not environment.has("xethub_local")
    assert not (environment.folder / "bin/xethub-local").exists()
    provider = "from airflow_provider_xethub import Repo, XetToken; import airflow_provider_xethub.xet.transfer.upload"
    environment.execute(provider)
    assert "Install xethub-local." in environment.execute(old, status=1)

    environment.install("--find-links", wheels, LOCAL)
    environment.pip("uninstall", "--quiet", "--yes", "airflow-provider-xethub")
    assert not environment.has("airflow_provider_xethub")
    check_local_hub(environment, tmp_path)


def test_pip_installs_both_from_a_clone(environment: Environment, tmp_path: Path) -> None:
    """With build tools that are there: pip would fetch them into an environment of the build."""
    clone = tmp_path / "clone"
    ignored = shutil.ignore_patterns("__pycache__", ".*", "_build", "tests")
    shutil.copytree(ROOT, clone, ignore=ignored)
    projects = [folder / "pyproject.toml" for folder in (ROOT, FOLDERS["xethub-local"])]
    environment.install("hatchling", *(each for path in projects for each in ("--requirement", path)))
    paths = ["./clone/provider/local", "./clone[local]"]
    environment.pip("install", "--quiet", "--no-build-isolation", "--no-index", *paths)
    assert set(environment.installed()) == {"airflow-provider-xethub", "xethub-local"}
    for name in ("airflow-provider-xethub", "xethub-local"):
        assert environment.has(PACKAGES[name].name)


@pytest.fixture
def old_wheels(tmp_path: Path) -> Path:
    """The provider as 0.1.0 was laid out: the local Hub in its package, with the script."""
    source = tmp_path / "old"
    shutil.copytree(PACKAGES["airflow-provider-xethub"], source / "airflow_provider_xethub")
    shutil.copytree(PACKAGES["xethub-local"], source / "airflow_provider_xethub/local")
    for name in ("README.md", "LICENSE", "provider/build_metadata.py"):
        (source / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    package = source / "airflow_provider_xethub/__init__.py"
    package.write_text(re.sub(r"(?m)^__version__ = .*", f'__version__ = "{OLD}"', package.read_text()))
    text = (ROOT / "pyproject.toml").read_text().replace("provider/airflow_provider_xethub", "airflow_provider_xethub")
    text = text.replace("[dependency-groups]", '[project.scripts]\nxethub-local = "airflow_provider_xethub:main"\n\n'
                        '[project.entry-points.pytest11]\nxethub = "airflow_provider_xethub.local.pytest_plugin"\n\n'
                        "[dependency-groups]")  # fmt: skip
    (source / "pyproject.toml").write_text(re.sub(r'"xethub-local==\S+"', "", text))
    build(source, "wheel", tmp_path / "old-wheels")
    return tmp_path / "old-wheels"


def with_uv(environment: Environment, wheels: Path) -> None:
    environment.install("--find-links", wheels, "--upgrade-package", "airflow-provider-xethub", LOCAL)


def with_pip(environment: Environment, wheels: Path) -> None:
    offline: list[str | Path] = ["--quiet", "--no-index", "--find-links", wheels]
    environment.pip("install", *offline, "--upgrade", LOCAL)
    # pip removes the old provider last, and with it the script of that name.
    environment.pip("install", *offline, "--force-reinstall", "--no-deps", "xethub-local")


@pytest.mark.parametrize("upgrade", [with_uv, with_pip])
def test_an_upgrade_from_0_1_leaves_nothing_of_it(
    environment: Environment,
    wheels: Path,
    old_wheels: Path,
    upgrade: Callable[[Environment, Path], None],
    tmp_path: Path,
) -> None:
    environment.install("--requirement", FOLDERS["xethub-local"] / "pyproject.toml", "huggingface_hub")
    environment.install("--find-links", old_wheels, f"airflow-provider-xethub=={OLD}")
    assert environment.installed() == {"airflow-provider-xethub": OLD}
    assert environment.has("airflow_provider_xethub/local/server.py")

    upgrade(environment, wheels)
    assert set(environment.installed()) == {"airflow-provider-xethub", "xethub-local"}
    assert not environment.has("airflow_provider_xethub/local")
    check_local_hub(environment, tmp_path)


# --- as the pages show it ---------------------------------------------------------------------------------------------

ADDRESS = dict(each.split(", ") for each in metadata("airflow-provider-xethub").get_all("Project-URL", []))[
    "Repository"
]


def ways() -> list[list[str]]:
    """What the pages install of ours, without the Airflow that they name beside it, and each only once."""
    blocks = [block for block in snippets("bash") if block.page in ("README.md", "installation.md", "quickstart.md")]
    lines = [line for block in blocks for line in block.body.splitlines() if line.startswith("pip install ")]
    shown = [shlex.split(line)[2:] for line in lines if "--constraint" not in line]
    shown = [[word for word in words if not word.startswith("apache-airflow==")] for words in shown]
    return [words for n, words in enumerate(shown) if not any(set(words) <= set(other) for other in shown[n + 1 :])
            and not any(set(words) < set(other) for other in shown[:n])]  # fmt: skip


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a clone")
def test_each_way_that_the_pages_show(environment: Environment, wheels: Path) -> None:
    """With the address of this clone and the folder of its wheels in the place of the project's.

    With build tools that are there: each build would make an environment for them.
    """
    environment.install("hatchling", "google-auth", *(word for folder in (ROOT, FOLDERS["xethub-local"])
                        for word in ("--requirement", folder / "pyproject.toml")))  # fmt: skip
    found = ways()
    assert len(found) > 5
    for words in found:
        text = "\n".join(words).replace(f"git+{ADDRESS}", f"git+file://{ROOT}")
        text = re.sub(rf"{ADDRESS}/releases/download/v[^/]+/", f"{wheels}/", text)
        text = re.sub(r"^\./(?=\w+-)", f"{wheels}/", text, flags=re.MULTILINE)
        text = re.sub(r"^\.(?=/|$)", str(ROOT), text, flags=re.MULTILINE)
        wanted = [
            str(file)
            for word in text.splitlines()
            for file in (wheels.glob(Path(word).name) if "*" in word else [word])
        ]
        environment.install("--no-build-isolation", *wanted)
        installed = environment.installed()
        assert len(installed) == len(wanted), words
        for name in installed:
            assert environment.has(f"{PACKAGES[name].name}/__init__.py"), words
        environment.run(UV, "pip", "uninstall", "--quiet", "--python", environment.python, *installed)


@pytest.mark.parametrize("version", ["3.10", "3.14"])
def test_the_quick_start_on_the_oldest_and_on_the_newest_python(
    version: str, wheels: Path, sdists: Path, tmp_path: Path
) -> None:
    """From wheels; sdists then install the same files."""
    python = debian_python.find(version)
    if python is None:
        pytest.skip(f"no Python {version}; on Debian, PYTHONPATH=tests python -m support.debian_python {version}")
    environment = Environment(tmp_path / "environment", python)
    environment.install(*wheels.glob("airflow_provider_xethub-*"), *wheels.glob("xethub_local-*"))
    assert environment.execute("import sys; print('%d.%d' % sys.version_info[:2])") == version
    follow_the_quick_start(environment.folder / "bin", tmp_path)

    from_wheels = environment.files()
    names = ("airflow-provider-xethub", "xethub-local")
    environment.run(UV, "pip", "uninstall", "--quiet", "--python", environment.python, *names)
    assert not environment.files()
    environment.install("--no-deps", *sdists.glob("airflow_provider_xethub-*"), *sdists.glob("xethub_local-*"))
    assert environment.files() == from_wheels
