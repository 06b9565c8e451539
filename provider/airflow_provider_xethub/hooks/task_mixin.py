"""The base that operators and sensors share: arguments that name a repository, the hook, and the page for the link."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from typing import TYPE_CHECKING

from airflow_provider_xethub.hooks.rendering import RenderedArguments
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.repo import Repo

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperatorLink

    from airflow_provider_xethub.xet.hub.pages import HubPage

REPO_FIELDS: tuple[str, ...] = ("xethub_conn_id", "repo_id", "repo_type", "revision")
"""Template fields of every operator and sensor that works on a repository."""


class RepositoryTaskMixin(RenderedArguments):
    """Mixin for operators and sensors that work on one repository.

    It has no constructor, because Airflow applies ``default_args`` and checks ``partial()`` by the constructors of
    operators only. The two bases that use it take the arguments in theirs, and pass them to :meth:`set_repo_arguments`.

    :ivar hub_page: the page that "Open on the Hub" opens; ``None`` until the repository is known.
    """

    operator_extra_links: Collection[BaseOperatorLink]
    do_xcom_push: bool
    repo_id: str | None
    repo_type: str | None
    revision: str | None
    xethub_conn_id: str | None
    hub_page: HubPage | None

    def set_repo_arguments(
        self, *, repo_id: str | None, repo_type: str | None, revision: str | None, xethub_conn_id: str | None
    ) -> None:
        """Store the arguments; called by the constructors of the bases."""
        self.repo_id = repo_id
        self.repo_type = repo_type
        self.revision = revision
        self.xethub_conn_id = xethub_conn_id
        self.hub_page = None
        if not self.do_xcom_push:
            self.operator_extra_links = ()  # Airflow stores a link as an XCom

    @cached_property
    def hook(self) -> XetHubConnection:
        """The hook of the task's connection."""
        return XetHubConnection(self.xethub_conn_id)

    def repo_of_arguments(self) -> Repo:
        """Return the repository that the arguments name, with the connection's defaults for those that are ``None``.

        :raises XetInputError: neither names a repository, or a name is not valid.
        """
        return self.hook.repo(self.repo_id, self.repo_type, self.revision)
