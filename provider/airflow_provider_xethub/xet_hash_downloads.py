"""Downloaded files of which only the Xet hash is known, as in buckets: what can be said about them.

The hash depends on where a file was cut into chunks. ``hf_xet`` cuts a downloaded file as it would for an upload: if
the hash is the same, so is the file. If not, it is damaged, or was cut by somebody who cuts elsewhere.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, MutableMapping, Sequence
from pathlib import Path

from airflow_provider_xethub import cas, downloads
from airflow_provider_xethub.exceptions import XetIntegrityError

log = logging.getLogger(__name__)


def are_there(targets: Sequence[downloads.Target]) -> set[Path]:
    """Return which final paths hold exactly their file, of those that no digest is known of."""
    candidates = [target for target in targets if not downloads.digest_of(target.file) and downloads.is_like(target)]
    hashes = cas.xet_hashes([target.path for target in candidates]) if candidates else []
    return {target.path for target, found in zip(candidates, hashes, strict=True) if found == target.file["xet_hash"]}


def receive(target: downloads.Target, pieces: Iterable[bytes], earlier: MutableMapping[Path, str]) -> None:
    """Verify what is in the temporary file by its Xet hash, and give it its final name.

    With another Xet hash it is only kept if it arrives twice as the same bytes, in downloads of their own: damage on
    the way is seldom the same twice. A warning says so.

    :param pieces: what is in the temporary file.
    :param earlier: sha256 of what arrived before with another Xet hash, by final path.
    :raises XetIntegrityError: size or Xet hash differ; the final path is as it was.
    """
    state = hashlib.sha256()
    for piece in pieces:
        state.update(piece)
    file, sha256 = target.file, state.hexdigest()
    [xet_hash] = cas.xet_hashes([target.part])
    if xet_hash != file["xet_hash"]:
        before = earlier.get(target.path)
        if before != sha256:
            earlier[target.path] = sha256
            as_before = f" The first time its sha256 was {before}, and now it is {sha256}." if before else ""
            raise XetIntegrityError(
                f"{file['path']} of {file['repo']} arrived with Xet hash {xet_hash} instead of {file['xet_hash']}."
                f"{as_before} Nothing of it was kept."
            )
        log.warning(
            "%s of %s cannot be verified: its Xet hash is not the one that hf_xet finds, and the Hub tells no sha256. "
            "It arrived twice with the same %d bytes, sha256 %s, and is kept: another client may have cut it into "
            "chunks in another way. To have it verified, upload it again.",
            *(file["path"], file["repo"], file["size"], sha256),
        )
    downloads.keep(target)
