"""What the operators have in common: the repository, the hook, the token, and how a task is stopped."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseOperator, XComArg

from airflow_provider_xethub.exceptions import XetCancelledError, XetHubError, XetInputError, XetNotFoundError
from airflow_provider_xethub.hooks import connection
from airflow_provider_xethub.hooks.errors import fail_without_retry
from airflow_provider_xethub.hooks.metrics import Direction, count_transfer
from airflow_provider_xethub.hooks.rendering import RenderedArguments
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.links.xethub import XetHubLink
from airflow_provider_xethub.xet import arguments, progress
from airflow_provider_xethub.xet.arguments import OnEmpty
from airflow_provider_xethub.xet.hub.pages import HubPage, page_of_commit
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.task_state import TaskState
from airflow_provider_xethub.xet.token import SealedTokenDict

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_xethub.xet.records import XetCommitResult, XetFile

REPO_FIELDS: tuple[str, ...] = ("xethub_conn_id", "repo_id", "repo_type", "revision")
"""Template fields of every operator and sensor."""


class XetOperator(RenderedArguments, BaseOperator):
    """Base of the operators: the repository, the hook, and how a task is stopped.

    :param repo_id: ``namespace/name``; the token's, the records' or the connection's default where ``None``. Not the
        token's where it does not open on the worker: then nothing confirms what it says.
    :param repo_type: ``model``, ``dataset``, ``space`` or ``bucket``; as above, and then ``model``.
    :param revision: branch, tag, commit or ``refs/pr/N``; as above, and then ``main``.
    :param xethub_conn_id: the connection; ``None`` on workers that have none and work with ``token`` only.
    :ivar hub_page: what "Open on the Hub" opens: the repository, once it is known; ``work`` may set a better one.
    """

    template_fields: Sequence[str] = REPO_FIELDS
    operator_extra_links: tuple[XetHubLink, ...] = (XetHubLink(),)
    on_empty: OnEmpty = "fail"
    commit_message: Any = ""
    default_message = ""

    def __init__(
        self,
        *,
        repo_id: str | None = None,
        repo_type: str | None = None,
        revision: str | None = None,
        xethub_conn_id: str | None = XetHubConnection.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.repo_id = repo_id
        self.repo_type = repo_type
        self.revision = revision
        self.xethub_conn_id = xethub_conn_id
        self.hub_page: HubPage | None = None
        if not self.do_xcom_push:
            self.operator_extra_links = ()  # Airflow stores a link as an XCom
        self._executing = False
        self.check_written()

    @cached_property
    def hook(self) -> XetHubConnection:
        """The hook for this task's connection."""
        return XetHubConnection(self.xethub_conn_id)

    def execute(self, context: Context) -> Any:
        """Do the work; errors that no retry can mend fail the task at once."""
        self._executing = True
        try:
            with fail_without_retry():
                self.check_rendered()
                if self.default_message and self.commit_message is None:
                    self.commit_message = self.render_template(self.default_message, context)
                return self.work(context)
        finally:
            self._executing = False

    def nothing_to_do(self, error: XetHubError) -> NoReturn:
        """End a task that has nothing to do, as ``on_empty`` says.

        :raises AirflowSkipException: with ``skip``.
        :raises XetHubError: the error given, with ``fail``.
        """
        if self.on_empty == "skip":
            raise AirflowSkipException(f"Skipped, because there is nothing to do. {error}") from error
        raise error

    def work(self, context: Context) -> Any:
        """Do what the operator is for, and return its XCom value."""
        raise NotImplementedError(f"{type(self).__name__} does not implement work()")

    def on_kill(self) -> None:
        """Stop at once: Airflow calls this in the signal handler of the task's main thread.

        :raises XetCancelledError: into whatever ``execute`` is doing; the transfer it interrupts is aborted.
        """
        if self._executing:
            self._executing = False
            raise XetCancelledError(f"Task {self.task_id} was stopped. Nothing that it had not finished was kept.")

    def resolve_repo(self, token: SealedTokenDict | None = None, default: Repo | None = None) -> Repo:
        """Return the repository: from the arguments, else from the token, the records, or the connection.

        A token that does not open here decides nothing, and then nor do records; see ``hook.token_repo``.

        :raises XetInputError: there is none, or a name is not valid.
        :raises XetTokenSealError: only a token that does not open here says which.
        """
        if token is not None:
            repo = self.hook.token_repo(token, self.repo_id, self.repo_type, self.revision)
        elif default is None:
            repo = self.hook.repo(self.repo_id, self.repo_type, self.revision)
        else:
            repo = Repo(
                self.repo_id or default.repo_id,
                self.repo_type or default.repo_type,  # type: ignore[arg-type]
                self.revision or default.revision,
            )
        self.hub_page = HubPage(repo)
        return repo

    def find_files(
        self,
        repo: Repo,
        path: str | None = None,
        paths: str | Sequence[str] | None = None,
        patterns: str | Sequence[str] | None = None,
    ) -> list[XetFile]:
        """Return the records of what is wanted from a repository: ``paths``, or what ``path`` and ``patterns`` match.

        :raises XetNotFoundError: one of the paths does not exist, or nothing matches.
        :raises AirflowSkipException: there is no file, or nothing matches, and ``on_empty`` is ``skip``.
        """
        if paths is not None:
            wanted = list(dict.fromkeys(arguments.selection("paths", paths) or ()))
            files = self.hook.get_files(repo, wanted)
            if missing := sorted(set(wanted) - {file["path"] for file in files}):
                raise XetNotFoundError(f"{', '.join(missing)}: not in {repo}. Nothing was done.", status=404)
            return files
        files = self.hook.list_files(repo, path, patterns)
        if not files:
            matching = f" that matches {patterns!r}" if patterns is not None else ""
            self.nothing_to_do(XetNotFoundError(f"{repo} has no file{matching}. Nothing was done.", status=404))
        return files

    def given_files(self, files: Any, task_does: str) -> list[XetFile]:
        """Return the records that were given as an argument.

        :param files: ``None`` where the task that was to return them returned nothing.
        :param task_does: such as ``download``, for the message.
        :raises XetInputError: there are none, or they are something else.
        :raises AirflowSkipException: there are none, and ``on_empty`` is ``skip``.
        """
        from airflow_provider_xethub.xet.files import targets as downloads

        records = [] if files is None else downloads.check_files(files)
        if not records:
            self.nothing_to_do(XetInputError(f"{self.task_id}: files is empty, so there is nothing to {task_does}."))
        return records

    def tell_commit(self, context: Context, result: XetCommitResult) -> None:
        """Tell what was committed: in the log, in the events of the task's outlets, and with the link to the Hub."""
        from airflow_provider_xethub.assets.outlets import tell_outlets

        verb = "Committed" if result["created"] else "Nothing new to commit:"
        self.log.info("%s %d file(s) to %s: %s", verb, len(result["files"]), result["repo"], result["url"])
        self.hub_page = page_of_commit(result, result["files"], result["pull_request"])
        tell_outlets(context, self.outlets, result)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage:  # noqa: ARG002
        """Return what the task read and wrote; only Airflow's OpenLineage provider calls this."""
        from airflow_provider_xethub.assets.openlineage import operator_lineage

        return operator_lineage(self.hook)


