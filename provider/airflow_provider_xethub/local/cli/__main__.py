"""Run the command line: ``python -m airflow_provider_xethub.local.cli``."""

import sys

from airflow_provider_xethub.local.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
