"""What one transfer may take of the worker and of the network. Pure: no I/O."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TransferLimits:
    """Limits that a task or an administrator set for a transfer; ``None`` stands for the default.

    :param memory: resident memory of the process in bytes, beyond which the transfer waits instead of buffering more.
    :param concurrency: the most requests to CAS at the same time.
    :param bandwidth: the most bytes to send or receive in a second.
    """

    memory: int | None = None
    concurrency: int | None = None
    bandwidth: int | None = None
