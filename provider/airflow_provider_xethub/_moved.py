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

MOVED = {
    "commit": "xet.publish.commit",
    "records": "xet.records",
    "repo": "xet.repo",
    "token": "xet.token",
    "local.fault": "local.control.fault",
    "local.faults": "local.control.faults",
    "local.hub_of_one_test": "local.testing",
    "local.request_log": "local.control.request_log",
    "local.transfers": "local.control.transfers",
}
"""The new path of each module by its old one, both within the package."""


class _MovedFinder(MetaPathFinder):
    """Find a module at its old path. Python calls this only after its own finders have found nothing."""

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        package, _, old = fullname.partition(".")
        if package != _PACKAGE or old not in MOVED:
            return None
        new = f"{_PACKAGE}.{MOVED[old]}"
        warnings.warn(
            f"{fullname} has moved to {new}. Import from there, or values such as Repo from {_PACKAGE} itself; the old "
            "path goes with the next release.",
            DeprecationWarning,
            stacklevel=2,
        )
        return ModuleSpec(fullname, _MovedLoader(new))


class _MovedLoader(Loader):
    """Load the module at its new path, so that both paths yield the same module."""

    def __init__(self, new: str) -> None:
        self._new = new

    def exec_module(self, module: ModuleType) -> None:
        """Replace the empty module by the one at the new path; Python returns what is in ``sys.modules``."""
        sys.modules[module.__name__] = import_module(self._new)


def install() -> None:
    """Let Python find modules at their old paths."""
    sys.meta_path.append(_MovedFinder())
