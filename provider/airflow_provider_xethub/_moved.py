"""Keep module paths of the documentation of 0.1.0 that have moved working for one release, with a warning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_PACKAGE = __name__.rpartition(".")[0]
_LOCAL = "xethub_local"

MOVED = {
    "commit": f"{_PACKAGE}.xet.publish.commit",
    "records": f"{_PACKAGE}.xet.records",
    "repo": f"{_PACKAGE}.xet.repo",
    "token": f"{_PACKAGE}.xet.token",
    "local": _LOCAL,
    "local.fault": f"{_LOCAL}.control.fault",
    "local.faults": f"{_LOCAL}.control.faults",
    "local.hub_of_one_test": f"{_LOCAL}.testing",
    "local.request_log": f"{_LOCAL}.control.request_log",
    "local.transfers": f"{_LOCAL}.control.transfers",
}
"""The new path of each module by its old one within the package. All other modules of ``local`` moved with it."""


def new_path(fullname: str) -> str | None:
    """Return where a module is now; ``None`` if it has not moved."""
    package, _, old = fullname.partition(".")
    if package != _PACKAGE:
        return None
    if old in MOVED:
        return MOVED[old]
    room, _, rest = old.partition(".")
    return f"{_LOCAL}.{rest}" if room == "local" else None


class _MovedFinder(MetaPathFinder):
    """Find a module at its old path.

    Python has to ask it before its own finders: they would look for a module of an old package in the folder of the new
    one, and load it a second time.
    """

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        new = new_path(fullname)
        if new is None:
            return None
        among = "" if new.startswith(_LOCAL) else f", or values such as Repo from {_PACKAGE} itself"
        warnings.warn(
            f"{fullname} has moved to {new}. Import from there{among}; the old path goes with the next release.",
            DeprecationWarning,
            stacklevel=2,
        )
        return ModuleSpec(fullname, _MovedLoader(new))


class _MovedLoader(Loader):
    """Load the module at its new path, so that both paths yield the same module."""

    def __init__(self, new: str) -> None:
        self._new = new

    def exec_module(self, module: ModuleType) -> None:
        """Replace the empty module by the one at the new path; Python returns what is in ``sys.modules``.

        :raises ModuleNotFoundError: the distribution that it has moved to is not installed.
        """
        try:
            sys.modules[module.__name__] = import_module(self._new)
        except ModuleNotFoundError as error:
            if error.name != _LOCAL:
                raise
            raise ModuleNotFoundError(
                f"{module.__name__} has moved to {self._new}, which is not installed. Install xethub-local.",
                name=error.name,
            ) from error


def install() -> None:
    """Let Python find modules at their old paths."""
    sys.meta_path.insert(0, _MovedFinder())
