"""``xethub-local publishers`` and ``identity``: trying keyless access by hand.

The former works on the data folder itself; the latter asks the running server, because an ID token names its URL.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from xethub_local.cli.arguments import (
    USER_PREFIX,
    CommandError,
    UsageError,
    opened_store,
    repo_argument,
)
from xethub_local.cli.control_client import ControlClient
from xethub_local.cli.output import Moment, print_table, print_text

_OWN = "(this Hub)"


def list_publishers(options: argparse.Namespace) -> None:
    """List the publishers of all repositories and users."""
    with opened_store(options.folder) as store:
        rows = [
            [
                each.id,
                _resource_text(str(each.resource), is_user=bool(each.resource.user)),
                each.issuer or _OWN,
                " ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in each.claims.items()),
                "read" if each.read_only else "write",
                "never" if each.last_used is None else Moment(each.last_used),
            ]
            for each in store.publishers.find()
        ]
    print_table(
        ["Id", "Resource", "Issuer", "Claims", "Access", "Used"],
        rows,
        empty="No publishers yet. Add one with: xethub-local publishers add dataset:acme/corpus --claim sub=airflow",
    )


def add_publisher(options: argparse.Namespace) -> None:
    """Add a publisher and print its id.

    :raises UsageError: an argument is not valid, or there is no such repository or user.
    """
    from xethub_local.store.publishers import OWN_ISSUER, Resource

    claims = dict(map(_claim, options.claim))
    if options.resource.startswith(USER_PREFIX):
        resource = Resource(user=options.resource.removeprefix(USER_PREFIX))
    else:
        repo = repo_argument(options.resource)
        if repo.is_bucket:
            raise UsageError(f"{options.resource} cannot have publishers: buckets are no resource of the exchange.")
        resource = Resource(repository=f"{repo.repo_type}s/{repo.repo_id}")
    with opened_store(options.folder) as store:
        try:
            added = store.publishers.add(
                resource, claims, issuer=options.issuer or OWN_ISSUER, read_only=options.read_only
            )
        except ValueError as error:
            raise UsageError(str(error)) from error
    print_text(added.id)


def remove_publisher(options: argparse.Namespace) -> None:
    """Remove a publisher.

    :raises CommandError: there is none with this id.
    """
    with opened_store(options.folder) as store:
        is_removed = store.publishers.remove(options.id)
    if not is_removed:
        raise CommandError(f"there is no publisher {options.id!r}. List them with: xethub-local publishers")


def identity(options: argparse.Namespace) -> None:
    """Print an ID token of the running server, or write it into a file that only its owner can read.

    :raises CommandError: no server is running, it refuses, or the file cannot be written.
    """
    body = {
        "sub": options.sub,
        "aud": options.audience,
        "lifetime": options.lifetime,
        "algorithm": options.algorithm,
        "claims": dict(map(_claim, options.claim)),
    }
    token: str = ControlClient(options.folder).request("POST", "/_local/identities", body)["id_token"]
    if options.output is None:
        print_text(token)
    else:
        _replace(options.output, token)


def _replace(path: Path, token: str) -> None:
    """Replace a file at once, as a kubelet does: whoever reads it sees the old token or the new one."""
    try:
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as new:
            try:
                new.write(token)  # readable by its owner only, like all temporary files of Python
                new.close()
                Path(new.name).replace(path)
            except BaseException:
                Path(new.name).unlink()
                raise
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}.") from error


def _claim(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"--claim {text!r} is not of the form NAME=VALUE.")
    return name, value


def _resource_text(resource: str, *, is_user: bool) -> str:
    """Return a resource as it is written on the command line."""
    if is_user:
        return f"{USER_PREFIX}{resource}"
    kind, _, rest = resource.partition("/")
    return f"{kind.removesuffix('s')}:{rest}" if "/" in rest else f"model:{resource}"
