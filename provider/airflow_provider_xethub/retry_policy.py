"""Decide when Airflow retries a task by the error that it failed with. Requires Airflow 3.3 or later.

Example::

    from airflow_provider_xethub.retry_policy import XetRetryPolicy

    XetUploadOperator(task_id="upload", retries=5, retry_policy=XetRetryPolicy(), ...)
"""

from __future__ import annotations

import random
from collections.abc import Callable
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
    XetCommitQuotaError,
    XetConnectionError,
    XetHubError,
    XetIdentityUnavailableError,
    XetInputError,
    XetRateLimitError,
    XetServerError,
    XetStalledError,
    XetTooSlowError,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_TEMPORARY = (
    XetAirflowConnectionError,
    XetIdentityUnavailableError,
    XetConnectionError,
    XetRateLimitError,
    XetServerError,
    XetStalledError,
    XetTooSlowError,
)
"""Errors that usually disappear after some time."""

JITTER = 0.25
"""Largest random share added to a delay, so that tasks which failed together are not retried together."""


class XetRetryPolicy(RetryPolicy):
    """Retry after the delay that the Hub asks for, back off after network failures, and do not retry final errors.

    The policy cannot allow more attempts than ``retries``. The task's ``retries`` and ``retry_delay`` apply to all
    errors that neither belong to this provider nor were raised from one that does, and to errors of a source or a
    destination, which time alone does not fix.

    On Airflow 3.4 and later, a task that meets the hourly limit of commits runs again later without using one of its
    ``retries``, for at most ``max_quota_wait``. On Airflow 3.3, it is retried as after any other 429.

    :param min_delay: delay after the first failure of the network or the service: no response, 5xx, a stalled transfer,
        a connection that Airflow did not return. Doubled after each further failure. Default: 30 seconds.
    :param max_delay: longest delay, even if the Hub asks for more. Default: 2 hours.
    :param max_quota_wait: how long each attempt waits in all for the hourly limit of commits, on Airflow 3.4 and later.
        After that, or with 0, the failure uses one of the task's ``retries``. Default: 1 day.
    :raises XetInputError: ``min_delay`` is negative, or longer than ``max_delay``; or ``max_quota_wait`` is negative.
    """

    def __init__(
        self,
        *,
        min_delay: timedelta = timedelta(seconds=30),
        max_delay: timedelta = timedelta(hours=2),
        max_quota_wait: timedelta = timedelta(days=1),
    ) -> None:
        if not timedelta(0) <= min_delay <= max_delay:
            raise XetInputError(
                f"min_delay is {min_delay}, max_delay is {max_delay}. min_delay must be between 0 and max_delay."
            )
        self.min_delay = min_delay
        if max_quota_wait < timedelta(0):
            raise XetInputError(f"max_quota_wait is {max_quota_wait}. It must not be negative.")
        self.max_delay = max_delay
        self.max_quota_wait = max_quota_wait

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,  # noqa: ARG002  # Airflow enforces it
        context: Context | None = None,  # noqa: ARG002
    ) -> RetryDecision:
        """Decide whether and when Airflow retries the task.

        :param exception: what the task raised.
        :param try_number: number of the attempt, starting at 1.
        :param max_tries: not used: Airflow enforces it.
        :param context: not used.
        :returns: the decision, with a reason that Airflow shows as ``retry_reason``.
        """
        error = _cause(exception)
        if error is None:
            return RetryDecision.default()
        name = type(error).__name__
        if not error.retryable:
            return RetryDecision.fail(f"{name}: retrying cannot fix it.")
        if isinstance(error, XetRateLimitError) and error.retry_after is not None:
            delay = self._bounded(error.retry_after)
            reason = f"{name}: the {error.service} asks to wait {error.retry_after:.0f} s."
            reschedule: Callable[..., RetryDecision] | None = getattr(RetryDecision, "reschedule", None)
            if isinstance(error, XetCommitQuotaError) and self.max_quota_wait and reschedule:
                return reschedule(delay, reschedule_timeout=self.max_quota_wait, reason=reason)
            return RetryDecision.retry(delay, reason)
        if isinstance(error, _TEMPORARY):
            # The exponent is bounded, so that no number of attempts overflows.
            delay = self._bounded(self.min_delay.total_seconds() * 2 ** min(try_number - 1, 32))
            return RetryDecision.retry(delay, f"{name}: failure {try_number}.")
        return RetryDecision.default()

    def _bounded(self, seconds: float) -> timedelta:
        spread = seconds * (1 + random.uniform(0, JITTER))  # noqa: S311
        return timedelta(seconds=min(spread, self.max_delay.total_seconds()))

    def serialize(self) -> dict[str, Any]:
        """Return the arguments in seconds, for Airflow's serialized DAGs."""
        arguments = {"min_delay": self.min_delay, "max_delay": self.max_delay, "max_quota_wait": self.max_quota_wait}
        return {name: value.total_seconds() for name, value in arguments.items()}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> XetRetryPolicy:
        """Build the policy from what :meth:`serialize` returned.

        :param data: the arguments, in seconds.
        """
        return cls(**{name: timedelta(seconds=seconds) for name, seconds in data.items()})


def _cause(exception: BaseException | None) -> XetHubError | None:
    """Return the exception itself if it belongs to this provider, or the one that it was raised from."""
    seen: set[int] = set()
    while exception is not None and id(exception) not in seen:
        if isinstance(exception, XetHubError):
            return exception
        seen.add(id(exception))
        exception = exception.__cause__
    return None
