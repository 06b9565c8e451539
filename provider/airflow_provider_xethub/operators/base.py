"""Bases of the operators: the repository, the hook, the token, the commit, and how a task is stopped."""

from __future__ import annotations

import functools
import gc
import os
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NoReturn, cast

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseOperator, XComArg

from airflow_provider_xethub.exceptions import XetCancelledError, XetHubError, XetInputError, XetNotFoundError
from airflow_provider_xethub.hooks.attempt import instance_key, is_first_start
from airflow_provider_xethub.hooks.connections import connection
from airflow_provider_xethub.hooks.errors import fail_task, fail_without_retry
from airflow_provider_xethub.hooks.metrics import Direction, count_transfer
from airflow_provider_xethub.hooks.task_mixin import REPO_FIELDS, RepositoryTaskMixin
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.links.xethub import XetHubLink
from airflow_provider_xethub.xet import arguments, progress
from airflow_provider_xethub.xet.arguments import OnEmpty, OnUnchanged
from airflow_provider_xethub.xet.cas.limits import TransferLimits
from airflow_provider_xethub.xet.hub.pages import HubPage, page_of_commit
from airflow_provider_xethub.xet.identifiers import COMMIT_ID
from airflow_provider_xethub.xet.message_text import counted
from airflow_provider_xethub.xet.process import stop
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.repo import DEFAULT_REVISION, Repo
from airflow_provider_xethub.xet.task_state import TaskState
from airflow_provider_xethub.xet.token import SealedTokenDict

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_xethub.xet.publish.card import Card
    from airflow_provider_xethub.xet.records import XetCommitResult, XetFile

__all__ = [
    "COMMIT_FIELDS",
    "LIMIT_FIELDS",
    "REPO_FIELDS",
    "XetCommittingOperator",
    "XetLimitedOperator",
    "XetOperator",
    "XetTransferOperator",
    "task_state",
]

COMMIT_FIELDS: tuple[str, ...] = ("commit_message", "commit_description", "parent_commit")
"""Template fields of every operator that makes a commit."""

LIMIT_FIELDS: tuple[str, ...] = ("transfer_memory", "max_concurrency", "max_bandwidth", "min_rate")
"""Template fields of every operator that moves bytes."""

SELECTION = ("path", "paths", "patterns", "files")
"""Arguments that select files. A task takes at most one of them."""


@functools.cache
def _has_frozen_objects(pid: int) -> bool:  # noqa: ARG001 - a fork may differ
    """Return whether Airflow has frozen what it loaded, as it does in some of its processes.

    Python counts such objects one by one, which takes 35 ms for all those of Airflow: once for each process is enough.
    """
    return gc.get_freeze_count() > 0


