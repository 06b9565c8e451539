"""One poll for all that wait for the same repository in one process.

A triggerer runs thousands of triggers in one event loop. Those that look at the same repository through the same
connection subscribe to one :class:`_Poller`: each look asks the Hub for what all of them want to know together, and
each of them gets its own answer. The fastest of them sets the pace. The poller begins with the first subscriber and
ends with the last.

Nothing here blocks the event loop: a look runs in a thread of its own, which nobody waits for when the process ends.
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

SHORTEST_INTERVAL = 1.0
"""Seconds between two looks at min_files, however impatient a subscriber is."""

SAFETY_SECONDS = 300.0
"""Seconds between two looks at a bucket whose events are followed; the feed is a best effort."""

T = TypeVar("T")
OpenHub = Callable[[], Awaitable["Hub"]]
"""Opens the Hub through the Airflow connection, as it is now."""


@dataclass(frozen=True)
class PollFailure:
    """A look failed, and the next one is in ``seconds``; ``None`` where looks succeed again."""

    error: XetHubError | None
    seconds: float = 0.0


@dataclass(frozen=True)
class Answer:
    """What was waited for."""

    condition: Condition
    value: Any


class Subscription:
    """One who waits.

    :param condition: what for; may be replaced at any time.
    :param pace: how long it wants to wait between two polls.
    :param may_be_missing: see :func:`airflow_provider_xethub.xet.wait.conditions.is_fatal`.
    :param is_endless: outlasts even what no retry can mend, such as a credential that is wrong today.
    """

    def __init__(self, condition: Condition, pace: Pace, may_be_missing: Missing | None, *, is_endless: bool) -> None:
        self.condition = condition
        self.pace = pace
        self._may_be_missing = may_be_missing
        self._is_endless = is_endless
        self._last_failure: type[XetHubError] | None = None
        self._news: asyncio.Queue[Answer | PollFailure | Exception] = asyncio.Queue()
        self.answered: tuple[Condition, int] | None = None

    async def next(self) -> Answer | PollFailure:
        """Wait for what is wished, or for a trouble to tell about.

        :raises XetHubError: the waiting is over; it cannot come.
        """
        while True:
            news = await self._news.get()
            if isinstance(news, Exception):
                raise news
            if not isinstance(news, Answer) or news.condition is self.condition:
                return news

    def deliver(self, news: Answer | PollFailure | Exception) -> None:
        """Give the waiter something, from the loop's own thread."""
        self._news.put_nowait(news)

    def report_failure(self, error: XetHubError, seconds: float) -> None:
        """Tell about a look that failed: once for each kind of failure, until a look succeeds."""
        if not self._is_endless and is_fatal(error, self._may_be_missing, is_first=False):
            self.deliver(error)
        elif type(error) is not self._last_failure:
            self._last_failure = type(error)
            self.deliver(PollFailure(error, seconds))

    def report_recovery(self) -> None:
        """Tell that a look succeeded, after one that did not."""
        if self._last_failure is not None:
            self._last_failure = None
            self.deliver(PollFailure(None))


