"""What the administrator has set for all tasks: section ``[xethub]`` of Airflow's configuration."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import conf

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet import arguments
from airflow_provider_xethub.xet.manifest import DEFAULT_LIMIT, MAX_FILES

SECTION = "xethub"

MINIMUM_CREDENTIALS = ("any", "fine_grained", "keyless")
"""Values of ``minimum_credential``, from the weakest."""


def cache_folder() -> str:
    """Return the folder for the cache of the transfer client; empty for the client's default."""
    return str(conf.get(SECTION, "cache_folder", fallback="") or "")


def telemetry() -> bool:
    """Whether the client libraries may send telemetry to the Hub's operator."""
    return bool(conf.getboolean(SECTION, "telemetry", fallback=False))


def manifest_files() -> int:
    """Return how many file records a task returns as a list; more become a manifest.

    :raises XetInputError: it is not a whole number of at least 1.
    """
    value = str(conf.get(SECTION, "manifest_files", fallback="") or DEFAULT_LIMIT).strip()
    if not value.isdecimal() or not value.isascii() or not 0 < int(value[:12]) <= MAX_FILES:
        raise XetInputError(f"[xethub] manifest_files is {value!r:.60}; use a number of files, from 1 to {MAX_FILES}.")
    return int(value)


def manifest_storage() -> str:
    """Return the URI of the folder in object storage that manifests are kept in; empty for none."""
    return str(conf.get(SECTION, "manifest_storage", fallback="") or "").strip()


def transfer_memory() -> int | None:
    """Return the resident size of a task's process in bytes beyond which transfers wait; ``None`` for the default.

    :raises XetInputError: it is not a size.
    """
    value = str(conf.get(SECTION, "transfer_memory", fallback="") or "").strip()
    return arguments.byte_count("[xethub] transfer_memory", value or None)


def digest_memory() -> bool:
    """Whether workers remember the digests of local files."""
    return bool(conf.getboolean(SECTION, "digest_memory", fallback=True))


def minimum_credential() -> str:
    """Return the weakest credential that connections may have: ``any``, ``fine_grained`` or ``keyless``.

    :raises XetInputError: it is something else; guessing could allow what the administrator meant to forbid.
    """
    value = str(conf.get(SECTION, "minimum_credential", fallback="") or "any").strip().lower()
    if value not in MINIMUM_CREDENTIALS:
        raise XetInputError(
            f"[xethub] minimum_credential is {value!r:.60}; use {', '.join(MINIMUM_CREDENTIALS[:-1])} or "
            f"{MINIMUM_CREDENTIALS[-1]}. Until then, no connection is used."
        )
    return value


def identity_files() -> list[str]:
    """Return the files whose ID tokens connections may use."""
    return _names("identity_files")


def identity_variables() -> list[str]:
    """Return the environment variables whose ID tokens connections may use."""
    return _names("identity_variables")


def identity_endpoints() -> list[str]:
    """Return the Hubs that ID tokens may be sent to, besides the public one and those on this machine."""
    return _names("identity_endpoints")


def identity_class() -> str:
    """Return the import path of the administrator's own source of ID tokens; empty for none."""
    return str(conf.get(SECTION, "identity_class", fallback="") or "").strip()


def _names(option: str) -> list[str]:
    value = str(conf.get(SECTION, option, fallback="") or "")
    return [name for each in value.split(",") if (name := each.strip())]
