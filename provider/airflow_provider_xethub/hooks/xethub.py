"""``XetHubConnection``: the hook that everything else in this provider asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_xethub import get_provider_info as info
from airflow_provider_xethub.exceptions import XetNotFoundError
from airflow_provider_xethub.hooks.errors import final_errors
from airflow_provider_xethub.hooks.tokens import XetTokenHook
from airflow_provider_xethub.repo import Repo
from airflow_provider_xethub.token import SealedTokenDict, XetToken

if TYPE_CHECKING:
    import os

    from airflow.sdk import ObjectStoragePath

    from airflow_provider_xethub.commit import CommitRequest
    from airflow_provider_xethub.records import (
        XetCommit,
        XetCommitResult,
        XetCopyResult,
        XetDownloadResult,
        XetFile,
        XetPublishResult,
        XetTransfer,
        XetUploadResult,
    )
    from airflow_provider_xethub.sources import SourceFile

    Place = str | os.PathLike[str] | ObjectStoragePath
    Source = Place | Sequence[Place]


class XetHubConnection(XetTokenHook):
    """A Hub, as an Airflow connection describes it: tokens, files, transfers and commits.

    Connection: ``host`` is the Hub's endpoint (default ``https://huggingface.co``), ``password`` the Hub token; the
    extras are those of :data:`airflow_provider_xethub.get_provider_info.CONNECTION_FIELDS`.

    Example::

        hook = XetHubConnection()
        hook.publish("out/", CommitRequest(hook.repo("acme/corpus", "dataset"), (), message="Nightly"))

    :param xethub_conn_id: the connection; ``None`` on a worker that has none and works with given tokens only.
    """

    # --- files ----------------------------------------------------------------------------------------------------

    @final_errors()
    def list_files(
        self, repo: Repo, path: str | None = None, patterns: str | Sequence[str] | None = None
    ) -> list[XetFile]:
        """List the files of a repository.

        :param repo: where to look.
        :param path: only this file, or those in this folder; all where ``None``.
        :param patterns: only paths that match one of these (``*`` matches ``/`` as well).
        :raises XetNotFoundError: repository, revision or path does not exist.
        """
        path = path.strip("/") if path else None
        files = self.hub.get_files(repo, [path]) if path else []
        files = files or self.hub.list_files(repo, path)
        wanted = [patterns] if isinstance(patterns, str) else list(patterns or [])
        return [file for file in files if not wanted or any(fnmatchcase(file["path"], each) for each in wanted)]

    @final_errors()
    def get_files(self, repo: Repo, paths: Sequence[str]) -> list[XetFile]:
        """Return the records of those ``paths`` that exist."""
        return self.hub.get_files(repo, paths)

    @final_errors()
    def get_latest_commit(self, repo: Repo) -> XetCommit:
        """Return the newest commit of the revision."""
        commits = self.hub.latest_commits(repo)
        if not commits:
            raise XetNotFoundError(f"{repo} has no commits yet.", status=404)
        return commits[0]

    # --- transfers ------------------------------------------------------------------------------------------------

    @final_errors()
    def upload(
        self,
        source: Source,
        repo: Repo | None = None,
        *,
        path_in_repo: str | None = None,
        patterns: str | Sequence[str] | None = None,
        token: XetToken | SealedTokenDict | None = None,
        deduplicate: bool | None = None,
    ) -> XetUploadResult:
        """Upload files to CAS, without publishing them: :meth:`commit` does that with the records returned.

        :param source: file, folder, glob pattern, or a list of these, local or in object storage; see
            :func:`airflow_provider_xethub.sources.collect`.
        :param repo: where they will be published; that of the token where ``None``.
        :param path_in_repo: the folder there, or the new path of a single file; the root where ``None``.
        :param patterns: of a folder, only paths that match one of these (``*`` matches ``/`` as well).
        :param token: a write token; fetched through the connection where ``None``.
        :param deduplicate: whether to ask CAS for chunks that it has already, so that they need not be sent; where
            ``None``, unless the files are so small that asking takes longer than sending.
        :raises XetHubError: nothing was published.
        """
        from airflow_provider_xethub import transfers

        self.check_token(token, "write", repo)
        files = self._collect(source, path_in_repo, patterns)
        return self.in_cas(token, "write", repo, lambda access: transfers.upload(access, files, deduplicate))

    @final_errors()
    def commit(self, request: CommitRequest) -> XetCommitResult:
        """Publish files that are in CAS in one commit; safe to retry.

        Files that the Hub wants inline are read back, from CAS or from the object storage they were uploaded from. A
        bucket has no commits: there the files are put.

        :raises XetHubError: nothing was committed.
        """
        from airflow_provider_xethub import bucket, commit
        from airflow_provider_xethub.hooks.storage import open_storage
        from airflow_provider_xethub.inline import read_back

        request.check()
        if request.repo.is_bucket:
            return bucket.publish(self.hub, request)
        modes = commit.upload_modes(self.hub, request.repo, request.files, create_pr=request.create_pr)
        in_cas = partial(self.in_cas, None, "read", request.repo)
        return commit.publish(self.hub, request, modes, lambda files: read_back(files, in_cas, open_storage))

    @final_errors()
    def copy(
        self,
        files: Sequence[XetFile],
        request: CommitRequest,
        *,
        path_in_repo: str | None = None,
        single: bool = False,
    ) -> XetCopyResult:
        """Copy files of another repository, another revision or a bucket, without moving the bytes that are in CAS.

        What the source stores inline is read and written again. To a bucket, that goes through CAS.

        :param files: records, as :meth:`list_files` or :meth:`get_files` return them, of one repository.
        :param request: the commit, without ``files``; its repository is where the copies go.
        :param path_in_repo: the folder below which the files keep their paths; the root where ``None``. A ``single``
            file may have its new path here, without a slash at the end.
        :param single: whether one file was named, and not a folder or patterns.
        :raises XetInputError: the Hub does not copy this: from a bucket to a repository, or a file that is not in CAS.
        :raises XetHubError: nothing was committed.
        """
        from airflow_provider_xethub import bucket, commit, copies, downloads, transfers

        job = copies.plan(downloads.repo_of(files), files, request, path_in_repo, single=single)
        hub, request = self.hub, job.request
        if not request.repo.is_bucket:
            modes = copies.modes(hub, job)
            copies.duplicate(hub, job, modes)
            return copies.result(commit.publish(hub, request, modes, copies.contents_of(hub, job)), job)
        # A bucket stores nothing inline.
        inline = [file for file in request.files if file["path"] in job.inline]
        in_cas = partial(self.in_cas, None, "write", request.repo)
        known = transfers.upload_contents(inline, lambda file: copies.read_original(hub, job, file["path"]), in_cas)
        records = {file["path"]: file for file in known}
        origins = {file["path"]: job.source for file in request.files if file["path"] not in records}
        request = replace(request, files=[records.get(file["path"], file) for file in request.files])
        return copies.result(bucket.publish(hub, request, origins), job)

    @final_errors()
    def publish(
        self,
        source: Source,
        request: CommitRequest,
        *,
        path_in_repo: str | None = None,
        patterns: str | Sequence[str] | None = None,
        token: XetToken | SealedTokenDict | None = None,
        deduplicate: bool | None = None,
    ) -> XetPublishResult:
        """Upload files and publish them in one commit.

        The Hub is asked first which files it wants inline: those are not sent through CAS.

        :param request: the commit, without ``files``.
        :param source, path_in_repo, patterns, token, deduplicate: as for :meth:`upload`.
        :raises XetHubError: nothing was committed.
        """
        from airflow_provider_xethub import bucket, commit, transfers, unchanged

        self.check_token(token, "write", request.repo)
        files = self._collect(source, path_in_repo, patterns)
        by_path = {file.path_in_repo: file for file in files}
        if not request.repo.is_bucket:
            transfers.fetch_samples(files)
        request = replace(request, files=[transfers.record(file, request.repo.uri) for file in files])
        request.check()
        if request.repo.is_bucket:
            # Nothing is inline there.
            known = unchanged.in_bucket(self.hub, request.repo, files)
            request, transfer = self._upload_rest(files, known, request, token, deduplicate)
            return {**bucket.publish(self.hub, request), "transfer": transfer}
        modes = commit.upload_modes(self.hub, request.repo, request.files, create_pr=request.create_pr)
        through_cas = [
            file for file in files if not modes[file.path_in_repo].inline and not modes[file.path_in_repo].ignored
        ]
        known = unchanged.in_repository(self.hub, request.repo, through_cas, modes)
        request, transfer = self._upload_rest(through_cas, known, request, token, deduplicate)

        def contents_of(inline: Sequence[XetFile]) -> dict[str, bytes]:
            return transfers.read_inline([by_path[file["path"]] for file in inline])

        committed = commit.publish(self.hub, request, modes, contents_of)
        return {**committed, "transfer": transfer}

    def _upload_rest(
        self,
        files: Sequence[SourceFile],
        known: Mapping[str, XetFile],
        request: CommitRequest,
        token: XetToken | SealedTokenDict | None,
        deduplicate: bool | None,
    ) -> tuple[CommitRequest, XetTransfer]:
        """Upload the files that are not known to be there, and return the request with the records of all."""
        from airflow_provider_xethub import transfers

        rest = [file for file in files if file.path_in_repo not in known]
        sent: XetUploadResult = {"files": [], "transfer": transfers.nothing()}
        if rest:
            work = partial(transfers.upload, files=rest, deduplicate=deduplicate)
            sent = self.in_cas(token, "write", request.repo, work)
        records = {**known, **{file["path"]: file for file in sent["files"]}}
        return replace(request, files=[records.get(file["path"], file) for file in request.files]), sent["transfer"]

    def _collect(
        self, source: Source, path_in_repo: str | None, patterns: str | Sequence[str] | None
    ) -> list[SourceFile]:
        from airflow_provider_xethub import sources, workers
        from airflow_provider_xethub.hooks.storage import open_storage

        return workers.interruptible(lambda: sources.collect(source, path_in_repo, patterns, open_storage))

    @final_errors()
    def download(
        self,
        destination: Place,
        files: Sequence[XetFile],
        *,
        single: bool = False,
        token: XetToken | SealedTokenDict | None = None,
    ) -> XetDownloadResult:
        """Download files, verify them, and give them their names in ``destination``.

        :param destination: a folder, local or in object storage, below which the files keep their paths; see
            :func:`airflow_provider_xethub.downloads.plan` for a ``single`` file.
        :param files: records, as :meth:`list_files`, :meth:`get_files` or :meth:`upload` return them.
        :param single: whether one file was named, and not a folder or patterns.
        :param token: a read or write token; fetched through the connection where ``None``.
        :raises XetHubError: no damaged or partial file is left under its name.
        """
        from airflow_provider_xethub import downloads, stored_downloads, transfers, workers
        from airflow_provider_xethub.hooks.storage import open_storage
        from airflow_provider_xethub.object_storage import location

        repo = downloads.repo_of(files)
        self.check_token(token, "read", repo)
        hub = (lambda: self.hub) if self.has_connection else None
        in_cas = partial(self.in_cas, token, "read", repo)
        where = location(destination)
        if where is None:
            targets = downloads.plan(files, str(destination), single=single)
            return transfers.download(targets, in_cas, hub)
        stored = workers.interruptible(lambda: stored_downloads.plan(files, where, open_storage(where), single=single))
        return transfers.download_to_storage(stored, in_cas, hub)

    # --- connection form of Airflow 3.0 and 3.1; later versions read get_provider_info() -----------------------------

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's own fields."""
        from flask_babel import lazy_gettext
        from wtforms import PasswordField, StringField

        return {
            name: (PasswordField if field["schema"].get("format") == "password" else StringField)(
                lazy_gettext(field["label"]), description=field["description"]
            )
            for name, field in info.CONNECTION_FIELDS.items()
        }

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return labels, placeholders and hidden fields of the form."""
        return {name.replace("-", "_"): value for name, value in info.FIELD_BEHAVIOUR.items()}
