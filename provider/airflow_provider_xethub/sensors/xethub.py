"""Sensors: wait for files.

Importing this module loads no client library: ``requests`` and ``huggingface_hub`` load inside the task.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseSensorOperator, PokeReturnValue

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.hooks.errors import final_errors
from airflow_provider_xethub.hooks.xethub import XetHubConnection

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_xethub.records import XetFile


class XetFileSensor(BaseSensorOperator):
    """Wait until files are in a repository; works in ``poke`` and in ``reschedule`` mode.

    A repository or revision that does not exist, and a credential that may not see it, fail the task at once instead
    of waiting for the timeout.

    :param path: wait for this file.
    :param patterns: wait until at least one path matches one of these (``*`` matches ``/`` as well).
    :param repo_id: ``namespace/name``; the connection's default where ``None``.
    :param repo_type: ``model``, ``dataset``, ``space`` or ``bucket``; the connection's default, and then ``model``.
    :param revision: branch, tag, commit or ``refs/pr/N``; the connection's default, and then ``main``.
    :param xethub_conn_id: the connection.
    :returns: for ``path`` its :class:`~airflow_provider_xethub.records.XetFile`, for ``patterns`` a list of them.
    """

    template_fields: Sequence[str] = ("xethub_conn_id", "repo_id", "repo_type", "revision", "path", "patterns")

    def __init__(
        self,
        *,
        path: str | None = None,
        patterns: str | Sequence[str] | None = None,
        repo_id: str | None = None,
        repo_type: str | None = None,
        revision: str | None = None,
        xethub_conn_id: str | None = XetHubConnection.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.patterns = patterns
        self.repo_id = repo_id
        self.repo_type = repo_type
        self.revision = revision
        self.xethub_conn_id = xethub_conn_id

    @cached_property
    def hook(self) -> XetHubConnection:
        """The hook for this task's connection."""
        return XetHubConnection(self.xethub_conn_id)

    def poke(self, context: Context) -> PokeReturnValue:  # noqa: ARG002
        """Look once."""
        with final_errors():
            if bool(self.path) == bool(self.patterns):
                raise XetInputError(f"{self.task_id}: give either path or patterns.")
            repo = self.hook.repo(self.repo_id, self.repo_type, self.revision)
            files: list[XetFile]
            if self.path:
                files = self.hook.get_files(repo, [self.path])
            else:
                files = self.hook.list_files(repo, patterns=self.patterns)
        wanted = self.path or self.patterns
        self.log.info("%s %s in %s.", wanted, "is" if files else "is not yet", repo)
        return PokeReturnValue(bool(files), (files[0] if self.path else files) if files else None)
