"""Which modules are checked, and by which tests: what modules.toml says."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = Path(__file__).parent / "modules.toml"
ROOT = FILE.parents[2]
PACKAGE = "airflow_provider_xethub"


@dataclass(frozen=True)
class Group:
    """Modules that the same tests check.

    :param modules: paths in the package of the provider.
    :param tests: paths in the folder of the tests.
    :param slow: further tests, for the branches that only they reach.
    """

    modules: list[str]
    tests: list[str]
    slow: list[str]


def groups() -> dict[str, Group]:
    """Return the groups by their names, in the order of the file."""
    found = tomllib.loads(FILE.read_text())
    return {name: Group(each["modules"], each["tests"], each.get("slow", [])) for name, each in found.items()}


def coverage_arguments() -> list[str]:
    """Return the arguments of pytest that measure all of these modules by all of their tests."""
    every = groups().values()
    modules = [f"{PACKAGE}/{module}".removesuffix(".py").replace("/", ".") for each in every for module in each.modules]
    named = {f"tests/{test}" for each in every for test in (*each.tests, *each.slow)}
    tests = sorted(test for test in named if not any(test.startswith(f"{folder}/") for folder in named))
    return [*(f"--cov={module}" for module in modules), *tests]


if __name__ == "__main__":
    print(*coverage_arguments())
