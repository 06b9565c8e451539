"""``xethub-local env``: print the variables that clients of the running server need, as commands of a shell."""

from __future__ import annotations

import argparse
import json
import shlex
import time

from xethub_local.cli.arguments import CommandError, UsageError, opened_store
from xethub_local.cli.control_client import ControlClient
from xethub_local.cli.output import print_text

CONNECTION = "xethub_default"
_POLL_SECONDS = 0.1


def environment(options: argparse.Namespace) -> None:
    """Print the endpoint and the Hub token for huggingface_hub, and the connection for Airflow.

    :raises CommandError: no server responds on the folder, also not within ``--wait`` seconds.
    """
    if not 0 <= options.wait <= 3600:
        raise UsageError(f"--wait must be from 0 to 3600 seconds, not {options.wait:g}.")
    url = _running_url(options)
    with opened_store(options.folder) as store:
        token = store.tokens["write"]
    variables = {
        "HF_ENDPOINT": url,
        "HF_TOKEN": token,
        f"AIRFLOW_CONN_{CONNECTION.upper()}": connection_json(url, token),
    }
    print_text("\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items()))


def connection_json(url: str, token: str) -> str:
    """Return the Airflow connection to a Hub, in the form that Airflow reads from a variable."""
    return json.dumps({"conn_type": "xethub", "host": url, "password": token})


def _running_url(options: argparse.Namespace) -> str:
    """Return the URL of the server once it responds."""
    deadline = time.monotonic() + options.wait
    while True:
        try:
            client = ControlClient(options.folder)
            client.request("GET", "/_local/status")
        except CommandError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_POLL_SECONDS)
        else:
            return client.url