class XetTransferOperator(XetOperator):
    """Base of the operators that move bytes: with their own token, or with one that another task fetched.

    :param token: the output of a ``XetTokenOperator``. Not a template field, so that it is in no rendered template.
    """

    def __init__(self, *, token: SealedTokenDict | XComArg | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.token = token
        if isinstance(token, XComArg) and not getattr(self, "_BaseOperator__from_mapped", False):
            # Airflow does this for template fields only.
            XComArg.apply_upstream_relationship(self, token)
        self.check_written()

    def resolve_repo(self, token: SealedTokenDict | None = None, default: Repo | None = None) -> Repo:
        """Return the repository; where the token that was given is forgotten, records do not take its place."""
        return super().resolve_repo(token, default if self.token is None else None)

    def resolve_token(self, context: Context) -> SealedTokenDict | None:
        """Return the XCom value behind ``token``; ``None`` if it was not given, or was forgotten."""
        if not isinstance(self.token, XComArg):
            return self.token
        value: SealedTokenDict | None = self.token.resolve(context)
        if value is None:
            tasks = ", ".join(sorted(operator.task_id for operator, _ in self.token.iter_references()))
            text = f"The token of task {tasks} is not there: it was forgotten, or {tasks} did not run before this task"
            if not self.hook.has_connection:
                error = XetInputError(f"{text} (between mapped tasks, write {tasks} >> {self.task_id}).")
                raise connection.needed(self.hook.xethub_conn_id, error)
            self.log.info("%s; fetching one.", text)
        return value

    def tell(self, context: Context, direction: Direction, transfer: Any, repo: Repo, key: str = "transfer") -> None:
        """Tell what was moved: in the log, as the XCom ``key``, and as Airflow metrics."""
        if direction == "upload":
            self.log.info("Uploaded %s.", progress.sent(transfer))
        else:
            self.log.info("Downloaded %s.", progress.received(transfer))
        if self.do_xcom_push:
            context["ti"].xcom_push(key=key, value=transfer)
        count_transfer(direction, transfer, repo.repo_type)


def is_first_try(context: Context) -> bool:
    """Whether no try of this task instance was before: Airflow counts every start of one, also after a lost worker."""
    return bool(context["ti"].try_number == 1)


def work_key(context: Context) -> str:
    """Return what is the same in all tries of one task instance, and in no other: marks its commit."""
    ti = context["ti"]
    return f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{ti.map_index}"


def task_state(context: Context) -> TaskState:
    """Return what all tries of one task instance remember: something since Airflow 3.3, nothing before."""
    return TaskState(context.get("task_state_store"))
