"""Share one poll among all triggers of a process that wait for the same repository.

A triggerer runs thousands of triggers in one event loop. Those that wait for the same repository through the same
connection subscribe to one :class:`_Poller`: each poll asks the Hub once for everything that any of them needs, and
each subscriber receives its own result. The shortest interval among the subscribers applies. The poller starts with the
first subscriber and stops with the last.

Nothing here blocks the event loop: each poll runs in a daemon thread, which does not delay the end of the process.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from airflow_provider_xethub.exceptions import XetHubError, XetProtocolError, XetRateLimitError
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.wait.conditions import Condition, Missing, RepoState, delay_after_failure, is_fatal
from airflow_provider_xethub.xet.wait.pace import Pace

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.hub.bucket_events import BucketStream
    from airflow_provider_xethub.xet.hub.client import Hub

log = logging.getLogger(__name__)

MIN_INTERVAL = 1.0
"""Shortest interval between two polls in seconds, whatever a subscriber asks for."""

SAFETY_INTERVAL = 300.0
"""Seconds between two polls of a bucket whose event stream is open; the stream may miss changes."""

T = TypeVar("T")
OpenHub = Callable[[], Awaitable["Hub"]]
"""Opens the Hub through the current state of the Airflow connection."""


@dataclass(frozen=True)
class PollFailure:
    """A poll failed with ``error``; the next one follows in ``seconds``."""

    error: XetHubError
    seconds: float


@dataclass(frozen=True)
class PollRecovery:
    """A poll succeeded after one or more that failed."""


@dataclass(frozen=True)
class PollResult:
    """The value of a condition that holds."""

    condition: Condition
    value: Any


Message = PollResult | PollFailure | PollRecovery | Exception
"""What a poller delivers to a subscription; an exception ends it."""


class Subscription:
    """Receive the results of a shared poll for one condition.

    :param condition: what to wait for; may be replaced at any time.
    :param pace: the interval between two polls that this subscriber needs.
    :param may_be_missing: see :func:`airflow_provider_xethub.xet.wait.conditions.is_fatal`.
    :param is_endless: keep waiting even after errors that retrying cannot fix, such as a credential that is wrong now.
    """

    def __init__(self, condition: Condition, pace: Pace, may_be_missing: Missing | None, *, is_endless: bool) -> None:
        self.condition = condition
        self.pace = pace
        self._may_be_missing = may_be_missing
        self._is_endless = is_endless
        self._last_failure: type[XetHubError] | None = None
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self.evaluated: tuple[Condition, int] | None = None

    async def next(self) -> PollResult | PollFailure | PollRecovery:
        """Wait for the next message: a result of the current condition, a failure or a recovery.

        :raises XetHubError: the condition can never hold.
        """
        while True:
            message = await self._messages.get()
            if isinstance(message, Exception):
                raise message
            if not isinstance(message, PollResult) or message.condition is self.condition:
                return message

    def deliver(self, message: Message) -> None:
        """Queue a message for the subscriber. Call this in the event loop's thread."""
        self._messages.put_nowait(message)

    def report_failure(self, error: XetHubError, seconds: float) -> None:
        """Deliver a failed poll; further failures of the same class are not repeated until a poll succeeds."""
        if not self._is_endless and is_fatal(error, self._may_be_missing, is_first=False):
            self.deliver(error)
        elif type(error) is not self._last_failure:
            self._last_failure = type(error)
            self.deliver(PollFailure(error, seconds))

    def report_recovery(self) -> None:
        """Deliver the first successful poll after a failure."""
        if self._last_failure is not None:
            self._last_failure = None
            self.deliver(PollRecovery())


