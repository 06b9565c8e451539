"""Provide triggers that wait for files and commits in the triggerer, and start DAGs on commits.

Trigger arguments are plain JSON and never contain a token: the triggerer reads the connection itself. All triggers of
one triggerer on the same repository share one poll (:mod:`airflow_provider_xethub.xet.wait.poller`).
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
from airflow_provider_xethub.hooks.events import failed, found, found_many
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet import arguments
from airflow_provider_xethub.xet.answers import is_storable
from airflow_provider_xethub.xet.manifest import DEFAULT_LIMIT
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
"""Seconds after which an event has surely been sent to the process that stores it; a triggerer sends once a second."""

MAX_FILES = DEFAULT_LIMIT
"""Most files in an event, which goes through the database."""

STATE_TRIES = 5
"""Attempts of a watcher to store its state. Then it continues, because reporting the next commit matters more."""


@contextmanager
def _reject_arguments() -> Iterator[None]:
    """Raise :class:`XetTriggerArgumentError` for a wrong argument."""
    try:
        yield
    except XetInputError as error:
        raise XetTriggerArgumentError(str(error)) from None


class _XetTrigger(BaseTrigger):
    """Hold the repository and the connection, and take part in the shared poll: the base of all triggers."""

    @_reject_arguments()
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
            raise XetInputError("xethub_conn_id is missing. A trigger reads the Hub through a connection.")
        self.xethub_conn_id = xethub_conn_id
        self.poke_interval = arguments.seconds("poke_interval", poke_interval)
        self.exponential_backoff = exponential_backoff
        self.max_wait = None if max_wait is None else arguments.seconds("max_wait", max_wait)
        self.may_be_missing = may_be_missing

    def _arguments(self) -> dict[str, Any]:
        # Omitted unless used: during an upgrade, a triggerer may still run the version without these arguments.
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
            pace=Pace(self.poke_interval, is_exponential=self.exponential_backoff, max_seconds=self.max_wait),
            may_be_missing=self.may_be_missing,
            is_endless=is_endless,
        )

    async def _open_hub(self) -> Hub:
        """Read the connection in the thread that Airflow reserves for this, which is safe in every Airflow version."""
        from asgiref.sync import sync_to_async

        def read() -> Hub:
            hub = XetHubConnection(self.xethub_conn_id).hub
            # The poller itself waits between two attempts; the thread should not.
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

    def _log_status(self, status: poller.PollFailure | poller.PollRecovery) -> None:
        if isinstance(status, poller.PollRecovery):
            self.log.info("Polling %s works again.", self.repo)
        else:
            self.log.warning("Still waiting; next poll in %.0f s. %s", status.seconds, status.error)

    async def _next_value(self, subscription: poller.Subscription) -> Any:
        """Wait for the value of the condition; log polls that fail meanwhile."""
        while not isinstance(message := await subscription.next(), poller.PollResult):
            self._log_status(message)
        return message.value

    async def _wait(self, condition: Condition) -> AsyncIterator[TriggerEvent]:
        """Yield one event: the value of the condition, or the error that makes it impossible."""
        try:
            async with self._subscribe(condition) as subscription:
                value = await self._next_value(subscription)
                if isinstance(condition, CommitsSinceCondition):  # the newest commit: wait for the one after it
                    subscription.condition = NewCommitCondition(value[-1]["oid"])
                    value = await self._next_value(subscription)
            is_many = isinstance(condition, FilesCondition) and len(value) > MAX_FILES
            event = _event(found_many(len(value)) if is_many else found(value), self.repo)
        except XetHubError as error:
            event = _event(failed(error), self.repo)
        yield event


class XetFileTrigger(_XetTrigger):
    """Wait until files exist in a repository, or until they have changed.

    The trigger of :class:`~airflow_provider_xethub.sensors.xethub.XetFileSensor`.

    :param repo_id: ``namespace/name``.
    :param repo_type: ``model``, ``dataset``, ``space`` or ``bucket``. Default: ``model``.
    :param revision: branch, tag, commit or ``refs/pr/N``. Default: ``main``.
    :param xethub_conn_id: Airflow connection ID.
    :param poke_interval: seconds between two polls, or a ``timedelta``. If several triggers share a poll, the shortest
        interval applies. Default: 60.
    :param exponential_backoff: lengthen the interval after each poll, as Airflow's sensors do with this argument.
    :param max_wait: longest interval with ``exponential_backoff``: seconds or a ``timedelta``. ``None``: no limit.
    :param may_be_missing: ``revision`` or ``repo``: wait for what does not exist yet. ``None``: fail if the repository
        or the revision is missing.
    :param paths: wait until all of these files exist.
    :param patterns: wait until files match one of these patterns (``*`` matches ``/`` as well).
    :param min_files: how many files must match the patterns.
    :param known: earlier hashes of the files, by path. Files that still have one of them do not count.
    :param newer_than: commit ID. Files that are unchanged since that commit do not count.
    :raises XetTriggerArgumentError: an argument is wrong.
    """

    @_reject_arguments()
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
        # Stored triggers have an empty list for an argument that was not given.
        given = [arguments.selection(name, value or None) for name, value in (("paths", paths), ("patterns", patterns))]
        if not isinstance(known or {}, Mapping):
            raise XetInputError(f"known must map paths to lists of hashes, not be {type(known).__name__}.")
        self.condition = FilesCondition(
            tuple(given[0] or ()), tuple(given[1] or ()), min_files, dict(known or {}), newer_than
        )
        check_condition(self.condition, self.repo)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return self._classpath(), {
            **self._arguments(),
            "paths": list(self.condition.paths),
            "patterns": list(self.condition.patterns),
            "min_files": self.condition.min_files,
            "known": {path: list(hashes) for path, hashes in self.condition.known.items()},
            "newer_than": self.condition.newer_than,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield one event."""
        async for event in self._wait(self.condition):
            yield event