class XetOperator(RepositoryTaskMixin, BaseOperator):
    """Base of the operators: the repository, the hook, and how a task is stopped.

    A subclass implements :meth:`work`.

    :param repo_id: ``namespace/name``. ``None``: that of the token, the records or the connection. A token that
        cannot be opened on the worker is ignored, because nothing confirms its content.
    :param repo_type: ``model``, ``dataset``, ``space`` or ``bucket``. ``None``: as for ``repo_id``, and then ``model``.
    :param revision: branch, tag, commit or ``refs/pr/N``. ``None``: as for ``repo_id``, and then ``main``.
    :param xethub_conn_id: the connection; ``None`` on workers that have none and work with ``token`` only.
    :ivar hub_page: the page that "Open on the Hub" opens: the repository, once it is known, unless ``work`` sets a
        better one.
    """

    template_fields: Sequence[str] = REPO_FIELDS
    operator_extra_links: tuple[XetHubLink, ...] = (XetHubLink(),)
    on_empty: OnEmpty = "fail"

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
        self.set_repo_arguments(repo_id=repo_id, repo_type=repo_type, revision=revision, xethub_conn_id=xethub_conn_id)
        self._executing = False
        self.check_written()

    def execute(self, context: Context) -> Any:
        """Check the arguments and do the work; errors that retrying cannot fix fail the task at once."""
        self._executing = True
        stop.reset()
        # The garbage collector need not look at all that Airflow has loaded again and again: with 10,000 records, that
        # took a quarter of the CPU time.
        is_frozen = _has_frozen_objects(os.getpid())
        if not is_frozen:
            gc.freeze()
        try:
            with fail_task(self.log):
                self.prepare(context)
                return self.work(context)
        finally:
            if not is_frozen:
                gc.unfreeze()
            self._executing = False
            stop.reset()

    def prepare(self, context: Context) -> None:  # noqa: ARG002
        """Check and normalise the rendered arguments."""
        self.check_rendered()

    def work(self, context: Context) -> Any:
        """Do the work of the operator, and return its XCom value."""
        raise NotImplementedError(f"{type(self).__name__} does not implement work().")

    def on_kill(self) -> None:
        """Stop at once. Airflow calls this in the signal handler of the task's main thread.

        :raises XetCancelledError: into whatever ``execute`` is doing; the transfer that it interrupts is aborted.
        """
        if self._executing:
            self._executing = False
            stop.now(
                XetCancelledError(
                    f"Task {self.task_id} was stopped from outside, and unfinished work was discarded. Clear it to run "
                    "it again."
                )
            )

    def resolve_repo(self, token: SealedTokenDict | None = None, default: Repo | None = None) -> Repo:
        """Return the repository that the arguments name, else that of the token, the records or the connection.

        A token that cannot be opened on this worker is ignored, and then the records are, too; see ``hook.token_repo``.

        :raises XetInputError: nothing names a repository, or a name is not valid.
        :raises XetTokenSealError: only a token that cannot be opened on this worker names one.
        """
        if token is not None:
            repo = self.hook.token_repo(token, self.repo_id, self.repo_type, self.revision)
        elif default is None:
            repo = self.repo_of_arguments()
        else:
            repo = Repo(
                self.repo_id or default.repo_id,
                self.repo_type or default.repo_type,  # type: ignore[arg-type]
                self.revision or default.revision,
            )
        self.hub_page = HubPage(repo)
        return repo

    def fail_or_skip(self, error: XetHubError) -> NoReturn:
        """End a task that has nothing to do as ``on_empty`` says.

        :raises AirflowSkipException: with ``skip``.
        :raises XetHubError: the given error, with ``fail``.
        """
        if self.on_empty == "skip":
            raise AirflowSkipException(f"Skipped, because there is nothing to do. {error}") from error
        raise error

    def given_selection(self, *more: str) -> list[str]:
        """Return the names of the arguments that select files.

        :param more: names of others that are given and select files, too.
        :raises XetInputError: more than one is given.
        """
        given = [name for name in SELECTION if getattr(self, name) is not None] + list(more)
        if len(given) > 1:
            raise XetInputError(f"{self.task_id}: give only one of {' and '.join(given)}.")
        return given

    def is_single(self, files: Sequence[XetFile]) -> bool:
        """Return whether ``path`` names one file, so that the result may get a path of its own."""
        path = getattr(self, "path", None)
        return path is not None and len(files) == 1 and files[0]["path"] == path.strip("/")

    def find_files(
        self,
        repo: Repo,
        path: str | None = None,
        paths: str | Sequence[str] | None = None,
        patterns: str | Sequence[str] | None = None,
        *,
        keep_listing: bool = False,
    ) -> Sequence[XetFile]:
        """Return the records of files in a repository: of ``paths``, or of what ``path`` and ``patterns`` select.

        More than ``[xethub] manifest_files`` of what ``path`` and ``patterns`` select are not held in memory.

        :param repo: the repository and its revision.
        :param path, paths, patterns: as for :class:`XetDownloadOperator`.
        :param keep_listing: keep the Hub's own listing, which the Hugging Face cache contains, of up to 50,000 entries.
        :raises XetNotFoundError: one of the paths does not exist, or nothing matches.
        :raises AirflowSkipException: there is no file, or nothing matches, and ``on_empty`` is ``skip``.
        """
        if paths is not None:
            names = list(dict.fromkeys(arguments.selection("paths", paths) or ()))
            files = self.hook.get_files(repo, names)
            if missing := sorted(set(names) - {file["path"] for file in files}):
                raise XetNotFoundError(
                    f"{counted(len(missing), 'path')} not found in {repo}. Check paths: {', '.join(missing)}",
                    status=404,
                )
            return files
        with self.hook.hub.keeping_listing() if keep_listing else nullcontext():
            selected = self.hook.find_files(repo, path, patterns)
        if not selected:
            matching, check = (f" matches {patterns!r} in", "patterns") if patterns is not None else (" in", "repo_id")
            text = f"No file{matching} {repo}. Check {check}, or set on_empty='skip' if this is normal."
            self.fail_or_skip(XetNotFoundError(text, status=404))
        return selected

    def check_files(self, files: Any, action: str, token: SealedTokenDict | None = None) -> Sequence[XetFile]:
        """Return the records that were given as an argument; those of manifests are read when they are used.

        :param files: ``None`` where the task that was to return them returned nothing.
        :param action: such as ``download``, for the message.
        :param token: what to read manifests with; see ``hook.read_files``.
        :raises XetInputError: there are none, or they are something else.
        :raises AirflowSkipException: there are none, and ``on_empty`` is ``skip``.
        """
        records = [] if files is None else self.hook.read_files(files, token=token)
        if not records:
            text = f"{self.task_id}: files is empty, so there is nothing to {action}"
            self.fail_or_skip(XetInputError(f"{text}. Check the task that returns it, or set on_empty='skip'."))
        return records

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage:  # noqa: ARG002
        """Return what the task read and wrote; only Airflow's OpenLineage provider calls this."""
        from airflow_provider_xethub.assets.openlineage import operator_lineage

        return operator_lineage(self.hook)


