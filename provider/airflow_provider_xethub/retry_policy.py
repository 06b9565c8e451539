"""When Airflow should try a task again, by what went wrong. For Airflow 3.3 and later, which asks for it.

Example::

    from airflow_provider_xethub.retry_policy import XetRetryPolicy

    XetUploadOperator(task_id="upload", retries=5, retry_policy=XetRetryPolicy(), ...)
"""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

try:
    from airflow.providers.common.compat.sdk import RetryDecision, RetryPolicy
except (ImportError, AttributeError) as error:
    raise ImportError(
        "XetRetryPolicy needs Airflow 3.3 or later. Leave out retry_policy: Airflow's retries and retry_delay apply."
    ) from error

from airflow_provider_xethub.exceptions import (
    XetAirflowConnectionError,
    XetConnectionError,
    XetHubError,
    XetInputError,
    XetRateLimitError,
    XetServerError,
    XetStalledError,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_PASSING = (XetAirflowConnectionError, XetConnectionError, XetRateLimitError, XetServerError, XetStalledError)
"""Errors that usually pass with time."""

SPREAD = 0.25
"""By how much a delay is lengthened at random, at most: tasks that failed together should not return together."""


class XetRetryPolicy(RetryPolicy):
    """Wait as long as the Hub asks for, longer each time after trouble on the way, and not at all for what is final.

    It cannot add tries to ``retries``. What is no error of this provider, and was not raised from one, is left to the
    task's ``retries`` and ``retry_delay``. So is an error of a source or a destination, whose remedy is not time.

    :param min_delay: how long to wait after the first failure on the way: no answer, 5xx, a stalled transfer,
        a connection that Airflow did not return. Doubled with each further one.
    :param max_delay: the longest wait, also where the Hub asks for more.
    :raises XetInputError: ``min_delay`` is negative, or longer than ``max_delay``.
    """

    def __init__(
        self, *, min_delay: timedelta = timedelta(seconds=30), max_delay: timedelta = timedelta(hours=2)
    ) -> None:
        if not timedelta(0) <= min_delay <= max_delay:
            raise XetInputError(f"min_delay is {min_delay}, max_delay {max_delay}: not between 0 and max_delay.")
        self.min_delay = min_delay
        self.max_delay = max_delay

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,  # noqa: ARG002  # Airflow gives it, and sees to it
        context: Context | None = None,  # noqa: ARG002
    ) -> RetryDecision:
        """Return what Airflow shall do.

        :param exception: what the task raised.
        :param try_number: which try it was, from 1.
        :param max_tries: not used: Airflow sees to it that there are not more.
        :param context: not used.
        """
        error = _cause(exception)
        if error is None:
            return RetryDecision.default()
        name = type(error).__name__
        if not error.retryable:
            return RetryDecision.fail(f"{name}: no retry can mend it.")
        if isinstance(error, XetRateLimitError) and error.retry_after is not None:
            delay = self._bounded(error.retry_after)
            return RetryDecision.retry(delay, f"{name}: the {error.service} asks to wait {error.retry_after:.0f} s.")
        if isinstance(error, _PASSING):
            # The exponent is bounded, so that no number of tries overflows.
            delay = self._bounded(self.min_delay.total_seconds() * 2 ** min(try_number - 1, 32))
            return RetryDecision.retry(delay, f"{name}: failure {try_number}.")
        return RetryDecision.default()

    def _bounded(self, seconds: float) -> timedelta:
        spread = seconds * (1 + random.uniform(0, SPREAD))  # noqa: S311
        return timedelta(seconds=min(spread, self.max_delay.total_seconds()))

    def serialize(self) -> dict[str, Any]:
        """Return the arguments, in seconds."""
        return {"min_delay": self.min_delay.total_seconds(), "max_delay": self.max_delay.total_seconds()}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> XetRetryPolicy:
        """Return the policy with these arguments, as :meth:`serialize` gave them."""
        return cls(**{name: timedelta(seconds=seconds) for name, seconds in data.items()})


def _cause(exception: BaseException | None) -> XetHubError | None:
    """Return the error of this provider: the exception itself, or the one that it was raised from."""
    seen: set[int] = set()
    while exception is not None and id(exception) not in seen:
        if isinstance(exception, XetHubError):
            return exception
        seen.add(id(exception))
        exception = exception.__cause__
    return None
