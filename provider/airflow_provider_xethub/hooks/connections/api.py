"""The API of ``huggingface_hub`` for this Hub and its Hub token, without progress bars in task logs."""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.exceptions import XetIdentityError
from airflow_provider_xethub.hooks.connections import configuration

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def of(endpoint: str, hub_token: str | None, hide: Callable[[str], str]) -> HfApi:
    """Return the API of ``huggingface_hub`` for a Hub.

    :param hub_token: ``None`` for none; a token in the worker's environment is not used either.
    :param hide: replaces secrets in a text. The library's errors quote the server, which may repeat a credential, and
        Airflow copies task logs to the output of a worker without masking them.
    """
    api: HfApi = _hiding_class(hide)(endpoint=endpoint, token=hub_token or False)
    return api


def keyless(endpoint: str, token_of: Callable[[str, str], str], hide: Callable[[str], str]) -> HfApi:
    """Return the API for a keyless connection: each call uses the token of the repository that it is about.

    Calls that are about no repository, or about several, fail before anything is sent. A caller's own ``token`` is
    used as it is.

    :param token_of: returns a token for a repository, by its type and its ID.
    :param hide: as for :func:`of`.
    """
    from inspect import signature

    class KeylessHfApi(_hiding_class(hide)):  # type: ignore[misc]  # the class is imported when it is needed
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


def _hiding_class(hide: Callable[[str], str]) -> Any:
    """Return an ``HfApi`` whose errors show no secrets."""

    class HidingHfApi(_class()):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            return value if name.startswith("_") or not callable(value) else _hidden(value, hide)

        def run_as_future(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            return super().run_as_future(_hidden(fn, hide), *args, **kwargs)

    return HidingHfApi


def _hidden(call: Callable[..., Any], hide: Callable[[str], str]) -> Callable[..., Any]:
    """Return the same call with errors that show no secrets."""

    @functools.wraps(call)
    def hiding(*args: Any, **kwargs: Any) -> Any:
        with _hiding(hide):
            result = call(*args, **kwargs)
        return _each(result, hide) if isinstance(result, Iterator) else result

    return hiding


def _each(items: Iterator[Any], hide: Callable[[str], str]) -> Iterator[Any]:
    """Yield what a listing requests page by page."""
    with _hiding(hide):
        yield from items


@contextmanager
def _hiding(hide: Callable[[str], str]) -> Iterator[None]:
    """Replace the secrets in an error, and in those that caused it."""
    try:
        yield
    except Exception as failure:
        error: BaseException | None = failure
        seen: list[BaseException] = []
        while error is not None and error not in seen:
            seen.append(error)
            error.args = tuple(_shown(each, hide) for each in error.args)
            vars(error).update({name: _shown(value, hide) for name, value in vars(error).items()})
            error = error.__cause__ or error.__context__
        raise


def _shown(value: Any, hide: Callable[[str], str]) -> Any:
    """Return a part of an error: a text without secrets, also for a request whose URL has one."""
    text = value if isinstance(value, str) else repr(value)
    hidden = hide(text)
    return value if hidden == text else hidden


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
