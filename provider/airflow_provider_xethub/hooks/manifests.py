"""Large results by reference: when a list becomes a manifest, where its records go, and how a task reads them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.sdk import conf

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.hooks.connections import configuration, connection
from airflow_provider_xethub.hooks.tokens.tokens import TokenUse
from airflow_provider_xethub.xet.records import XetCommitResult, XetFile, XetManifest, XetMirrorPlan
from airflow_provider_xethub.xet.repo import Repo

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_xethub.hooks.cas_access import CasConnector
    from airflow_provider_xethub.hooks.connections.connection import LazyConnection
    from airflow_provider_xethub.xet.cas.session import WithCasAccess
    from airflow_provider_xethub.xet.files.object_storage import Storage
    from airflow_provider_xethub.xet.manifests.files import Reader
    from airflow_provider_xethub.xet.manifests.spool import Spool

NEEDS_CONNECTION = (
    "A listing manifest needs a connection: set xethub_conn_id, or [xethub] manifest_storage on all workers"
)


MAX_DELETED = 100
"""Paths that are deleted, or in the plan of a mirror, which a result names if there are more than a list may have."""


class Manifests:
    """Reads and writes the manifests of one hook.

    :param lazy: the connection, where this worker has it.
    :param cas: gives access to CAS.
    """

    def __init__(self, lazy: LazyConnection, cas: CasConnector) -> None:
        self._lazy = lazy
        self._cas = cas

    def reader(self, use: Callable[[Repo], TokenUse] | None = None) -> Reader:
        """Return what reads manifests.

        :param use: returns the token for the repository of a manifest. ``None``: one that the connection fetches, for
            reading, when it is needed.
        """

        def read(manifest: XetManifest) -> Spool:
            from airflow_provider_xethub.xet.manifests import listing, stored

            kind, repo = manifest["manifest"], Repo.from_uri(manifest["repo"])
            if kind == "storage":
                return stored.from_storage(manifest, *_storage(configuration.manifest_storage()))
            if kind == "cas":
                return stored.from_cas(manifest, self._cas.bind(use(repo) if use else TokenUse("read", repo)))
            if self._lazy.conn_id is None or self._lazy.found is None:
                text = f"{NEEDS_CONNECTION}. It stands for files of {repo}, which the Hub has to list again."
                raise connection.needed(self._lazy.conn_id, XetInputError(text))
            return listing.read(self._lazy.hub, manifest)

        return read

    def find(
        self, repo: Repo, path: str | None, patterns: Sequence[str] | None, commit_of: Callable[[Repo], str]
    ) -> Sequence[XetFile]:
        """List files: as a list up to ``[xethub] manifest_files``, otherwise as a sequence that is kept on disk.

        :param repo, path, patterns: as for :meth:`XetHubConnection.find_files`.
        :param commit_of: returns the commit of a revision.
        :raises XetNotFoundError: repository, revision or path does not exist.
        """
        from airflow_provider_xethub.xet.manifests import listing
        from airflow_provider_xethub.xet.manifests.files import Files, Referred

        limit = configuration.manifest_files()
        found, few, spool = listing.find(self._lazy.hub, repo, path, patterns, limit, commit_of)
        if spool is None:
            return few
        return Files([Referred(listing.manifest_of(found, spool.totals, path, patterns), spool)], self.reader())

    def batches(
        self,
        repo: Repo,
        path: str | None,
        patterns: Sequence[str] | None,
        batch_files: int,
        commit_of: Callable[[Repo], str],
    ) -> list[XetManifest]:
        """Return a manifest for each batch of files; see :meth:`XetHubConnection.list_batches`."""
        from airflow_provider_xethub.xet.manifests import folder_batches, stored

        hub = self._lazy.hub
        pinned = repo if repo.is_bucket else repo.at(commit_of(repo))
        uri = configuration.manifest_storage()
        planned, spool = folder_batches.plan(hub, pinned, path, patterns, batch_files, keep=bool(uri))
        if not uri or spool is None:
            return [batch.manifest(pinned, patterns) for batch in planned]
        storage, folder = _storage(uri)
        spools = folder_batches.divided(spool, planned)
        return [stored.to_storage(each, pinned, storage, folder) for each in spools]

    def value(self, files: Sequence[XetFile], with_cas_access: WithCasAccess | None = None) -> Any:
        """Return what a task puts into XCom: a list up to ``[xethub] manifest_files``, otherwise a manifest.

        :param files: records of one repository.
        :param with_cas_access: runs an upload with the write token that the task has anyway. ``None``: no token is
            fetched for this, so that a list stays a list unless there is a storage.
        """
        from airflow_provider_xethub.xet.manifests.files import Files, batches, source_of
        from airflow_provider_xethub.xet.manifests.spool import spooled

        if not self.is_many(files):
            return list(files)
        known = files.manifest if isinstance(files, Files) else None
        if known is None and with_cas_access is None and not configuration.manifest_storage():
            return list(files)
        if known is not None and (known["manifest"] == "storage" or not configuration.manifest_storage()):
            return known
        return self.write(spooled(batches(files)), source_of(files), with_cas_access)

    def is_many(self, files: Sequence[XetFile]) -> bool:
        """Return whether these are more files than a task returns as a list."""
        return len(files) > configuration.manifest_files()

    def large_fields(self, result: XetCommitResult, with_cas_access: WithCasAccess) -> dict[str, Any]:
        """Return the fields of a result that are too long for XCom, as they go there: see :class:`XetCommitResult`."""
        limit = configuration.manifest_files()
        # They may be sequences on disk, which no XCom takes.
        files: Sequence[XetFile] = result["files"]
        unchanged: Collection[str] = result["unchanged"]
        deleted = result["deleted"]
        fields: dict[str, Any] = {"files": files, "unchanged": unchanged}
        if len(files) > limit:
            fields["files"] = self._stored(files, with_cas_access)
        elif not isinstance(files, list):
            fields["files"] = list(files)
        if len(unchanged) == len(files) > limit:
            fields["unchanged"] = fields["files"]  # the same records in the same order
        elif len(unchanged) > limit:
            paths: Collection[str] = set(unchanged) if isinstance(unchanged, list) else unchanged
            fields["unchanged"] = self._stored(_Some(files, paths), with_cas_access)
        elif not isinstance(unchanged, list):
            fields["unchanged"] = list(unchanged)
        if len(deleted) > limit:
            fields |= {"deleted": deleted[:MAX_DELETED], "deleted_count": len(deleted)}
        return fields

    @staticmethod
    def short_plan(plan: XetMirrorPlan) -> XetMirrorPlan:
        """Return the plan of a mirror as it goes to XCom: see :class:`XetMirrorPlan`."""
        limit = configuration.manifest_files()
        short: dict[str, Any] = {**plan}
        for kind in ("added", "changed", "removed", "kept"):
            if (count := len(short[kind])) > limit:
                short |= {kind: short[kind][:MAX_DELETED], f"{kind}_count": count}
        return cast("XetMirrorPlan", short)

    def _stored(self, files: Collection[XetFile], with_cas_access: WithCasAccess) -> XetManifest:
        from airflow_provider_xethub.xet.manifests.files import batches
        from airflow_provider_xethub.xet.manifests.spool import spooled

        repo = Repo.from_uri(next(iter(files))["repo"])
        return self.write(spooled(batches(files)), repo, with_cas_access)

    def write(self, spool: Spool, repo: Repo, with_cas_access: WithCasAccess | None = None) -> XetManifest:
        """Keep records in ``[xethub] manifest_storage``, or, where that is not set, in CAS, and return the manifest.

        :param spool: the records.
        :param repo: the repository of all records.
        :param with_cas_access: runs an upload with the write token that the task has anyway.
        :raises XetInputError: there is neither.
        """
        from airflow_provider_xethub.xet.manifests import stored

        if uri := configuration.manifest_storage():
            return stored.to_storage(spool, repo, *_storage(uri))
        if with_cas_access is None:
            raise XetInputError(
                f"{spool.totals.file_count} records need [xethub] manifest_storage: this task has no token to write to "
                f"{repo} with. Set it on all workers, or raise [xethub] manifest_files."
            )
        return stored.to_cas(spool, repo, with_cas_access)


class _Some(Collection[XetFile]):
    """Those of many records that have certain paths."""

    def __init__(self, files: Sequence[XetFile], paths: Collection[str]) -> None:
        self._files = files
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __contains__(self, file: object) -> bool:
        return isinstance(file, dict) and file.get("path") in self._paths

    def __iter__(self) -> Iterator[XetFile]:
        return (file for file in self._files if file["path"] in self._paths)


def _storage(uri: str) -> tuple[Storage, str]:
    """Open the storage, and return it with the path of the folder."""
    from airflow_provider_xethub.hooks.storage import open_storage
    from airflow_provider_xethub.xet.files.object_storage import location
    from airflow_provider_xethub.xet.process import threads

    if not uri:
        raise XetInputError(
            "The manifest is in a storage that this worker does not know: set [xethub] manifest_storage on all "
            "workers, to the same folder as on the worker that returned it."
        )
    where = location(uri)
    if where is None or where.scheme in ("hf", "xethub"):
        raise XetInputError(
            f"[xethub] manifest_storage must be a URI such as s3://aws_default@bucket/folder, not {uri!r:.80}."
        )
    return threads.interruptible(lambda: open_storage(where)), where.path


def xcom_files(task: Any, files: Sequence[XetFile]) -> Any:
    """Return what a task returns for files: a list or a manifest; always a list if another task is mapped over it.

    :param task: the operator or sensor.
    :raises XetInputError: Airflow does not map over that many.
    """
    if not task.has_dag() or next(task.iter_mapped_dependants(), None) is None:
        return task.hook.xcom_files(files)
    most = conf.getint("core", "max_map_length", fallback=1024)
    if len(files) > most:
        raise XetInputError(
            f"{len(files)} files are more than Airflow maps over ({most}): map over XetListOperator(batch_files=…), or "
            f"give the output of {task.task_id} to files without expand(). [core] max_map_length is the limit."
        )
    return list(files)
