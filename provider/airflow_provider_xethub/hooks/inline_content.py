"""The content of inline files in records: who needs it, who puts it there, and who opens it with a token only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.hooks.tokens import sealing
from airflow_provider_xethub.hooks.tokens.tokens import Tokens, TokenUse
from airflow_provider_xethub.xet.records import XetFile
from airflow_provider_xethub.xet.repo import Repo

if TYPE_CHECKING:
    from airflow_provider_xethub.hooks.connections.connection import LazyConnection
    from airflow_provider_xethub.xet.hub.client import Hub
    from airflow_provider_xethub.xet.token import Fernet


def is_needed_after(task: Any) -> bool:
    """Return whether a later task of the DAG takes file records, and works without a connection.

    :param task: an operator or sensor. Tasks that get their ``xethub_conn_id`` from a template or by mapping over it
        are not recognised, nor are other DAGs.
    """
    dag = task.get_dag()
    seen: set[str] = set()
    todo = list(task.downstream_task_ids) if dag else []
    while todo:
        task_id = todo.pop()
        if task_id in seen or task_id not in dag.task_dict:
            continue
        seen.add(task_id)
        other = dag.task_dict[task_id]
        todo += other.downstream_task_ids
        # A mapped task keeps what all of its instances have in common.
        given = getattr(other, "partial_kwargs", None)
        conn_id = getattr(other, "xethub_conn_id", "") if given is None else given.get("xethub_conn_id", "")
        if conn_id is None and "files" in other.template_fields:
            return True
    return False


def listed(hub: Hub, repo: Repo, find: Callable[[Repo], list[XetFile]], *, required: bool) -> list[XetFile]:
    """List files with the sealed content of those that are inline, all at one commit.

    :param find: lists the files of a repository at a revision.
    :param required: as for :func:`add`.
    :raises XetHubError: as for :func:`add`.
    """
    from airflow_provider_xethub.xet.transfer import inline_content

    commit = None if repo.is_bucket else inline_content.commit_of(hub, repo)
    if commit is None:
        return find(repo)
    files: list[XetFile] = [{**file, "repo": repo.uri} for file in find(repo.at(commit))]
    return inline_content.add(hub, files, repo, commit, _key(), required=required)


def add(hub: Hub, files: Sequence[XetFile], repo: Repo, *, required: bool) -> list[XetFile]:
    """Return records from elsewhere with the sealed content of those that are inline.

    :param repo: the repository and revision of all records.
    :param required: whether to fail if not all content fits, or there is no key.
    :raises XetHubError: see :func:`airflow_provider_xethub.xet.transfer.inline_content.add`.
    """
    from airflow_provider_xethub.xet.transfer import inline_content

    commit = None if repo.is_bucket else inline_content.commit_of(hub, repo)
    if commit is None:
        return list(files)
    known = inline_content.look_up(hub, files, repo, commit)
    return inline_content.add(hub, known, repo, commit, _key(), required=required)


def of_records(
    files: Sequence[XetFile], use: TokenUse, tokens: Tokens, connection: LazyConnection
) -> SealedContents | None:
    """Return the inline content that comes with records, for a download without a connection.

    What is sealed is verified now, also for files that exist at the destination.

    :param use: the token of the task, which says what repository and revision is read.
    :returns: ``None`` if no record has content, or the connection is there to ask the Hub.
    :raises XetTokenError: the content is refused, or there is no token that says what is read.
    """
    sealed = [file for file in files if "sealed_content" in file]
    if not sealed or (connection.conn_id is not None and connection.found is not None):
        return None
    given = use.given
    # Without a token that opens here, this raises the error that says so.
    token = given.opened if given and given.opened else tokens.fresh(use)
    contents = SealedContents(token.repo, use, tokens)
    contents.verify(sealed)
    return contents


def _key() -> Fernet | None:
    return next(iter(sealing.fernets()), None)


class SealedContents:
    """The content of inline files that records brought, for a worker with a token only.

    :ivar commit: the commit that all of it was sealed at; empty before :meth:`verify`.
    """

    def __init__(self, repo: Repo, use: TokenUse, tokens: Tokens) -> None:
        self._repo = repo
        self._use = use
        self._tokens = tokens
        self._fernets = sealing.fernets()
        self.commit = ""

    def verify(self, files: Sequence[XetFile]) -> None:
        """Refuse content that is not that of these files, of one commit."""
        from airflow_provider_xethub.xet.files import sealed_content

        sealed_content.check(files, self._repo, self._fernets)
        self.commit = sealed_content.commit_of(files[0], self._repo, self._fernets)

    def check(self, files: Sequence[XetFile]) -> None:
        """Refuse to write with a token that has expired, whatever the files are."""
        if files:
            self._tokens.fresh(self._use)

    def read(self, file: XetFile) -> bytes:
        """Return the content of a file."""
        from airflow_provider_xethub.xet.files import sealed_content

        return sealed_content.read(file, self._repo, self._fernets)
