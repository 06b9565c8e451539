"""The console script ``xethub-local``: serve a local Hub, work on its data folder, and make it misbehave.

Exit status: 0 success; 1 failure, with the reason in one line on standard error; 2 usage error; 130 interrupted;
141 the reader of a pipe closed it.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from xethub_local.cli.arguments import (
    REPO_PATH_SYNTAX,
    REPO_SYNTAX,
    RESOURCE_SYNTAX,
    CommandError,
    UsageError,
)
from xethub_local.cli.faults import add_fault_options
from xethub_local.cli.output import safe_text
from xethub_local.repo import InvalidNameError

DEFAULT_FOLDER = ".xethub-local"
DEFAULT_PORT = 7777
FAILED, WRONG_USAGE, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141
_PACKAGE = "xethub_local.cli"
_STATUSES = (
    "Exit status: 0 success; 1 failure, with the reason on standard error; 2 usage error; 130 interrupted; "
    "141 the reader of a pipe closed it."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except UsageError as error:
        return _fail(WRONG_USAGE, str(error))
    except (CommandError, InvalidNameError) as error:
        return _fail(FAILED, str(error))
    except ModuleNotFoundError as error:
        return _fail(FAILED, f"{error.name} is not installed; install xethub-local again.")
    except BrokenPipeError:
        # Python would try to write the remaining buffer at exit, and print a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return _fail(INTERRUPTED, "interrupted.")
    except (OSError, ValueError, sqlite3.Error) as error:
        return _fail(FAILED, f"cannot use the data folder {options.folder}: {error}. Choose another with --folder.")
    return 0


def _fail(status: int, message: str) -> int:
    print(f"xethub-local: {safe_text(' '.join(message.split()))}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xethub-local",
        description="A Hub and a CAS on this machine, to try things and to test DAGs without an account or a network. "
        "huggingface_hub, hf_xet and @huggingface/hub work with it unchanged. It is a development server: do not "
        "keep anything in it that you need, and do not expose it to a network.",
        epilog=f"In a pipe, each row is one line with tab-separated columns and without headings. {_STATUSES}",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_serve(commands)
    _add_environment(commands)
    _add_repository_commands(commands)
    _add_file_commands(commands)
    _add_user_commands(commands)
    _add_publisher_commands(commands)
    _add_fault_commands(commands)
    reset = _command(
        commands,
        "reset",
        "faults.reset",
        "Switch off the faults of the running server and clear its request log; the data stays.",
        "reset",
        "reset --data --yes",
    )
    reset.add_argument("--data", action="store_true", help="also delete all repositories")
    reset.add_argument("--yes", action="store_true", help="delete without asking for confirmation")
    return parser


_Commands = Any  # the type in argparse is private


def _add_serve(commands: _Commands) -> None:
    serve = _command(
        commands,
        "serve",
        "serve.serve",
        "Serve until interrupted, and print how to connect to it.",
        "serve --create-repo dataset:acme/corpus",
        "serve --port 0 --folder other-hub",
    )
    serve.add_argument("--port", type=int, default=DEFAULT_PORT, help="port to listen on; 0 means any free port")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on")
    serve.add_argument(
        "--allow-remote",
        action="store_true",
        help="allow a --host that other machines or containers can reach",
    )
    serve.add_argument(
        "--public-url",
        metavar="URL",
        help="origin at which clients reach the server, if it differs from the host of their requests",
    )
    serve.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="additional host name of the server, such as that of a container; may be repeated",
    )
    serve.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="allow web pages of this origin to use the API, such as http://localhost:3000; may be repeated",
    )
    serve.add_argument(
        "--webhook",
        metavar="URL",
        help="URL to send webhooks about commits to; the environment variable XETHUB_WEBHOOK_SECRET holds the secret",
    )
    serve.add_argument("--token-life", type=int, default=900, metavar="SECONDS", help="lifetime of a Xet token")
    serve.add_argument(
        "--discard",
        action="store_true",
        help="check what clients upload to CAS, and keep no bytes of it: for measurements larger than the disk",
    )
    serve.add_argument(
        "--create-repo",
        action="append",
        default=[],
        metavar=REPO_SYNTAX,
        help="repository to create unless it exists, such as dataset:acme/corpus; may be repeated",
    )


def _add_environment(commands: _Commands) -> None:
    env = _command(
        commands,
        "env",
        "environment.environment",
        "Print what clients of the running server need, as commands of a shell. These are the variables of "
        "huggingface_hub and the Airflow connection.",
        "env",
        "env --wait 30",
    )
    env.add_argument(
        "--wait", type=float, default=0.0, metavar="SECONDS", help="how long to wait for the server to start"
    )


def _add_repository_commands(commands: _Commands) -> None:
    create = _command(
        commands,
        "create-repo",
        "repositories.create_repo",
        "Create a repository or a bucket. This works while the server is running, too.",
        "create-repo dataset:acme/corpus",
        "create-repo --private bucket:acme/raw",
    )
    create.add_argument("repo", metavar=REPO_SYNTAX, help="such as dataset:acme/corpus or bucket:acme/raw")
    create.add_argument("--private", action="store_true", help="only users with access can see it")

    listing = _command(
        commands,
        "ls",
        "repositories.list_content",
        "List all repositories, or the files of one: size, storage, Xet hash, path.",
        "ls",
        "ls dataset:acme/corpus",
        "ls dataset:acme/corpus@v1:photos",
    )
    listing.add_argument("path", nargs="?", metavar=REPO_PATH_SYNTAX, help="repository or folder whose files to list")


def _add_file_commands(commands: _Commands) -> None:
    put = _command(
        commands,
        "put",
        "put.put",
        "Store files and folders in a repository as one commit. This works while the server is running, too. A file "
        "keeps its name unless PATH gives another; for a folder, its content is stored. Unchanged files are skipped.",
        "put birds.csv dataset:acme/corpus",
        "put photos/ dataset:acme/corpus:photos/",
        "put --message 'Second edition' a.csv b.csv dataset:acme/corpus@draft:tables/",
        "date | xethub-local put - bucket:acme/raw:now.txt",
    )
    put.add_argument("sources", nargs="+", metavar="SOURCE", help="file, folder, or - for standard input")
    put.add_argument("target", metavar=REPO_PATH_SYNTAX, help="where to store them; a PATH ending in / is a folder")
    put.add_argument("--message", metavar="TEXT", help="title of the commit")
    put.add_argument(
        "--exclude",
        action="append",
        metavar="PATTERN",
        help="leave out files in a SOURCE folder whose path matches this pattern; * matches / too; may be repeated",
    )
    put.add_argument(
        "--follow-links",
        action="store_true",
        help="follow links to folders and links that lead out of a SOURCE, which are errors otherwise",
    )

    get = _command(
        commands,
        "get",
        "get.get",
        "Copy a file, a folder or everything out of a repository. This works while the server is running, too. A file "
        "appears under its final name once it is complete.",
        "get dataset:acme/corpus",
        "get dataset:acme/corpus@v1:photos copies/",
        "get dataset:acme/corpus:birds.csv - | head",
    )
    get.add_argument("source", metavar=REPO_PATH_SYNTAX, help="what to copy")
    get.add_argument(
        "destination",
        nargs="?",
        metavar="DESTINATION",
        help="file, folder, or - for standard output; by default the working directory, under the original name",
    )


def _add_user_commands(commands: _Commands) -> None:
    _command(commands, "tokens", "repositories.tokens", "Print all users and their Hub tokens.", "tokens")

    user = _command(
        commands,
        "add-user",
        "repositories.add_user",
        "Add or change a user, and print the Hub token.",
        "add-user ana",
        "add-user ci --role fineGrained --grant datasets/acme/corpus=write",
    )
    user.add_argument("user", help="name; read and write users have access to the namespace of that name, too")
    user.add_argument("--role", choices=["read", "write", "fineGrained"], default="write", help="kind of Hub token")
    user.add_argument(
        "--grant",
        action="append",
        default=[],
        metavar="WHERE=SCOPE",
        help="additional access, such as datasets/acme/corpus=write or acme=read; may be repeated",
    )


def _add_publisher_commands(commands: _Commands) -> None:
    publishers = _command(
        commands,
        "publishers",
        "publishers.list_publishers",
        "List, add and remove trusted publishers: whose ID tokens are exchanged for a Hub token.",
        "publishers",
        "publishers add dataset:acme/corpus --claim sub=airflow",
        "publishers add model:acme/m --issuer https://gitlab.com --claim project_path=acme/m --read-only",
        "publishers add user:ana --claim sub=airflow",
        "publishers remove 1f2e3d4c5b6a",
    )
    actions = publishers.add_subparsers(title="actions; the default is list", metavar="ACTION")
    _command(actions, "list", "publishers.list_publishers", "List all publishers.", "publishers list")
    add = _command(
        actions,
        "add",
        "publishers.add_publisher",
        "Add a publisher and print its id. All of its claims must be in the ID token, and equal.",
        "publishers add dataset:acme/corpus --claim sub=airflow",
    )
    add.add_argument("resource", metavar=RESOURCE_SYNTAX, help="such as dataset:acme/corpus, or user:ana")
    add.add_argument(
        "--claim", action="append", default=[], metavar="NAME=VALUE", help="required claim; may be repeated"
    )
    add.add_argument("--issuer", metavar="URL", help="the issuer of its ID tokens, if it is not this Hub")
    add.add_argument("--read-only", action="store_true", help="its tokens can only read; always so for users")
    remove = _command(
        actions, "remove", "publishers.remove_publisher", "Remove a publisher.", "publishers remove 1f2e3d4c5b6a"
    )
    remove.add_argument("id", metavar="ID", help="id that 'add' and 'list' print")

    identity = _command(
        commands,
        "identity",
        "publishers.identity",
        "Print an ID token of the running server, to exchange it for a Hub token.",
        "identity",
        "identity --claim namespace=airflow --output /run/user/1000/hub-identity",
        "identity --audience https://elsewhere.example --lifetime -1",
    )
    identity.add_argument("--sub", metavar="SUBJECT", default="airflow", help="who the token is for")
    identity.add_argument("--audience", metavar="URL", help="who it is sent to, if not this Hub")
    identity.add_argument("--lifetime", type=float, default=600.0, metavar="SECONDS", help="how long it is valid")
    identity.add_argument("--algorithm", choices=["RS256", "ES256"], default="RS256", help="how it is signed")
    identity.add_argument(
        "--claim", action="append", default=[], metavar="NAME=VALUE", help="further claim; may be repeated"
    )
    identity.add_argument(
        "--output", type=Path, metavar="FILE", help="file to write instead, readable by its owner only"
    )


def _add_fault_commands(commands: _Commands) -> None:
    faults = _command(
        commands,
        "faults",
        "faults.list_faults",
        "Make the running server misbehave: list, add and remove faults.",
        "faults",
        "faults add hub-busy --times 2",
        "faults add --route 'GET /api/.*' --status 503 --headers Retry-After=1",
        "faults remove 1",
        "faults clear",
    )
    actions = faults.add_subparsers(title="actions; the default is list", metavar="ACTION")
    _command(actions, "list", "faults.list_faults", "List the faults that are switched on.", "faults list")
    _command(actions, "catalogue", "faults.list_presets", "List the ready-made faults.", "faults catalogue")
    add = _command(
        actions,
        "add",
        "faults.add_fault",
        "Switch a fault on and print its id: either a ready-made fault, whose fields the options change, or a custom "
        "one, which needs --route and an effect.",
        "faults add hub-busy",
        "faults add --route 'GET /cas/.*' --drop middle --times 1",
    )
    add.add_argument("name", nargs="?", metavar="NAME", help="name from 'xethub-local faults catalogue'")
    add_fault_options(add)
    remove = _command(actions, "remove", "faults.remove_fault", "Switch one fault off.", "faults remove 1")
    remove.add_argument("id", type=int, metavar="ID", help="id that 'add' and 'list' print")
    _command(actions, "clear", "faults.clear_faults", "Switch all faults off.", "faults clear")


def _command(commands: _Commands, name: str, function: str, about: str, *examples: str) -> argparse.ArgumentParser:
    """Add a command.

    :param function: module and name of the function that runs it, which is imported only when the command is used.
    :param about: the description; its first sentence, up to a colon, is the summary in the list of commands.
    """
    shown = "\n".join(f"  {each if '|' in each else f'xethub-local {each}'}" for each in examples)
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=about.split(":")[0].split(". ")[0].rstrip(".") + ".",
        description=about,
        epilog=f"examples:\n{shown}",
        formatter_class=_Help,
    )
    # A default in an inner command would overwrite an option before it, as in: faults --folder x list.
    is_inner = name in ("list", "catalogue", "add", "remove", "clear")
    folder: Any = argparse.SUPPRESS if is_inner else Path(DEFAULT_FOLDER)
    parser.add_argument("--folder", type=Path, default=folder, help="data folder of the local Hub")
    parser.set_defaults(run=partial(_run, function))
    return parser


def _run(function: str, options: argparse.Namespace) -> None:
    module, _, name = function.partition(".")
    command: Callable[[argparse.Namespace], None] = getattr(import_module(f"{_PACKAGE}.{module}"), name)
    command(options)


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Wraps descriptions but not examples."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("examples:"):
            return text
        return super()._fill_text(text, width, indent)
