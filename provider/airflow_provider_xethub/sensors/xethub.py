"""Provide sensors that wait for files and for commits.

Importing this module loads no client library: ``requests`` and ``huggingface_hub`` load inside the task.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from airflow_provider_xethub.exceptions import XetHubError, XetInputError, XetNotFoundError
from airflow_provider_xethub.hooks.errors import fail_task, fail_without_retry
from airflow_provider_xethub.hooks.events import is_found_many, value_of
from airflow_provider_xethub.hooks.inline_content import is_needed_after
from airflow_provider_xethub.hooks.manifests import xcom_files
from airflow_provider_xethub.hooks.task_mixin import REPO_FIELDS, RepositoryTaskMixin
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.links.xethub import XetHubLink
from airflow_provider_xethub.sensors import deferral
from airflow_provider_xethub.xet import arguments
from airflow_provider_xethub.xet.hub.pages import HubPage, page_of_commit, page_of_files
from airflow_provider_xethub.xet.manifest import is_manifest
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.wait.conditions import (
    CommitsSinceCondition,
    Condition,
    FilesCondition,
    Missing,
    NewCommitCondition,
    RepoState,
    hashes,
    is_fatal,
    requested_delay,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_xethub.xet.records import XetFile

NO_COMMIT = "0" * 40
"""Stands for "no commit yet": every commit is newer than this one."""


class XetSensor(RepositoryTaskMixin, BaseSensorOperator):
    """Poll a repository until a condition holds: the base of all sensors.

    A wrong credential, or a repository or revision that does not exist, fails the task at once instead of waiting for
    the timeout. Rate limits slow the polls down. An outage of the Hub fails the first poll, so that a wrong host is
    noticed; after one successful poll, the sensor waits until the Hub is back.

    :param repo_id: ``namespace/name``. ``None``: the connection's default.
    :param repo_type: ``model``, ``dataset``, ``space`` or ``bucket``. ``None``: the connection's default, else
        ``model``.
    :param revision: branch, tag, commit or ``refs/pr/N``. ``None``: the connection's default, else ``main``.
    :param may_be_missing: ``revision``: wait for a revision that does not exist yet. ``repo``: wait for a repository
        that does not exist yet, too. ``None``: fail if either is missing.
    :param deferrable: poll once, then wait in the triggerer without occupying a worker slot. Default:
        ``[operators] default_deferrable``.
    :param xethub_conn_id: Airflow connection ID.
    """

    template_fields: Sequence[str] = REPO_FIELDS
    operator_extra_links: tuple[XetHubLink, ...] = (XetHubLink(),)

    def __init__(
        self,
        *,
        repo_id: str | None = None,
        repo_type: str | None = None,
        revision: str | None = None,
        may_be_missing: Missing | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        xethub_conn_id: str = XetHubConnection.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.set_repo_arguments(repo_id=repo_id, repo_type=repo_type, revision=revision, xethub_conn_id=xethub_conn_id)
        self.may_be_missing = may_be_missing
        self.deferrable = deferrable
        self._requested_delay = 0.0
        self._has_polled = False
        self.check_written()

    @cached_property
    def _repo(self) -> Repo:
        return self.repo_of_arguments()

    @cached_property
    def _state(self) -> RepoState:
        return RepoState(self._repo)

    def execute(self, context: Context) -> Any:
        """Poll until the condition holds, or poll once and then wait in the triggerer."""
        with fail_task(self.log):
            return self._poll_or_defer(context) if self.deferrable else super().execute(context)

    def _poll_or_defer(self, context: Context) -> Any:
        started = time.monotonic()
        first = deferral.poll(self, context)
        if not first:
            timeout = deferral.time_left(self, time.monotonic() - started)
            self.defer(trigger=self._trigger(context), method_name="execute_complete", timeout=timeout)
        return first.xcom_value

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after the deferral; after a timeout, finish as the other modes do."""
        with fail_task(self.log):
            try:
                return super().resume_execution(next_method, next_kwargs, context)
            except (AirflowSensorTimeout, AirflowSkipException) as error:
                self._has_polled = True
                return deferral.finish_interrupted(self, context, error)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> Any:
        """Return what the trigger found, or raise the error that it reported."""
        if is_found_many(event):
            return self._poll_or_defer(context)
        with fail_without_retry():
            value = value_of(event)
        return self._finish(context, value)

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll once."""
        with fail_without_retry():
            self.check_rendered()
            try:
                self.hub_page = HubPage(self._repo)
                value = self._poll(context)
            except XetHubError as error:
                is_first = not self._has_polled and not context.get("task_reschedule_count")
                if is_fatal(error, self.may_be_missing, is_first=is_first):
                    raise
                self._requested_delay = requested_delay(error)
                self.log.warning("Still waiting. %s", error)
                if isinstance(error, XetNotFoundError):
                    self._on_missing(context)
                return PokeReturnValue(False)
        self._requested_delay = 0.0
        self._has_polled = True
        outcome = "Still waiting for" if value is None else "Found"
        self.log.info("%s %s in %s.", outcome, self._description(), self._repo)
        return PokeReturnValue(value is not None, None if value is None else self._finish(context, value))

    def _get_next_poke_interval(self, *args: Any, **kwargs: Any) -> float:
        """Return the seconds to the next poke; after a rate limit, at least what the Hub asks for."""
        return max(super()._get_next_poke_interval(*args, **kwargs), self._requested_delay)

    def _evaluate(self, condition: Condition) -> Any | None:
        self._state.refresh(self.hook.hub, [condition])
        return condition.evaluate(self._state)

    def _trigger_arguments(self) -> dict[str, Any]:
        return {
            "repo_id": self._repo.repo_id,
            "repo_type": self._repo.repo_type,
            "revision": self._repo.revision,
            "xethub_conn_id": self.xethub_conn_id,
            # Airflow allows 0 for a sensor, but many triggers share one poll, which must not run without a pause.
            "poke_interval": self.poke_interval if self.poke_interval > 0 else 1.0,
            "exponential_backoff": self.exponential_backoff,
            "max_wait": self.max_wait.total_seconds() if self.max_wait else None,
            "may_be_missing": self.may_be_missing,
        }

    def _poll(self, context: Context) -> Any | None:
        """Return what the sensor waits for, or ``None`` if it does not exist yet."""
        raise NotImplementedError

    def _trigger(self, context: Context) -> BaseTrigger:
        """Return the trigger that waits for the same condition."""
        raise NotImplementedError

    def _description(self) -> str:
        """Return a few words for the log: what the sensor waits for."""
        raise NotImplementedError

    def _on_missing(self, context: Context) -> None:
        """Handle a repository or revision that does not exist yet."""

    def _finish(self, context: Context, value: Any) -> Any:  # noqa: ARG002
        """Return the XCom value for what was found."""
        return value


class XetFileSensor(XetSensor):
    """Wait until files exist in a repository, or until they have changed.

    :param path: wait for this file.
    :param paths: wait until all of these files exist.
    :param patterns: wait until files match one of these patterns (``*`` matches ``/`` as well).
    :param min_files: how many files must match ``patterns``. Default: 1.
    :param changed_from: the earlier content of the files: one record or a list of records, as an earlier sensor
        returned them, or, with ``path``, a Xet hash or sha256. Files with this content do not count.
    :param newer_than: commit ID. Files that are unchanged since that commit do not count.
    :param inline_content: as for :class:`~airflow_provider_xethub.operators.xethub.XetListOperator`: whether the
        records contain the content of files that the Hub stores inline, sealed.
    :returns: the :class:`~airflow_provider_xethub.xet.records.XetFile` for ``path``; otherwise a list of those files
        that count. Of more than ``[xethub] manifest_files`` that match ``patterns``, a
        :class:`~airflow_provider_xethub.xet.records.XetManifest`.
    """

    template_fields: Sequence[str] = (
        *REPO_FIELDS,
        "path",
        "paths",
        "patterns",
        "min_files",
        "changed_from",
        "newer_than",
    )

    def __init__(
        self,
        *,
        path: str | None = None,
        paths: str | Sequence[str] | None = None,
        patterns: str | Sequence[str] | None = None,
        min_files: int = 1,
        changed_from: str | XetFile | Sequence[XetFile] | None = None,
        newer_than: str | None = None,
        inline_content: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.paths = paths
        self.patterns = patterns
        self.min_files = min_files
        self.changed_from = changed_from
        self.newer_than = newer_than
        self.inline_content = inline_content
        self.check_written()

    @cached_property
    def _condition(self) -> FilesCondition:
        path = arguments.string("path", self.path)
        paths = arguments.selection("paths", self.paths)
        patterns = arguments.selection("patterns", self.patterns)
        if sum(each is not None for each in (path, paths, patterns)) != 1:
            raise XetInputError(f"{self.task_id}: give either path, paths or patterns.")
        return FilesCondition(
            (path,) if path is not None else tuple(paths or ()),
            tuple(patterns or ()),
            _whole_number(self.min_files),
            self._known_hashes(),
            self.newer_than,
        )

    def _known_hashes(self) -> dict[str, list[str]]:
        before = None if self.changed_from == "None" else self.changed_from
        if before is None:
            return {}
        if is_manifest(before):
            raise XetInputError(
                f"{self.task_id}: changed_from takes no manifest, because the trigger would have to store all of its "
                "records. Give newer_than the commit id instead, which the manifest of a listing names after the @."
            )
        if isinstance(before, str):
            arguments.string("changed_from", before)
            if self.path is None:
                raise XetInputError(f"{self.task_id}: a hash in changed_from requires path. Otherwise give records.")
            return {self.path: [before]}
        records: Sequence[XetFile] = [before] if isinstance(before, Mapping) else before
        try:
            return {record["path"]: sorted(hashes(record)) for record in records}
        except (KeyError, TypeError, AttributeError):
            raise XetInputError(
                f"{self.task_id}: changed_from is neither a hash nor Xet file records. Give what this sensor returned."
            ) from None

    def _poll(self, context: Context) -> list[XetFile] | None:  # noqa: ARG002
        found: list[XetFile] | None = self._evaluate(self._condition)
        return found

    def _trigger(self, context: Context) -> BaseTrigger:  # noqa: ARG002
        from airflow_provider_xethub.triggers.xethub import XetFileTrigger

        return XetFileTrigger(
            **self._trigger_arguments(),
            paths=list(self._condition.paths),
            patterns=list(self._condition.patterns),
            min_files=self._condition.min_files,
            known=self._condition.known,
            newer_than=self._condition.newer_than,
        )

    def _description(self) -> str:
        return str(self.path or self.paths or self.patterns)

    def _finish(self, context: Context, value: list[XetFile]) -> XetFile | list[XetFile]:  # noqa: ARG002
        self.hub_page = page_of_files(Repo.from_uri(value[0]["repo"]), value)
        if self.inline_content or (self.inline_content is None and is_needed_after(self)):
            with fail_without_retry():
                value = self.hook.add_inline_content(value, required=self.inline_content is True)
                return value[0] if self.path else self._result(value)
        return value[0] if self.path else self._result(value)

    def _result(self, files: list[XetFile]) -> Any:
        """Return the files that were found, many of them as a manifest."""
        with fail_without_retry():
            value = xcom_files(self, files)
            has_sealed = any("sealed_content" in file for file in files)
            is_choice = self._condition.patterns and not (self._condition.known or self._condition.newer_than)
            if not isinstance(value, list) or not self.hook.is_many(value) or has_sealed or not is_choice:
                return value
            # All files that match, so that they can be listed again; at the commit of now.
            return xcom_files(self, self.hook.find_files(self._repo, None, list(self._condition.patterns)))


class XetRevisionSensor(XetSensor):
    """Wait until a revision has a new commit.

    :param newer_than: commit ID; wait until the newest commit is a different one. ``None``: the commit that is the
        newest at the task's first poll. On Airflow 3.3 and later, the task's retries keep that commit.
    :returns: the newest :class:`~airflow_provider_xethub.xet.records.XetCommit`.
    """

    template_fields: Sequence[str] = (*REPO_FIELDS, "newer_than")

    _STATE = "xethub newer_than"

    def __init__(self, *, newer_than: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.newer_than = newer_than
        self._start: str | None = None
        self.check_written()

    def _poll(self, context: Context) -> Any | None:
        start = self._load_start(context)
        if start is not None:
            return self._evaluate(NewCommitCondition(start))
        if self.reschedule and not self.deferrable and _state_store(context) is None:
            raise XetInputError(
                f"{self.task_id}: this version of Airflow keeps no task state between the polls of reschedule mode. "
                "Give newer_than, or use deferrable=True."
            )
        newest = self._evaluate(CommitsSinceCondition(None))
        self._store_start(context, newest[-1]["oid"] if newest else NO_COMMIT)
        return None

    def _load_start(self, context: Context) -> str | None:
        start = self._start if self.newer_than is None else self.newer_than
        if start is None and (store := _state_store(context)) is not None:
            start = self._start = store.get(self._STATE)
        return start

    def _store_start(self, context: Context, oid: str) -> None:
        self._start = oid
        if (store := _state_store(context)) is not None:
            store.set(self._STATE, oid)

    def _on_missing(self, context: Context) -> None:
        if self._load_start(context) is None:
            self._store_start(context, NO_COMMIT)

    def _trigger(self, context: Context) -> BaseTrigger:
        from airflow_provider_xethub.triggers.xethub import XetRevisionTrigger

        return XetRevisionTrigger(**self._trigger_arguments(), newer_than=self._load_start(context), once=True)

    def _description(self) -> str:
        return f"a commit newer than {self.newer_than or self._start}"

    def _finish(self, context: Context, value: Any) -> Any:
        # Otherwise the task, when cleared and run again, would return the same commit at once.
        store = _state_store(context)
        if store is not None and store.get(self._STATE) is not None:
            store.delete(self._STATE)
        self.hub_page = page_of_commit(value)
        return value


def _state_store(context: Context) -> Any | None:
    """Return the store that keeps values across the attempts of a task; ``None`` before Airflow 3.3."""
    return context.get("task_state_store")


def _whole_number(value: Any) -> int:
    """Return ``value``, or the whole number that a template rendered as a string."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value
