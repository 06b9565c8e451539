"""Run one call of ``huggingface_hub.HfApi`` with a time limit, with retries, and with this provider's errors.

The library itself has neither a timeout nor retries for these calls, and its errors quote URLs. It takes any successful
response for the Hub's, so that a change counts only once the Hub reports it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_xethub.exceptions import (
    XetConnectionError,
    XetHubError,
    XetInputError,
    XetProtocolError,
    XetServerError,
    XetTimeoutError,
)
from airflow_provider_xethub.xet.hub.client import Hub, with_retries
from airflow_provider_xethub.xet.hub.errors import unreadable_response
from airflow_provider_xethub.xet.message_text import capitalized, named
from airflow_provider_xethub.xet.process import threads

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")

CALL_TIMEOUT = 120.0
"""Least seconds to wait for one call: deleting or squashing a large repository takes the Hub longer than a listing."""

_MAX_ABOUT = 62
"""Characters of what had no effect in front of the remedy, which the first 100 characters show, too."""


class ApiCalls:
    """Calls of ``huggingface_hub`` for one Hub.

    :param hub: the same Hub, for reading, and for the names and secrets in messages.
    :param api: opens the client; called when the first call is made.
    """

    def __init__(self, hub: Hub, api: Callable[[], HfApi]) -> None:
        self.hub = hub
        self._api = api

    def run(self, about: str, call: Callable[[HfApi], T], *, retry: bool = True) -> T:
        """Run a call, and repeat it where :func:`~airflow_provider_xethub.xet.hub.client.with_retries` does.

        The call must be safe to repeat: the response to an attempt may be lost after the Hub did the work.

        :param about: what the call is for, in messages, such as ``the creation of hf://acme/m``.
        :param retry: ``False`` if a second identical call could do harm.
        :raises XetHubError: see :mod:`airflow_provider_xethub.exceptions`.
        """
        return self._repeated(lambda: self._within_limit(about, call), retry=retry)

    def change(
        self, about: str, call: Callable[[HfApi], object], is_done: Callable[[], bool], *, retry: bool = True
    ) -> None:
        """Run a call that changes something, and then ask the Hub whether it did, whatever the response was.

        The library hardly reads successful responses, which may be the sign-in page of a proxy. And the change may have
        been made although its response is lost or unreadable.

        :param about: what the call is for, as for :meth:`run`.
        :param is_done: asks the Hub whether the change was made.
        :param retry: as for :meth:`run`.
        :raises XetServerError: the Hub reports no change.
        :raises XetHubError: see :meth:`run`.
        """

        def once() -> _TimeUpError | None:
            outcome: object = None
            try:
                outcome = self._within_limit(about, call)
            except (XetConnectionError, XetProtocolError, XetServerError) as error:
                outcome = error
            if is_done():
                return None
            if isinstance(outcome, _TimeUpError):
                return outcome
            if isinstance(outcome, (XetConnectionError, XetServerError)):
                raise outcome
            raise XetServerError(
                f"{capitalized(named(about, _MAX_ABOUT))} had no effect. Let the task retry. If that does not help, "
                f"check that no proxy answers instead of the Hub at {self.hub.endpoint}. It was {about}.",
                status=200,
            )

        self._repeated(once, retry=retry)

    def _repeated(self, once: Callable[[], T | _TimeUpError], *, retry: bool = True) -> T:
        outcome = with_retries(once) if retry and self.hub.retries_enabled else once()
        if isinstance(outcome, _TimeUpError):
            raise XetTimeoutError(str(outcome))
        return outcome

    def _within_limit(self, about: str, call: Callable[[HfApi], T]) -> T | _TimeUpError:
        limit = _TimeLimit(max(self.hub.timeout, CALL_TIMEOUT), about, self.hub.endpoint)
        try:
            return threads.start(lambda: self._call(about, call), threads.REQUEST)(limit)
        except _TimeUpError as error:
            return error  # waiting several times as long would hide it from the task

    def _call(self, about: str, call: Callable[[HfApi], T]) -> T:
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        api = self._api()
        # Around the others: that of a 400 is also a ValueError, and quotes the response.
        with self.hub.reading(about):
            try:
                return call(api)
            except HfHubHTTPError as error:
                # "from None": the message of the library quotes the URL and the response.
                raise self.hub.response_error(error.response, about) from None
            except (JSONDecodeError, UnicodeDecodeError) as error:
                raise unreadable_response(about, self.hub.endpoint, _body(error)) from None
            except OfflineModeIsEnabled:
                message = f"HF_HUB_OFFLINE is set on this worker, so {about} was not sent. Unset it."
                raise XetInputError(message) from None
            except _library(HfHubHTTPError).HTTPError as error:
                raise self._not_reached(about, error, _library(HfHubHTTPError)) from None

    def _not_reached(self, about: str, error: Exception, library: Any) -> XetHubError:
        """Return the error for a call without a response, without the text of the library, which may quote a proxy."""
        where = f"The Hub at {self.hub.endpoint}"
        if isinstance(error, library.TimeoutException):
            return XetTimeoutError(f"{where} did not respond in time. Check the network. No response came to {about}.")
        return XetConnectionError(
            f"{where} could not be reached ({type(error).__name__}). Check the network. This ended {about}. "
            "huggingface_hub sends this request: it knows HTTPS_PROXY and SSL_CERT_FILE of the worker, but not the "
            "proxy, CA bundle and headers of the connection."
        )


class _TimeUpError(Exception):
    """A call took too long."""


class _TimeLimit:
    """Ends the wait for a call. Its thread goes on waiting, as the library has no means to stop it."""

    def __init__(self, seconds: float, about: str, endpoint: str) -> None:
        self._deadline = time.monotonic() + seconds
        self._text = (
            f"The Hub did not complete a request within {seconds:.0f} s. Let the task retry, or raise timeout in the "
            f"connection. The Hub at {endpoint} may still complete it: {about}."
        )

    def check(self) -> None:
        if time.monotonic() > self._deadline:
            raise _TimeUpError(self._text)


def _body(error: JSONDecodeError | UnicodeDecodeError) -> bytes:
    """Return the response that is not JSON."""
    return error.doc.encode() if isinstance(error, JSONDecodeError) else error.object


def _library(error: type[Exception]) -> Any:
    """Return the HTTP library of ``huggingface_hub``: its errors are public, the name of the library is not ours."""
    return import_module(error.__mro__[1].__module__.partition(".")[0])
