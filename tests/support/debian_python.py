"""A version of Python that this machine lacks, from Debian's newest packages, in a folder of its own.

``python -m support.debian_python 3.14`` fetches it for ``tests/system/test_installing.py``. Nothing is installed: the
interpreter brings its C library, and starts through that library's own loader.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".compat/pythons"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def find(version: str) -> Path | None:
    """Return a Python of this version that works: one that was fetched, one on the path, or one of pyenv."""
    name = f"python{version}"
    candidates = [FOLDER / version / "usr/bin" / name]
    candidates += [Path(found) for found in [shutil.which(name)] if found]
    candidates += sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/{name}"))
    for candidate in candidates:
        # The one on the path may be a shim of pyenv that fails.
        if (
            candidate.exists()
            and subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0
        ):
            return candidate
    return None


def fetch(version: str) -> Path:
    """Fetch it, unless it is there.

    :raises subprocess.CalledProcessError: this is not a Debian, or Debian has no such version.
    """
    root = FOLDER / version
    python = root / "usr/bin" / f"python{version}"
    if python.exists():
        return python
    apt = root.with_suffix(".apt")
    shutil.rmtree(root, ignore_errors=True)
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    (apt / "status").touch()  # as if nothing were installed: with the C library
    (apt / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {_mirror()} sid main\n")
    options = {
        "Dir::Etc::SourceList": apt / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State": apt / "state",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt / "cache",
        "Acquire::Languages": "none",
    }
    command = ["apt-get", "-qq", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    download = ["install", "--yes", "--download-only", "--no-install-recommends", f"python{version}"]
    for arguments in (["update"], download):
        subprocess.run([*command, *arguments], check=True, stdout=sys.stderr)
    for package in (apt / "cache/archives").glob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", package, root], check=True)
    shutil.rmtree(apt)
    (loader,) = root.glob("usr/lib/*/ld-linux-*.so.?")
    real = python.replace(python.with_suffix(".real"))
    python.write_text(f'#!/bin/sh\nexec {loader} --library-path {loader.parent} --argv0 "$0" {real} "$@"\n')
    python.chmod(0o755)
    return python


def _mirror() -> str:
    """Return from where this machine gets its packages."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE)"], check=True, capture_output=True, text=True
    ).stdout.split()
    return next(site for site in listed if site.endswith("/debian"))


if __name__ == "__main__":
    os.umask(0o022)
    print(fetch(*sys.argv[1:]))
