"""Keeps the servers of ``airflow standalone`` on this machine: those for task logs cannot be told an address.

Python loads a module of this name by itself, from a folder in ``PYTHONPATH``.
"""

from __future__ import annotations

import socket
from typing import Any

_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what is replaced
_bind = socket.socket.bind


def _bind_here(self: socket.socket, address: Any) -> None:
    if self.family in (socket.AF_INET, socket.AF_INET6):
        address = (_EVERYWHERE.get(address[0], address[0]), *address[1:])
    _bind(self, address)


setattr(socket.socket, "bind", _bind_here)  # noqa: B010 - for the type checker
