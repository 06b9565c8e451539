"""The part of the hook that reads: files, commits and downloads, and what lineage hears of all download."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING

from airflow_provider_xethub.exceptions import XetNotFoundError
from airflow_provider_xethub.hooks.errors import fail_without_retry
from airflow_provider_xethub.hooks.lineage import Lineage
from airflow_provider_xethub.hooks.tokens import XetTokenHook
from airflow_provider_xethub.xet import arguments
from airflow_provider_xethub.xet.path_patterns import matches
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.token import SealedTokenDict, XetToken

if TYPE_CHECKING:
    import os

    from airflow.sdk import ObjectStoragePath

    from airflow_provider_xethub.xet.records import XetCommit, XetDownloadResult, XetFile
    from airflow_provider_xethub.xet.task_state import TaskState

    Place = str | os.PathLike[str] | ObjectStoragePath


class XetFileHook(XetTokenHook):
    """The middle of :class:`~airflow_provider_xethub.hooks.xethub.XetHubConnection`: what reads.

    :param xethub_conn_id: the connection; ``None`` on a worker that has none and works with given tokens only.
    """

    @cached_property
    def lineage(self) -> Lineage:
        """What this hook moved, as it told Airflow's lineage."""
        return Lineage(self)

    @fail_without_retry()
    def list_files(
        self, repo: Repo, path: str | None = None, patterns: str | Sequence[str] | None = None
    ) -> list[XetFile]:
        """List the files of a repository.

        :param repo: where to look.
        :param path: only this file, or those in this folder; all where ``None``. A slash at the end says that it is a
            folder: a bucket may have a file of the same name.
        :param patterns: only paths that match one of these (``*`` matches ``/`` as well, ``dir/`` is
            all that is in ``dir``).
        :raises XetInputError: ``path`` or ``patterns`` is empty.
        :raises XetNotFoundError: repository, revision or path does not exist.
        """
        path = arguments.string("path", path)
        wanted = arguments.selection("patterns", patterns)
        name = path.strip("/") if path is not None else None
        files = self.hub.get_files(repo, [name]) if path and name and not path.endswith("/") else []
        files = files or self.hub.list_files(repo, name)
        if name and not files:
            raise XetNotFoundError(f"{path} does not exist in {repo}. Check the path.", status=404)
        return files if wanted is None else [file for file in files if matches(file["path"], wanted)]

    @fail_without_retry()
    def get_files(self, repo: Repo, paths: Sequence[str]) -> list[XetFile]:
        """Return the records of those ``paths`` that exist."""
        return self.hub.get_files(repo, paths)

    @fail_without_retry()
    def get_latest_commit(self, repo: Repo) -> XetCommit:
        """Return the newest commit of the revision."""
        commits = self.hub.latest_commits(repo)
        if not commits:
            raise XetNotFoundError(f"{repo} has no commits yet.", status=404)
        return commits[0]

    @fail_without_retry()
    def download(
        self,
        destination: Place,
        files: Sequence[XetFile],
        *,
        single: bool = False,
        token: XetToken | SealedTokenDict | None = None,
        task_state: TaskState | None = None,
    ) -> XetDownloadResult:
        """Download files, verify them, and give them their names in ``destination``.

        :param destination: a folder, local or in object storage, below which the files keep their paths; see
            :func:`airflow_provider_xethub.xet.files.targets.plan` for a ``single`` file.
        :param files: records, as :meth:`list_files`, :meth:`get_files` or :meth:`upload` return them; they say of which
            repository, and nothing confirms those that come from an XCom.
        :param single: whether one file was named, and not a folder or patterns.
        :param token: a read or write token; fetched through the connection where ``None``.
        :param task_state: remembers for a retry which uploads in parts it has to abort, should this try be killed.
        :raises XetHubError: no damaged or partial file is left under its name.
        """
        from airflow_provider_xethub.hooks.attempt import current_attempt
        from airflow_provider_xethub.hooks.storage import open_storage
        from airflow_provider_xethub.xet import threads as workers
        from airflow_provider_xethub.xet.files import object_targets as stored_downloads
        from airflow_provider_xethub.xet.files import targets as downloads
        from airflow_provider_xethub.xet.files.object_storage import location
        from airflow_provider_xethub.xet.task_state import TaskState
        from airflow_provider_xethub.xet.transfer import digests, download

        repo = downloads.repo_of(files)
        self.check_token(token, "read", repo)
        hub = (lambda: self.hub) if self.xethub_conn_id is not None else None
        with_cas_access = partial(self.with_cas_access, token, "read", repo)
        where = location(destination)
        if where is None:
            attempt = current_attempt()
            targets = downloads.plan(files, str(destination), single=single, attempt=attempt)
            received = download.download(digests.completed(targets, hub), with_cas_access, hub, attempt)
        else:
            stored = workers.interruptible(
                lambda: stored_downloads.plan(files, where, open_storage(where), single=single)
            )
            stored = digests.completed(stored, hub)
            received = download.download_to_storage(stored, with_cas_access, hub, task_state or TaskState())
        self.lineage.read(repo, files)
        self.lineage.elsewhere("output", destination)
        return received
