"""The sensor that waits until a pull request is merged."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.hooks.task_mixin import REPO_FIELDS
from airflow_provider_xethub.sensors.xethub import XetSensor
from airflow_provider_xethub.xet.arguments import OnEmpty
from airflow_provider_xethub.xet.hub.pages import HubPage, page_of_commit
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.wait.details import PULL_REQUEST, MergedCondition, check_pull_request

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_xethub.xet.records import XetCommit


class XetPullRequestSensor(XetSensor):
    """Wait until a pull request is merged; fail at once if it is closed without being merged.

    :param pull_request: the output of a task that publishes with ``create_pr=True``, or the number, ``refs/pr/N`` or
        the URL of the pull request. ``None``: ``revision`` names it, as ``refs/pr/N``.
    :param on_empty: what to do if ``pull_request`` is empty because nothing was published: ``fail``, or ``skip`` the
        task.
    :returns: the :class:`~airflow_provider_xethub.xet.records.XetCommit` that merged it, with the branch in ``repo``.
    """

    template_fields: Sequence[str] = (*REPO_FIELDS, "pull_request")

    def __init__(self, *, pull_request: Any = None, on_empty: OnEmpty = "fail", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pull_request = pull_request
        self.on_empty = on_empty
        self.check_written()

    @cached_property
    def _repo(self) -> Repo:
        from airflow_provider_xethub.xet.hub.pull_requests import number_of

        repo = self.repo_of_arguments()
        number = number_of(self.pull_request, repo)
        if number is None and not repo.revision.startswith(PULL_REQUEST):
            error = XetInputError(
                f"{self.task_id}: pull_request is empty. The task that publishes opened none: it has no "
                "create_pr=True, or nothing changed. Use on_empty='skip' to skip this task then."
            )
            if self.on_empty == "skip":
                raise AirflowSkipException(f"Skipped, because there is nothing to do. {error}")
            raise error
        found = repo if number is None else repo.at(f"{PULL_REQUEST}{number}")
        check_pull_request(found)
        return found

    def _poll(self, context: Context) -> XetCommit | None:  # noqa: ARG002
        self.hub_page = HubPage(self._repo, "discussion", self._repo.revision.removeprefix(PULL_REQUEST))
        found: XetCommit | None = self._evaluate(MergedCondition())
        return found

    def _trigger(self, context: Context) -> BaseTrigger:  # noqa: ARG002
        from airflow_provider_xethub.triggers.pull_requests import XetPullRequestTrigger

        return XetPullRequestTrigger(**self._trigger_arguments())

    def _description(self) -> str:
        return "the merge of the pull request"

    def _finish(self, context: Context, value: XetCommit) -> XetCommit:  # noqa: ARG002
        self.hub_page = page_of_commit(value)
        return value
