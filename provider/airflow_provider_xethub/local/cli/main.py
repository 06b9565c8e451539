"""The console script ``xethub-local``: serve a local Hub, look into its data folder, and make it misbehave.

Exit status: 0 done; 1 it cannot be done, for the reason in one line on standard error; 2 the command line is wrong;
130 interrupted; 141 the reader of a pipe went away.
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

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.local.cli.arguments import PLACE_SYNTAX, REPO_SYNTAX, CommandError, UsageError
from airflow_provider_xethub.local.cli.faults import add_fault_options
from airflow_provider_xethub.local.cli.output import safe_text

DEFAULT_FOLDER = ".xethub-local"
DEFAULT_PORT = 7777
FAILED, WRONG_USAGE, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141
_HERE = "airflow_provider_xethub.local.cli"
_STATUSES = (
    "exit status: 0 done; 1 it cannot be done, for the reason on standard error; 2 the command line is wrong; "
    "130 interrupted; 141 the reader of a pipe went away."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script and return its exit status, see above."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except UsageError as error:
        return _fail(WRONG_USAGE, str(error))
    except (CommandError, XetInputError) as error:
        return _fail(FAILED, str(error))
    except ModuleNotFoundError as error:
        return _fail(FAILED, f"{error.name} is not installed; the local Hub needs airflow-provider-xethub[local].")
    except BrokenPipeError:
        # What is still buffered must not be written at exit, which would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return _fail(INTERRUPTED, "interrupted.")
    except (OSError, ValueError, sqlite3.Error) as error:
        return _fail(FAILED, f"the data folder {options.folder} cannot be used: {error}. Choose another with --folder.")
    return 0


def _fail(status: int, message: str) -> int:
    print(f"xethub-local: {safe_text(' '.join(message.split()))}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xethub-local",
        description="A Hub and a CAS on this machine, for quick starts and tests of DAGs: no account, no network. "
        "huggingface_hub, hf_xet and @huggingface/hub work with it unchanged. It is a development server: do not "
        "keep anything in it that you need, and do not expose it to a network.",
        epilog=f"In a pipe, output is one line per row, its columns separated by tabs, without heading. {_STATUSES}",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_serve(commands)
    _add_repository_commands(commands)
    _add_file_commands(commands)
    _add_user_commands(commands)
    _add_fault_commands(commands)
    reset = _command(
        commands,
        "reset",
        "faults.reset",
        "Switch off the running server's faults and forget its request log; the data stays.",
        "reset",
        "reset --data --yes",
    )
    reset.add_argument("--data", action="store_true", help="also delete all repositories")
    reset.add_argument("--yes", action="store_true", help="do not ask before deleting")
    return parser


_Commands = Any  # argparse's own type of it is private


def _add_serve(commands: _Commands) -> None:
    serve = _command(
        commands,
        "serve",
        "serve.serve",
        "Serve until interrupted, and print how to connect to it.",
        "serve --create-repo dataset:acme/corpus",
        "serve --port 0 --folder other-hub",
    )
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
    serve.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another name that clients reach it at, such as that of a container; may be repeated",
    )
    serve.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="let pages of this origin use the API in a browser, such as http://localhost:3000; may be repeated",
    )
    serve.add_argument(
        "--webhook",
        metavar="URL",
        help="where to send webhooks about commits, with the secret in the variable XETHUB_WEBHOOK_SECRET",
    )
    serve.add_argument("--token-life", type=int, default=900, metavar="SECONDS", help="seconds that a Xet token lives")
    serve.add_argument(
        "--create-repo",
        action="append",
        default=[],
        metavar=REPO_SYNTAX,
        help="create this repository unless it exists, such as dataset:acme/corpus; may be repeated",
    )


def _add_repository_commands(commands: _Commands) -> None:
    create = _command(
        commands,
        "create-repo",
        "repositories.create_repo",
        "Create a repository or a bucket, also while the server is running.",
        "create-repo dataset:acme/corpus",
        "create-repo --private bucket:acme/raw",
    )
    create.add_argument("repo", metavar=REPO_SYNTAX, help="such as dataset:acme/corpus or bucket:acme/raw")
    create.add_argument("--private", action="store_true", help="only users with access can see it")

    listing = _command(
        commands,
        "ls",
        "repositories.list_content",
        "List the repositories, or the files of one: size, how it is stored, Xet hash, path.",
        "ls",
        "ls dataset:acme/corpus",
        "ls dataset:acme/corpus@v1:photos",
    )
    listing.add_argument("place", nargs="?", metavar=PLACE_SYNTAX, help="the files of this repository, or folder")


def _add_file_commands(commands: _Commands) -> None:
    put = _command(
        commands,
        "put",
        "put.put",
        "Put files and folders into a repository as one commit, also while the server is running. A file keeps its "
        "name unless PATH gives another; a folder gives what is in it. What is there already is not committed again.",
        "put birds.csv dataset:acme/corpus",
        "put photos/ dataset:acme/corpus:photos/",
        "put --message 'Second edition' a.csv b.csv dataset:acme/corpus@draft:tables/",
        "date | xethub-local put - bucket:acme/raw:now.txt",
    )
    put.add_argument("sources", nargs="+", metavar="SOURCE", help="a file, a folder, or - for standard input")
    put.add_argument("target", metavar=PLACE_SYNTAX, help="where to; a PATH ending in / is a folder")
    put.add_argument("--message", metavar="TEXT", help="title of the commit")
    put.add_argument(
        "--exclude",
        action="append",
        metavar="PATTERN",
        help="leave out files below a SOURCE whose path matches this, where * matches / too; may be repeated",
    )
    put.add_argument(
        "--follow-links",
        action="store_true",
        help="follow links to folders, and links that lead out of a SOURCE, which are refused otherwise",
    )

    get = _command(
        commands,
        "get",
        "get.get",
        "Copy a file, a folder or everything out of a repository, also while the server is running. A file appears "
        "once it is complete.",
        "get dataset:acme/corpus",
        "get dataset:acme/corpus@v1:photos copies/",
        "get dataset:acme/corpus:birds.csv - | head",
    )
    get.add_argument("source", metavar=PLACE_SYNTAX, help="what to copy")
    get.add_argument(
        "destination",
        nargs="?",
        metavar="DESTINATION",
        help="a file, a folder, or - for standard output; without it: here, under its own name",
    )


def _add_user_commands(commands: _Commands) -> None:
    _command(commands, "tokens", "repositories.tokens", "Print all users and their Hub tokens.", "tokens")

    user = _command(
        commands,
        "add-user",
        "repositories.add_user",
        "Add a user, or change one, and print the Hub token.",
        "add-user ana",
        "add-user ci --role fineGrained --grant datasets/acme/corpus=write",
    )
    user.add_argument("user", help="name; a read or write user also reaches the namespace of that name")
    user.add_argument("--role", choices=["read", "write", "fineGrained"], default="write", help="kind of Hub token")
    user.add_argument(
        "--grant",
        action="append",
        default=[],
        metavar="WHERE=SCOPE",
        help="such as datasets/acme/corpus=write or acme=read; may be repeated",
    )


def _add_fault_commands(commands: _Commands) -> None:
    faults = _command(
        commands,
        "faults",
        "faults.list_faults",
        "Make the running server misbehave: list the faults that are switched on, add some, remove them.",
        "faults",
        "faults add hub-busy --times 2",
        "faults add --route 'GET /api/.*' --status 503 --headers Retry-After=1",
        "faults remove 1",
        "faults clear",
    )
    actions = faults.add_subparsers(title="what to do; without it they are listed", metavar="ACTION")
    _command(actions, "list", "faults.list_faults", "List the faults that are switched on.", "faults list")
    _command(actions, "catalogue", "faults.list_ready_made", "List the ready-made faults.", "faults catalogue")
    add = _command(
        actions,
        "add",
        "faults.add_fault",
        "Switch a fault on and print its id: a ready-made one, of which options change fields, or one of your own, "
        "for which --route and something to happen are needed.",
        "faults add hub-busy",
        "faults add --route 'GET /cas/.*' --drop middle --times 1",
    )
    add.add_argument("name", nargs="?", metavar="NAME", help="one of 'xethub-local faults catalogue'")
    add_fault_options(add)
    remove = _command(actions, "remove", "faults.remove_fault", "Switch one fault off.", "faults remove 1")
    remove.add_argument("id", type=int, metavar="ID", help="as printed by 'add' and 'list'")
    _command(actions, "clear", "faults.clear_faults", "Switch all faults off.", "faults clear")


def _command(commands: _Commands, name: str, function: str, about: str, *examples: str) -> argparse.ArgumentParser:
    """Add a command; ``function`` is the module and the name of what carries it out, loaded when it is asked for."""
    shown = "\n".join(f"  {each if '|' in each else f'xethub-local {each}'}" for each in examples)
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=about.split(":")[0].split(". ")[0].rstrip(".") + ".",
        description=about,
        epilog=f"examples:\n{shown}",
        formatter_class=_Help,
    )
    # The default of a command within a command would undo what was given before it: faults --folder x list.
    is_inner = function.startswith("faults.") and name not in ("faults", "reset")
    folder: Any = argparse.SUPPRESS if is_inner else Path(DEFAULT_FOLDER)
    parser.add_argument("--folder", type=Path, default=folder, help="where everything is kept")
    parser.set_defaults(run=partial(_run, function))
    return parser


def _run(function: str, options: argparse.Namespace) -> None:
    module, _, name = function.partition(".")
    carry_out: Callable[[argparse.Namespace], None] = getattr(import_module(f"{_HERE}.{module}"), name)
    carry_out(options)


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Wraps descriptions, and leaves examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("examples:"):
            return text
        return super()._fill_text(text, width, indent)


if __name__ == "__main__":
    sys.exit(main())