class _Poller:
    def __init__(self, repo: Repo, open_hub: OpenHub, close: Callable[[_Poller], None]) -> None:
        self._repo = repo
        self._open_hub = open_hub
        self._close = close
        self._state = RepoState(repo, is_shared=True)
        self._hub: Hub | None = None
        self._stream: BucketStream | None = None
        self._changed_paths: list[str] | None = []  # None: unknown, so any path
        self._wake = asyncio.Event()
        self._failures = 0
        self._loop = asyncio.get_running_loop()
        self.subscribers: list[Subscription] = []
        # An empty context: otherwise all log lines would go to the log of the task that happened to subscribe first.
        self._task: asyncio.Task[None] = contextvars.Context().run(self._loop.create_task, self._run())

    def join(self, subscription: Subscription) -> None:
        self.subscribers.append(subscription)
        self._wake.set()

    def leave(self, subscription: Subscription) -> None:
        self.subscribers.remove(subscription)
        if not self.subscribers:
            self._stop()

    def _stop(self) -> None:
        self._close(self)
        self._task.cancel()
        if self._stream is not None:
            self._stream.stop()

    async def _run(self) -> None:
        try:
            while True:
                started = self._loop.time()
                delay = await self._poll_and_deliver()
                for subscription in self.subscribers:
                    subscription.pace.record_poll(started)
                await self._sleep_until_due(started, delay)
        except Exception as error:
            # A bug, not a failure of the Hub: no subscriber may be left waiting for a poller that is gone.
            log.exception("The poller of %s stopped.", self._repo)
            self._close(self)
            for subscription in self.subscribers:
                subscription.deliver(error)

    async def _sleep_until_due(self, started: float, delay: float | None) -> None:
        """Sleep until the next poll is due; a new subscriber or an event of the stream may bring it forward.

        :param delay: seconds that a failed poll asks for; ``None`` after a successful one.
        """
        while True:
            interval = self._interval()
            # A new subscriber of a streamed bucket needs one poll of its own.
            is_idle = self._state.is_streamed and all(each.evaluated for each in self.subscribers)
            if delay is not None:
                seconds = max(delay, interval)
            elif self._changed_paths != []:
                seconds = MIN_INTERVAL
            else:
                seconds = max(interval, SAFETY_INTERVAL) if is_idle else interval
            left = started + seconds - self._loop.time()
            if left <= 0:
                if is_idle and self._changed_paths == []:
                    self._changed_paths = None
                return
            self._wake.clear()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), left)

    def _interval(self) -> float:
        return max(MIN_INTERVAL, min((each.pace.seconds for each in self.subscribers), default=0.0))

    async def _poll_and_deliver(self) -> float | None:
        """Poll once, and deliver the outcome to all subscribers.

        :returns: seconds to wait after a failure; ``None`` after a success.
        """
        is_fresh = self._hub is None
        try:
            try:
                results = await self._poll()
            except XetHubError as error:
                if error.retryable or is_fresh:
                    raise
                # The connection may have a new credential.
                self._hub = None
                results = await self._poll()
        except XetHubError as error:
            self._failures += 1
            seconds = delay_after_failure(error, self._failures, self._interval())
            level = logging.INFO if isinstance(error, XetRateLimitError) else logging.WARNING
            if self._failures & (self._failures - 1) == 0:  # the 1st, 2nd, 4th, 8th … in a row
                message = "The poll of %s failed (%d in a row); next poll in %.0f s. %s"
                log.log(level, message, self._repo, self._failures, seconds, error)
            for subscription in list(self.subscribers):
                subscription.report_failure(error, seconds)
            return seconds
        self._failures = 0
        for subscription in list(self.subscribers):
            subscription.report_recovery()
        for subscription, result in results:
            subscription.deliver(result)
        return None

    async def _poll(self) -> list[tuple[Subscription, PollResult | XetHubError]]:
        if self._hub is None:
            self._hub = await self._open_hub()
            await self._open_stream()
        hub, subscribers = self._hub, list(self.subscribers)
        changed, self._changed_paths = self._changed_paths, []
        try:
            return await _in_thread(lambda: self._refresh_and_evaluate(hub, subscribers, changed))
        except XetHubError:
            is_unknown = changed is None or self._changed_paths is None
            self._changed_paths = None if is_unknown else [*(changed or ()), *(self._changed_paths or ())]
            raise
        except Exception as error:
            log.exception("The poll of %s failed unexpectedly.", self._repo)
            # The poll may have stopped halfway: start with an empty state, in a version that is not evaluated yet.
            broken, self._state = self._state, RepoState(self._repo, is_shared=True)
            self._state.is_streamed, self._state.version = broken.is_streamed, broken.version + 1
            self._changed_paths = None
            raise _unexpected(error, self._repo) from error

    def _refresh_and_evaluate(
        self, hub: Hub, subscribers: Iterable[Subscription], changed: list[str] | None
    ) -> list[tuple[Subscription, PollResult | XetHubError]]:
        """Refresh the state and evaluate all conditions; in a thread, because a thousand patterns take a while."""
        state = self._state
        conditions = {subscription: subscription.condition for subscription in subscribers}
        if changed is None:
            state.forget_files()
        else:
            state.files.forget(changed)
        state.refresh(hub, list(conditions.values()))
        results: list[tuple[Subscription, PollResult | XetHubError]] = []
        for subscription, condition in conditions.items():
            previous = subscription.evaluated
            if previous and previous[0] is condition and previous[1] == state.version:
                continue
            subscription.evaluated = (condition, state.version)
            try:
                value = condition.evaluate(state)
            except XetHubError as error:
                results.append((subscription, error))
                continue
            except Exception as error:
                log.exception("The condition of a trigger on %s could not be evaluated.", self._repo)
                results.append((subscription, _unexpected(error, self._repo)))
                continue
            if value is not None:
                results.append((subscription, PollResult(condition, value)))
        return results

    # --- the event stream of a bucket -----------------------------------------------------------------------------

    async def _open_stream(self) -> None:
        if not self._repo.is_bucket:
            return
        from airflow_provider_xethub.xet.hub.bucket_events import BucketStream

        if self._stream is not None:
            self._stream.stop()
        self._state.is_streamed = False

        def notify(is_streamed: bool, paths: list[str] | None) -> None:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._on_stream_change, stream, is_streamed, paths)

        self._stream = stream = BucketStream(await self._open_hub(), self._repo, notify)
        stream.start()

    def _on_stream_change(self, stream: BucketStream, is_streamed: bool, paths: list[str] | None) -> None:
        if stream is not self._stream:
            return
        if paths is None or self._changed_paths is None:
            self._changed_paths = None
        else:
            self._changed_paths += paths
        self._state.is_streamed = is_streamed
        self._wake.set()


