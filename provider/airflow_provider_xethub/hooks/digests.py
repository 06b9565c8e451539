"""The memory for digests of local files, as the administrator has set it."""

from __future__ import annotations

from pathlib import Path

from airflow_provider_xethub.exceptions import XetDestinationError
from airflow_provider_xethub.hooks.connections import configuration
from airflow_provider_xethub.xet.cas import cache
from airflow_provider_xethub.xet.files.digest_memory import DigestMemory


def memory() -> DigestMemory | None:
    """Return the memory, which is in the folder of the client's cache; ``None`` where it is switched off."""
    return DigestMemory(_folder) if configuration.digest_memory() else None


def _folder() -> Path | None:
    try:
        return cache.location(configuration.cache_folder())
    except XetDestinationError:
        return None