class XetRevisionTrigger(_XetTrigger, BaseEventTrigger):
    """Report each commit to an ``AssetWatcher``, or only the next one to a sensor.

    In an ``AssetWatcher``, the trigger yields one event for each commit, oldest first: a
    :class:`~airflow_provider_xethub.xet.records.XetCommit`, with the ID of the preceding commit as ``previous``. It
    starts after the commit that is the newest at its first poll. On Airflow 3.3 and later, it resumes after a restart
    where it stopped and loses no commit; on earlier versions, it starts afresh.

    :param repo_id: ``namespace/name``.
    :param repo_type: ``model``, ``dataset`` or ``space``; a bucket has no commits. Default: ``model``.
    :param revision: branch, tag or ``refs/pr/N``. Default: ``main``.
    :param xethub_conn_id: Airflow connection ID.
    :param poke_interval: seconds between two polls, or a ``timedelta``. If several triggers share a poll, the shortest
        interval applies. Default: 60.
    :param exponential_backoff: lengthen the interval after each poll, as Airflow's sensors do with this argument.
    :param max_wait: longest interval with ``exponential_backoff``: seconds or a ``timedelta``. ``None``: no limit.
    :param may_be_missing: ``revision`` or ``repo``: wait for what does not exist yet. ``None``: fail if the repository
        or the revision is missing. A watcher always waits for both.
    :param newer_than: commit ID: report only commits after this one.
    :param once: for a sensor: yield a single event, with the newest commit or with the error that prevents it.
    :param queue: for a watcher: the triggerer queue. Only triggerers that serve it (``airflow triggerer --queues``) run
        the watcher. Airflow before 3.4 ignores it. ``None``: triggerers without queues run the watcher.
    :raises XetTriggerArgumentError: an argument is wrong.
    """

    @_reject_arguments()
    def __init__(
        self, *, newer_than: str | None = None, once: bool = False, queue: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        check_condition(CommitsSinceCondition(None), self.repo)
        if newer_than is not None:
            check_oid(newer_than)
        self.newer_than = newer_than
        self.once = arguments.flag("once", once)
        if once:
            # Airflow takes it for a watcher, which has a queue of its own or none. A deferred task has the task's.
            self.supports_triggerer_queue = True  # Airflow 3.2 and 3.3
            self.trigger_queue_inherited_from_task = True  # since Airflow 3.4
        if arguments.string("queue", queue) is not None and once:
            raise XetInputError(
                "queue is for watchers only. A sensor waits in the triggerer queue of its task: leave it out."
            )
        # Not an argument of the stored trigger: Airflow 3.4 reads it from here and stores it beside the arguments.
        self.queue = queue

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return self._classpath(), {**self._arguments(), "newer_than": self.newer_than, "once": self.once}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield a single event (``once``), or one event for each commit, without end."""
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
        """Return the commit that was reported last; ``None`` if Airflow keeps no state."""
        store = getattr(self, "asset_state_store", None)
        if store is None:
            return None
        while True:
            try:
                value = await store.aget(self._key)
            except ValueError:
                self.log.info("Airflow keeps no state for this watcher, because several assets share it.")
                self.asset_state_store = None
                return None
            except Exception as error:
                # Starting without the state would lose commits.
                self.log.warning(
                    "Airflow could not read the state of this watcher (%s). Retrying.", type(error).__name__
                )
                await asyncio.sleep(self.poke_interval)
                continue
            return value if isinstance(value, str) else None

    async def _wait_until_stored(self) -> None:
        """Wait until a request of this trigger is processed after its events.

        If the state were stored too early, a commit would be lost when the triggerer stops before its event is stored.
        The process that stores events handles one message at a time, and stores the events of one before it reads the
        next. Its response therefore shows that no earlier message is in flight; the events follow within a second.
        """
        await self._load_state()
        # In steps: after the event loop was blocked, the code that sends events runs in between.
        for _ in range(6):
            await asyncio.sleep(DELIVERY_SECONDS / 6)

    async def _store_state(self, oid: str) -> None:
        """Store the commit that was reported last; a restart reports all later commits again."""
        store = getattr(self, "asset_state_store", None)
        if store is None:
            return
        for _ in range(STATE_TRIES):
            try:
                await store.aset(self._key, oid)
            except Exception as error:
                self.log.warning("Airflow could not store the state of this watcher (%s).", type(error).__name__)
                await asyncio.sleep(self.poke_interval)
            else:
                return


def _event(payload: Mapping[str, Any], repo: Repo) -> TriggerEvent:
    """Build an event that the database can store; any other event would stop the whole triggerer.

    :raises XetProtocolError: the database cannot store it. Only this trigger fails.
    """
    if not is_storable(payload):
        raise XetProtocolError(
            f"The event of the trigger for {repo} cannot be stored as JSON: it contains a NUL character, invalid "
            "Unicode or a number that is not finite. Please report it."
        )
    return TriggerEvent(dict(payload))  # type: ignore[no-untyped-call]