class _Poller:
    def __init__(self, repo: Repo, open_hub: OpenHub, close: Callable[[_Poller], None]) -> None:
        self._repo = repo
        self._open_hub = open_hub
        self._close = close
        self._state = RepoState(repo, is_shared=True)
        self._hub: Hub | None = None
        self._stream: BucketStream | None = None
        self._changed: list[str] | None = []
        self._wake = asyncio.Event()
        self._failures = 0
        self._loop = asyncio.get_running_loop()
        self.subscribers: list[Subscription] = []
        # A context of its own: otherwise all it logs would go to the log of the task that happened to come first.
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
                began = self._loop.time()
                asked = await self._poll_and_report()
                for subscription in self.subscribers:
                    subscription.pace.polled(began)
                await self._sleep_until_due(began, asked)
        except Exception as error:
            # A bug, not a failure of the Hub: nobody may be left waiting for a poller that is gone.
            log.exception("The poll of %s ended.", self._repo)
            self._close(self)
            for subscription in self.subscribers:
                subscription.deliver(error)

    async def _sleep_until_due(self, began: float, asked: float | None) -> None:
        """Wait until the next look is due, which another subscriber or an event may bring forward."""
        while True:
            interval = self._interval()
            # A new subscriber of a bucket that is followed has not been answered yet.
            is_idle = self._state.is_streamed and all(each.answered for each in self.subscribers)
            if asked is not None:
                seconds = max(asked, interval)
            elif self._changed != []:
                seconds = SHORTEST_INTERVAL
            else:
                seconds = max(interval, SAFETY_SECONDS) if is_idle else interval
            left = began + seconds - self._loop.time()
            if left <= 0:
                if is_idle and self._changed == []:
                    self._changed = None
                return
            self._wake.clear()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), left)

    def _interval(self) -> float:
        return max(SHORTEST_INTERVAL, min((each.pace.seconds for each in self.subscribers), default=0.0))

    async def _poll_and_report(self) -> float | None:
        """Look once, and tell all; returns the pause that a failure asks for."""
        is_fresh = self._hub is None
        try:
            try:
                answers = await self._poll()
            except XetHubError as error:
                if error.retryable or is_fresh:
                    raise
                # The connection may have another credential by now.
                self._hub = None
                answers = await self._poll()
        except XetHubError as error:
            self._failures += 1
            seconds = delay_after_failure(error, self._failures, self._interval())
            level = logging.INFO if isinstance(error, XetRateLimitError) else logging.WARNING
            if self._failures & (self._failures - 1) == 0:  # the 1st, 2nd, 4th, 8th … in a row
                log.log(level, "Look %d in a row failed; next in %.0f s. %s", self._failures, seconds, error)
            for subscription in list(self.subscribers):
                subscription.report_failure(error, seconds)
            return seconds
        self._failures = 0
        for subscription in list(self.subscribers):
            subscription.report_recovery()
        for subscription, answer in answers:
            subscription.deliver(answer)
        return None

    async def _poll(self) -> list[tuple[Subscription, Answer | XetHubError]]:
        if self._hub is None:
            self._hub = await self._open_hub()
            await self._open_stream()
        hub, subscribers = self._hub, list(self.subscribers)
        changed, self._changed = self._changed, []
        try:
            return await _in_thread(lambda: self._refresh_and_evaluate(hub, subscribers, changed))
        except XetHubError:
            self._changed = None if changed is None or self._changed is None else [*changed, *self._changed]
            raise
        except Exception as error:
            log.exception("The poll of %s met something unexpected.", self._repo)
            # It may have stopped halfway: begin with nothing, and let nobody take it for what was answered before.
            broken, self._state = self._state, RepoState(self._repo, is_shared=True)
            self._state.is_streamed, self._state.changes = broken.is_streamed, broken.changes + 1
            self._changed = None
            raise _unexpected(error, self._repo) from error

    def _refresh_and_evaluate(
        self, hub: Hub, subscribers: Iterable[Subscription], changed: list[str] | None
    ) -> list[tuple[Subscription, Answer | XetHubError]]:
        """Look, and find out whom it concerns; in a thread, as a thousand patterns take a while."""
        state = self._state
        conditions = {subscription: subscription.condition for subscription in subscribers}
        if changed is None:
            state.forget_files()
        else:
            state.now.forget(changed)
        state.refresh(hub, list(conditions.values()))
        answers: list[tuple[Subscription, Answer | XetHubError]] = []
        for subscription, condition in conditions.items():
            if (
                subscription.answered
                and subscription.answered[0] is condition
                and subscription.answered[1] == state.changes
            ):
                continue
            subscription.answered = (condition, state.changes)
            try:
                value = condition.evaluate(state)
            except XetHubError as error:
                answers.append((subscription, error))
                continue
            except Exception as error:
                log.exception("What a trigger waits for in %s cannot be decided.", self._repo)
                answers.append((subscription, _unexpected(error, self._repo)))
                continue
            if value is not None:
                answers.append((subscription, Answer(condition, value)))
        return answers

    # --- the event stream of a bucket -----------------------------------------------------------------------------

    async def _open_stream(self) -> None:
        if not self._repo.is_bucket:
            return
        from airflow_provider_xethub.xet.hub.bucket_events import BucketStream

        if self._stream is not None:
            self._stream.stop()
        self._state.is_streamed = False

        def notify(is_followed: bool, paths: list[str] | None) -> None:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._on_stream_event, stream, is_followed, paths)

        self._stream = stream = BucketStream(await self._open_hub(), self._repo, notify)
        stream.start()

    def _on_stream_event(self, stream: BucketStream, is_followed: bool, paths: list[str] | None) -> None:
        if stream is not self._stream:
            return
        if paths is None or self._changed is None:
            self._changed = None
        else:
            self._changed += paths
        self._state.is_streamed = is_followed
        self._wake.set()


def _unexpected(error: Exception, repo: Repo) -> XetProtocolError:
    return XetProtocolError(
        f"The poll of {repo} met something unexpected ({type(error).__name__}). The triggerer's log has the details; "
        "please report it."
    )


async def _in_thread(work: Callable[[], T]) -> T:
    """Run blocking ``work`` in a daemon thread of its own.

    Not in the loop's executor: its few threads belong to everybody, a Hub that does not answer would hold them up, and
    the process would wait for them when it ends.
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
    """Take part in the poll of a repository; the poll begins with its first subscriber.

    :param conn_id: together with ``repo``, what makes it the same poll.
    :param open_hub: opens the Hub of that connection; called again when a credential is refused.
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
