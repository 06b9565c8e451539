"""Make commits, and the pull requests that commits open.

A commit is one transaction: all of its changes take effect, or none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from xethub_local.metadata import trees
from xethub_local.metadata.discussions import Discussion, Discussions
from xethub_local.metadata.history import HEADS, PULLS, Commit, Ref, new_commit_id
from xethub_local.metadata.repositories import Repositories
from xethub_local.metadata.trees import Entry
from xethub_local.repo import DEFAULT_REVISION
from xethub_local.store.errors import BadRequestError, HubError, NothingToDeleteError
from xethub_local.store.paths import require_path


@dataclass(frozen=True)
class PutRegular:
    """Add or replace a file whose content the commit itself carries."""

    path: str
    content: bytes


@dataclass(frozen=True)
class PutXet:
    """Add or replace a file whose content is in CAS."""

    path: str
    xet_hash: str
    sha256: str
    size: int


@dataclass(frozen=True)
class DeleteFile:
    """Delete the file or the folder at that path."""

    path: str


@dataclass(frozen=True)
class DeleteFolder:
    """Delete a folder with everything in it."""

    path: str


Change = PutRegular | PutXet | DeleteFile | DeleteFolder


@dataclass(frozen=True)
class NewCommit:
    """A new commit, and the number of the pull request that it opened."""

    commit: Commit
    pull_request: int | None = None


class CommitWriter:
    """Makes commits and pull requests in the repositories of one local Hub.

    :ivar discussions: their discussions and pull requests.
    """

    def __init__(self, repositories: Repositories) -> None:
        self._repositories = repositories
        self.discussions = Discussions(repositories.db, lambda: repositories.clock())

    def commit(
        self,
        name: str,
        revision: str,
        changes: Iterable[Change],
        *,
        title: str,
        message: str = "",
        author: str = "local",
        parent_commit: str | None = None,
        create_pr: bool = False,
    ) -> NewCommit:
        """Apply ``changes`` in order, and move the branch. Without changes, make an empty commit.

        :param parent_commit: refuse the commit unless the branch still points there; at least 7 digits of the id.
        :param create_pr: leave the branch alone and open a pull request with the commit.
        :raises RevisionNotFoundError: the revision does not exist.
        :raises HubError: 412, the branch has moved.
        :raises NothingToDeleteError: a path to delete does not exist.
        :raises BadRequestError: a path is invalid, or the revision is a tag or a commit.
        """
        with self._repositories.db.write() as connection:
            base = self._repositories.writable_ref(name, revision, proposes=create_pr)
            if parent_commit and not (len(parent_commit) >= 7 and base.commit.startswith(parent_commit)):
                raise HubError(
                    412,
                    "The branch was updated since you opened this page. Please refresh and try again. "
                    f"{name} at {revision} is at {base.commit}, not at {parent_commit}.",
                )
            head = self._repositories.commit_of(connection, name, base.commit)
            editor, commit_id = trees.TreeEditor(connection, head.tree), new_commit_id()
            for change in changes:
                self._apply(name, head.id, editor, change, commit_id)
            commit = self._repositories.add_commit(connection, name, head.id, editor, title, message, author, commit_id)
            if not create_pr:
                self._repositories.set_ref(connection, name, Ref(base.ref, commit.id))
                if base.ref.startswith(PULLS):
                    self.discussions.commit(name, int(base.ref.removeprefix(PULLS)), author, title, commit.id)
                return NewCommit(commit)
            pull_request = self._open(name, revision, commit, title, message, author, "open")
            self.discussions.commit(name, pull_request.number, author, title, commit.id)
            return NewCommit(commit, pull_request.number)

    def open_pull_request(
        self, name: str, title: str, description: str, author: str, base: str = DEFAULT_REVISION
    ) -> Discussion:
        """Open a pull request without changes, as a draft; commits to it go to ``refs/pr/N``.

        :raises RevisionNotFoundError: ``base`` does not exist.
        """
        with self._repositories.db.write():
            head = self._repositories.resolve(name, base)
            return self._open(name, base, head, title, description, author, "draft")

    def pull_request(self, name: str, number: int) -> Discussion:
        """Return one pull request.

        :raises HubError: 404, there is no pull request with that number.
        """
        found = self.discussions.get(name, number)
        if not found.is_pull_request:
            raise HubError(404, f"{name} has no pull request {number}; that number belongs to a discussion.")
        return found

    def merge(self, name: str, number: int, author: str) -> Commit:
        """Merge the changes of a pull request into its base as one commit.

        The statuses of refusals are guesses; no client checks them.

        :raises HubError: 404, there is no pull request with that number; 409, it conflicts with its base.
        :raises BadRequestError: it is merged, closed or a draft.
        """
        with self._repositories.db.write() as connection:
            pull_request = self.pull_request(name, number)
            self.discussions.require_unmerged(name, number)
            if pull_request.status != "open":
                found = "a draft; publish it" if pull_request.status == "draft" else "closed; reopen it"
                raise BadRequestError(f"Pull request {number} of {name} is {found} before it is merged.")
            if conflicts := self.conflicts(name, pull_request):
                raise HubError(409, f"Pull request {number} of {name} has conflicts in {', '.join(conflicts[:10])}.")
            base = self._repositories.writable_ref(name, pull_request.base)
            before, after = self.changed_by(name, pull_request)
            editor = trees.TreeEditor(connection, self._repositories.commit_of(connection, name, base.commit).tree)
            for path in before.keys() - after.keys():
                editor.delete_file(path)
            for path, entry in after.items():
                if before.get(path) != entry:
                    editor.put(entry)
            title = f"{pull_request.title} (#{number})"
            commit = self._repositories.add_commit(
                connection, name, base.commit, editor, title, pull_request.description, author
            )
            self._repositories.set_ref(connection, name, Ref(base.ref, commit.id))
            self.discussions.set_status(name, number, author, "merged", commit.id)
            return commit

    def conflicts(self, name: str, pull_request: Discussion) -> list[str]:
        """Return the paths that an unmerged pull request and its base have both changed, and differently.

        :raises RevisionNotFoundError: its base, or itself, was deleted.
        """
        before, after = self.changed_by(name, pull_request)
        base = self._repositories.resolve(name, HEADS + pull_request.base)
        now = {entry.path: entry for entry in self._files(name, base)}
        return sorted(
            path
            for path in before.keys() | after.keys() | now.keys()
            if _differ(before.get(path), after.get(path))
            and _differ(before.get(path), now.get(path))
            and _differ(after.get(path), now.get(path))
        )

    def changed_by(self, name: str, pull_request: Discussion) -> tuple[dict[str, Entry], dict[str, Entry]]:
        """Return the files at the point where a pull request left its base, and its files now, by path.

        :raises RevisionNotFoundError: its base, or itself, was deleted.
        """
        history = self._repositories.commits(name, pull_request.ref)
        known = {commit.id for commit in self._repositories.commits(name, HEADS + pull_request.base)}
        fork = next((commit for commit in history if commit.id in known), None)
        before, after = self._files(name, fork), self._files(name, history[0])
        return {entry.path: entry for entry in before}, {entry.path: entry for entry in after}

    def _files(self, name: str, commit: Commit | None) -> list[Entry]:
        if commit is None:
            return []
        return [entry for entry in self._repositories.entries(name, commit) if entry.kind != "directory"]

    def _open(
        self, name: str, base: str, head: Commit, title: str, description: str, author: str, status: str
    ) -> Discussion:
        with self._repositories.db.write() as connection:
            opened = self.discussions.open(name, title, description, author, base, status)
            self._repositories.set_ref(connection, name, Ref(opened.ref, head.id))
        return opened

    def _apply(self, name: str, head: str, editor: trees.TreeEditor, change: Change, commit_id: str) -> None:
        path = require_path(change.path.rstrip("/") if isinstance(change, DeleteFolder) else change.path)
        if isinstance(change, PutRegular):
            with self._repositories.db.write() as connection:
                oid = trees.store_blob(connection, change.content)
            editor.put(Entry(path, "regular", oid, len(change.content), commit_id))
        elif isinstance(change, PutXet):
            oid = trees.blob_oid(trees.pointer_text(change.sha256, change.size).encode())
            editor.put(Entry(path, "xet", oid, change.size, commit_id, change.sha256, change.xet_hash))
        else:
            # The Hub accepts the path of a folder without "/", and refuses the path of a file with "/".
            was_there = (isinstance(change, DeleteFile) and editor.delete_file(path)) or editor.delete_folder(path)
            if not was_there:
                raise NothingToDeleteError(name, path, head)


def _differ(one: Entry | None, other: Entry | None) -> bool:
    """Return whether two files at the same path have different content; the commits that wrote them do not matter."""
    return (one and one.oid) != (other and other.oid)
