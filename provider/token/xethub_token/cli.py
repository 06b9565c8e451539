"""The command line, ``xethub-token``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from xethub_token import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script and return its exit status."""
    parser = argparse.ArgumentParser(prog="xethub-token", description="Open a sealed Xet token without Airflow.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.parse_args(arguments)
    parser.print_help()
    return 0
