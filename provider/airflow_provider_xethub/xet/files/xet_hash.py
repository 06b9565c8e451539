"""Downloaded files of which only the Xet hash is known, as in buckets.

The hash is computed over all bytes, in chunks that every client cuts in the same way: if it is the same, so is the
file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from airflow_provider_xethub.exceptions import XetIntegrityError
from airflow_provider_xethub.xet import native_client
from airflow_provider_xethub.xet.files import targets as downloads
from airflow_provider_xethub.xet.records import XetFile


def are_there(targets: Sequence[downloads.Target]) -> set[Path]:
    """Return which final paths hold exactly their file, of those that no digest is known of."""
    candidates = [target for target in targets if not downloads.digest_of(target.file) and downloads.is_like(target)]
    hashes = native_client.xet_hashes([target.path for target in candidates]) if candidates else []
    return {target.path for target, found in zip(candidates, hashes, strict=True) if found == target.file["xet_hash"]}


def receive(target: downloads.Target, pieces: Iterable[bytes]) -> None:
    """Verify what is in the temporary file by its Xet hash, and give it its final name.

    :param pieces: what is in the temporary file.
    :raises XetIntegrityError: size or Xet hash differ; the final path is as it was.
    """
    for _ in pieces:
        pass
    [xet_hash] = native_client.xet_hashes([target.part])
    if xet_hash != target.file["xet_hash"]:
        raise damaged(target.file, xet_hash)
    downloads.keep(target)


def damaged(file: XetFile, xet_hash: str) -> XetIntegrityError:
    """Return the error for a file that arrived with another Xet hash than its own."""
    return XetIntegrityError(
        f"{file['path']} of {file['repo']} arrived damaged: its Xet hash is {xet_hash} instead of {file['xet_hash']}. "
        "Nothing of it was kept."
    )
