"""Run the tests with the marker ``airflow`` on other versions of it, each in its own environment: ``make compat``.

Each environment has what PyPI had when its Airflow was new, and this provider with its own dependencies as they are
today; ``lowest`` has the oldest of each that ``pyproject.toml`` allows. The versions are pinned in ``pins``;
``--pin`` looks them up anew. The newest versions are those of ``constraints.txt``, which ``make test`` runs with.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
DISTRIBUTIONS = (ROOT, ROOT / "provider" / "local", ROOT / "provider" / "token")
ENVIRONMENTS = ROOT / ".compat"
UV = str(Path(sys.executable).parent / "uv")
PYTHON = "3.11"
INTERPRETER = sys.executable if sys.version.startswith(f"{PYTHON}.") else PYTHON
"""The one that runs this if it fits: uv may find another, which may be slower."""

# What an old Airflow has to be content with: our dependencies, and theirs that cannot be older.
NEW = (
    "apache-airflow-providers-common-compat",
    "click",
    "hf-xet",
    "httpcore2",
    "httpx2",
    "huggingface-hub",
    "pathspec",
    "truststore",
    "typer",
)
TODAY = "2026-11-20"

INSTALLING = threading.Lock()
"""Two of uv at once, over an empty cache, stand in each other's way."""

MARKED = "airflow and not airflow_independent and not long"
"""On the oldest and on the newest Airflow."""
BETWEEN = f"{MARKED} and (not airflow_unchanged or smoke)"
"""On those between: what depends on nothing that Airflow changed on the way runs on both sides of them."""
SMOKE = f"{MARKED} and smoke"
"""Where ``make test`` or an earlier environment tests the same Airflow in full: only its other packages differ here."""


@dataclass(frozen=True)
class Version:
    """An environment: its name, its Airflow, and until when its other packages were released."""

    name: str
    airflow: str
    until: str
    resolution: str = "highest"
    parts: tuple[str, ...] = ()
    """Airflow's own distributions of a beta, which are resolved only where they are named."""

    @property
    def pins(self) -> Path:
        return HERE / "pins" / f"{self.name}.txt"

    @property
    def markers(self) -> str:
        place = VERSIONS.index(self)
        tested = [f"apache-airflow=={earlier.airflow}" for earlier in VERSIONS[:place]]
        if f"apache-airflow=={self.airflow}" in (*tested, *(ROOT / "constraints.txt").read_text().split()):
            return SMOKE
        return MARKED if place in (0, len(VERSIONS) - 1) else BETWEEN

    @property
    def python(self) -> str:
        return str(ENVIRONMENTS / self.name / "bin" / "python")


VERSIONS = (
    Version("lowest", "3.0.6", "2025-09-15", "lowest-direct"),
    Version("3.0.6", "3.0.6", "2025-09-15"),
    Version("3.1.8", "3.1.8", "2026-03-15"),
    Version("3.2.2", "3.2.2", "2026-06-01"),
    Version("3.3.2", "3.3.2", "2026-09-20"),
    Version(
        "3.4.0b2", "3.4.0b2", "2026-10-25", parts=("apache-airflow-core==3.4.0b2", "apache-airflow-task-sdk==1.4.0b2")
    ),
)


def pin(version: Version) -> None:
    """Look up the versions that fit, and write them down."""
    late = [argument for name in NEW for argument in ("--exclude-newer-package", f"{name}={TODAY}")]
    subprocess.run(
        [
            *(UV, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-emit-index-url"),
            *("--no-emit-find-links", "--python-version", PYTHON, "--python-platform", "linux"),
            *("--resolution", version.resolution, "--exclude-newer", version.until, *late),
            *("--extra", "local", "--no-emit-package", "xethub-local", "--group", "test"),
            *("--output-file", str(version.pins), "pyproject.toml", "provider/local/pyproject.toml", "-"),
        ],
        cwd=ROOT,
        input="\n".join((f"apache-airflow=={version.airflow}", *version.parts)),
        text=True,
        check=True,
    )


def install(version: Version) -> None:
    """Make the environment."""
    at = str(ENVIRONMENTS / version.name)
    pip = [UV, "pip", "install", "--quiet", "--python", version.python]
    subprocess.run([UV, "venv", "--quiet", "--clear", "--python", INTERPRETER, at], check=True)
    subprocess.run([*pip, "--requirement", str(version.pins)], check=True)
    own = [argument for folder in DISTRIBUTIONS for argument in ("--editable", str(folder))]
    subprocess.run([*pip, "--no-deps", *own], check=True)


def tests(markers: str) -> list[str]:
    """Return the modules with marked tests; the others may import what an old Airflow does not have."""
    mark = "pytest.mark.smoke" if markers == SMOKE else "pytest.mark.airflow"
    return [str(module) for module in sorted((ROOT / "tests").rglob("test_*.py")) if mark in module.read_text()]


def run(version: Version, options: list[str]) -> bool:
    """Make the environment, run the tests in it, and tell whether all passed."""
    started = time.monotonic()
    with INSTALLING:
        install(version)
    paths = [] if any((ROOT / option.partition("::")[0]).exists() for option in options) else tests(version.markers)
    done = subprocess.run(
        [
            *(version.python, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", "-m", version.markers),
            *paths,
            *options,
        ],
        cwd=ROOT,
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    seconds = time.monotonic() - started
    print(f"\n=== {version.name}: Airflow {version.airflow}, {seconds:.0f} s\n{done.stdout}", flush=True)
    return done.returncode == 0


def main() -> int:
    """Run; 1 if a test failed anywhere."""
    names = [version.name for version in VERSIONS]
    parser = argparse.ArgumentParser(
        description=__doc__,
        usage=f"%(prog)s [--pin] [{' | '.join(names)}] ... [arguments of pytest] ...",
    )
    parser.add_argument("--pin", action="store_true", help="look up the versions anew instead of running tests")
    asked, others = parser.parse_known_args()
    chosen = [version for version in VERSIONS if version.name in others] or list(VERSIONS)
    options = [option for option in others if option not in names]
    if asked.pin:
        for version in chosen:
            pin(version)
        return 0
    # The tests of one environment wait half of their time, so two cores serve several. The shortest start last: one
    # that started when the others end would keep a core idle.
    chosen.sort(key=lambda version: (MARKED, BETWEEN, SMOKE).index(version.markers))
    with ThreadPoolExecutor(5) as pool:
        results = list(pool.map(lambda version: run(version, options), chosen))
    for version, passed in zip(chosen, results, strict=True):
        print(f"{version.name:8} {'passed' if passed else 'FAILED'}")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
