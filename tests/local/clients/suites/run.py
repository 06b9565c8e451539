"""Run the client libraries' own tests against a local Hub: ``make test-clients``.

Those of ``huggingface_hub`` come in its source distribution, those of ``@huggingface/hub`` in its package; both are
fetched into ``.clients``. What the tests import and neither contains is in ``python`` and ``javascript``, and so is
``excluded.txt``: which tests do not apply to a local Hub, and why.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2]))

from support import archives, node_packages  # noqa: E402
from xethub_local.server import LocalHub  # noqa: E402

ROOT = HERE.parents[3]
CACHE = ROOT / ".clients"
MODULES = (
    "test_hf_api.py",
    "test_buckets.py",
    "test_xet_upload.py",
    "test_commit_api.py",
    "test_hf_file_system.py",
    "test_copy_files.py",
    "test_snapshot_download.py",
    "test_buckets_hf_file_system.py",
    "test_commit_scheduler.py",
    "test_file_download.py",
    "test_verification.py",
)
USER, OTHER_USER = "client-tests", "somebody-else"
AT_LEAST = 0.96


@dataclass
class Result:
    """How many tests of a client there are, which of them failed, and which exclusions mean none of them."""

    client: str
    applied: int
    excluded: int
    failed: list[str]
    needless: list[str]

    @property
    def is_good(self) -> bool:
        """Whether enough of them passed, and every exclusion is needed."""
        return not self.needless and self.applied > 0 and (self.applied - len(self.failed)) / self.applied >= AT_LEAST

    def __str__(self) -> str:
        passed = self.applied - len(self.failed)
        share = 100 * passed / max(1, self.applied)
        return (
            f"{self.client}: {passed} of {self.applied} tests passed ({share:.1f} %, at least {100 * AT_LEAST:.0f} % "
            f"must); {self.excluded} do not apply."
        )


def main() -> int:
    """Run them, print the counts, and fail below the bar."""
    parser = argparse.ArgumentParser(description="Run the client libraries' own tests against a local Hub.")
    parser.add_argument("--verbose", action="store_true", help="print the whole report of each failure")
    parser.add_argument("--client", choices=("python", "javascript"), help="run those of one client only")
    parser.add_argument("tests", nargs="*", help="modules of Python, or parts of them as for pytest; else all")
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory(prefix="client-tests-") as scratch, LocalHub(Path(scratch) / "hub") as hub:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        environment |= {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": f"{scratch}/home",
            "HF_XET_LOG_DEST": os.devnull,
            "NO_PROXY": "127.0.0.1,localhost",
            "CLIENT_TESTS_USER": USER,
            "CLIENT_TESTS_TOKEN": hub.add_user(USER, role="write"),
            "CLIENT_TESTS_OTHER_USER": OTHER_USER,
            "CLIENT_TESTS_OTHER_TOKEN": hub.add_user(OTHER_USER, role="write"),
            "CLIENT_TESTS_EXCLUDED": str(HERE / "python" / "excluded.txt"),
        }
        if options.client != "javascript":
            results.append(
                _python(environment, Path(scratch), tuple(options.tests) or MODULES, is_verbose=options.verbose)
            )
        if options.client != "python" and not options.tests:
            results.append(_javascript(environment, Path(scratch)))
    for result in results:
        lines = [f"failed: {name}" for name in result.failed]
        lines += [f"excluded, but no such test: {line}" for line in result.needless]
        print(*lines, result, sep="\n")
    return 0 if all(result.is_good for result in results) else 1


def _python(environment: Mapping[str, str], scratch: Path, modules: tuple[str, ...], *, is_verbose: bool) -> Result:
    folder = _source_distribution(version("huggingface_hub"))
    report = scratch / "report.xml"
    arguments = ["--numprocesses=2", "--dist=loadscope", "--timeout=120", f"--junitxml={report}", "-q"]
    arguments += ["-o", "addopts=", "-p", "no:cacheprovider", "-p", "no:xethub", f"--rootdir={folder}"]
    arguments += [f"--tb={'short' if is_verbose else 'line'}"]
    subprocess.run(
        [sys.executable, "-m", "pytest", *arguments, *[f"tests/{name}" for name in modules]],
        cwd=folder,
        env=environment,
    )
    cases = [*ElementTree.parse(report).getroot().iter("testcase")]  # noqa: S314 - pytest wrote it
    skipped = [case for case in cases if case.find("skipped") is not None]
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    names = [_name(case) for case in cases]
    excluded = _excluded(HERE / "python") if modules == MODULES else []
    needless = [line for line in excluded if not any(name.startswith(line) for name in names)]
    failed_names = [_name(case) for case in failed]
    return Result("huggingface_hub", len(cases) - len(skipped), len(skipped), failed_names, needless)


def _name(case: ElementTree.Element) -> str:
    """Return a test's id as pytest writes it, without the folder."""
    _, module, *classes = (case.get("classname") or "").split(".")
    return "::".join((f"{module}.py", *classes, case.get("name") or ""))


def _excluded(folder: Path) -> list[str]:
    return [line.strip() for line in (folder / "excluded.txt").read_text().splitlines() if line.startswith(" ")]


def _source_distribution(wanted: str) -> Path:
    """Return the folder of the source distribution, with our helper modules in its tests."""
    folder = CACHE / f"huggingface_hub-{wanted}"
    if not folder.exists():
        CACHE.mkdir(exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:"]
        subprocess.run([*pip, f"--dest={CACHE}", f"huggingface_hub=={wanted}"], check=True)
        archives.unpack(CACHE / f"huggingface_hub-{wanted}.tar.gz", CACHE)
    for name in ("conftest.py", "testing_constants.py", "testing_utils.py"):
        shutil.copy(HERE / "python" / name, folder / "tests" / name)
    (folder / "tests" / "__init__.py").touch()
    return folder


def _javascript(environment: Mapping[str, str], scratch: Path) -> Result:
    folder, ours = CACHE / "javascript", HERE / "javascript"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json", "vitest.config.ts", "public.ts"):
        shutil.copy(ours / name, folder / name)
    node_packages.install(folder)
    package = folder / "node_modules/@huggingface/hub"
    shutil.copytree(package / "src", folder / "src", dirs_exist_ok=True)
    shutil.copy(package / "tsconfig.json", folder / "tsconfig.json")  # one of the tests uploads it
    shutil.copy(ours / "consts.ts", folder / "src/test/consts.ts")
    modules = sorted(file for file in folder.glob("src/**/*.spec.ts") if "TEST_HUB_URL" in file.read_text())
    report = scratch / "report.json"
    command = ["node", "node_modules/vitest/vitest.mjs", "run", "--reporter=json", f"--outputFile={report}"]
    subprocess.run(
        [*command, *[str(file.relative_to(folder)) for file in modules]],
        cwd=folder,
        env={**environment, "CI": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    tests = {
        f"{module['name'].partition('/src/')[2]}: {test['fullName']}": test["status"]
        for module in json.loads(report.read_text())["testResults"]
        for test in module["assertionResults"]
    }
    excluded = _excluded(ours)
    applied = [name for name in tests if not name.startswith(tuple(excluded))]
    failed = [name for name in applied if tests[name] != "passed"]
    needless = [line for line in excluded if not any(name.startswith(line) for name in tests)]
    return Result("@huggingface/hub", len(applied), len(tests) - len(applied), failed, needless)


if __name__ == "__main__":
    sys.exit(main())
