"""Operators: list, upload, commit, download; and from their own modules: copy, fetch and forget tokens.

Importing this module loads no client library: ``requests``, ``hf_xet`` and ``huggingface_hub`` load inside the task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.exceptions import XetEmptySourceError, XetInputError, XetTokenScopeError
from airflow_provider_xethub.operators.base import (
    REPO_FIELDS,
    XetOperator,
    XetTransferOperator,
    is_first_try,
    task_state,
    work_key,
)
from airflow_provider_xethub.operators.copies import XetCopyOperator
from airflow_provider_xethub.operators.tokens import XetForgetTokenOperator, XetTokenOperator
from airflow_provider_xethub.xet import arguments
from airflow_provider_xethub.xet.arguments import OnEmpty
from airflow_provider_xethub.xet.hub.pages import page_of_files
from airflow_provider_xethub.xet.repo import Repo

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.sdk import ObjectStoragePath

    from airflow_provider_xethub.xet.records import XetCommitResult, XetFile, XetPublishResult

__all__ = [
    "REPO_FIELDS",
    "XetCommitOperator",
    "XetCopyOperator",
    "XetDownloadOperator",
    "XetForgetTokenOperator",
    "XetListOperator",
    "XetOperator",
    "XetTokenOperator",
    "XetTransferOperator",
    "XetUploadOperator",
]


UPLOAD_MESSAGE = "Upload {{ task_instance.task_id }} of {{ dag.dag_id }}"
PUBLISH_MESSAGE = "Publish {{ task_instance.task_id }} of {{ dag.dag_id }}"


class XetListOperator(XetOperator):
    """List the files of a repository.

    :param path: only this file, or those in this folder; all where ``None``.
    :param patterns: only paths that match one of these (``*`` matches ``/`` as well).
    :returns: a list of :class:`~airflow_provider_xethub.xet.records.XetFile`.
    """

    template_fields: Sequence[str] = (*REPO_FIELDS, "path", "patterns")

    def __init__(self, *, path: str | None = None, patterns: str | Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.patterns = patterns
        self.check_written()

    def work(self, context: Context) -> list[XetFile]:  # noqa: ARG002
        """List."""
        repo = self.resolve_repo()
        files = self.hook.list_files(repo, self.path, self.patterns)
        self.hub_page = page_of_files(repo, files)
        self.log.info("%s has %d such file(s), %d bytes.", repo, len(files), sum(file["size"] for file in files))
        return files


class XetUploadOperator(XetTransferOperator):
    """Upload files through CAS and publish them in one commit; with ``commit=False`` only upload them.

    With ``commit=False`` and ``token``, the task needs no connection: map it over many workers, and publish all of it
    with one :class:`XetCommitOperator`.

    :param source: a file, a folder, a glob pattern (``**`` matches folders), or a list of these: on the worker, or in
        object storage, as ``ObjectStoragePath`` or as its URI ``scheme://connection@path``.
    :param path_in_repo: for a single file its path in the repository (its folder with a trailing slash), otherwise the
        folder to put everything into; the root where ``None``.
    :param patterns: only files below ``source`` whose relative path matches one of these (``*`` matches ``/`` as well,
        ``dir/`` is all that is in ``dir``); all where ``None``.
    :param exclude: of these, not those that match one of these.
    :param follow_links: whether to follow links to folders, and links that lead out of the source. Without it, the
        former are left out and the latter refused.
    :param commit: whether to publish.
    :param commit_message: title of the commit.
    :param commit_description: more text below it.
    :param parent_commit: only commit if none of these paths changed since this commit.
    :param create_pr: open a pull request instead of committing to the branch.
    :param deduplicate: whether to ask CAS for chunks that it has already, so that they need not be sent. ``None``: yes,
        unless the files are so small that asking takes longer than sending.
    :param on_empty: what to do if ``source`` is an empty list or contains no file, or none that matches ``patterns``:
        ``fail``, or ``skip`` the task.
    :returns: a :class:`~airflow_provider_xethub.xet.records.XetPublishResult`; with ``commit=False`` a list of
        :class:`~airflow_provider_xethub.xet.records.XetFile`. The figures are also the XCom ``transfer``.
    """

    default_message = UPLOAD_MESSAGE
    template_fields: Sequence[str] = (
        *REPO_FIELDS,
        "source",
        "path_in_repo",
        "patterns",
        "exclude",
        "commit_message",
        "commit_description",
        "parent_commit",
    )

    def __init__(
        self,
        *,
        source: str | ObjectStoragePath | Sequence[str | ObjectStoragePath],
        path_in_repo: str | None = None,
        patterns: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        follow_links: bool = False,
        commit: bool = True,
        commit_message: str = UPLOAD_MESSAGE,
        commit_description: str = "",
        parent_commit: str | None = None,
        create_pr: bool = False,
        deduplicate: bool | None = None,
        on_empty: OnEmpty = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.path_in_repo = path_in_repo
        self.patterns = patterns
        self.exclude = exclude
        self.follow_links = follow_links
        self.commit = commit
        self.commit_message = commit_message
        self.commit_description = commit_description
        self.parent_commit = parent_commit
        self.create_pr = create_pr
        self.deduplicate = deduplicate
        self.on_empty = on_empty
        self.check_written()

    def work(self, context: Context) -> XetPublishResult | list[XetFile]:
        """Upload, and publish unless told otherwise."""
        return self.upload(context, self.source, self.patterns)

    def upload(
        self, context: Context, source: Any, patterns: str | Sequence[str] | None, default: Repo | None = None
    ) -> XetPublishResult | list[XetFile]:
        """Upload a source, and publish unless told otherwise.

        :param context: of the task.
        :param source, patterns: as for :meth:`XetHubConnection.publish`.
        :param default: the repository where neither the arguments nor the token name one.
        """
        from airflow_provider_xethub.xet.publish.commit import CommitRequest

        if isinstance(source, Sequence) and not source and not isinstance(source, str):
            error = XetInputError(f"{self.task_id}: source is an empty list, so there is nothing to upload.")
            self.nothing_to_do(error)
        token = self.resolve_token(context)
        repo = self.resolve_repo(token, default)
        options: dict[str, Any] = {
            "path_in_repo": self.path_in_repo,
            "patterns": patterns,
            "exclude": self.exclude,
            "follow_links": self.follow_links,
            "token": token,
            "deduplicate": self.deduplicate,
        }
        if not self.commit:
            with self._skipping_empty():
                uploaded = self.hook.upload(source, repo, **options)
            self.tell(context, "upload", uploaded["transfer"], repo)
            return uploaded["files"]
        request = CommitRequest(
            repo,
            (),
            message=self.commit_message,
            description=self.commit_description,
            parent_commit=self.parent_commit,
            create_pr=self.create_pr,
            idempotency_key=work_key(context),
            is_first_try=is_first_try(context),
            task_state=task_state(context),
        )
        with self._skipping_empty():
            published = self.hook.publish(source, request, **options)
        self.tell(context, "upload", published["transfer"], repo)
        self.tell_commit(context, published)
        return published

    @contextmanager
    def _skipping_empty(self) -> Iterator[None]:
        try:
            yield
        except XetEmptySourceError as error:
            self.nothing_to_do(error)


class XetCommitOperator(XetOperator):
    """Publish files that other tasks uploaded, and delete paths, in one atomic commit.

    Safe to retry: a commit whose answer was lost is found again, and what is there already is not committed twice.

    :param files: records, as ``XetUploadOperator(commit=False)`` returns them; lists of lists from mapped tasks too.
    :param delete: paths to delete; a trailing slash means the folder.
    :param commit_message: title of the commit.
    :param commit_description: more text below it.
    :param parent_commit: only commit if none of these paths changed since this commit.
    :param create_pr: open a pull request instead of committing to the branch.
    :param on_empty: what to do if ``files`` or ``delete`` is given and empty: ``fail``, or ``skip``. With ``skip`` the
        task does the other one; if that leaves nothing to do, it is skipped.
    :returns: a :class:`~airflow_provider_xethub.xet.records.XetCommitResult`.
    """

    default_message = PUBLISH_MESSAGE
    template_fields: Sequence[str] = (
        *REPO_FIELDS,
        "files",
        "delete",
        "commit_message",
        "commit_description",
        "parent_commit",
    )

    def __init__(
        self,
        *,
        files: Any = (),
        delete: str | Sequence[str] = (),
        commit_message: str = PUBLISH_MESSAGE,
        commit_description: str = "",
        parent_commit: str | None = None,
        create_pr: bool = False,
        on_empty: OnEmpty = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.files = files
        self.delete = delete
        self.commit_message = commit_message
        self.commit_description = commit_description
        self.parent_commit = parent_commit
        self.create_pr = create_pr
        self.on_empty = on_empty
        # Compared now: what an XComArg resolves to may equal the default.
        self._has_files = files != ()
        self._has_delete = delete != ()
        self.check_written()

    def work(self, context: Context) -> XetCommitResult:
        """Publish."""
        from airflow_provider_xethub.xet.files import targets as downloads
        from airflow_provider_xethub.xet.publish.commit import CommitRequest

        files, delete = self._wanted()
        repo = self.resolve_repo(default=downloads.repo_of(files) if files else None)
        request = CommitRequest(
            repo,
            files,
            delete,
            self.commit_message,
            self.commit_description,
            self.parent_commit,
            self.create_pr,
            work_key(context),
            is_first_try(context),
            task_state(context),
        )
        result = self.hook.commit(request)
        self.tell_commit(context, result)
        return result

    def _wanted(self) -> tuple[list[XetFile], list[str]]:
        """Return the files to publish and the paths to delete."""
        from airflow_provider_xethub.xet.files import targets as downloads

        # A task that was skipped has returned None.
        files = [] if self.files is None and self.on_empty == "skip" else downloads.check_files(self.files)
        delete = (arguments.selection("delete", self.delete) or []) if self.delete else []
        empty = ["files"] if self._has_files and not files else []
        empty += ["delete"] if self._has_delete and not delete and self.delete is not None else []
        if empty and (self.on_empty == "fail" or not (files or delete)):
            text = f"{self.task_id}: {' and '.join(empty)} is empty, so there is nothing to commit."
            self.nothing_to_do(XetInputError(text))
        return files, delete


class XetDownloadOperator(XetTransferOperator):
    """Download files, verify size and digest of each, and only then give them their names.

    With ``token`` and ``files`` the task needs no connection.

    :param destination: a folder, on the worker or in object storage (``ObjectStoragePath`` or its URI), below which the
        files keep their paths. For a single ``path`` it may name the file, unless it is an existing folder or ends with
        a slash.
    :param path: one file, or one folder, in the repository.
    :param paths: several files; all must exist.
    :param patterns: paths that match one of these (``*`` matches ``/`` as well); at least one must.
    :param files: records, as other operators and the sensor return them; lists of lists from mapped tasks too.
    :param on_empty: what to do if ``files`` is an empty list, the repository is empty, or nothing matches ``patterns``:
        ``fail``, or ``skip`` the task.
    :returns: a list of :class:`~airflow_provider_xethub.xet.records.XetFile` with ``local_path``, in object storage
        with ``storage_uri``. The figures are the XCom ``transfer``. Without ``path``, ``paths``, ``patterns`` and
        ``files``: the whole repository.
    """

    template_fields: Sequence[str] = (*REPO_FIELDS, "destination", "path", "paths", "patterns", "files")

    def __init__(
        self,
        *,
        destination: str | ObjectStoragePath,
        path: str | None = None,
        paths: str | Sequence[str] | None = None,
        patterns: str | Sequence[str] | None = None,
        files: Any = None,
        on_empty: OnEmpty = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.destination = destination
        self.path = path
        self.paths = paths
        self.patterns = patterns
        self.files = files
        self.on_empty = on_empty
        self._has_files = files is not None
        self.check_written()

    def work(self, context: Context) -> list[XetFile]:
        """Find out what is wanted, and download it."""
        from airflow_provider_xethub.xet.files import targets as downloads

        token = self.resolve_token(context)
        given = [name for name in ("path", "paths", "patterns", "files") if getattr(self, name) is not None]
        if len(given) > 1:
            raise XetInputError(f"{self.task_id}: give only one of {' and '.join(given)}.")
        if self._has_files or self.files is not None:
            files = self.given_files(self.files, "download")
            asked = self.resolve_repo(token, downloads.repo_of(files))
            files = [{**file, "repo": asked.uri} for file in files] if self._moved(files, asked) else files
            if (of := downloads.repo_of(files)) != asked:
                kind, what = (XetInputError, "this task") if token is None else (XetTokenScopeError, "the token")
                raise kind(
                    f"{what} is for {asked}, not for {of}, which the files are from. Download the files of each "
                    "repository in a task of its own."
                )
        else:
            repo = self.resolve_repo(token)
            self.hook.check_token(token, "read", repo)
            files = self.find_files(repo, self.path, self.paths, self.patterns)
        single = self.path is not None and len(files) == 1 and files[0]["path"] == self.path.strip("/")
        result = self.hook.download(self.destination, files, single=single, token=token, task_state=task_state(context))
        self.tell(context, "download", result["transfer"], downloads.repo_of(files))
        self.hub_page = page_of_files(downloads.repo_of(files), files)
        return result["files"]

    def _moved(self, files: Sequence[XetFile], repo: Repo) -> bool:
        """Whether the records are of another revision of the same repository than the one asked for."""
        records = {file["repo"] for file in files}
        return records != {repo.uri} and all(Repo.from_uri(uri).is_same_repo(repo) for uri in records)
