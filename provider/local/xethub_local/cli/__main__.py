"""Run the command line: ``python -m xethub_local.cli``."""

import sys

from xethub_local.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
