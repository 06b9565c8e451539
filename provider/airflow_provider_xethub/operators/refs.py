"""Operators: create and delete branches and tags, and squash the history of a branch.

Importing this module loads no client library, as for :mod:`airflow_provider_xethub.operators.xethub`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.operators.base import REPO_FIELDS, XetOperator, task_state
from airflow_provider_xethub.operators.repositories import XetRepositoryOperator, is_retry
from airflow_provider_xethub.xet.hub.pages import HubPage
from airflow_provider_xethub.xet.identifiers import COMMIT_ID
from airflow_provider_xethub.xet.repo import Repo

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_xethub.xet.records import XetDeletion, XetRef, XetSquashResult

__all__ = [
    "XetCreateBranchOperator",
    "XetCreateTagOperator",
    "XetDeleteBranchOperator",
    "XetDeleteTagOperator",
    "XetSquashHistoryOperator",
]

STATE = "xethub_ref"
"""Key of the task state, which holds the commit at which an earlier attempt was to create a branch or tag."""

SQUASH_MESSAGE = "Squash {{ task_instance.task_id }} of {{ dag.dag_id }}"


class XetCreateBranchOperator(XetOperator):
    """Create a branch at the newest commit of ``revision``, unless it exists there.

    :param branch: its name; not ``main``.
    :param exist_ok: whether it may exist at another commit. It is then left there, with what was committed to it.
    :returns: a :class:`~airflow_provider_xethub.xet.records.XetRef`.
    """

    template_fields: Sequence[str] = (*REPO_FIELDS, "branch")

    def __init__(self, *, branch: str, exist_ok: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.branch = branch
        self.exist_ok = exist_ok
        self.check_written()

    def work(self, context: Context) -> XetRef:
        """Create the branch."""
        branch, repo = _required(self, "branch"), self.resolve_repo()
        start = _start(self, context, repo, f"branch {branch}")
        created = self.hook.create_branch(start, branch, exist_ok=self.exist_ok)
        self.hub_page = HubPage(repo.at(branch))
        return created


class XetDeleteBranchOperator(XetRepositoryOperator):
    """Delete a branch, but never ``main``. Commits that no other branch or tag has are lost.

    :param branch: its name.
    :param missing_ok: whether it may be missing. In a retry it always may: an earlier attempt may have deleted it.
    :returns: a :class:`~airflow_provider_xethub.xet.records.XetDeletion`.
    """

    template_fields: Sequence[str] = (*REPO_FIELDS, "branch")

    def __init__(self, *, branch: str, missing_ok: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.branch = branch
        self.missing_ok = missing_ok
        self.check_written()

    def work(self, context: Context) -> XetDeletion:
        """Delete the branch."""
        branch, repo = _required(self, "branch"), self.resolve_whole_repo()
        deleted = self.hook.delete_branch(repo, branch, missing_ok=self.missing_ok or is_retry(context))
        return {"repo": repo.uri, "name": branch, "deleted": deleted}


class XetCreateTagOperator(XetOperator):
    """Create a tag at the newest commit of ``revision``, unless it exists there.

    :param tag: its name.
    :param tag_message: message of the tag.
    :returns: a :class:`~airflow_provider_xethub.xet.records.XetRef`.
    """

    template_fields: Sequence[str] = (*REPO_FIELDS, "tag", "tag_message")

    def __init__(self, *, tag: str, tag_message: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tag = tag
        self.tag_message = tag_message
        self.check_written()

    def work(self, context: Context) -> XetRef:
        """Create the tag."""
        tag, repo = _required(self, "tag"), self.resolve_repo()
        created = self.hook.create_tag(_start(self, context, repo, f"tag {tag}"), tag, message=self.tag_message)
        self.hub_page = HubPage(repo.at(tag))
        return created


class XetDeleteTagOperator(XetRepositoryOperator):
    """Delete a tag. Commits that no branch and no other tag has are lost.

    :param tag: its name.
    :param missing_ok: whether it may be missing. In a retry it always may: an earlier attempt may have deleted it.
    :returns: a :class:`~airflow_provider_xethub.xet.records.XetDeletion`.
    """

    template_fields: Sequence[str] = (*REPO_FIELDS, "tag")

    def __init__(self, *, tag: str, missing_ok: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tag = tag
        self.missing_ok = missing_ok
        self.check_written()

    def work(self, context: Context) -> XetDeletion:
        """Delete the tag."""
        tag, repo = _required(self, "tag"), self.resolve_whole_repo()
        deleted = self.hook.delete_tag(repo, tag, missing_ok=self.missing_ok or is_retry(context))
        return {"repo": repo.uri, "name": tag, "deleted": deleted}


class XetSquashHistoryOperator(XetOperator):
    """Replace the history of the branch ``revision`` by one commit with the same files. It cannot be restored.

    Tags and other branches keep their history. A branch that has one commit stays as it is, so a second run does
    nothing.

    :param commit_message: title of that commit.
    :returns: a :class:`~airflow_provider_xethub.xet.records.XetSquashResult`.
    """

    template_fields: Sequence[str] = (*REPO_FIELDS, "commit_message")

    def __init__(self, *, commit_message: str = SQUASH_MESSAGE, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.commit_message: str | None = commit_message
        self.check_written()

    def work(self, context: Context) -> XetSquashResult:
        """Squash the history."""
        if self.commit_message is None:
            self.commit_message = self.render_template(SQUASH_MESSAGE, context)
        squashed = self.hook.squash_history(self.resolve_repo(), self.commit_message)
        self.hub_page = HubPage(Repo.from_uri(squashed["repo"]), "commit", squashed["oid"])
        return squashed


def _required(task: XetOperator, name: Literal["branch", "tag"]) -> str:
    """Return the name of the branch or tag.

    :raises XetInputError: a template was rendered to ``None``.
    """
    value: str | None = getattr(task, name)
    if value is None:
        raise XetInputError(f"{task.task_id}: {name} is empty: a template or task returned no value.")
    return value


def _start(task: XetOperator, context: Context, repo: Repo, what: str) -> Repo:
    """Return the repository at the commit to start from: that of an earlier attempt, even if the branch moved on."""
    state = task_state(context)
    key = f"{what} of {repo.uri}"
    known = state.recall(STATE)
    oid = str(known.get("oid"))
    if known.get("key") != key or not COMMIT_ID.fullmatch(oid):
        oid = task.hook.get_latest_commit(repo)["oid"]
        state.remember(STATE, {"key": key, "oid": oid})
    return repo.at(oid)