class XetLimitedOperator(XetOperator):
    """Base of the operators that move bytes.

    :param transfer_memory: resident memory of the task's process, in bytes or as a string such as ``"500MB"``, beyond
        which transfers wait instead of buffering more. ``None``: that of the configuration.
    :param max_concurrency: the most requests with data that the task has open at CAS. ``None``: that of the connection.
    :param max_bandwidth: the most bytes that the task sends to CAS, and receives from it, in a second: a number, or a
        string such as ``"50MB"``. ``None``: that of the connection.
    :param min_rate: bytes per second, as for ``max_bandwidth``: a transfer that stays below for a minute is started
        again with fewer requests, and then cancelled and retried. ``None``: that of the connection.
    """

    template_fields: Sequence[str] = (*REPO_FIELDS, *LIMIT_FIELDS)

    def __init__(
        self,
        *,
        transfer_memory: int | str | None = None,
        max_concurrency: int | str | None = None,
        max_bandwidth: int | str | None = None,
        min_rate: int | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.transfer_memory = transfer_memory
        self.max_concurrency = max_concurrency
        self.max_bandwidth = max_bandwidth
        self.min_rate = min_rate
        self.check_written()

    @property
    def limits(self) -> TransferLimits:
        """What the transfers of this task may take of the worker and of the network."""
        return TransferLimits(
            memory=arguments.byte_count("transfer_memory", self.transfer_memory),
            concurrency=arguments.concurrency("max_concurrency", self.max_concurrency),
            bandwidth=arguments.byte_count("max_bandwidth", self.max_bandwidth),
            min_rate=arguments.byte_count("min_rate", self.min_rate),
        )


class XetTransferOperator(XetLimitedOperator):
    """Base of the operators that move bytes, with a token of their own or one that another task fetched.

    :param token: the output of a ``XetTokenOperator``. Not a template field, so that no rendered template contains it.
    """

    def __init__(self, *, token: SealedTokenDict | XComArg | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.token = token
        if isinstance(token, XComArg) and not getattr(self, "_BaseOperator__from_mapped", False):
            # Airflow does this for template fields only.
            XComArg.apply_upstream_relationship(self, token)
            self._check_is_consumer(token)
        self.check_written()

    @fail_without_retry()
    def _check_is_consumer(self, token: XComArg) -> None:
        """Check when the DAG file is parsed what the task would be refused for.

        :raises XetInputError: the token task lists the tasks that may use its token, without this one.
        """
        for task, _ in token.iter_references():
            consumers = getattr(task, "partial_kwargs", vars(task)).get("consumers")
            allowed = [consumers] if isinstance(consumers, str) else consumers
            # The output of another task and templates are known later, and an empty list is an error of its own.
            if not isinstance(allowed, (list, tuple)) or not allowed or any("{" in str(each) for each in allowed):
                continue
            if self.task_id not in allowed:
                raise XetInputError(
                    f"{self.task_id} uses the token of {task.task_id}, whose consumers do not include it. Add "
                    f"{self.task_id!r} to consumers of {task.task_id}, or give it a token of its own."
                )

    def resolve_repo(self, token: SealedTokenDict | None = None, default: Repo | None = None) -> Repo:
        """Return the repository; records do not name it where a token was given and its XCom is deleted."""
        return super().resolve_repo(token, default if self.token is None else None)

    def resolve_token(self, context: Context) -> SealedTokenDict | None:
        """Return the XCom value of ``token``; ``None`` if it was not given, or is deleted."""
        if not isinstance(self.token, XComArg):
            return self.token
        value: SealedTokenDict | None = self.token.resolve(context)
        if value is None:
            tasks = ", ".join(sorted(operator.task_id for operator, _ in self.token.iter_references()))
            text = f"Task {tasks} has no token in XCom"
            why = f"It was deleted, or {tasks} did not run before this task"
            if not self.hook.has_connection:
                error = XetInputError(f"{text}. Write {tasks} >> {self.task_id}, or run {tasks} again. {why}.")
                raise connection.needed(self.hook.xethub_conn_id, error)
            self.log.info("%s. %s. Fetching another one.", text, why)
        return value

    def report_transfer(
        self,
        context: Context,
        direction: Direction,
        transfer: Any,
        repo: Repo,
        key: str = "transfer",
        published: XetCommitResult | None = None,
    ) -> None:
        """Report what was moved: in the log, as the XCom ``key``, and as Airflow metrics.

        :param context: the context of the task.
        :param direction: ``upload`` or ``download``.
        :param transfer: the figures.
        :param repo: the repository on the Hub's side.
        :param key: the key of the XCom.
        :param published: the commit of the same task.
        """
        if direction == "upload":
            self.log.info("%s", progress.upload_summary(transfer, published))
        else:
            self.log.info("%s", progress.download_summary(transfer))
        if self.do_xcom_push:
            context["ti"].xcom_push(key=key, value=transfer)
        count_transfer(direction, transfer, repo.repo_type)


class XetCommittingOperator(XetOperator):
    """Base of the operators that make a commit.

    :param commit_message: title of the commit. ``None``: the default of the operator.
    :param commit_description: more text below the title.
    :param parent_commit: only commit if none of these paths changed since this commit.
    :param create_pr: open a pull request instead of committing to the branch.
    :param on_unchanged: what to do if the repository already has all of it, so that there is nothing to commit:
        ``success``, or ``skip`` the task, so that its outlets get no event. Airflow then also skips the tasks after it,
        unless their ``trigger_rule`` allows it.
    :param create_repo: create the repository or bucket, as a private one, if it does not exist.
    :cvar default_message: template of the message where a template was rendered to ``None``.
    """

    template_fields: Sequence[str] = (*REPO_FIELDS, *COMMIT_FIELDS)
    default_message: str

    def __init__(
        self,
        *,
        commit_message: str | None = None,
        commit_description: str = "",
        parent_commit: str | None = None,
        create_pr: bool = False,
        on_unchanged: OnUnchanged = "success",
        create_repo: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.commit_message = commit_message
        self.commit_description = commit_description
        self.parent_commit = parent_commit
        self.create_pr = create_pr
        self.on_unchanged = on_unchanged
        self.create_repo = create_repo
        self.check_written()

    def prepare(self, context: Context) -> None:
        """Check and normalise the rendered arguments, and render the default message if there is no other.

        :raises XetInputError: ``create_repo`` is set, and the task has no connection to create a repository with.
        """
        super().prepare(context)
        if self.create_repo and not self.hook.has_connection:
            raise connection.needed(
                self.xethub_conn_id,
                XetInputError(
                    f"{self.task_id}: create_repo needs a connection, and this task works with a token only. Create "
                    "the repository before the token is fetched (XetCreateRepoOperator)."
                ),
            )
        if self.commit_message is None:
            self.commit_message = self.render_template(self.default_message, context)

    def default_repo(self, files: Sequence[XetFile]) -> Repo:
        """Return the repository of records, where a commit goes if the arguments name no other.

        :raises XetInputError: the arguments name no revision, and the records are of several, or of a commit, which
            nothing can be committed to.
        """
        from airflow_provider_xethub.xet.files import targets
        from airflow_provider_xethub.xet.manifests.files import source_of, uris_of

        source = source_of(files)
        if self.revision is not None or getattr(self, "token", None) is not None:
            return source
        uris = uris_of(files)
        if not any(COMMIT_ID.fullmatch(Repo.from_uri(uri).revision) for uri in uris):
            return targets.repo_of_uris(uris)
        if (self.repo_id or source.repo_id, self.repo_type or source.repo_type) != (source.repo_id, source.repo_type):
            return source.at(DEFAULT_REVISION)
        raise XetInputError(
            f"{self.task_id}: name the revision to commit to, such as revision='main', because the files are those of "
            f"a commit: {uris[0]}."
        )

    def commit_request(
        self, context: Context, repo: Repo, files: Sequence[XetFile] = (), delete: Sequence[str] = ()
    ) -> CommitRequest:
        """Return the request for this task's commit; all attempts of a task instance have the same idempotency key."""
        return CommitRequest(
            repo,
            files,
            delete=delete,
            message=self.commit_message,  # type: ignore[arg-type]  # prepare() has set it
            description=self.commit_description,
            parent_commit=self.parent_commit,
            create_pr=self.create_pr,
            idempotency_key=instance_key(context),
            is_first_try=is_first_start(context),
            task_state=task_state(context),
            card=self._card(context),
        )

    def _card(self, context: Context) -> Card | None:
        """Return the card with what is known about the run: the same for all attempts of the task instance."""
        card = getattr(self, "card", None)
        if card is None:
            return None
        from airflow_provider_xethub.hooks.run_facts import card_of_run

        return card_of_run(context, card)

    def report_commit(self, context: Context, result: XetCommitResult) -> None:
        """Report what was committed: in the log, in the events of the task's outlets, and as the link to the Hub.

        :raises AirflowSkipException: nothing was committed, and ``on_unchanged`` is ``skip``.
        """
        from airflow_provider_xethub.assets.outlets import record_events

        files = result["files"]
        self.log.info("%s", progress.commit_summary(result))
        self.hub_page = page_of_commit(result, files, result["pull_request"])
        if Repo.from_uri(result["repo"]).is_bucket and not is_first_start(context):
            # A bucket has no commit that tells what an earlier attempt changed: it may have been all of it.
            result = cast("XetCommitResult", {**result, "created": True, "unchanged": []})
        if not result["created"] and self.on_unchanged == "skip":
            raise AirflowSkipException(f"Skipped, because {result['repo']} already has this content.")
        record_events(context, self.outlets, result)


def task_state(context: Context) -> TaskState:
    """Return the state that all attempts of a task instance share; before Airflow 3.3 it stores nothing."""
    return TaskState(context.get("task_state_store"))
