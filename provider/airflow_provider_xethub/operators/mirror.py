"""The operator that makes a folder of a repository equal to a source, or a destination equal to a folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_xethub.exceptions import XetHubError, XetInputError
from airflow_provider_xethub.hooks.errors import fail_without_retry
from airflow_provider_xethub.hooks.metrics import count_transfer
from airflow_provider_xethub.operators.base import (
    COMMIT_FIELDS,
    LIMIT_FIELDS,
    REPO_FIELDS,
    XetCommittingOperator,
    XetLimitedOperator,
    task_state,
)
from airflow_provider_xethub.xet import arguments, native_client, progress
from airflow_provider_xethub.xet.hub.pages import HubPage

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.sdk import ObjectStoragePath

    from airflow_provider_xethub.xet.records import XetFile, XetMirrorDownload, XetMirrorPlan, XetMirrorResult
    from airflow_provider_xethub.xet.repo import Repo

MIRROR_MESSAGE = "Mirror {{ task_instance.task_id }} of {{ dag.dag_id }}"

MAX_DELETE_SHARE = 0.5
"""Default of the largest share of files that a mirror deletes."""


class XetMirrorOperator(XetCommittingOperator, XetLimitedOperator):
    """Make a folder of a repository equal to a source, or a destination equal to a folder of a repository.

    Give either ``source`` or ``destination``.

    With ``source``, additions, changes and deletions are one commit. It replaces only what was listed: if others commit
    to the same files meanwhile, both sides are compared again. Work that exceeds the limits of the Hub goes to a pull
    request, which is merged at the end. A bucket has no commits: there, files are added and changed first and deleted
    last. ``.gitattributes`` and ``README.md`` in the root of a repository are uploaded, but never deleted.

    With ``destination``, only files that an earlier mirror put there and nobody changed since are deleted, after all
    other files were downloaded and verified. The file ``.xethub-mirror.json`` in the destination records them.

    :param source: one folder on the worker or in object storage (``ObjectStoragePath`` or its URI). It replaces the
        content of the folder in the repository.
    :param destination: a folder on the worker or in object storage. The content of the folder in the repository
        replaces what earlier mirrors put there.
    :param path_in_repo: the folder of the repository. ``None``: the root.
    :param patterns: only files whose path below the folder matches one of these (``*`` matches ``/`` as well). Other
        files are neither copied nor deleted.
    :param exclude: files that match one of these are neither copied nor deleted.
    :param protect: files that match one of these are copied, but never deleted.
    :param max_delete_share: fail if more than this share of the selected files would be deleted, from 0 to 1.
    :param allow_empty: whether the side that is copied may have no file. Otherwise the task fails.
    :param dry_run: log and return the plan, and change nothing.
    :param follow_links: with ``source``, whether to follow links to folders, and links that lead out of the source.
    :param deduplicate: with ``source``, as for :class:`XetUploadOperator`.
    :param commit_message: title of the commit.
    :returns: with ``dry_run``, a :class:`~airflow_provider_xethub.xet.records.XetMirrorPlan`. Otherwise, with
        ``source``, a :class:`~airflow_provider_xethub.xet.records.XetMirrorResult`; with ``destination``, a
        :class:`~airflow_provider_xethub.xet.records.XetMirrorDownload`. The figures are also the XCom ``transfer``.
    """

    default_message = MIRROR_MESSAGE
    template_fields: Sequence[str] = (
        *REPO_FIELDS,
        "source",
        "destination",
        "path_in_repo",
        "patterns",
        "exclude",
        "protect",
        "max_delete_share",
        *COMMIT_FIELDS,
        *LIMIT_FIELDS,
    )

    def __init__(
        self,
        *,
        source: str | ObjectStoragePath | None = None,
        destination: str | ObjectStoragePath | None = None,
        path_in_repo: str | None = None,
        patterns: str | Sequence[str] | None = None,
        exclude: str | Sequence[str] | None = None,
        protect: str | Sequence[str] | None = None,
        max_delete_share: float = MAX_DELETE_SHARE,
        allow_empty: bool = False,
        dry_run: bool = False,
        follow_links: bool = False,
        deduplicate: bool | None = None,
        commit_message: str = MIRROR_MESSAGE,
        **kwargs: Any,
    ) -> None:
        super().__init__(commit_message=commit_message, **kwargs)
        self.source = source
        self.destination = destination
        self.path_in_repo = path_in_repo
        self.patterns = patterns
        self.exclude = exclude
        self.protect = protect
        self.max_delete_share = max_delete_share
        self.allow_empty = allow_empty
        self.is_dry_run = dry_run  # BaseOperator has a method of the other name
        self.follow_links = follow_links
        self.deduplicate = deduplicate
        # Compared here, because a template may be rendered to None.
        self._given = [name for name in ("source", "destination") if getattr(self, name) is not None]
        self.check_written()

    @fail_without_retry()
    def check_written(self) -> None:
        """Check what the DAG file says."""
        super().check_written()
        if not getattr(self, "_BaseOperator__from_mapped", False):
            arguments.flag("dry_run", vars(self).get("is_dry_run", False))

    def check_rendered(self) -> None:
        """Check the arguments, and that there is exactly one side besides the repository."""
        if len(self._given) != 1:
            raise XetInputError(f"{self.task_id}: give either source or destination, and only one of them.")
        absent = {"source", "destination"} - set(self._given)
        arguments.check_fields(self, [name for name in self.template_fields if name not in absent])
        arguments.check_written(self, self.template_fields)
        arguments.flag("dry_run", self.is_dry_run)
        self.max_delete_share = arguments.share("max_delete_share", self.max_delete_share)
        if self._given == ["destination"] and (self.create_pr or self.create_repo or self.parent_commit):
            raise XetInputError(
                f"{self.task_id}: create_pr, create_repo and parent_commit need a source; a download commits nothing."
            )

    def work(self, context: Context) -> XetMirrorResult | XetMirrorDownload | XetMirrorPlan:
        """Mirror in the direction that was given."""
        if self._given == ["destination"]:
            native_client.share_heaps()
        repo = self.resolve_repo()
        if self.path_in_repo:
            self.hub_page = HubPage(repo, "folder", self.path_in_repo.strip("/"))
        options: dict[str, Any] = {
            "path_in_repo": self.path_in_repo,
            "patterns": self.patterns,
            "exclude": self.exclude,
            "protect": self.protect,
            "max_delete_share": self.max_delete_share,
            "allow_empty": self.allow_empty,
            "dry_run": self.is_dry_run,
            "limits": self.limits,
        }
        if self._given == ["source"]:
            return self._upload(context, repo, options)
        return self._download(context, repo, options)

    def _upload(self, context: Context, repo: Repo, options: dict[str, Any]) -> XetMirrorResult | XetMirrorPlan:
        result = self.hook.mirror(
            self.source,  # type: ignore[arg-type]  # it is given
            self.commit_request(context, repo),
            follow_links=self.follow_links,
            deduplicate=self.deduplicate,
            create_repo=self.create_repo,
            **options,
        )
        if self.is_dry_run:
            return self._planned(cast("XetMirrorPlan", result), sends=True)
        mirrored = cast("XetMirrorResult", result)
        self._report_plan(mirrored["plan"])
        self.log.info("Uploaded %s.", progress.upload_summary(mirrored["transfer"]))
        self._report_transfer(context, "upload", mirrored["transfer"], repo)
        self.report_commit(context, mirrored)
        short: XetMirrorResult = {**mirrored, "plan": self.hook.xcom_plan(mirrored["plan"])}
        return self.hook.xcom_commit(short, repo)

    def _download(self, context: Context, repo: Repo, options: dict[str, Any]) -> XetMirrorDownload | XetMirrorPlan:
        result = self.hook.mirror_download(
            self.destination,  # type: ignore[arg-type]  # it is given
            repo,
            task_state=task_state(context),
            **options,
        )
        if self.is_dry_run:
            return self._planned(cast("XetMirrorPlan", result), sends=False)
        mirrored = cast("XetMirrorDownload", result)
        self._report_plan(mirrored["plan"])
        self.log.info("Downloaded %s.", progress.download_summary(mirrored["transfer"]))
        self._report_transfer(context, "download", mirrored["transfer"], repo)
        files = mirrored["files"]
        try:
            files = cast("list[XetFile]", self.hook.xcom_files(files))
        except XetHubError as error:
            # A retry would find nothing to download, and return no files at all.
            self.log.warning("The result lists all files, because no manifest could be stored: %s", error)
        return {**mirrored, "files": files, "plan": self.hook.xcom_plan(mirrored["plan"])}

    def _planned(self, plan: XetMirrorPlan, *, sends: bool) -> XetMirrorPlan:
        from airflow_provider_xethub.xet.files.mirror import plan as mirror_plan

        self.log.info("Dry run, nothing was changed. %s", mirror_plan.table(plan, sends=sends))
        return self.hook.xcom_plan(plan)

    def _report_plan(self, plan: XetMirrorPlan) -> None:
        from airflow_provider_xethub.xet.files.mirror import plan as mirror_plan

        self.log.info("Mirrored %s: %s.", self._given[0], mirror_plan.summary(plan))

    def _report_transfer(self, context: Context, direction: Any, transfer: Any, repo: Repo) -> None:
        if self.do_xcom_push:
            context["ti"].xcom_push(key="transfer", value=transfer)
        count_transfer(direction, transfer, repo.repo_type)
