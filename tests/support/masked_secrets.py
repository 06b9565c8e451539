"""The secrets that Airflow masks in the process of the tests."""

from __future__ import annotations

import sys

# Airflow's own and that of its SDK; the last one is that of Airflow 3.0, and of later ones only a name for the second.
_MASKERS = (
    "airflow._shared.secrets_masker.secrets_masker",
    "airflow.sdk._shared.secrets_masker.secrets_masker",
    "airflow.sdk.execution_time.secrets_masker",
)


def forget_masked_secrets() -> None:
    """Let Airflow mask no secret that it knows so far.

    It compiles all of them into one expression, anew for each that it learns: with hundreds, that is most of a test.
    """
    for name in _MASKERS:
        if masker := vars(sys.modules.get(name, object)).get("_secrets_masker"):
            masker().reset_masker()
    if sealing := sys.modules.get("airflow_provider_xethub.hooks.tokens.sealing"):
        for name in ("_masked_here", "_masked_everywhere"):
            vars(sealing)[name].clear()
