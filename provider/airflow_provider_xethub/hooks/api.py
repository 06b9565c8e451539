"""The API of ``huggingface_hub`` for this Hub and its Hub token, without progress bars in task logs."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from airflow_provider_xethub.hooks import configuration

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def of(endpoint: str, hub_token: str | None) -> HfApi:
    """Return the API of ``huggingface_hub`` for a Hub.

    :param hub_token: ``None`` for none; a token in the worker's environment is not used either.
    """
    before_import()
    from huggingface_hub import HfApi, constants
    from huggingface_hub.utils.tqdm import disable_progress_bars

    # Airflow logs each line of a task's stderr as an error. The library's own variable takes precedence.
    if constants.HF_HUB_DISABLE_PROGRESS_BARS is None and not _is_terminal():
        disable_progress_bars()
    return HfApi(endpoint=endpoint, token=hub_token or False)


def before_import() -> None:
    """Set what ``huggingface_hub`` reads from the environment when it is imported."""
    if not configuration.telemetry():
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # there is no stderr, or it is closed
        return False
