"""What is in the wheels and sdists, and that the same commit gives the same bytes anywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

import pytest

from airflow_provider_xethub import __version__
from support.distributions import FOLDERS, PACKAGES, ROOT

PROVIDER, LOCAL, TOKEN = FOLDERS

pytestmark = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="git knows what belongs to the project")

SUFFIXES = {
    PROVIDER: {".py", ".typed"},
    LOCAL: {".py", ".typed", ".css"},
    TOKEN: {".py", ".typed"},
}
"""The kinds of files in an import package. A new kind is added here on purpose, or does not belong there."""

MAX_KB = {PROVIDER: (800, 4000), LOCAL: (400, 400), TOKEN: (30, 30)}
"""Largest wheel and sdist. Screenshots are most of the provider's sdist."""

METADATA = {"METADATA", "WHEEL", "RECORD", "licenses/LICENSE", "entry_points.txt"}

INCLUDED = {
    PROVIDER: ("provider/airflow_provider_xethub", "provider/build_metadata.py", "dags_example", "docs", "tests"),
    LOCAL: ("provider/local/xethub_local",),
    TOKEN: ("provider/token/xethub_token",),
}
"""The folders in each sdist."""

BESIDE = {
    PROVIDER: {"README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"},
    LOCAL: {"README.md", "LICENSE", "Dockerfile", ".dockerignore"},
    TOKEN: {"README.md", "LICENSE"},
}
"""The files beside them. Hatchling adds PKG-INFO, pyproject.toml and the .gitignore that it obeys."""

UNWANTED = (
    "docs/_build/html/index.html",
    "provider/airflow_provider_xethub/.env",
    "provider/airflow_provider_xethub/__pycache__/repo.cpython-311.pyc",
    "provider/airflow_provider_xethub/xet/.netrc",
    "provider/local/xethub_local/.coverage",
    "provider/token/xethub_token/.pypirc",
    "tests/.pytest_cache/v/cache/lastfailed",
    "tests/.venv/bin/python",
)
"""What a checkout may contain by accident."""


def tracked(*folders: str) -> set[str]:
    listed = subprocess.run(["git", "ls-files", "-z", "--", *folders], cwd=ROOT, check=True, capture_output=True)
    return {name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).exists()}


def build_elsewhere(root: Path, into: Path, umask: int, **environment: str) -> dict[str, Path]:
    """Build everything in a process of its own; the paths by their names."""
    inherited = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    built = subprocess.run(
        [sys.executable, "-m", "support.distributions", str(root), str(into)],
        cwd=ROOT / "tests",
        env={**inherited, **environment},
        umask=umask,
        check=True,
        capture_output=True,
        text=True,
    )
    return {path.name: path for path in map(Path, built.stdout.split())}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheels and sdists of this checkout."""
    return build_elsewhere(ROOT, tmp_path_factory.mktemp("built"), 0o022, TZ="UTC", LC_ALL="C")


@pytest.fixture
def another_checkout(tmp_path: Path) -> Path:
    """What git knows, in another folder, with other times and permissions, and with caches and private files."""
    copy = tmp_path / "another folder"
    for number, name in enumerate(sorted(tracked(), reverse=True)):
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
        target.chmod(0o700 if (ROOT / name).stat().st_mode & 0o100 else 0o600)
        os.utime(target, (1_000_000_000 + number, 1_000_000_000 + number))
    for name in UNWANTED:
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("SECRET")
    return copy


def wheel_of(built: dict[str, Path], name: str) -> Path:
    return built[f"{name.replace('-', '_')}-{__version__}-py3-none-any.whl"]


def sdist_of(built: dict[str, Path], name: str) -> Path:
    return built[f"{name.replace('-', '_')}-{__version__}.tar.gz"]


def test_two_checkouts_give_the_same_bytes(built, another_checkout, tmp_path):
    other = tmp_path / "built"
    again = build_elsewhere(another_checkout, other, 0o077, TZ="Asia/Kathmandu", LC_ALL="C.UTF-8", PYTHONHASHSEED="7")
    assert len(built) == 6
    assert set(again) == set(built)
    assert [name for name, path in again.items() if path.read_bytes() != built[name].read_bytes()] == []


@pytest.mark.parametrize("name", FOLDERS)
def test_a_wheel_has_the_tracked_files_of_its_package_and_nothing_else(built, name):
    package = PACKAGES[name].relative_to(ROOT)
    with ZipFile(wheel_of(built, name)) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
    information = f"{package.name}-{__version__}.dist-info/"
    files = {path for path in entries if not path.startswith(information)}
    expected = {PurePosixPath(path).relative_to(package.parent).as_posix() for path in tracked(package.as_posix())}
    assert files - expected == set(), "git does not know these; add or remove them"
    assert expected - files == set()
    assert f"{package.name}/py.typed" in files
    assert {PurePosixPath(path).suffix for path in files} <= SUFFIXES[name]
    assert [path for path in files if {"tests", "test"} & set(PurePosixPath(path).parts)] == []
    extra = {path.removeprefix(information) for path in entries if path.startswith(information)}
    assert extra == METADATA
    assert {entry.external_attr >> 16 & 0o777 for entry in entries.values()} == {0o644}
    assert {entry.date_time for entry in entries.values()} == {(2020, 2, 2, 0, 0, 0)}


@pytest.mark.parametrize("name", FOLDERS)
def test_an_sdist_has_the_tracked_files_that_it_names_and_nothing_else(built, name):
    root = FOLDERS[name].relative_to(ROOT)
    with tarfile.open(sdist_of(built, name)) as archive:
        entries = archive.getmembers()
    (top,) = {PurePosixPath(entry.name).parts[0] for entry in entries}
    files = {PurePosixPath(entry.name).relative_to(top).as_posix() for entry in entries}
    expected = {PurePosixPath(path).relative_to(root).as_posix() for path in tracked(*INCLUDED[name])}
    expected |= BESIDE[name] | {"PKG-INFO", "pyproject.toml", ".gitignore"}
    assert files - expected == set(), "git does not know these; add or remove them"
    assert expected - files == set()
    assert all(entry.isreg() for entry in entries)
    assert {(entry.uid, entry.gid, entry.uname, entry.gname) for entry in entries} == {(0, 0, "", "")}
    assert {entry.mode for entry in entries} <= {0o644, 0o755}


@pytest.mark.parametrize("name", FOLDERS)
def test_none_is_larger_than_it_needs_to_be(built, name):
    for path, most in zip((wheel_of(built, name), sdist_of(built, name)), MAX_KB[name], strict=True):
        assert most // 4 < path.stat().st_size // 1000 <= most, path.name
