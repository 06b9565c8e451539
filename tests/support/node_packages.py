"""Packages for Node that tests run, each in a folder with its ``package.json`` and its lock file."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
from pathlib import Path

NODE_MAJOR = 20


def install(folder: Path) -> None:
    """Install what ``package.json`` of a folder names, unless those very versions are there already.

    :raises RuntimeError: Node or npm is missing, too old, or npm fails.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        raise RuntimeError(f"The tests of {folder.name} need Node {NODE_MAJOR} and npm on the PATH.")
    found = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(found.removeprefix("v").partition(".")[0]) < NODE_MAJOR:
        raise RuntimeError(f"The tests of {folder.name} need Node {NODE_MAJOR} or newer; {node} is {found}.")
    with (folder / ".install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test runs may begin at once
        if installed(folder) == wanted(folder):
            return
        options = ["--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run([npm, "ci", *options], cwd=folder, capture_output=True, text=True)
        if done.returncode or installed(folder) != wanted(folder):
            raise RuntimeError(f"npm could not install the packages of {folder}:\n{done.stderr[-4000:]}")


def wanted(folder: Path) -> dict[str, str]:
    """Return the versions that the package file names."""
    return dict(json.loads((folder / "package.json").read_text())["dependencies"])


def installed(folder: Path) -> dict[str, str]:
    """Return those of them that are installed."""
    files = {name: folder / "node_modules" / name / "package.json" for name in wanted(folder)}
    return {name: json.loads(file.read_text())["version"] for name, file in files.items() if file.exists()}
