"""Operators: create, change and delete repositories and buckets, and delete content that nothing refers to.

Importing this module loads no client library, as for :mod:`airflow_provider_xethub.operators.xethub`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.hooks.attempt import is_first_start
from airflow_provider_xethub.hooks.errors import fail_without_retry
from airflow_provider_xethub.operators.base import REPO_FIELDS, XetOperator
from airflow_provider_xethub.xet import arguments
from airflow_provider_xethub.xet.hub.pages import HubPage
from airflow_provider_xethub.xet.repo import DEFAULT_REVISION, Repo

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_xethub.xet.hub.api.repositories import Gated, SpaceSdk, Visibility
    from airflow_provider_xethub.xet.records import XetCleanup, XetDeletion, XetRepo

__all__ = [
    "XetCreateRepoOperator",
    "XetDeleteRepoOperator",
    "XetDeleteUnreferencedFilesOperator",
    "XetRepositoryOperator",
    "XetUpdateRepoOperator",
]


class XetRepositoryOperator(XetOperator):
    """Base of the operators that work on a whole repository, at no revision: they refuse ``revision``."""

    def resolve_whole_repo(self) -> Repo:
        """Return the repository at ``main``, also where the connection has another default revision.

        :raises XetInputError: ``revision`` is given, so the author may expect that only a branch is meant.
        """
        if self.revision is not None:
            raise XetInputError(
                f"{self.task_id}: leave out revision ({self.revision!r:.60}): {type(self).__name__} works on the whole "
                "repository."
            )
        repo = self.resolve_repo()
        repo = repo if repo.is_bucket else repo.at(DEFAULT_REVISION)
        self.hub_page = HubPage(repo)
        return repo


class XetCreateRepoOperator(XetRepositoryOperator):
    """Create a repository or bucket, unless it exists.

    It is safe to retry, and to run in many tasks at once. A repository that exists is left as it is, and needs no
    permission to create one.

    :param visibility: ``private``, ``public`` or, for a Space, ``protected``. ``None``: private, also where the
        organization's default is public; and as it is if it exists. If it exists and has another visibility than the
        one given, the task fails.
    :param exist_ok: whether it may exist already.
    :param license: license of a model or dataset, such as ``apache-2.0``. It is committed as ``README.md`` unless the
        repository has more than its first commit.
    :param space_sdk: ``docker``, ``gradio``, ``static`` or ``streamlit``; required for a Space.
    :returns: a :class:`~airflow_provider_xethub.xet.records.XetRepo`.
    """

    template_fields: Sequence[str] = (*REPO_FIELDS, "license")

    def __init__(
        self,
        *,
        visibility: Visibility | None = None,
        exist_ok: bool = True,
        license: str | None = None,  # noqa: A002 - the Hub's own name
        space_sdk: SpaceSdk | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.visibility = visibility
        self.exist_ok = exist_ok
        self.license = license
        self.space_sdk = space_sdk
        self.check_written()

    def work(self, context: Context) -> XetRepo:
        """Create the repository."""
        return self.hook.create_repo(
            self.resolve_whole_repo(),
            visibility=self.visibility,
            # An earlier attempt may have created it and lost the response.
            exist_ok=self.exist_ok or is_retry(context),
            license=self.license,
            space_sdk=self.space_sdk,
        )


class XetDeleteRepoOperator(XetRepositoryOperator):
    """Delete a repository or bucket with all of its files and its history. It cannot be restored.

    :param confirm: the ``repo_id``, written again in the DAG file. It is not a template field, so what a template, a
        parameter or another task returns as ``repo_id`` is deleted only if the DAG file itself names it.
    :param missing_ok: whether it may be missing, which includes that the Hub token has no access to it. In a retry it
        always may, because an earlier attempt may have deleted it.
    :returns: a :class:`~airflow_provider_xethub.xet.records.XetDeletion`.
    """

    def __init__(self, *, confirm: str, missing_ok: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.confirm = confirm
        self.missing_ok = missing_ok
        self.check_written()

    @fail_without_retry()
    def check_written(self) -> None:
        """Check what the DAG file says; ``confirm`` must be in it, letter by letter."""
        super().check_written()
        confirm = getattr(self, "confirm", "")
        if not isinstance(confirm, str) or "{" in confirm:
            raise XetInputError(
                f"{self.task_id}: confirm must be the repo_id, written in the DAG file, not a template or the output "
                "of a task."
            )

    def work(self, context: Context) -> XetDeletion:
        """Delete the repository."""
        repo = self.resolve_whole_repo()
        self._require_written_confirm()
        deleted = self.hook.delete_repo(repo, confirm=self.confirm, missing_ok=self.missing_ok or is_retry(context))
        self.hub_page = None  # its page is gone
        return {"repo": repo.uri, "name": None, "deleted": deleted}

    def _require_written_confirm(self) -> None:
        """Refuse a mapped task whose ``confirm`` is the output of another task.

        :raises XetInputError: it is.
        """
        dag = self.get_dag()
        mapped: Any = dag.get_task(self.task_id) if dag else self
        if not getattr(mapped, "is_mapped", False):
            return
        if "confirm" in mapped.partial_kwargs or not [*mapped._get_specified_expand_input().iter_references()]:
            return
        raise XetInputError(
            f"{self.task_id}: confirm comes from another task. Nothing was deleted. Write it in the DAG file: in "
            "partial(confirm=…), or as a literal list in expand()."
        )


class XetUpdateRepoOperator(XetRepositoryOperator):
    """Change who can see a repository or bucket, and whether access to its files has to be requested.

    :param visibility: ``private``, ``public`` or, for a Space, ``protected``. ``None``: as it is. Not a template field,
        so the DAG file says what becomes public.
    :param gated: of a model or dataset: ``auto`` (requests are granted at once), ``manual`` (somebody has to grant
        them) or ``False``. ``None``: as it is.
    :returns: a :class:`~airflow_provider_xethub.xet.records.XetRepo`.
    """

    def __init__(self, *, visibility: Visibility | None = None, gated: Gated | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.visibility = visibility
        self.gated = gated
        self.check_written()

    def work(self, context: Context) -> XetRepo:  # noqa: ARG002
        """Change the settings."""
        return self.hook.update_repo(self.resolve_whole_repo(), visibility=self.visibility, gated=self.gated)


class XetDeleteUnreferencedFilesOperator(XetRepositoryOperator):
    """List stored content that no branch, tag or pull request refers to; with ``dry_run=False``, delete it for good.

    Run it when nothing else writes to the repository: a commit that someone makes at this very moment may refer to
    content that is being deleted.

    :param dry_run: only list it, in the log and as the result.
    :param min_age: keep what was pushed more recently, as a ``timedelta`` or in seconds: an upload in progress may be
        about to commit it.
    :returns: a :class:`~airflow_provider_xethub.xet.records.XetCleanup`.
    """

    def __init__(self, *, dry_run: bool = True, min_age: timedelta | float = timedelta(days=7), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.is_dry_run = dry_run  # BaseOperator has a method of the other name
        self.min_age = min_age
        self.check_written()

    def work(self, context: Context) -> XetCleanup:  # noqa: ARG002
        """List or delete the content."""
        is_zero = self.min_age in (0, timedelta(0)) and not isinstance(self.min_age, bool)
        age = 0.0 if is_zero else arguments.seconds("min_age", self.min_age)
        return self.hook.delete_unreferenced_files(
            self.resolve_whole_repo(), dry_run=self.is_dry_run, min_age=timedelta(seconds=age)
        )


def is_retry(context: Context) -> bool:
    """Return whether an earlier attempt of the task may have done its work already."""
    return not is_first_start(context)
