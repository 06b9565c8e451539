"""The console script ``xethub-local``: serve a local Hub, and look after its data folder."""

from __future__ import annotations

import argparse
import errno
import ipaddress
import json
import shlex
import signal
import sqlite3
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.repo import REPO_TYPES, SCOPES, Repo, Scope

if TYPE_CHECKING:
    from airflow_provider_xethub.local.app import LocalStore
    from airflow_provider_xethub.local.server import LocalHub

DEFAULT_FOLDER = ".xethub-local"
DEFAULT_PORT = 7777
_CONNECTION = "xethub_default"
_FAILED = 2


class _CommandError(Exception):
    """What went wrong and what to do, in one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script and return its exit status: 0, or 2 with one line on standard error."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (_CommandError, XetInputError) as error:
        return _fail(str(error))
    except ModuleNotFoundError as error:
        return _fail(f"{error.name} is not installed; the local Hub needs airflow-provider-xethub[local].")
    except (OSError, ValueError, sqlite3.Error) as error:
        return _fail(f"the data folder {options.folder} cannot be used: {error}. Choose another with --folder.")
    return 0


def _fail(message: str) -> int:
    print(f"xethub-local: {' '.join(message.split())}", file=sys.stderr)
    return _FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xethub-local",
        description="A Hub and a CAS on this machine, for quick starts and tests of DAGs: no account, no network. "
        "huggingface_hub, hf_xet and @huggingface/hub work with it unchanged. It is a development server: do not "
        "keep anything in it that you need, and do not expose it to a network.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    serve = _command(commands, "serve", _serve, "Serve until interrupted, and print how to connect to it.")
    serve.add_argument("--port", type=int, default=DEFAULT_PORT, help="port to listen at; 0 takes a free one")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen at")
    serve.add_argument(
        "--allow-remote",
        action="store_true",
        help="let --host be an address that other machines or containers can reach",
    )
    serve.add_argument(
        "--public-url",
        metavar="URL",
        help="origin that clients reach it at, if that is not the host name they ask for",
    )
    serve.add_argument("--token-life", type=int, default=900, metavar="SECONDS", help="seconds that a Xet token lives")
    serve.add_argument(
        "--create-repo",
        action="append",
        default=[],
        metavar="TYPE:NAMESPACE/NAME",
        help="create this repository unless it exists, such as dataset:acme/corpus; may be repeated",
    )

    create = _command(commands, "create-repo", _create_repo, "Create a repository, also while the server is running.")
    create.add_argument("repo", metavar="TYPE:NAMESPACE/NAME", help="such as dataset:acme/corpus or bucket:acme/raw")
    create.add_argument("--private", action="store_true", help="only users with access can see it")

    _command(commands, "ls", _list, "List the repositories and their files.")
    _command(commands, "tokens", _tokens, "Print all users and their Hub tokens.")

    user = _command(commands, "add-user", _add_user, "Add a user, or change one, and print the Hub token.")
    user.add_argument("user", help="name; a read or write user also reaches the namespace of that name")
    user.add_argument("--role", choices=["read", "write", "fineGrained"], default="write", help="kind of Hub token")
    user.add_argument(
        "--grant",
        action="append",
        default=[],
        metavar="WHERE=SCOPE",
        help="such as datasets/acme/corpus=write or acme=read; may be repeated",
    )
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: object,
    summary: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=summary, description=summary, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path(DEFAULT_FOLDER), help="where everything is kept")
    parser.set_defaults(run=run)
    return parser


def _serve(options: argparse.Namespace) -> None:
    if not options.allow_remote and not _is_loopback(options.host):
        raise _CommandError(
            f"--host {options.host} can be reached by others, and this is a development server. "
            "Use 127.0.0.1, or add --allow-remote."
        )
    if options.token_life < 1:
        raise _CommandError(f"--token-life must be at least 1 second, not {options.token_life}.")
    if not 0 <= options.port <= 65535:
        raise _CommandError(f"--port must be from 0 to 65535, not {options.port}.")
    repos = [_repo(text) for text in options.create_repo]

    from airflow_provider_xethub.local.server import LocalHub

    hub = LocalHub(
        options.folder,
        options.port,
        host=options.host,
        token_life=options.token_life,
        public_url=(options.public_url or "").rstrip("/") or None,
    )
    try:
        for repo in repos:
            _create_missing(hub, repo)
        stopping = threading.Event()
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signal_number, lambda *_: stopping.set())
        _start(hub, options)
        _print_connection(hub, options.token_life)
        stopping.wait()
    finally:
        hub.close()
    print("Stopped.", flush=True)


def _start(hub: LocalHub, options: argparse.Namespace) -> None:
    try:
        hub.start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise _CommandError(
                f"port {options.port} of {options.host} is in use. "
                "Stop what listens there, or choose another with --port."
            ) from error
        raise _CommandError(f"cannot listen at {options.host}, port {options.port}: {error}.") from error


def _print_connection(hub: LocalHub, token_life: int) -> None:
    url, token = hub.url, hub.token("write")
    connection = json.dumps({"conn_type": "xethub", "host": url, "password": token})
    add = ["airflow", "connections", "add", _CONNECTION, "--conn-type", "xethub"]
    add += ["--conn-host", url, "--conn-password", token]
    print(
        f"""local Hub, a development server: {url}
