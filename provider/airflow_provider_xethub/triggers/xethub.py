"""Triggers: wait for files and commits in the triggerer, and start DAGs on commits.

Their arguments are plain JSON, and never a token: the triggerer reads the connection itself. All triggers of one
triggerer that look at the same repository share one poll (:mod:`airflow_provider_xethub.xet.wait.poller`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

from airflow_provider_xethub.exceptions import (
    XetAirflowConnectionError,
    XetHubError,
    XetInputError,
    XetProtocolError,
    XetTriggerArgumentError,
)
from airflow_provider_xethub.hooks.events import failed, found
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet import arguments
from airflow_provider_xethub.xet.answers import is_storable
from airflow_provider_xethub.xet.repo import DEFAULT_REVISION, Repo, RepoType
from airflow_provider_xethub.xet.wait import poller
from airflow_provider_xethub.xet.wait.conditions import (
    CommitsSinceCondition,
    Condition,
    FilesCondition,
    Missing,
    NewCommitCondition,
    check_condition,
    check_missing,
    check_oid,
)
from airflow_provider_xethub.xet.wait.pace import Pace

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.hub.client import Hub
    from airflow_provider_xethub.xet.records import XetCommit

DELIVERY_SECONDS = 3.0
"""Seconds until an event is on its way to the process that stores it: a triggerer hands them over once a second."""

STATE_TRIES = 5
"""How often a watcher tries to store its state. After that it goes on: to tell the next commit matters more."""


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except XetInputError as error:
        raise XetTriggerArgumentError(str(error)) from None


class _XetTrigger(BaseTrigger):
    """What the triggers have in common: the repository, the connection and the shared poll."""

    @_refused()
    def __init__(
        self,
        *,
        repo_id: str,
        repo_type: str = "model",
        revision: str = DEFAULT_REVISION,
        xethub_conn_id: str = XetHubConnection.default_conn_name,
        poke_interval: float | timedelta = 60.0,
        exponential_backoff: bool = False,
        max_wait: float | timedelta | None = None,
        may_be_missing: Missing | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.repo = Repo(repo_id, cast("RepoType", repo_type), revision)
        check_missing(may_be_missing)
        if arguments.string("xethub_conn_id", xethub_conn_id) is None:
            raise XetInputError("xethub_conn_id is missing: a trigger reads the Hub through a connection.")
        self.xethub_conn_id = xethub_conn_id
        self.poke_interval = arguments.seconds("poke_interval", poke_interval)
        self.exponential_backoff = exponential_backoff
        self.max_wait = None if max_wait is None else arguments.seconds("max_wait", max_wait)
        self.may_be_missing = may_be_missing

    def _arguments(self) -> dict[str, Any]:
        # Left out where not used: during an upgrade a triggerer may still have the version that does not know it.
        backoff = {"exponential_backoff": True, "max_wait": self.max_wait} if self.exponential_backoff else {}
        return {
            **backoff,
            "repo_id": self.repo.repo_id,
            "repo_type": self.repo.repo_type,
            "revision": self.repo.revision,
            "xethub_conn_id": self.xethub_conn_id,
            "poke_interval": self.poke_interval,
            "may_be_missing": self.may_be_missing,
        }

    def _classpath(self) -> str:
        return f"{type(self).__module__}.{type(self).__qualname__}"

    def _subscribe(
        self, condition: Condition, *, is_endless: bool = False
    ) -> AbstractAsyncContextManager[poller.Subscription]:
        return poller.subscribe(
            self.xethub_conn_id,
            self.repo,
            self._open_hub,
            condition,
            pace=Pace(self.poke_interval, is_exponential=self.exponential_backoff, longest=self.max_wait),
            may_be_missing=self.may_be_missing,
            is_endless=is_endless,
        )

    async def _open_hub(self) -> Hub:
        """Read the connection. In the way that is safe on every Airflow: in the thread that it keeps for this."""
        from asgiref.sync import sync_to_async

        def read() -> Hub:
            hub = XetHubConnection(self.xethub_conn_id).hub
            # The poll itself waits between two tries; a thread should not.
            hub.retries_enabled = False
            return hub

        try:
            return await sync_to_async(read)()
        except XetHubError:
            raise
        except Exception as error:
            raise XetAirflowConnectionError(
                f"Airflow could not read connection {self.xethub_conn_id!r} in the triggerer ({type(error).__name__})."
            ) from error

    def _log_failure(self, failure: poller.PollFailure) -> None:
        if failure.error is None:
            self.log.info("Looking at %s works again.", self.repo)
        else:
            self.log.warning("Still waiting; next look in %.0f s. %s", failure.seconds, failure.error)

    async def _next_value(self, subscription: poller.Subscription) -> Any:
        """Wait for the answer, and log what stands in the way of it."""
        while not isinstance(news := await subscription.next(), poller.Answer):
            self._log_failure(news)
        return news.value

    async def _wait(self, condition: Condition) -> AsyncIterator[TriggerEvent]:
        """Give one event: what was wished for, or why it cannot come."""
        try:
            async with self._subscribe(condition) as subscription:
                value = await self._next_value(subscription)
                if isinstance(condition, CommitsSinceCondition):  # the newest commit, to begin behind
                    subscription.condition = NewCommitCondition(value[-1]["oid"])
                    value = await self._next_value(subscription)
            event = _event(found(value), self.repo)
        except XetHubError as error:
            event = _event(failed(error), self.repo)
        yield event


class XetFileTrigger(_XetTrigger):
    """Wait until files are in a repository; what :class:`~airflow_provider_xethub.sensors.xethub.XetFileSensor` uses.

    :param repo_id: ``namespace/name``.
    :param repo_type: ``model``, ``dataset``, ``space`` or ``bucket``.
    :param revision: branch, tag, commit or ``refs/pr/N``.
    :param xethub_conn_id: the connection.
    :param poke_interval: seconds between two looks, or a ``timedelta``; where several triggers share a poll, the
        shortest counts.
    :param exponential_backoff: wait longer after each poll, as Airflow's sensors do with this argument.
    :param max_wait: the longest wait between two polls, with ``exponential_backoff``: seconds, or a ``timedelta``.
    :param may_be_missing: ``revision`` or ``repo``: what need not exist yet.
    :param paths: all of these files.
    :param patterns: paths that match one of these (``*`` matches ``/`` as well).
    :param min_files: how many have to match the patterns.
    :param known: hashes that a path had; files that still have one do not count.
    :param newer_than: id of a commit; files that are still as they were there do not count.
    :raises XetTriggerArgumentError: an argument is wrong.
    """

    @_refused()
    def __init__(
        self,
        *,
        paths: Sequence[str] = (),
        patterns: Sequence[str] = (),
        min_files: int = 1,
        known: Mapping[str, Sequence[str]] | None = None,
        newer_than: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Stored triggers say () for what was not given.
        given = [arguments.selection(name, value or None) for name, value in (("paths", paths), ("patterns", patterns))]
        if not isinstance(known or {}, Mapping):
            raise XetInputError(f"known must map paths to hashes, not be {type(known).__name__}.")
        self.condition = FilesCondition(
            tuple(given[0] or ()), tuple(given[1] or ()), min_files, dict(known or {}), newer_than
        )
        check_condition(self.condition, self.repo)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments."""
        return self._classpath(), {
            **self._arguments(),
            "paths": list(self.condition.paths),
            "patterns": list(self.condition.patterns),
            "min_files": self.condition.min_files,
            "known": {path: list(hashes) for path, hashes in self.condition.known.items()},
            "newer_than": self.condition.newer_than,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and give one event."""
        async for event in self._wait(self.condition):
            yield event


class XetRevisionTrigger(_XetTrigger, BaseEventTrigger):
    """Wait for commits: in an ``AssetWatcher`` for each of them, or, for a sensor, for the next.

    In an ``AssetWatcher`` it gives one event for each commit, oldest first: a
    :class:`~airflow_provider_xethub.xet.records.XetCommit`, and the id of the commit before as ``previous``. The commit
    that is the newest at the first look is where it begins. On Airflow 3.3 and later it goes on after a restart where
    it was, and no commit is lost; before, it begins anew.

    :param repo_id: ``namespace/name``.
    :param repo_type: ``model``, ``dataset`` or ``space``; a bucket has no commits.
    :param revision: branch, tag or ``refs/pr/N``.
    :param xethub_conn_id: the connection.
    :param poke_interval: seconds between two looks, or a ``timedelta``; where several triggers share a poll, the
        shortest counts.
    :param exponential_backoff: wait longer after each poll, as Airflow's sensors do with this argument.
    :param max_wait: the longest wait between two polls, with ``exponential_backoff``: seconds, or a ``timedelta``.
    :param may_be_missing: ``revision`` or ``repo``: what need not exist yet. A watcher waits for both in any case.
    :param newer_than: id of a commit: begin behind this one.
    :param once: for a sensor: give one event with the newest commit, or with the reason why there will be none.
    :raises XetTriggerArgumentError: an argument is wrong.
    """

    @_refused()
    def __init__(self, *, newer_than: str | None = None, once: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_condition(CommitsSinceCondition(None), self.repo)
        if newer_than is not None:
            check_oid(newer_than)
        self.newer_than = newer_than
        self.once = arguments.flag("once", once)
        if once:
            # Airflow keeps watchers out of the queues of its triggerers, but not the tasks that were deferred.
            self.supports_triggerer_queue = True

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments."""
        return self._classpath(), {**self._arguments(), "newer_than": self.newer_than, "once": self.once}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and give one event, or one for each commit without an end."""
        if not self.once:
            events = self._watch()
        else:
            events = self._wait(NewCommitCondition(self.newer_than) if self.newer_than else CommitsSinceCondition(None))
        async for event in events:
            yield event

    async def _watch(self) -> AsyncIterator[TriggerEvent]:
        known = await self._load_state() or self.newer_than
        async with self._subscribe(CommitsSinceCondition(known), is_endless=True) as subscription:
            while True:
                commits: list[XetCommit] = await self._next_value(subscription)
                if known is not None:
                    for commit in commits:
                        yield _event({**commit, "previous": known}, self.repo)
                        known = commit["oid"]
                    await self._wait_until_stored()
                known = commits[-1]["oid"]
                await self._store_state(known)
                subscription.condition = CommitsSinceCondition(known)

    @property
    def _key(self) -> str:
        return f"xethub {self.repo}"

    async def _load_state(self) -> str | None:
        """Return the commit that was reported last; ``None`` where Airflow cannot tell."""
        store = getattr(self, "asset_state_store", None)
        if store is None:
            return None
        while True:
            try:
                value = await store.aget(self._key)
            except ValueError:
                self.log.info("Several assets share this watcher, so that Airflow keeps no state for it.")
                self.asset_state_store = None
                return None
            except Exception as error:
                # To begin without it would lose commits.
                self.log.warning("The state of this watcher cannot be read (%s); trying again.", type(error).__name__)
                await asyncio.sleep(self.poke_interval)
                continue
            return value if isinstance(value, str) else None

    async def _wait_until_stored(self) -> None:
        """Wait until a request of this trigger comes behind its events.

        Remembered too early, a commit would be lost if the triggerer ends before its event is stored. The process that
        stores takes one message after the other, and stores the events of one before it takes the next. An answer
        shows that nothing from before is under way; after it, the events are sent within a second.
        """
        await self._load_state()
        # In steps: when the event loop was held up, those who hand over get their turns in between.
        for _ in range(6):
            await asyncio.sleep(DELIVERY_SECONDS / 6)

    async def _store_state(self, oid: str) -> None:
        """Store the commit that was reported last. What is not stored is told again after a restart."""
        store = getattr(self, "asset_state_store", None)
        if store is None:
            return
        for _ in range(STATE_TRIES):
            try:
                await store.aset(self._key, oid)
            except Exception as error:
                self.log.warning("The state of this watcher cannot be stored (%s).", type(error).__name__)
                await asyncio.sleep(self.poke_interval)
            else:
                return


def _event(payload: Mapping[str, Any], repo: Repo) -> TriggerEvent:
    """Build an event, if it can reach the database: one that cannot would end the whole triggerer.

    :raises XetProtocolError: it cannot; only this trigger fails.
    """
    if not is_storable(payload):
        raise XetProtocolError(
            f"The event of the trigger for {repo} cannot be stored as JSON: it contains a NUL, invalid Unicode or a "
            "number that is not finite. Please report it."
        )
    return TriggerEvent(dict(payload))  # type: ignore[no-untyped-call]
