"""What one transfer may take of the worker and of the network. Pure: no I/O."""

from __future__ import annotations

import math
from dataclasses import dataclass

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.message_text import size

DEFAULT_MEMORY = 500_000_000
"""Resident size of the process in bytes up to which a transfer buffers by default, where there is as much memory.

``huggingface_hub`` takes 440 to 490 MB to upload a large file, and 1,100 MB to download one, in the same process. With
450 MB, an upload of 1 GiB over 50 ms took 7 % longer and 4 MB less: it had no room for the next xorb."""

LEAST_ROOM = 200_000_000
"""Bytes that a transfer takes in any case beyond what the process has before it: the client's code, one xorb of 64 MB
as content and in the form that is sent or received, and the buffers around it."""

LEAST_STORAGE_WINDOW = 16 << 20
STORAGE_WINDOW = 32 << 20
"""Bytes of objects in S3 that are requested, sent or in memory at the same time: two ranges or parts in any case,
and four ranges where the memory allows. Downloads take at most half of that: the pieces of 16 MiB that arrive from CAS
meanwhile are in memory, too. With twice as much, an object of 4 GiB took 461 MB from S3, and 445 MB to S3."""


@dataclass(frozen=True)
class TransferLimits:
    """Limits that a task or an administrator set for a transfer; ``None`` stands for the default.

    :param memory: resident memory of the process in bytes, beyond which the transfer waits instead of buffering more.
    :param concurrency: the most requests to CAS at the same time.
    :param bandwidth: the most bytes to send or receive in a second.
    :param min_rate: bytes per second; a transfer that stays below is started again with fewer requests at a time, and
        then cancelled.
    """

    memory: int | None = None
    concurrency: int | None = None
    bandwidth: int | None = None
    min_rate: int | None = None

    def check_rates(self) -> None:
        """Refuse rates that contradict each other.

        :raises XetInputError: no transfer could be fast enough.
        """
        if self.bandwidth is not None and self.min_rate is not None and self.min_rate >= self.bandwidth:
            raise XetInputError(
                f"min_rate ({size(self.min_rate)}/s) must be below max_bandwidth ({size(self.bandwidth)}/s), or every "
                "transfer would be cancelled. Lower min_rate in the task or the connection. Nothing was transferred."
            )

    def check_memory(self, resident: int) -> None:
        """Refuse a limit that no transfer of this process could keep.

        :param resident: the resident size of the process in bytes.
        :raises XetInputError: names the least that is possible.
        """
        least = resident + LEAST_ROOM
        if self.memory is not None and self.memory < least:
            raise XetInputError(
                f"transfer_memory is too small: {size(self.memory)}; this task needs {math.ceil(least / 1e6)} MB. Its "
                f"process has {size(resident)} already, and a transfer takes {size(LEAST_ROOM)} more for one block of "
                "64 MB on its way. Nothing was transferred."
            )

    def memory_ceiling(self, resident: int, available: int) -> int:
        """Return the resident size in bytes beyond which the transfer waits instead of buffering more.

        By default :data:`DEFAULT_MEMORY`, or what leaves half of the free memory to others, but never less than a
        transfer takes in any case.

        :param resident: the resident size of the process in bytes.
        :param available: how much more it may take before the host or its control group is full.
        """
        if self.memory is not None:
            return self.memory
        return min(DEFAULT_MEMORY, resident + max(LEAST_ROOM, available // 2))
