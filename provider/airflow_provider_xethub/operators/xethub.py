"""Operators: list, upload, commit, copy, mirror and download files; fetch and forget tokens.

Importing this module loads no client library: ``requests``, ``hf_xet`` and ``huggingface_hub`` load in the task.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_xethub.exceptions import XetEmptySourceError, XetInputError, XetTokenScopeError
from airflow_provider_xethub.hooks.inline_content import is_needed_after
from airflow_provider_xethub.hooks.manifests import xcom_files
from airflow_provider_xethub.operators.base import (
    COMMIT_FIELDS,
    LIMIT_FIELDS,
    REPO_FIELDS,
    XetCommittingOperator,
    XetLimitedOperator,
    XetOperator,
    XetTransferOperator,
    task_state,
)
from airflow_provider_xethub.operators.mirror import XetMirrorOperator
from airflow_provider_xethub.operators.tokens import XetForgetTokenOperator, XetTokenOperator
from airflow_provider_xethub.xet import arguments, native_client
from airflow_provider_xethub.xet.arguments import OnEmpty
from airflow_provider_xethub.xet.files.cache.hub_cache import HubCache
from airflow_provider_xethub.xet.hub.pages import HubPage
from airflow_provider_xethub.xet.message_text import counted, size
from airflow_provider_xethub.xet.records import is_pinned
from airflow_provider_xethub.xet.repo import Repo

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.sdk import ObjectStoragePath

    from airflow_provider_xethub.xet.publish.card import Card
    from airflow_provider_xethub.xet.records import (
        XetCommitResult,
        XetCopyResult,
        XetFile,
        XetManifest,
        XetPublishResult,
    )

__all__ = [
    "COMMIT_FIELDS",
    "LIMIT_FIELDS",
    "REPO_FIELDS",
    "XetCommitOperator",
    "XetCommittingOperator",
    "XetCopyOperator",
    "XetDownloadOperator",
    "XetForgetTokenOperator",
    "XetLimitedOperator",
    "XetListOperator",
    "XetMirrorOperator",
    "XetOperator",
    "XetTokenOperator",
    "XetTransferOperator",
    "XetUploadOperator",
]


UPLOAD_MESSAGE = "Upload {{ task_instance.task_id }} of {{ dag.dag_id }}"
PUBLISH_MESSAGE = "Publish {{ task_instance.task_id }} of {{ dag.dag_id }}"
COPY_MESSAGE = "Copy {{ task_instance.task_id }} of {{ dag.dag_id }}"


class XetListOperator(XetOperator):
    """List the files of a repository.

    :param path: only this file, or the files in this folder. ``None``: all.
    :param patterns: only paths that match one of these (``*`` matches ``/`` as well). ``None``: all.
    :param inline_content: whether the records contain the content of files that the Hub stores inline, sealed, so that
        workers without the connection can download them, too; fails if not all of it fits. ``None``: of as many as
        fit, if a later task of the DAG takes ``files`` and has ``xethub_conn_id=None``.
    :param batch_files: divide the files into batches to map over, whole folders with about this many files in all.
        ``None``: do not divide them.
    :returns: a list of :class:`~airflow_provider_xethub.xet.records.XetFile`; of more than ``[xethub] manifest_files``,
        a :class:`~airflow_provider_xethub.xet.records.XetManifest`. With ``batch_files``, a list of manifests.
    """

    template_fields: Sequence[str] = (*REPO_FIELDS, "path", "patterns", "batch_files")

    def __init__(
        self,
        *,
        path: str | None = None,
        patterns: str | Sequence[str] | None = None,
        inline_content: bool | None = None,
        batch_files: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.patterns = patterns
        self.inline_content = inline_content
        self.batch_files = batch_files
        self._has_batches = batch_files is not None
        self.check_written()

    def work(self, context: Context) -> list[XetFile] | XetManifest | list[XetManifest]:  # noqa: ARG002
        """List the files."""
        from airflow_provider_xethub.xet.manifests.files import bytes_of, page_of_files

        repo = self.resolve_repo()
        if self._has_batches:
            return self._batches(repo)
        inline_content = self.inline_content
        if inline_content is None and not is_needed_after(self):
            inline_content = False
        files: Sequence[XetFile]
        if inline_content is False:
            files = self.hook.find_files(repo, self.path, self.patterns)
        else:
            files = self.hook.list_files(repo, self.path, self.patterns, inline_content=inline_content)
        self.hub_page = page_of_files(repo, files)
        total = size(bytes_of(files))
        self._log_found(files, repo, total)
        value: list[XetFile] | XetManifest = xcom_files(self, files)
        return value

    def _batches(self, repo: Repo) -> list[XetManifest]:
        if self.inline_content:
            raise XetInputError(f"{self.task_id}: batch_files divides a listing without inline_content. Leave one out.")
        batches = self.hook.list_batches(repo, self.batch_files, self.path, self.patterns)  # type: ignore[arg-type]
        self.hub_page = HubPage(repo, "folder", (self.path or "").strip("/"))
        total = sum(batch["file_count"] for batch in batches)
        self.log.info(
            "Found %s in %s, %s in total, in %d batches.",
            *(counted(total, "file"), repo, size(sum(batch["bytes"] for batch in batches)), len(batches)),
        )
        return batches

    def _log_found(self, files: Sequence[XetFile], repo: Repo, total: str) -> None:
        if files or self.patterns is None:
            self.log.info("Found %s in %s, %s in total.", counted(len(files), "file"), repo, total)
        else:
            self.log.warning("No file in %s matches %r. If this is not normal, check patterns.", repo, self.patterns)


class XetUploadOperator(XetCommittingOperator, XetTransferOperator):
    """Upload files through CAS and publish them in one commit; with ``commit=False``, only upload them.

    With ``commit=False`` and ``token``, the task needs no connection: map it over many workers, and publish all files
    with one :class:`XetCommitOperator`.

    :param source: a file, a folder, a glob pattern (``**`` matches folders), or a list of these: on the worker, or in
        object storage, as ``ObjectStoragePath`` or as its URI ``scheme://connection@path``.
    :param path_in_repo: for a single file, its path in the repository, or its folder with a trailing slash; otherwise
        the folder for all files. ``None``: the root.
    :param patterns: only files below ``source`` whose relative path matches one of these (``*`` matches ``/`` as well,
        and ``dir/`` matches everything in ``dir``). ``None``: all.
    :param exclude: leave out files whose path matches one of these.
    :param follow_links: whether to follow links to folders, and links that lead out of the source. Without it, the
        former are left out and the latter refused.
    :param commit: whether to publish the files.
    :param commit_message: title of the commit.
    :param deduplicate: whether to ask CAS for chunks that it already has, so that they need not be sent. ``None``: yes,
        unless the files are so small that asking takes longer than sending.
    :param card: a :class:`~airflow_provider_xethub.xet.publish.card.Card`, published as ``README.md`` in the same
        commit.
    :param on_empty: what to do if ``source`` is an empty list, or contains no file, or none that matches ``patterns``:
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
        *COMMIT_FIELDS,
        "card",
        *LIMIT_FIELDS,
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
        deduplicate: bool | None = None,
        card: Card | None = None,
        on_empty: OnEmpty = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(commit_message=commit_message, **kwargs)
        self.card = card
        self.source = source
        self.path_in_repo = path_in_repo
        self.patterns = patterns
        self.exclude = exclude
        self.follow_links = follow_links
        self.commit = commit
        self.deduplicate = deduplicate
        self.on_empty = on_empty
        self.check_written()

    def work(self, context: Context) -> XetPublishResult | list[XetFile] | XetManifest:
        """Upload the source, and publish it unless ``commit`` is false."""
        return self.upload(context, self.source, self.patterns)

    def upload(
        self, context: Context, source: Any, patterns: str | Sequence[str] | None, default: Repo | None = None
    ) -> XetPublishResult | list[XetFile] | XetManifest:
        """Upload a source, and publish it unless ``commit`` is false.

        :param context: the context of the task.
        :param source, patterns: as for :meth:`XetHubConnection.publish`.
        :param default: the repository, where neither the arguments nor the token name one.
        """
        if isinstance(source, Sequence) and not source and not isinstance(source, str):
            error = XetInputError(
                f"{self.task_id}: source is an empty list. Check what makes it, or set on_empty='skip'."
            )
            self.fail_or_skip(error)
        if self.card is not None and not self.commit:
            raise XetInputError(f"{self.task_id}: card needs a commit. Give it to the task that commits the files.")
        token = self.resolve_token(context)
        repo = self.resolve_repo(token, default)
        options: dict[str, Any] = {
            "path_in_repo": self.path_in_repo,
            "patterns": patterns,
            "exclude": self.exclude,
            "follow_links": self.follow_links,
            "token": token,
            "deduplicate": self.deduplicate,
            "create_repo": self.create_repo,
            "limits": self.limits,
        }
        try:
            if not self.commit:
                uploaded = self.hook.upload(source, repo, **options)
                self.report_transfer(context, "upload", uploaded["transfer"], repo)
                return self.hook.xcom_uploaded(uploaded["files"], repo, token=token)
            published = self.hook.publish(source, self.commit_request(context, repo), **options)
        except XetEmptySourceError as error:
            self.fail_or_skip(error)
        self.report_transfer(context, "upload", published["transfer"], repo, published=published)
        self.report_commit(context, published)
        return self.hook.xcom_commit(published, repo, token=token)


