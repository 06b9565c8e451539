"""How the tests start Chromium."""

from __future__ import annotations

import shutil

# Without the last five, Chromium looks for Google's hosts at every start.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def executable() -> str:
    """Return the path of the browser.

    :raises AssertionError: it is not installed.
    """
    path = shutil.which("chromium")
    assert path, "chromium is not installed; on Debian: apt-get install chromium"
    return path
