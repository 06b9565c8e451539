"""The console script ``xethub-token``: make a key, and open a token that was sealed to it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from xethub_token import __version__
from xethub_token.recipient import MAX_SEALED_CHARS, RecipientKey, TokenError, write_private


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script, and return its exit code: 0, or 1 with the reason on stderr.

    Keys and tokens are files or standard input, never arguments: every process of the machine can read those.
    """
    options = _parser().parse_args(arguments)
    _disable_core_dumps()
    try:
        options.run(options)
    except TokenError as error:
        print(f"xethub-token: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xethub-token",
        description="Open a Xet token that an Airflow task sealed to this process.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    new_key = commands.add_parser(
        "new-key",
        help="make a one-time key, and print its public half",
        description="Write a new private key to a file that only this user can read, and print the public key as JSON. "
        "Give the public key to XetTokenOperator(recipient=...). Make a key for each token.",
        allow_abbrev=False,
    )
    new_key.add_argument("--key", required=True, metavar="FILE", help="the new file for the private key (mode 0600)")
    new_key.set_defaults(run=_new_key)

    open_token = commands.add_parser(
        "open",
        help="open a sealed token, and write it as JSON",
        description="Open a sealed token with the private key, and write the token as JSON to a file that only this "
        "user can read (mode 0600). The private key is deleted: it was made for one token.",
        allow_abbrev=False,
    )
    open_token.add_argument("sealed", nargs="?", default="-", metavar="SEALED", help="file with it. Default: - (stdin)")
    open_token.add_argument("--key", required=True, metavar="FILE", help="file with the private key")
    open_token.add_argument(
        "--to", required=True, metavar="FILE", help="file for the token, replaced if it exists; - for standard output"
    )
    open_token.add_argument("--repo", metavar="URI", help="refuse a token for another repository or revision")
    open_token.add_argument("--scope", choices=["read", "write"], help="refuse a token that does not allow this")
    open_token.add_argument("--keep-key", action="store_true", help="do not delete the private key afterwards")
    open_token.add_argument("--show", action="store_true", help="with --to -, print the token even to a terminal")
    open_token.set_defaults(run=_open)
    return parser


def _new_key(options: argparse.Namespace) -> None:
    key = RecipientKey.generate()
    key.save(options.key)
    print(json.dumps(key.public))


def _open(options: argparse.Namespace) -> None:
    to_stdout = options.to == "-"
    if to_stdout and sys.stdout.isatty() and not options.show:
        raise TokenError("Standard output is a terminal. Write the token to a file (--to FILE), or add --show.")
    key = RecipientKey.load(options.key)
    token = key.open(_read(options.sealed), repo=options.repo, scope=options.scope)
    content = json.dumps(token).encode() + b"\n"
    if to_stdout:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
    else:
        write_private(options.to, content, replace=True)
    if not options.keep_key:
        Path(options.key).unlink(missing_ok=True)
    print(f"Opened a {token['scope']} token for {token['repo']}, valid until {token['expires_at']}.", file=sys.stderr)


def _read(source: str) -> str:
    """Return the sealed token: as it is, or as the JSON string that an XCom is."""
    try:
        if source == "-":
            text = sys.stdin.buffer.read(MAX_SEALED_CHARS + 3)
        else:
            with Path(source).open("rb") as file:
                text = file.read(MAX_SEALED_CHARS + 3)
    except OSError as error:
        raise TokenError(f"Cannot read {source}: {error.strerror}.") from None
    sealed = text.decode("ascii", errors="replace").strip()
    return sealed[1:-1] if len(sealed) > 1 and sealed[0] == sealed[-1] == '"' else sealed


def _disable_core_dumps() -> None:
    """Keep the token out of a core dump of this process."""
    if os.name != "posix":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


if __name__ == "__main__":
    sys.exit(main())