Data: {hub.folder}
Xet tokens live {token_life} seconds.

Hub tokens of the built-in user 'local':
  write  {token}
  read   {hub.token("read")}

Airflow connection, either of:
  {shlex.join(add)}
  export AIRFLOW_CONN_{_CONNECTION.upper()}={shlex.quote(connection)}

huggingface_hub:
  export HF_ENDPOINT={url} HF_TOKEN={token}

Stop with Ctrl-C.""",
        flush=True,
    )


def _create_repo(options: argparse.Namespace) -> None:
    from airflow_provider_xethub.local.hub_errors import HubError

    repo = _repo(options.repo)
    store = _open(options.folder, must_exist=False)
    try:
        store.repositories.create(f"{repo.repo_type}s/{repo.repo_id}", private=options.private)
    except HubError as error:
        raise _CommandError(error.message) from error
    finally:
        store.close()
    print(f"Created {repo.uri}")


def _list(options: argparse.Namespace) -> None:
    store = _open(options.folder)
    try:
        for repository in store.repositories.find_all():
            print(f"{repository.name}{' (private)' if repository.private else ''}")
            for path, size, xet_hash in _files(store, repository.name):
                print(f"  {size:>14,}  {xet_hash or '-' * 64}  {path}")
    finally:
        store.close()


def _files(store: LocalStore, name: str) -> list[tuple[str, int, str | None]]:
    if name.startswith("buckets/"):
        return [(file.path, file.size, file.xet_hash) for file in store.bucket_files.beneath(name)]
    entries = store.repositories.entries(name, store.repositories.resolve(name, "main"))
    return [(entry.path, entry.size, entry.xet_hash) for entry in entries if entry.kind != "directory"]


def _tokens(options: argparse.Namespace) -> None:
    store = _open(options.folder)
    try:
        for identity in store.access.identities():
            token = store.access.hub_token(identity.user, identity.token_name)
            grants = ", ".join(f"{where}={scope}" for where, scope in identity.grants.items())
            print(f"{identity.user}  {identity.token_name}  {identity.role}  {token}  {grants}".rstrip())
    finally:
        store.close()


def _add_user(options: argparse.Namespace) -> None:
    store = _open(options.folder, must_exist=False)
    try:
        print(store.access.add_user(options.user, role=options.role, grants=dict(map(_grant, options.grant))))
    except ValueError as error:
        raise _CommandError(str(error)) from error
    finally:
        store.close()


def _open(folder: Path, *, must_exist: bool = True) -> LocalStore:
    from airflow_provider_xethub.local.app import LocalStore
    from airflow_provider_xethub.local.database import FILE_NAME

    if must_exist and not (folder / FILE_NAME).exists():
        raise _CommandError(f"there is no local Hub in the folder {folder}. Choose its folder with --folder.")
    return LocalStore(folder)


def _create_missing(hub: LocalHub, repo: Repo) -> None:
    from airflow_provider_xethub.local.hub_errors import ConflictError, HubError

    try:
        hub.create_repo(repo.repo_id, repo.repo_type)
    except ConflictError:
        pass  # it exists, which is all that was asked for
    except HubError as error:
        raise _CommandError(error.message) from error


def _repo(text: str) -> Repo:
    repo_type, colon, repo_id = text.partition(":")
    if not colon or repo_type not in REPO_TYPES:
        raise _CommandError(
            f"{text!r} is not of the form TYPE:NAMESPACE/NAME, where TYPE is one of {', '.join(REPO_TYPES)}."
        )
    return Repo(repo_id, repo_type)  # type: ignore[arg-type]


def _grant(text: str) -> tuple[str, Scope]:
    where, equals, scope = text.partition("=")
    if not equals or scope not in SCOPES:
        raise _CommandError(f"--grant {text!r} is not of the form WHERE=read or WHERE=write.")
    return where, "write" if scope == "write" else "read"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


if __name__ == "__main__":
    sys.exit(main())