def _unexpected(error: Exception, repo: Repo) -> XetProtocolError:
    return XetProtocolError(
        f"The poll of {repo} failed unexpectedly ({type(error).__name__}). The triggerer's log has the traceback; "
        "please report it."
    )


async def _in_thread(work: Callable[[], T]) -> T:
    """Run blocking ``work`` in a daemon thread of its own.

    The loop's executor is no alternative: all code of the loop shares its few threads, a Hub that does not respond
    would occupy them, and the process waits for them when it ends.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def resolve(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as caught:
            error = caught
        if not loop.is_closed():
            loop.call_soon_threadsafe(resolve, result, error)

    threading.Thread(target=run, name="xethub-poll", daemon=True).start()
    return await future


_pollers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, Repo], _Poller]] = WeakKeyDictionary()


@asynccontextmanager
async def subscribe(
    conn_id: str,
    repo: Repo,
    open_hub: OpenHub,
    condition: Condition,
    *,
    pace: Pace,
    may_be_missing: Missing | None = None,
    is_endless: bool = False,
) -> AsyncIterator[Subscription]:
    """Subscribe to the poll of a repository; the first subscriber starts it.

    :param conn_id: Airflow connection ID; subscribers with the same connection and repository share a poll.
    :param open_hub: opens the Hub of that connection; called again after the Hub rejects a credential.
    :param condition: see :class:`Subscription`, also for the remaining parameters.
    """
    pollers = _pollers.setdefault(asyncio.get_running_loop(), {})
    key = (conn_id, repo)
    poller = pollers.get(key)
    if poller is None:

        def close(ended: _Poller) -> None:
            if pollers.get(key) is ended:
                del pollers[key]

        poller = pollers[key] = _Poller(repo, open_hub, close)
    subscription = Subscription(condition, pace, may_be_missing, is_endless=is_endless)
    poller.join(subscription)
    try:
        yield subscription
    finally:
        poller.leave(subscription)
