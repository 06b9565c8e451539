"""Sealing Xet tokens for XCom with this worker's keys, and masking secrets in its logs."""

from __future__ import annotations

import importlib
import logging
import os
import threading
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf

try:
    from airflow.sdk.log import mask_secret
except ImportError:  # Airflow 3.0
    from airflow.sdk.execution_time.secrets_masker import mask_secret  # type: ignore[no-redef]

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.token import Fernet

log = logging.getLogger(__name__)


def mask(secret: str) -> None:
    """Hide ``secret`` in the logs of this process; masking does not travel with an XCom."""
    if secret:
        mask_secret(secret)


def mask_from_thread(secret: str) -> None:
    """Do the same in a thread that runs beside the task.

    Airflow 3.0 and 3.1 have no lock around requests to the supervisor, so there only this process masks the secret, and
    not what a process that it started writes to the same output.
    """
    # Its constant for 3.2 is younger than the oldest version of that library that is supported.
    from airflow.providers.common.compat.version_compat import get_base_airflow_version_tuple

    if get_base_airflow_version_tuple() >= (3, 2, 0):
        mask(secret)
    elif secret:
        _masker_of_process().add_mask(secret)


def _masker_of_process() -> Any:
    try:
        masker = importlib.import_module("airflow.sdk._shared.secrets_masker")
    except ModuleNotFoundError:  # Airflow 3.0
        masker = importlib.import_module("airflow.sdk.execution_time.secrets_masker")
    return masker._secrets_masker()


def fernets() -> list[Fernet]:
    """Return the keys to open tokens with, the one to seal with first; empty where this worker has none.

    ``[xethub] fernet_key`` if it is set, then Airflow's own Fernet key.
    """
    key = conf.get("xethub", "fernet_key", fallback="")
    if not key:
        return [fernet for fernet in [_airflow()] if fernet]
    from cryptography.fernet import Fernet, MultiFernet

    try:
        own = MultiFernet([Fernet(part.strip().encode()) for part in key.split(",")])
    except ValueError:
        # Do not fall back to a key that the administrator did not mean, and do not show the wrong one.
        log.warning("[xethub] fernet_key is not a Fernet key (32 bytes in URL-safe base64); tokens are not sealed.")
        return []
    return [fernet for fernet in [own, _airflow()] if fernet]


def _airflow() -> Fernet | None:
    try:
        try:
            from airflow.sdk.crypto import get_fernet
        except ImportError:  # Airflow 3.0 and 3.1
            from airflow.models.crypto import get_fernet
        fernet = get_fernet()
    except Exception:
        # Without a configuration the key is the string "{FERNET_KEY}", and Airflow raises an error about it.
        return None
    # Without a key Airflow returns a stand-in that does not encrypt.
    return fernet if getattr(fernet, "is_encrypted", False) else None


MAX_SHORT_LIVED = 200
"""Short-lived tokens that one process masks. Airflow never forgets a mask, and compiles all of them again for each new
one: a triggerer that runs for months would spend its time on tokens that expired long ago."""

_masked_here: set[str] = set()
_masked_everywhere: set[str] = set()
# A task process begins without the masks of the process that it was forked from.
os.register_at_fork(after_in_child=_masked_here.clear)
os.register_at_fork(after_in_child=_masked_everywhere.clear)


def mask_short_lived(token: str) -> None:
    """Hide an ID token, or a token that it was exchanged for, in the logs of this process, like :func:`mask`.

    A task never reaches :data:`MAX_SHORT_LIVED`. In processes that run for longer there is no code of DAG authors that
    could log a token, and the provider's own messages are free of them without a mask.

    Other threads than the main one do not tell Airflow's supervisor: in a triggerer, that request belongs to the event
    loop, and elsewhere the main thread makes it when it uses the token.
    """
    is_main = threading.current_thread() is threading.main_thread()
    known = _masked_everywhere if is_main else _masked_here | _masked_everywhere
    if not token or token in known or len(known) >= MAX_SHORT_LIVED:
        return
    if is_main:
        _masked_everywhere.add(token)
        mask_secret(token)
    else:
        _masked_here.add(token)
        _masker_of_process().add_mask(token)
