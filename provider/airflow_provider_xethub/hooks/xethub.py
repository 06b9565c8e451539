"""``XetHubConnection``: the hook that everything else in this provider asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_xethub import get_provider_info as info
from airflow_provider_xethub.exceptions import XetHubError
from airflow_provider_xethub.hooks import sealing
from airflow_provider_xethub.hooks.errors import fail_without_retry
from airflow_provider_xethub.hooks.files import XetFileHook
from airflow_provider_xethub.xet import samples
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.token import SealedTokenDict, XetToken

if TYPE_CHECKING:
    from airflow_provider_xethub.hooks.files import Place
    from airflow_provider_xethub.xet.files.sources import SourceFile
    from airflow_provider_xethub.xet.publish.commit import CommitRequest, ContentsOf, UploadMode
    from airflow_provider_xethub.xet.publish.copies import Copies
    from airflow_provider_xethub.xet.records import (
        XetCommitResult,
        XetCopyResult,
        XetFile,
        XetPublishResult,
        XetTransfer,
        XetUploadResult,
    )

    Source = Place | Sequence[Place]


class XetHubConnection(XetFileHook):
    """A Hub, as an Airflow connection describes it: tokens, files, transfers and commits.

    Connection: ``host`` is the Hub's endpoint (default ``https://huggingface.co``), ``password`` the Hub token; the
    extras are those of :data:`airflow_provider_xethub.get_provider_info.CONNECTION_FIELDS`.

    Example::

        hook = XetHubConnection()
        hook.publish("out/", CommitRequest(hook.repo("acme/corpus", "dataset"), (), message="Nightly"))

    :param xethub_conn_id: the connection; ``None`` on a worker that has none and works with given tokens only.
    """

    @fail_without_retry()
    def upload(
        self,
        source: Source,
        repo: Repo | None = None,
        *,
        path_in_repo: str | None = None,
        patterns: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        follow_links: bool = False,
        token: XetToken | SealedTokenDict | None = None,
        deduplicate: bool | None = None,
    ) -> XetUploadResult:
        """Upload files to CAS, without publishing them: :meth:`commit` does that with the records returned.

        :param source: file, folder, glob pattern, or a list of these, local or in object storage; see
            :func:`airflow_provider_xethub.xet.files.sources.collect`.
        :param repo: where they will be published; that of the token where ``None``.
        :param path_in_repo: the folder there, or the new path of a single file; the root where ``None``.
        :param patterns: of a folder, only paths that match one of these (``*`` matches ``/`` as well); all where
            ``None``.
        :param exclude: of these, not those that match one of these.
        :param follow_links: whether to follow links to folders, and links that lead out of the source.
        :param token: a write token; fetched through the connection where ``None``.
        :param deduplicate: whether to ask CAS for chunks that it has already, so that they need not be sent; where
            ``None``, unless the files are so small that asking takes longer than sending.
        :raises XetInputError: an argument is empty; ``None`` stands for its default.
        :raises XetEmptySourceError: there is no file to upload.
        :raises XetHubError: nothing was published.
        """
        from airflow_provider_xethub.xet.transfer import upload

        self.check_token(token, "write", repo)
        files = self._collect(source, path_in_repo, patterns, exclude, follow_links=follow_links)
        sent = self.with_cas_access(token, "write", repo, lambda access: upload.upload(access, files, deduplicate))
        # They go through XCom, where everybody could read how each file begins.
        sent["files"] = samples.seal(sent["files"], next(iter(sealing.fernets()), None))
        self.lineage.elsewhere("input", source)
        self.lineage.uploaded(sent["files"])
        return sent

    @fail_without_retry()
    def commit(self, request: CommitRequest) -> XetCommitResult:
        """Publish files that are in CAS in one commit; safe to retry.

        Files that the Hub wants inline are read back, from CAS or from the object storage they were uploaded from. A
        bucket has no commits: there the files are put.

        :raises XetHubError: nothing was committed.
        """
        result = self._commit(request)
        self.lineage.committed(result)
        return result

    def _commit(self, request: CommitRequest) -> XetCommitResult:
        from airflow_provider_xethub.xet.publish import bucket, commit

        request.check()
        if request.repo.is_bucket:
            return bucket.publish(self.hub, request)
        request = replace(request, files=samples.unseal(request.files, sealing.fernets()))
        return commit.publish(self.hub, request, self._modes(request, self._read_back), self._read_back)

    def _modes(self, request: CommitRequest, contents_of: ContentsOf) -> dict[str, UploadMode]:
        """Ask the Hub how it wants to store each file, by the ``.gitignore`` that is published with them."""
        from airflow_provider_xethub.xet.publish import commit

        gitignore = commit.own_gitignore(request.files, contents_of)
        return commit.upload_modes(
            self.hub, request.repo, request.files, create_pr=request.create_pr, gitignore=gitignore
        )

    def _read_back(self, files: Sequence[XetFile]) -> dict[str, bytes]:
        """Return the content of uploaded files. A file is read with a token of the revision it was uploaded for.

        :param files: records that the commit's check has passed: all are of its repository.
        """
        from airflow_provider_xethub.hooks.storage import open_storage
        from airflow_provider_xethub.xet.transfer.read_back import read_back

        contents: dict[str, bytes] = {}
        for uri in dict.fromkeys(file["repo"] for file in files):
            with_cas_access = partial(self.with_cas_access, None, "read", Repo.from_uri(uri))
            contents |= read_back([file for file in files if file["repo"] == uri], with_cas_access, open_storage)
        return contents

    @fail_without_retry()
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
        from airflow_provider_xethub.xet.files import targets as downloads
        from airflow_provider_xethub.xet.publish import copies

        return self._copy(copies.plan(downloads.repo_of(files), files, request, path_in_repo, single=single))

    @fail_without_retry()
    def copy_as(self, copies_by_path: Mapping[str, XetFile], request: CommitRequest) -> XetCopyResult:
        """Copy files as :meth:`copy` does, each to a path of its own.

        :param copies_by_path: records of one repository, by the path of the copy.
        :param request: the commit, without ``files``; its ``delete`` goes with the same commit, so that a move is one.
        :raises XetHubError: as for :meth:`copy`.
        """
        from airflow_provider_xethub.xet.files import targets as downloads
        from airflow_provider_xethub.xet.publish import copies

        source = downloads.repo_of(list(copies_by_path.values()))
        return self._copy(copies.plan_as(source, list(copies_by_path.items()), request))

    def _copy(self, job: Copies) -> XetCopyResult:
        result = self._copied(job)
        self.lineage.read(job.source, list(job.originals.values()))
        self.lineage.committed(result)
        return result

    def _copied(self, job: Copies) -> XetCopyResult:
        from airflow_provider_xethub.xet.publish import bucket, commit, copies
        from airflow_provider_xethub.xet.transfer import upload

        hub, request = self.hub, job.request
        if not request.repo.is_bucket:
            modes = copies.modes(hub, job)
            copies.duplicate(hub, job, modes)
            return copies.result(commit.publish(hub, request, modes, copies.contents_of(hub, job)), job)
        # A bucket stores nothing inline.
        inline = [file for file in request.files if file["path"] in job.inline]
        with_cas_access = partial(self.with_cas_access, None, "write", request.repo)
        known = upload.upload_contents(
            inline, lambda file: copies.read_original(hub, job, file["path"]), with_cas_access
        )
        records = {file["path"]: file for file in known}
        origins = {file["path"]: job.source for file in request.files if file["path"] not in records}
        request = replace(request, files=[records.get(file["path"], file) for file in request.files])
        return copies.result(bucket.publish(hub, request, origins), job)

    @fail_without_retry()
    def publish(
        self,
        source: Source,
        request: CommitRequest,
        *,
        path_in_repo: str | None = None,
        patterns: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        follow_links: bool = False,
        token: XetToken | SealedTokenDict | None = None,
        deduplicate: bool | None = None,
    ) -> XetPublishResult:
        """Upload files and publish them in one commit.

        The Hub is asked first which files it wants inline: those are not sent through CAS.

        :param request: the commit, without ``files``.
        :param source, path_in_repo, patterns, exclude, follow_links, token, deduplicate: as for :meth:`upload`.
        :raises XetHubError: nothing was committed.
        """
        self.check_token(token, "write", request.repo)
        files = self._collect(source, path_in_repo, patterns, exclude, follow_links=follow_links)
        result = self._publish(files, request, token, deduplicate)
        self.lineage.elsewhere("input", source)
        self.lineage.committed(result)
        return result

    def _publish(
        self,
        files: list[SourceFile],
        request: CommitRequest,
        token: XetToken | SealedTokenDict | None,
        deduplicate: bool | None,
    ) -> XetPublishResult:
        from airflow_provider_xethub.xet.hub import preupload
        from airflow_provider_xethub.xet.publish import bucket, commit
        from airflow_provider_xethub.xet.transfer import unchanged, upload

        by_path = {file.path_in_repo: file for file in files}
        if not request.repo.is_bucket:
            upload.fetch_samples(files)
        request = replace(request, files=[upload.source_record(file, request.repo.uri) for file in files])
        request.check()
        if request.repo.is_bucket:
            # Nothing is inline there.
            known = unchanged.in_bucket(self.hub, request.repo, files)
            request, transfer = self._upload_rest(files, known, request, token, deduplicate)
            return {**bucket.publish(self.hub, request), "transfer": transfer}

        def contents_of(inline: Sequence[XetFile]) -> dict[str, bytes]:
            return upload.read_inline([by_path[file["path"]] for file in inline])

        sizes = [(file.size, file.sample) for file in files]
        is_early = token is None and preupload.should_prefetch_token(sizes)
        with self.prefetch_token(request.repo, "write") if is_early else nullcontext():
            modes = self._modes(request, contents_of)
            through_cas = [
                file for file in files if not modes[file.path_in_repo].inline and not modes[file.path_in_repo].ignored
            ]
            known, digests = unchanged.in_repository(self.hub, request.repo, through_cas, modes)
            request, transfer = self._upload_rest(through_cas, known, request, token, deduplicate, digests)
        committed = commit.publish(self.hub, request, modes, contents_of)
        return {**committed, "transfer": transfer}

    @fail_without_retry()
    def publish_contents(self, contents: Mapping[str, bytes], request: CommitRequest) -> XetCommitResult:
        """Publish what is in memory, and with it what ``request.files`` has in CAS, in one commit.

        :param contents: small files, by their paths in the repository.
        :param request: the commit.
        :raises XetHubError: nothing was committed.
        """
        from airflow_provider_xethub.xet.publish import bucket, commit
        from airflow_provider_xethub.xet.transfer import upload

        held = [upload.content_record(path, content, request.repo.uri) for path, content in contents.items()]
        request = replace(request, files=[*request.files, *held])
        request.check()
        request = replace(request, files=samples.unseal(request.files, sealing.fernets()))
        is_bucket = request.repo.is_bucket
        write = partial(self.with_cas_access, None, "write", request.repo)

        def contents_of(inline: Sequence[XetFile]) -> dict[str, bytes]:
            here = {file["path"]: contents[file["path"]] for file in inline if file["path"] in contents}
            rest = [file for file in inline if file["path"] not in here]
            return here | self._read_back(rest)

        modes = {} if is_bucket else self._modes(request, contents_of)
        through_cas = [
            file
            for file in held
            if is_bucket
            or not (
                modes[file["path"]].inline
                or modes[file["path"]].ignored
                or modes[file["path"]].current == file["sha256"]
            )
        ]
        sent = upload.upload_contents(through_cas, lambda file: contents[file["path"]], write)
        known = {file["path"]: file for file in sent}
        request = replace(request, files=[known.get(file["path"], file) for file in request.files])
        if is_bucket:
            return bucket.publish(self.hub, request)
        return commit.publish(self.hub, request, modes, contents_of)

    def _upload_rest(
        self,
        files: Sequence[SourceFile],
        known: Mapping[str, XetFile],
        request: CommitRequest,
        token: XetToken | SealedTokenDict | None,
        deduplicate: bool | None,
        digests: Mapping[str, str] | None = None,
    ) -> tuple[CommitRequest, XetTransfer]:
        """Upload the files that are not known to be there, and return the request with the records of all."""
        from airflow_provider_xethub.xet.transfer import upload

        rest = [file for file in files if file.path_in_repo not in known]
        sent: XetUploadResult = {"files": [], "transfer": upload.no_transfer()}
        if rest:
            work = partial(upload.upload, files=rest, deduplicate=deduplicate, digests=digests)
            sent = self.with_cas_access(token, "write", request.repo, work)
        records = {**known, **{file["path"]: file for file in sent["files"]}}
        return replace(request, files=[records.get(file["path"], file) for file in request.files]), sent["transfer"]

    def _collect(
        self,
        source: Source,
        path_in_repo: str | None,
        patterns: str | Sequence[str] | None,
        exclude: str | Sequence[str] | None,
        *,
        follow_links: bool,
    ) -> list[SourceFile]:
        from airflow_provider_xethub.hooks.storage import open_storage
        from airflow_provider_xethub.xet import arguments
        from airflow_provider_xethub.xet import threads as workers
        from airflow_provider_xethub.xet.files import sources

        path_in_repo = arguments.string("path_in_repo", path_in_repo)
        find = partial(sources.collect, source, path_in_repo, patterns, open_storage)
        return workers.interruptible(lambda: find(exclude=exclude, follow_links=follow_links))

    # --- connection form of Airflow 3.0 and 3.1; later versions read get_provider_info() -----------------------------

    def test_connection(self) -> tuple[bool, str]:
        """Say who the Hub token belongs to, of which kind it is, and at which endpoint; for the UI's Test button."""
        from airflow_provider_xethub.hooks import connection_test

        try:
            return True, connection_test.describe_credential(self._make_hub("this connection"))
        except XetHubError as error:
            # Airflow tests a form under a random connection id: nobody would know it.
            return False, str(error).replace(f"connection {self.xethub_conn_id!r}", "this connection")

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
