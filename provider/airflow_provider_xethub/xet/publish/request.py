"""The request for a commit, and the checks before anything is sent."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet import answers, arguments, records
from airflow_provider_xethub.xet.publish.card import PATH as CARD_PATH
from airflow_provider_xethub.xet.publish.card import Card
from airflow_provider_xethub.xet.publish.records_on_disk import batches
from airflow_provider_xethub.xet.records import XetFile
from airflow_provider_xethub.xet.repo import Repo, check_path
from airflow_provider_xethub.xet.task_state import TaskState

MAX_MESSAGE = 10_000
MAX_DESCRIPTION = 60_000
"""Characters. Fewer than are read of a description, so that the key at its end is found again."""

COMMIT_TIMEOUT = 90.0
"""Least seconds to wait for the response to a commit: the Hub's own limit is 60."""

_AT_ONCE = 1000
"""Files of which the key is computed at once."""


@dataclass(frozen=True)
class CommitRequest:
    """The request for a commit.

    :param repo: repository and branch (or ``refs/pr/N``).
    :param files: records of files that are in CAS.
    :param delete: paths to delete; a trailing slash means the folder.
    :param message: the commit's title.
    :param description: more text below it.
    :param parent_commit: commit only if none of these paths changed since this commit.
    :param create_pr: open a pull request instead of committing to the branch.
    :param atomic: change the branch only once: what does not fit into one commit is committed to a pull request, which
        is merged at the end. A pull request itself may have several commits.
    :param idempotency_key: the same for all attempts of one piece of work; ``None`` for a new key of this call.
    :param is_first_try: whether no earlier attempt can have committed this, so that there is nothing to search for.
    :param card: the card to publish in the same commit, as ``README.md``.
    :param task_state: stores for later attempts where this was committed; without one they have to search.
    """

    repo: Repo
    files: Sequence[XetFile]
    delete: Sequence[str] = ()
    message: str = "Upload with airflow-provider-xethub"
    description: str = ""
    parent_commit: str | None = None
    create_pr: bool = False
    idempotency_key: str | None = None
    is_first_try: bool = False
    task_state: TaskState = field(default_factory=TaskState, compare=False, repr=False)
    atomic: bool = False
    card: Card | None = None

    def check(self) -> None:
        """Refuse what the Hub would reject or what cannot be intended, before anything is sent.

        :raises XetInputError: names the path or record.
        """
        where = str(self.repo)
        if self.repo.is_bucket and (self.parent_commit or self.create_pr):
            raise XetInputError(f"{where} is a bucket: it has no commits. Leave out parent_commit and create_pr.")
        if self.card is not None:
            if self.repo.is_bucket:
                raise XetInputError(f"{where} is a bucket: it has no card. Leave out card.")
            if any(path.removesuffix("/") == CARD_PATH for path in self.delete):
                raise XetInputError(f"{CARD_PATH} would be both the card of {where} and deleted.")
            self.card.check()
        arguments.text(f"commit_message for {where}", self.message, MAX_MESSAGE)
        arguments.text(f"commit_description for {where}", self.description, MAX_DESCRIPTION)
        # An empty string would silently skip the check that the caller asked for.
        for name in ("parent_commit", "idempotency_key"):
            arguments.string(name, getattr(self, name))
        if not self.message.strip():
            raise XetInputError(f"commit_message for {where} is empty.")
        if not self.files and not self.delete:
            raise XetInputError(f"Nothing to commit to {where}: neither files nor paths to delete were given.")
        self._check_files(where)
        self._check_deletions(where)

    def _check_files(self, where: str) -> None:
        if getattr(self.files, "are_checked", False):
            return
        # Of more, the publisher finds out which paths occur twice.
        seen: set[str] | None = set() if len(self.files) <= records.IN_MEMORY else None
        here: set[str] = set()  # URIs of this repository: a few, for many files
        for file in self.files:
            self._check_record(file)
            path, uri = file["path"], file["repo"]
            check_path(path)
            if uri not in here and not Repo.from_uri(uri).is_same_repo(self.repo):
                raise XetInputError(f"{path} was uploaded for {uri}; it cannot be committed to {where}.")
            here.add(uri)
            if seen is not None:
                if path in seen:
                    raise self.twice(path)
                seen.add(path)

    def _check_record(self, file: object) -> None:
        try:
            answers.xet_file(file)
        except answers.WrongAnswerError as error:
            named = str(file.get("path")) if isinstance(file, Mapping) else file
            raise XetInputError(
                f"files must be Xet file records, as XetUploadOperator returns them in 'files'; {named!r:.200} is "
                f"a record with {error}."
            ) from None

    def twice(self, path: str) -> XetInputError:
        """Return the error for a path that two files have."""
        return XetInputError(f"{path} occurs twice among the files to commit to {self.repo}.")

    def _check_deletions(self, where: str) -> None:
        if isinstance(self.delete, str):
            raise XetInputError(f"delete must be a list of paths, not the string {self.delete!r}.")
        gone: set[str] = set()
        for path in self.delete:
            plain = path.removesuffix("/")
            check_path(plain)
            if plain in gone:
                raise XetInputError(f"{path} occurs twice among the paths to be deleted in {where}.")
            gone.add(plain)
        # The Hub does not document which of the two it does first: it might delete the new file.
        folders = {path for path in self.delete if path.endswith("/")}
        for path in (file["path"] for file in self.files) if gone else ():
            above = {path[: at + 1] for at, char in enumerate(path) if char == "/"}
            if path in gone or above & folders:
                raise XetInputError(f"{path} would be both committed to and deleted from {where}.")


def commit_key(request: CommitRequest, files: Iterable[XetFile]) -> str:
    """Return the key that marks this piece of work in the commit's description.

    :param files: those of the request, inline ones with the digest of their content. An iterator has them in the order
        of their paths; there may be more of them than memory should hold.
    """
    ordered = files if isinstance(files, Iterator) else sorted(files, key=lambda file: file["path"])
    before = [request.repo.uri, request.message, request.description]
    after = [
        sorted(request.delete),
        request.parent_commit,
        request.create_pr,
        request.idempotency_key or uuid.uuid4().hex,
    ]
    # The digest of one JSON array of all of them.
    digest = hashlib.sha256(f"{json.dumps(before)[:-1]}, [".encode())
    separator = ""
    for some in batches(ordered, _AT_ONCE):
        items = json.dumps([[file["path"], file["sha256"] or "", file["size"]] for file in some])
        digest.update(f"{separator}{items[1:-1]}".encode())
        separator = ", "
    digest.update(f"], {json.dumps(after)[1:]}".encode())
    return digest.hexdigest()[:32]
