"""The sensor that waits for the Hub's security scan of files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.hooks.task_mixin import REPO_FIELDS
from airflow_provider_xethub.sensors.xethub import XetSensor
from airflow_provider_xethub.xet import arguments
from airflow_provider_xethub.xet.arguments import OnEmpty
from airflow_provider_xethub.xet.hub.pages import HubPage, page_of_commit
from airflow_provider_xethub.xet.message_text import counted
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.wait.details import PULL_REQUEST, MissingScan, ScannedCondition

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_xethub.xet.records import XetScanResult


class XetScanSensor(XetSensor):
    """Wait until the Hub's security scan has seen files at the newest commit, and found all of them safe.

    The task fails at once if a scanner found an issue. A scan without a result is waited for, also one that failed, as
    the Hub may repeat it. Without ``path``, ``paths`` and ``patterns``, all files of the revision count.

    :param pull_request: a pull request instead of ``revision``: the output of a task that publishes with
        ``create_pr=True``, or the number, ``refs/pr/N`` or the URL of the pull request.
    :param paths: only these files.
    :param patterns: only files that match one of these patterns (``*`` matches ``/`` as well).
    :param exclude: leave out files whose path matches one of these.
    :param missing_scan: what to do about a file of which the Hub reports no scan, not even one without a result, five
        minutes after its commit: ``fail``; ``wait``; or ``accept`` it, for a Hub that does not scan.
    :param on_empty: what to do if ``pull_request`` was given and is empty, because nothing was published: ``fail``, or
        ``skip`` the task.
    :returns: a :class:`~airflow_provider_xethub.xet.records.XetScanResult`: the commit that was scanned. Its ``oid`` is
        the revision to download, and the ``head_commit`` to merge.
    """

    template_fields: Sequence[str] = (*REPO_FIELDS, "pull_request", "paths", "patterns", "exclude")

    def __init__(
        self,
        *,
        pull_request: Any = None,
        paths: str | Sequence[str] | None = None,
        patterns: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        missing_scan: MissingScan = "fail",
        on_empty: OnEmpty = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pull_request = pull_request
        self.paths = paths
        self.patterns = patterns
        self.exclude = exclude
        self.missing_scan = missing_scan
        self.on_empty = on_empty
        # Compared here, because an XComArg may resolve to None.
        self._has_pull_request = pull_request is not None
        self.check_written()

    @cached_property
    def _repo(self) -> Repo:
        from airflow_provider_xethub.xet.hub.pull_requests import number_of

        repo = self.repo_of_arguments()
        if not self._has_pull_request:
            return repo
        number = number_of(self.pull_request, repo)
        if number is not None:
            return repo.at(f"{PULL_REQUEST}{number}")
        error = XetInputError(
            f"{self.task_id}: pull_request is empty. The task that publishes opened none: it has no create_pr=True, or "
            "nothing changed. Use on_empty='skip' to skip this task then."
        )
        if self.on_empty == "skip":
            raise AirflowSkipException(f"Skipped, because there is nothing to do. {error}")
        raise error

    @cached_property
    def _condition(self) -> ScannedCondition:
        return ScannedCondition(
            tuple(arguments.selection("paths", self.paths) or ()),
            tuple(arguments.selection("patterns", self.patterns) or ()),
            tuple(arguments.selection("exclude", self.exclude) or ()),
            self.missing_scan,
        )

    def _poll(self, context: Context) -> XetScanResult | None:  # noqa: ARG002
        number = self._repo.revision.removeprefix(PULL_REQUEST)
        if number != self._repo.revision:
            self.hub_page = HubPage(self._repo, "discussion", number)
        found: XetScanResult | None = self._evaluate(self._condition)
        return found

    def _trigger(self, context: Context) -> BaseTrigger:  # noqa: ARG002
        from airflow_provider_xethub.triggers.scans import XetScanTrigger

        return XetScanTrigger(
            **self._trigger_arguments(),
            paths=list(self._condition.paths),
            patterns=list(self._condition.patterns),
            exclude=list(self._condition.exclude),
            missing_scan=self.missing_scan,
        )

    def _description(self) -> str:
        return "the security scan"

    def _finish(self, context: Context, value: XetScanResult) -> XetScanResult:  # noqa: ARG002
        unscanned = value["file_count"] - value["scanned_count"]
        more = f"; the Hub reports no scan of {unscanned}, which missing_scan accepts" if unscanned else ""
        self.log.info("Scanned %s of %s, none unsafe%s.", counted(value["scanned_count"], "file"), value["url"], more)
        self.hub_page = page_of_commit(value)
        return value
