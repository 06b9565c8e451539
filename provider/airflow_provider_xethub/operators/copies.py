"""The operator that copies between repositories and buckets; users import it from ``operators.xethub``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.operators.base import REPO_FIELDS, XetOperator, is_first_try, task_state, work_key
from airflow_provider_xethub.xet.arguments import OnEmpty

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_xethub.xet.records import XetCopyResult, XetFile
    from airflow_provider_xethub.xet.repo import Repo


COPY_MESSAGE = "Copy {{ task_instance.task_id }} of {{ dag.dag_id }}"


class XetCopyOperator(XetOperator):
    """Copy files from another repository, another revision or a bucket, without moving the bytes that are in CAS.

    Small files that the source stores inline are read and written again. What the destination has already is left
    alone. ``repo_id``, ``repo_type`` and ``revision`` say where the copies go; one connection sees both sides. The Hub
    copies from repositories to repositories and buckets, and from buckets to buckets, in one storage region.

    :param source_repo_id: where the files come from; the records' repository, or the destination where ``None``.
    :param source_repo_type: its type; as above, and then the destination's.
    :param source_revision: its revision; as above, and then ``main``. A commit id is safe against later changes.
    :param path: one file, or one folder, in the source.
    :param paths: several files; all must exist.
    :param patterns: paths that match one of these (``*`` matches ``/`` as well); at least one must.
    :param files: records, as other operators and the sensor return them; lists of lists from mapped tasks too.
    :param path_in_repo: the folder below which the files keep their paths; the root where ``None``. For a single
        ``path`` it is the path of the copy (its folder with a trailing slash).
    :param commit_message: title of the commit.
    :param commit_description: more text below it.
    :param parent_commit: only commit if none of these paths changed since this commit.
    :param create_pr: open a pull request instead of committing to the branch.
    :param on_empty: what to do if ``files`` is an empty list, the source is empty, or nothing matches ``patterns``:
        ``fail``, or ``skip`` the task.
    :returns: a :class:`~airflow_provider_xethub.xet.records.XetCopyResult`. Without ``path``, ``paths``, ``patterns``
        and ``files``: the whole source.
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
        "commit_message",
        "commit_description",
        "parent_commit",
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
        commit_description: str = "",
        parent_commit: str | None = None,
        create_pr: bool = False,
        on_empty: OnEmpty = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source_repo_id = source_repo_id
        self.source_repo_type = source_repo_type
        self.source_revision = source_revision
        self.path = path
        self.paths = paths
        self.patterns = patterns
        self.files = files
        self.path_in_repo = path_in_repo
        self.commit_message = commit_message
        self.commit_description = commit_description
        self.parent_commit = parent_commit
        self.create_pr = create_pr
        self.on_empty = on_empty
        self._has_files = files is not None
        self.check_written()

    def work(self, context: Context) -> XetCopyResult:
        """Find out what is wanted, and copy it."""
        from airflow_provider_xethub.xet.publish.commit import CommitRequest

        target = self.resolve_repo()
        files = self._originals(target)
        request = CommitRequest(
            target,
            (),
            message=self.commit_message,
            description=self.commit_description,
            parent_commit=self.parent_commit,
            create_pr=self.create_pr,
            idempotency_key=work_key(context),
            is_first_try=is_first_try(context),
            task_state=task_state(context),
        )
        single = self.path is not None and len(files) == 1 and files[0]["path"] == self.path.strip("/")
        result = self.hook.copy(files, request, path_in_repo=self.path_in_repo, single=single)
        copied = result["copied"]
        self.log.info(
            "Copied %d file(s) of %d bytes; %d of them, of %d bytes, were inline and had to be read and written.",
            *(copied[key] for key in ("files", "bytes", "inline_files", "inline_bytes")),
        )
        self.tell_commit(context, result)
        return result

    def _originals(self, target: Repo) -> list[XetFile]:
        given = [name for name in ("path", "paths", "patterns", "files") if getattr(self, name) is not None]
        if len(given) > 1:
            raise XetInputError(f"{self.task_id}: give only one of {' and '.join(given)}.")
        if self._has_files or self.files is not None:
            named = [name for name in ("source_repo_id", "source_repo_type", "source_revision") if getattr(self, name)]
            if named:
                raise XetInputError(
                    f"{self.task_id}: the records in files say where they come from; leave out {' and '.join(named)}."
                )
            return self.given_files(self.files, "copy")
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
