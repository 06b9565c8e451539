"""``xethub-local serve``: serve until interrupted, and print how to connect."""

from __future__ import annotations

import argparse
import errno
import os
import shlex
import signal
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from xethub_local.cli.arguments import CommandError, UsageError, repo_argument
from xethub_local.cli.environment import CONNECTION, connection_json
from xethub_local.cli.output import print_text
from xethub_local.repo import Repo

if TYPE_CHECKING:
    from xethub_local.server import LocalHub

TOKEN = "XETHUB_LOCAL_TOKEN"  # noqa: S105 - the name of a variable
WEBHOOK_SECRET = "XETHUB_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - keys, not addresses that we listen on


def serve(options: argparse.Namespace) -> None:
    """Serve a data folder until SIGINT or SIGTERM.

    :raises CommandError: the server cannot listen on the address, or a repository cannot be created.
    """
    repos = [repo_argument(text) for text in options.create_repo]

    from xethub_local.server import LocalHub
    from xethub_local.store.announced_url import announced

    _check(options)
    hub = LocalHub(
        options.folder,
        options.port,
        host=options.host,
        token_life=options.token_life,
        public_url=(options.public_url or "").rstrip("/") or None,
        allowed_hosts=options.allow_host,
        allowed_origins=options.allow_origin,
        discards=options.discard,
        write_token=_chosen_token(),
    )
    try:
        for repo in repos:
            _create_missing(hub, repo)
        stopping = threading.Event()
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signal_number, lambda *_: stopping.set())
        _start(hub, options)
        with announced(hub.folder, _listening_url(hub)), _sending_webhooks(hub, options.webhook):
            _print_connection(hub, options.token_life)
            stopping.wait()
    finally:
        hub.close()
    print_text("Stopped.")


def _check(options: argparse.Namespace) -> None:
    from xethub_local.http.cors import checked_origin
    from xethub_local.hub.hosts import is_loopback

    if not options.allow_remote and not is_loopback(options.host):
        raise UsageError(
            f"--host {options.host} would let other machines reach this development server. "
            "Use 127.0.0.1, or add --allow-remote."
        )
    for origin in options.allow_origin:
        try:
            checked_origin(origin)
        except ValueError as error:
            raise UsageError(f"--allow-origin {error}") from error
    if options.token_life < 1:
        raise UsageError(f"--token-life must be at least 1 second, not {options.token_life}.")
    if not 0 <= options.port <= 65535:
        raise UsageError(f"--port must be from 0 to 65535, not {options.port}.")


def _chosen_token() -> str | None:
    """Return the Hub token that the environment chooses: containers cannot read the random one of another container."""
    from xethub_local.store.access import check_chosen_token

    # Not an argument, because everyone on the machine can see the arguments of a process.
    token = os.environ.get(TOKEN)
    try:
        if token is not None:
            check_chosen_token(token)
    except ValueError as error:
        raise UsageError(f"{TOKEN}: {error} Unset it to use the random one of the data folder.") from error
    return token


def _start(hub: LocalHub, options: argparse.Namespace) -> None:
    try:
        hub.start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CommandError(
                f"port {options.port} on {options.host} is in use. "
                "Stop the process that listens there, or choose another port with --port."
            ) from error
        raise CommandError(f"cannot listen on {options.host}, port {options.port}: {error}.") from error


def _create_missing(hub: LocalHub, repo: Repo) -> None:
    from xethub_local.store.errors import ConflictError, HubError

    try:
        hub.create_repo(repo.repo_id, repo.repo_type)
    except ConflictError:
        pass  # it exists already
    except HubError as error:
        raise CommandError(str(error)) from error


def _sending_webhooks(hub: LocalHub, url: str | None) -> AbstractContextManager[object]:
    if not url:
        return nullcontext()
    from xethub_local.webhooks import WebhookSender

    try:
        # The secret is not an argument, because everyone on the machine can see the arguments of a process.
        return WebhookSender(hub, url, os.environ.get(WEBHOOK_SECRET))
    except ValueError as error:
        raise UsageError(f"--webhook: {error}") from error


def _listening_url(hub: LocalHub) -> str:
    """Return the URL at which this machine reaches the server; ``hub.url`` may be a name that only containers know."""
    host = _LOOPBACK.get(hub.host, hub.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{hub.port}"


def _print_connection(hub: LocalHub, token_life: int) -> None:
    url, token = hub.url, hub.token("write")
    connection = connection_json(url, token)
    add = ["airflow", "connections", "add", CONNECTION, "--conn-type", "xethub"]
    add += ["--conn-host", url, "--conn-password", token]
    print_text(
        f"""Local Hub (development server): {url}
Data folder: {hub.folder}
Xet tokens are valid for {token_life} seconds.

Hub tokens of the built-in user 'local':
  write  {token}
  read   {hub.token("read")}

Airflow connection, one of:
  {shlex.join(add)}
  export AIRFLOW_CONN_{CONNECTION.upper()}={shlex.quote(connection)}

huggingface_hub:
  export HF_ENDPOINT={url} HF_TOKEN={token}

Stop with Ctrl-C."""
    )