class XetCommitOperator(XetCommittingOperator):
    """Publish files that other tasks uploaded, and delete paths, in one atomic commit.

    It is safe to retry: the task finds a commit whose response was lost, and commits nothing twice.

    :param files: Xet file records or manifests, as ``XetUploadOperator(commit=False)`` returns them, or lists of them.
    :param delete: paths to delete; a trailing slash means the folder.
    :param commit_message: title of the commit.
    :param card: a :class:`~airflow_provider_xethub.xet.publish.card.Card`, published as ``README.md`` in the same
        commit.
    :param on_empty: what to do if ``files`` or ``delete`` is given and empty: ``fail``, or ``skip`` it and process the
        other one. If that leaves nothing to do, the task is skipped.
    :returns: a :class:`~airflow_provider_xethub.xet.records.XetCommitResult`.
    """

    default_message = PUBLISH_MESSAGE
    template_fields: Sequence[str] = (
        *REPO_FIELDS,
        "files",
        "delete",
        *COMMIT_FIELDS,
        "card",
    )

    def __init__(
        self,
        *,
        files: Any = (),
        delete: str | Sequence[str] = (),
        commit_message: str = PUBLISH_MESSAGE,
        card: Card | None = None,
        on_empty: OnEmpty = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(commit_message=commit_message, **kwargs)
        self.card = card
        self.files = files
        self.delete = delete
        self.on_empty = on_empty
        # Compared here, because an XComArg may resolve to the default.
        self._has_files = files != ()
        self._has_delete = delete != ()
        self.check_written()

    def work(self, context: Context) -> XetCommitResult:
        """Publish the files."""
        files, delete = self._changes()
        repo = self.resolve_repo(default=self.default_repo(files) if files else None)
        result = self.hook.commit(self.commit_request(context, repo, files, delete), create_repo=self.create_repo)
        self.report_commit(context, result)
        return self.hook.xcom_commit(result, repo)

    def _changes(self) -> tuple[Sequence[XetFile], list[str]]:
        """Return the files to publish and the paths to delete."""
        # The XCom of a skipped task is None.
        files = [] if self.files is None and self.on_empty == "skip" else self.hook.read_files(self.files)
        delete = (arguments.selection("delete", self.delete) or []) if self.delete else []
        empty = ["files"] if self._has_files and not files else []
        empty += ["delete"] if self._has_delete and not delete and self.delete is not None else []
        if empty and (self.on_empty == "fail" or not (files or delete)):
            are_empty = f"{' and '.join(empty)} {'is' if len(empty) == 1 else 'are'} empty"
            self.fail_or_skip(
                XetInputError(f"{self.task_id}: {are_empty}. Check what makes it, or set on_empty='skip'.")
            )
        return files, delete


class XetCopyOperator(XetCommittingOperator):
    """Copy files from another repository, another revision or a bucket, without moving the bytes that are in CAS.

    Small files that the source stores inline are read and written again. Files that the destination already has are
    not copied. ``repo_id``, ``repo_type`` and ``revision`` name the destination; the connection must have access to
    both sides. The Hub copies from repositories to repositories and buckets, and from buckets to buckets, in one
    storage region. Without ``path``, ``paths``, ``patterns`` and ``files``, the whole source is copied.

    :param source_repo_id: where the files come from. ``None``: the repository of the records, or the destination.
    :param source_repo_type: its type. ``None``: that of the records, or of the destination.
    :param source_revision: its revision. ``None``: that of the records, or ``main``. Give a commit id to copy the same
        files whatever is committed later.
    :param path: one file or one folder in the source.
    :param paths: several files; all must exist.
    :param patterns: paths that match one of these (``*`` matches ``/`` as well); at least one path must match.
    :param files: Xet file records or manifests, as other operators and the sensor return them, or lists of them.
    :param path_in_repo: the folder below which the files keep their paths. ``None``: the root. For a single
        ``path``, the path of the copy, or its folder with a trailing slash.
    :param commit_message: title of the commit.
    :param on_empty: what to do if ``files`` is an empty list, the source is empty, or nothing matches ``patterns``:
        ``fail``, or ``skip`` the task.
    :returns: a :class:`~airflow_provider_xethub.xet.records.XetCopyResult`.
    """

    default_message = COPY_MESSAGE
    template_fields: Sequence[str] = (
        *REPO_FIELDS,
        "source_repo_id",
        "source_repo_type",
        "source_revision",
        "path",
        "paths",
        "patterns",
        "files",
        "path_in_repo",
        *COMMIT_FIELDS,
    )

    def __init__(
        self,
        *,
        source_repo_id: str | None = None,
        source_repo_type: str | None = None,
        source_revision: str | None = None,
        path: str | None = None,
        paths: str | Sequence[str] | None = None,
        patterns: str | Sequence[str] | None = None,
        files: Any = None,
        path_in_repo: str | None = None,
        commit_message: str = COPY_MESSAGE,
        on_empty: OnEmpty = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(commit_message=commit_message, **kwargs)
        self.source_repo_id = source_repo_id
        self.source_repo_type = source_repo_type
        self.source_revision = source_revision
        self.path = path
        self.paths = paths
        self.patterns = patterns
        self.files = files
        self.path_in_repo = path_in_repo
        self.on_empty = on_empty
        self._has_files = files is not None
        self.check_written()

    def work(self, context: Context) -> XetCopyResult:
        """Copy the selected files."""
        target = self.resolve_repo()
        files = self._source_files(target)
        request = self.commit_request(context, target)
        result = self.hook.copy(
            files,
            request,
            path_in_repo=self.path_in_repo,
            single=self.is_single(files),
            create_repo=self.create_repo,
        )
        copied = result["copied"]
        self.log.info(
            "Copied %s (%s), of which %s (%s) were stored inline and had to be read and written.",
            counted(copied["files"], "file"),
            size(copied["bytes"]),
            copied["inline_files"],
            size(copied["inline_bytes"]),
        )
        self.report_commit(context, result)
        return self.hook.xcom_commit(result, target)

    def _source_files(self, target: Repo) -> Sequence[XetFile]:
        self.given_selection()
        if self._has_files or self.files is not None:
            named = [name for name in ("source_repo_id", "source_repo_type", "source_revision") if getattr(self, name)]
            if named:
                raise XetInputError(
                    f"{self.task_id}: the records in files name their repository; leave out {' and '.join(named)}."
                )
            return self.check_files(self.files, "copy")
        source = self.hook.repo(
            self.source_repo_id or target.repo_id,
            self.source_repo_type or target.repo_type,
            self.source_revision or "main",
        )
        if source == target and not self.path_in_repo:
            raise XetInputError(
                f"{self.task_id}: this would copy {source} onto itself. Give source_repo_id, source_revision or "
                "path_in_repo."
            )
        return self.find_files(source, self.path, self.paths, self.patterns)


class XetDownloadOperator(XetTransferOperator):
    """Download files, and verify the size and digest of each before it appears under its final name.

    With ``token`` and ``files`` the task needs no connection. Without ``path``, ``paths``, ``patterns`` and ``files``,
    it downloads the whole repository.

    :param destination: a folder on the worker or in object storage (``ObjectStoragePath`` or its URI), below which the
        files keep their paths. For a single ``path`` it may name the file, unless it is an existing folder or ends with
        a slash. Or :class:`~airflow_provider_xethub.HubCache`, the Hugging Face cache.
    :param path: one file or one folder in the repository.
    :param paths: several files; all must exist.
    :param patterns: paths that match one of these (``*`` matches ``/`` as well); at least one path must match.
    :param files: Xet file records or manifests, as other operators and the sensor return them, or lists of them.
    :param on_empty: what to do if ``files`` is an empty list, the repository is empty, or nothing matches ``patterns``:
        ``fail``, or ``skip`` the task.
    :param require_safe: refuse files that the Hub's security scan has not found safe, before anything is written. Needs
        the connection, also with ``token``.
    :returns: a list of :class:`~airflow_provider_xethub.xet.records.XetFile` with ``local_path``, in object storage
        with ``storage_uri``; of more than ``[xethub] manifest_files``, or where ``files`` is a manifest, a
        :class:`~airflow_provider_xethub.xet.records.XetManifest` with ``destination``. The figures are the XCom
        ``transfer``; the folder in the Hugging Face cache is the XCom ``snapshot``.
    """

    template_fields: Sequence[str] = (
        *REPO_FIELDS,
        "destination",
        "path",
        "paths",
        "patterns",
        "files",
        *LIMIT_FIELDS,
    )
    takes_cache = True

    def __init__(
        self,
        *,
        destination: str | ObjectStoragePath | HubCache,
        path: str | None = None,
        paths: str | Sequence[str] | None = None,
        patterns: str | Sequence[str] | None = None,
        files: Any = None,
        on_empty: OnEmpty = "fail",
        require_safe: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.require_safe = require_safe
        self.destination = destination
        self.path = path
        self.paths = paths
        self.patterns = patterns
        self.files = files
        self.on_empty = on_empty
        self._has_files = files is not None
        self.check_written()

    def work(self, context: Context) -> list[XetFile] | XetManifest:
        """Download the selected files."""
        from airflow_provider_xethub.xet.manifests.files import page_of_files, source_of

        native_client.share_heaps()
        token = self.resolve_token(context)
        self.given_selection()
        into_cache = isinstance(self.destination, HubCache)
        ref: str | None = None
        if self._has_files or self.files is not None:
            files = self.check_files(self.files, "download", token)
            source = source_of(files)
            repo = self.resolve_repo(token, source)
            if not source.is_same_repo(repo):
                kind, what = (XetInputError, "this task") if token is None else (XetTokenScopeError, "the token")
                raise kind(
                    f"{what} is for {repo}, but the files are from {source}. Download the files of each repository in "
                    "a task of its own."
                )
            files = files if self.revision is None and repo == source else self._at_revision(repo, files)
        else:
            repo = self.resolve_repo(token)
            self.hook.check_token(token, "read", repo)
            source = repo
            if into_cache and not repo.is_bucket:
                # All files come from one commit, whatever is committed meanwhile.
                source, ref = repo.at(self.hook.get_commit_id(repo)), repo.revision
            files = self.find_files(source, self.path, self.paths, self.patterns, keep_listing=into_cache)
        result = self.hook.download(
            self.destination,
            files,
            single=self.is_single(files),
            token=token,
            require_safe=self.require_safe,
            repo=repo,
            task_state=task_state(context),
            ref=ref,
            limits=self.limits,
        )
        self.report_transfer(context, "download", result["transfer"], repo)
        if into_cache:
            self.log.info("The snapshot is complete: %s", result["snapshot"])
            if self.do_xcom_push:
                context["ti"].xcom_push(key="snapshot", value=result["snapshot"])
        self.hub_page = page_of_files(repo, files)
        return result["files"]

    def _at_revision(self, repo: Repo, files: Sequence[XetFile]) -> Sequence[XetFile]:
        """Return the records as records of ``repo``. Those of a commit stay as they are, unless the task names another.

        A branch may have another file under the same path since then.
        """
        from airflow_provider_xethub.xet.manifests.files import Files

        def at_revision(file: XetFile) -> XetFile:
            return file if self.revision is None and is_pinned(file) else cast("XetFile", {**file, "repo": repo.uri})

        return files.changed(at_revision) if isinstance(files, Files) else [*map(at_revision, files)]
