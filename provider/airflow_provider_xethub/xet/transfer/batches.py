"""Downloads of more files than fit into memory: a batch of them at a time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from airflow_provider_xethub.xet.manifests.files import Files, batches, in_batches
from airflow_provider_xethub.xet.message_text import size
from airflow_provider_xethub.xet.records import XetDownloadResult, XetFile, XetReceived

log = logging.getLogger(__name__)


class Receive(Protocol):
    """Downloads some of the files."""

    def __call__(self, some: Sequence[XetFile], *, names_checked: bool) -> XetDownloadResult:
        """Download them."""


def download(files: Files, receive: Receive) -> XetDownloadResult:
    """Download files in batches; those that are there already and equal are skipped, so that a retry resumes.

    :param files: with paths that do not collide in the destination.
    :returns: the figures, without records.
    :raises XetHubError: the batches before, and the complete files of this one, were kept.
    """
    total: XetReceived = {"files": 0, "bytes": 0, "bytes_received": 0, "skipped": 0, "seconds": 0.0}
    with in_batches(lambda: total["files"]):
        for batch in batches(files):
            figures = receive(batch, names_checked=True)["transfer"]
            total = {
                "files": total["files"] + figures["files"],
                "bytes": total["bytes"] + figures["bytes"],
                "bytes_received": total["bytes_received"] + figures["bytes_received"],
                "skipped": total["skipped"] + figures["skipped"],
                "seconds": round(total["seconds"] + figures["seconds"], 3),
            }
            done = total["files"] + total["skipped"]
            if done < len(files):
                log.info("%d of %d files are complete, %s downloaded.", done, len(files), size(total["bytes"]))
    return {"files": [], "transfer": total}
