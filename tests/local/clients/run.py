"""Run the client libraries' own tests against a local Hub: ``make test-clients``."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
from importlib.metadata import version
from pathlib import Path

from airflow_provider_xethub.local.server import LocalHub

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
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


def main() -> int:
    """Run them, print the counts, and fail below the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verbose", action="store_true", help="print the whole report of each failure")
    parser.add_argument("tests", nargs="*", help="modules, or parts of them as for pytest; all where none is given")
    options = parser.parse_args()
    folder = _prepare(version("huggingface_hub"))
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
        report = Path(scratch) / "report.xml"
        arguments = ["--numprocesses=2", "--dist=loadscope", "--timeout=120", f"--junitxml={report}", "-q"]
        arguments += ["-o", "addopts=", "-p", "no:cacheprovider", "-p", "no:xethub", f"--rootdir={folder}"]
        arguments += [f"--tb={'short' if options.verbose else 'line'}"]
        subprocess.run(
            [sys.executable, "-m", "pytest", *arguments, *[f"tests/{name}" for name in options.tests or MODULES]],
            cwd=folder,
            env=environment,
        )
        cases = ElementTree.parse(report).getroot().iter("testcase")  # noqa: S314 - pytest wrote it
        return _judge([*cases])


def _judge(cases: list[ElementTree.Element]) -> int:
    excluded = [case for case in cases if case.find("skipped") is not None]
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    applied = len(cases) - len(excluded)
    passed = applied - len(failed)
    print(f"huggingface_hub: {passed} of {applied} tests passed; {len(excluded)} do not apply.")
    return 0 if applied and passed / applied >= AT_LEAST else 1


def _prepare(wanted: str) -> Path:
    """Return the folder of the source distribution, with our helper modules in its tests."""
    folder = CACHE / f"huggingface_hub-{wanted}"
    if not folder.exists():
        CACHE.mkdir(exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:"]
        subprocess.run([*pip, f"--dest={CACHE}", f"huggingface_hub=={wanted}"], check=True)
        with tarfile.open(CACHE / f"huggingface_hub-{wanted}.tar.gz") as archive:
            archive.extractall(CACHE, filter="data")
    for name in ("conftest.py", "testing_constants.py", "testing_utils.py"):
        shutil.copy(HERE / "python" / name, folder / "tests" / name)
    (folder / "tests" / "__init__.py").touch()
    return folder


if __name__ == "__main__":
    sys.exit(main())
