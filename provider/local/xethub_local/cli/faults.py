"""``xethub-local faults`` and ``reset``: make the running server misbehave, and reset it.

The options of ``faults add`` are generated from the fields of a fault.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from typing import Any, get_args, get_origin, get_type_hints

from xethub_local.cli.arguments import UsageError
from xethub_local.cli.control_client import ControlClient
from xethub_local.cli.output import Cell, confirmed, print_table, print_text

_OPTION = "fault_"


def add_fault_options(parser: argparse.ArgumentParser) -> None:
    """Add one option to a parser for each field of a fault, with help from the docstring of ``Fault``."""
    from xethub_local.control.fault import Fault

    descriptions = _param_descriptions(Fault.__doc__ or "")
    for name, kind in get_type_hints(Fault).items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=_OPTION + name,
            default=argparse.SUPPRESS,  # not sent unless given, so that a ready-made fault keeps its own value
            help=descriptions[name],
            **_argparse_options(kind),
        )


def list_faults(options: argparse.Namespace) -> None:
    """Print the faults that are switched on.

    :raises CommandError: no server is running.
    """
    faults = ControlClient(options.folder).request("GET", "/_local/faults")["faults"]
    rows = [_row(fault) for fault in faults]
    empty = "No faults are switched on. Add one with: xethub-local faults add"
    print_table(["Id", "Acted", "Seen", "Route", "What happens"], rows, empty=empty)


def list_presets(_: argparse.Namespace) -> None:
    """Print the ready-made faults, without contacting a server."""
    from xethub_local.control.presets import PRESETS

    rows = [[preset.name, preset.fault.route, preset.description] for preset in PRESETS.values()]
    print_table(["Name", "Route", "What happens"], rows, empty="")


def add_fault(options: argparse.Namespace) -> None:
    """Switch a fault on, ready-made or described by options, and print its id.

    :raises CommandError: no server is running, or it rejects the fault.
    :raises UsageError: neither a name nor a route is given.
    """
    given = {name.removeprefix(_OPTION): value for name, value in vars(options).items() if name.startswith(_OPTION)}
    if not options.name and "route" not in given:
        raise UsageError("no fault given: use a name from 'xethub-local faults catalogue', or --route and an effect.")
    body = {key: dict(value) if _is_pairs(value) else value for key, value in given.items()}
    armed = ControlClient(options.folder).request(
        "POST", "/_local/faults", {"name": options.name, **body} if options.name else body
    )
    print_text(str(armed["id"]))


def remove_fault(options: argparse.Namespace) -> None:
    """Switch one fault off.

    :raises CommandError: no server is running, or it has no such fault.
    """
    ControlClient(options.folder).request("DELETE", f"/_local/faults/{options.id}")


def clear_faults(options: argparse.Namespace) -> None:
    """Switch all faults off.

    :raises CommandError: no server is running.
    """
    ControlClient(options.folder).request("DELETE", "/_local/faults")


def reset(options: argparse.Namespace) -> None:
    """Switch faults off, clear the request log, restore the settings; with ``--data`` delete all repositories.

    :raises CommandError: no server is running.
    :raises UsageError: ``--data`` is not confirmed.
    """
    control = ControlClient(options.folder)
    if options.data and not options.yes:
        if not sys.stdin.isatty():
            raise UsageError("--data deletes all repositories; confirm it with --yes.")
        if not confirmed(f"Delete all repositories in {options.folder}?"):
            print_text("Cancelled; nothing was deleted.")
            return
    control.request("POST", "/_local/reset", {"data": options.data})
    print_text(f"Server reset; {'all repositories deleted' if options.data else 'repositories are unchanged'}.")


def _row(armed: Mapping[str, Any]) -> list[Cell]:
    counts = [str(armed[name]) for name in ("id", "acted", "seen")]
    return [*counts, armed["route"], _what_happens(armed)]


def _what_happens(fault: Mapping[str, Any]) -> str:
    known = ("id", "acted", "seen", "route")
    return " ".join(f"{name}={_short(value)}" for name, value in fault.items() if name not in known)


def _short(value: object) -> str:
    return value if isinstance(value, str) and value and " " not in value else json.dumps(value, ensure_ascii=False)


def _is_pairs(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], tuple)


def _argparse_options(kind: Any) -> dict[str, Any]:
    """Return the arguments of ``add_argument`` that parse a field of this type."""
    kinds = [each for each in (get_args(kind) if _is_union(kind) else (kind,)) if each is not type(None)]
    words = [word for each in kinds for word in get_args(each) if isinstance(word, str)]
    origins = [get_origin(each) or each for each in kinds]
    if words:
        return {"nargs": "?", "const": True, "choices": words}
    if bool in kinds:
        return {"action": "store_true"}
    if Mapping in origins:
        is_text = get_args(kinds[origins.index(Mapping)])[1] is str
        return {"action": "append", "type": _pair if is_text else _json_pair, "metavar": "NAME=VALUE"}
    if tuple in origins:
        return {"action": "append", "metavar": "NAME"}
    number = next((each for each in (int, float) if each in kinds), None)
    return {"type": number, "metavar": "N"} if number else {"metavar": "TEXT"}


def _is_union(kind: Any) -> bool:
    # X | Y is a types.UnionType, or a typing.Union if one of them is a Literal.
    return type(kind).__name__ in ("UnionType", "_UnionGenericAlias", "Union")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name.strip(), value.strip()


def _json_pair(text: str) -> tuple[str, Any]:
    """Parse ``exp=0`` or ``casUrl=http://…``: the value is JSON, or a plain string if it is not valid JSON."""
    name, value = _pair(text)
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _param_descriptions(docstring: str) -> dict[str, str]:
    """Return the description of each ``:param`` of a docstring, as plain text on one line."""
    found = re.findall(r"^\s*:param (\w+): (.*?)(?=^\s*:|\Z)", docstring, re.MULTILINE | re.DOTALL)
    # argparse interprets % as a format specifier.
    return {name: " ".join(text.split()).replace("``", "").replace("%", "%%") for name, text in found}
