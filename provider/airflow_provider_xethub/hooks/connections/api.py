"""The API of ``huggingface_hub`` for this Hub and its Hub token, without progress bars in task logs."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.exceptions import XetIdentityError
from airflow_provider_xethub.hooks.connections import configuration

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def of(endpoint: str, hub_token: str | None) -> HfApi:
    """Return the API of ``huggingface_hub`` for a Hub.

    :param hub_token: ``None`` for none; a token in the worker's environment is not used either.
    """
    api: HfApi = _class()(endpoint=endpoint, token=hub_token or False)
    return api


def keyless(endpoint: str, token_of: Callable[[str, str], str]) -> HfApi:
    """Return the API for a keyless connection: each call uses the token of the repository that it is about.

    Calls that are about no repository, or about several, fail before anything is sent. A caller's own ``token`` is
    used as it is.

    :param token_of: returns a token for a repository, by its type and its ID.
    """
    from inspect import signature

    class KeylessHfApi(_class()):  # type: ignore[misc]  # the class is imported when it is needed
        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            if name.startswith("_") or not callable(value) or "token" not in signature(value).parameters:
                return value

            def call(*args: Any, **kwargs: Any) -> Any:
                given = signature(value).bind_partial(*args, **kwargs).arguments
                if given.get("token") is None:
                    kwargs["token"] = token_of(*_repository(name, given))
                return value(*args, **kwargs)

            return call

    api: HfApi = KeylessHfApi(endpoint=endpoint, token=False)
    return api


_HTTP_CLIENTS = ("httpcore", "httpcore2")
"""Loggers of what ``huggingface_hub`` sends requests with, by its version."""

_TYPES = ("dataset", "space", "kernel", "bucket")


def _repository(method: str, given: dict[str, Any]) -> tuple[str, str]:
    """Return type and ID of the repository that a call is about.

    :param method: name of the method of ``HfApi``; that of one for a single type of repository contains the type.
    :param given: its arguments.
    :raises XetIdentityError: it is about none, or about more than one.
    """
    repo_id = given.get("repo_id")
    if not isinstance(repo_id, str) or method == "create_repo":
        raise XetIdentityError(
            f"A keyless connection cannot call {method}: its tokens are for one repository that exists, and this "
            "call is not about one. Nothing was sent. Use a connection with a Hub token for it."
        )
    named = next((each for each in _TYPES if each in method), "model")
    return given.get("repo_type") or named, repo_id


def _class() -> Any:
    before_import()
    from huggingface_hub import HfApi, constants
    from huggingface_hub.utils.tqdm import disable_progress_bars

    # Airflow logs each line of a task's stderr as an error. The library's own variable takes precedence.
    if constants.HF_HUB_DISABLE_PROGRESS_BARS is None and not _is_terminal():
        disable_progress_bars()
    return HfApi


def before_import() -> None:
    """Set what ``huggingface_hub`` reads from the environment when it is imported, and quiet its HTTP client."""
    # At DEBUG it logs all headers of responses: the Hub sends Xet tokens in one, and a server may repeat the Hub token.
    for name in _HTTP_CLIENTS:
        if (http := logging.getLogger(name)).level < logging.INFO:
            http.setLevel(logging.INFO)
    if not configuration.telemetry():
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # there is no stderr, or it is closed
        return False
