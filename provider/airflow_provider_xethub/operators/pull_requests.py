"""Operators: merge and close pull requests, and comment on them. Operators that publish open one with ``create_pr``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.hooks.attempt import instance_key, is_first_start
from airflow_provider_xethub.operators.base import REPO_FIELDS, XetOperator
from airflow_provider_xethub.xet.arguments import OnEmpty
from airflow_provider_xethub.xet.hub.pages import HubPage, page_of_commit
from airflow_provider_xethub.xet.message_text import counted

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_xethub.xet.records import XetCommitResult, XetPullRequest
    from airflow_provider_xethub.xet.repo import Repo


class XetPullRequestOperator(XetOperator):
    """Base of the operators that change a pull request.

    :param pull_request: the output of a task that publishes with ``create_pr=True``, or the number, ``refs/pr/N`` or
        the URL of the pull request. ``None``: ``revision`` names it, as ``refs/pr/N``.
    :param on_empty: what to do if ``pull_request`` is empty because nothing was published: ``fail``, or ``skip`` the
        task.
    """

    template_fields: Sequence[str] = (*REPO_FIELDS, "pull_request")

    def __init__(self, *, pull_request: Any = None, on_empty: OnEmpty = "fail", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pull_request = pull_request
        self.on_empty = on_empty
        self.check_written()

    def resolve_pull_request(self) -> tuple[Repo, int]:
        """Return the repository and the number of the pull request.

        :raises XetInputError: the arguments name none, or one of another repository.
        :raises AirflowSkipException: they name none, and ``on_empty`` is ``skip``.
        """
        from airflow_provider_xethub.xet.hub import pull_requests

        repo = self.resolve_repo()
        pull_requests.check_not_bucket(repo)
        number = pull_requests.number_of(self.pull_request, repo)
        if number is None and repo.revision.startswith(pull_requests.REFERENCE):
            number = pull_requests.number_of(repo.revision, repo)
        if number is None:
            self.fail_or_skip(
                XetInputError(
                    f"{self.task_id}: pull_request is empty. The task that publishes opened none: it has no "
                    "create_pr=True, or nothing changed. Use on_empty='skip' to skip this task then."
                )
            )
        self.hub_page = HubPage(repo, "discussion", str(number))
        return repo, number


class XetMergePullRequestOperator(XetPullRequestOperator):
    """Merge a pull request, and describe the merge in the events of the task's outlets.

    It is safe to retry: if the pull request is merged already, the task succeeds and says so. A draft is published
    first. Nothing is merged if the pull request is closed or conflicts with its branch.

    :param head_commit: the newest commit in the pull request, as ID or as the output of the task that scanned or
        checked it: merge only if no other has been added since. ``None``: merge whatever it contains.
    :param comment: text of a comment on the merge.
    :returns: a :class:`~airflow_provider_xethub.xet.records.XetCommitResult` of the commit on the branch, with
        the files that the merge changed. ``created`` is ``False`` if the pull request was merged before this task.
    """

    template_fields: Sequence[str] = (*XetPullRequestOperator.template_fields, "head_commit", "comment")

    def __init__(self, *, head_commit: Any = None, comment: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.head_commit = head_commit
        self.comment = comment
        self.check_written()

    def work(self, context: Context) -> XetCommitResult:
        """Merge the pull request."""
        from airflow_provider_xethub.assets.outlets import record_events

        repo, number = self.resolve_pull_request()
        result = self.hook.merge_pull_request(
            repo,
            number,
            comment=self.comment,
            head_commit=_commit_id(self.head_commit),
            is_first_try=is_first_start(context),
        )
        changed = counted(len(result["files"]) + len(result["deleted"]), "changed file")
        verb = "Merged" if result["created"] else "Nothing to merge:"
        self.log.info("%s pull request %d into %s (%s): %s", verb, number, result["repo"], changed, result["url"])
        self.hub_page = page_of_commit(result)
        record_events(context, self.outlets, result)
        return result


def _commit_id(commit: Any) -> str | None:
    """Return the ID of a commit that is given by itself or in a record; ``None`` if none is given."""
    found = commit.get("oid") if isinstance(commit, Mapping) else commit
    if commit is not None and found is None:
        raise XetInputError(f"head_commit is not a commit: {commit!r:.80}. Give its ID, or the output of a task.")
    return None if found == "None" else found


class XetClosePullRequestOperator(XetPullRequestOperator):
    """Close a pull request without merging it. If it is closed already, the task succeeds.

    :param comment: text of a comment that says why.
    :returns: a :class:`~airflow_provider_xethub.xet.records.XetPullRequest`.
    """

    template_fields: Sequence[str] = (*XetPullRequestOperator.template_fields, "comment")

    def __init__(self, *, comment: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.comment = comment
        self.check_written()

    def work(self, context: Context) -> XetPullRequest:  # noqa: ARG002
        """Close the pull request."""
        repo, number = self.resolve_pull_request()
        closed = self.hook.close_pull_request(repo, number, comment=self.comment)
        self.log.info("Closed pull request %d of %s: %s", number, closed["base"], closed["url"])
        return closed


class XetCommentPullRequestOperator(XetPullRequestOperator):
    """Comment on a pull request once: a retry of the task adds no second comment.

    :param comment: the text, in Markdown.
    :returns: the URL of the pull request.
    """

    template_fields: Sequence[str] = (*XetPullRequestOperator.template_fields, "comment")

    def __init__(self, *, comment: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.comment = comment
        self.check_written()

    def work(self, context: Context) -> str:
        """Add the comment."""
        repo, number = self.resolve_pull_request()
        is_added = self.hook.comment_pull_request(repo, number, self.comment, key=instance_key(context))
        url = f"{self.hook.endpoint}{HubPage(repo, 'discussion', str(number)).path}"
        self.log.info("%s pull request %d: %s", "Commented on" if is_added else "Found the comment on", number, url)
        return url
