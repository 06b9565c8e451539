"""Downloaded files of which only the Xet hash is known, as in buckets.

The hash covers all bytes, in chunks that every client cuts in the same way: equal hashes mean equal files.
"""

from __future__ import annotations

from collections.abc import Iterable

from airflow_provider_xethub.xet import native_client
from airflow_provider_xethub.xet.files.targets import Target, complete_from_disk, damaged


def complete(target: Target, pieces: Iterable[bytes]) -> None:
    """Verify the temporary file by its Xet hash, and rename it to its final name.

    :param pieces: the content of the temporary file.
    :raises XetIntegrityError: size or Xet hash differ; the final path is unchanged.
    """
    for _ in pieces:
        pass
    [xet_hash] = native_client.xet_hashes([target.part])
    if xet_hash != target.file["xet_hash"]:
        raise damaged(target.file, f"Xet hash is {xet_hash} instead of {target.file['xet_hash']}")
    complete_from_disk(target)
