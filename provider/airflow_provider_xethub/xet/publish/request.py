"""What is asked of a commit, and what is refused before anything is sent."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet import answers, arguments
from airflow_provider_xethub.xet.records import XetFile
from airflow_provider_xethub.xet.repo import Repo, check_path
from airflow_provider_xethub.xet.task_state import TaskState

MAX_MESSAGE = 10_000
MAX_DESCRIPTION = 60_000
"""Characters; below what is read of a description, so that the key at its end is found again."""


@dataclass(frozen=True)
class CommitRequest:
    """What is to be published.

    :param repo: repository and branch (or ``refs/pr/N``).
    :param files: records of files that are in CAS.
    :param delete: paths to delete; a trailing slash means the folder.
    :param message: the commit's title.
    :param description: more text below it.
    :param parent_commit: only commit if none of these paths changed since this commit.
    :param create_pr: open a pull request instead of committing to the branch.
    :param idempotency_key: the same for all tries of one piece of work; ``None`` for one of this call alone.
    :param is_first_try: whether no earlier try can have committed this: then there is nothing to look for before.
    :param task_state: remembers for later tries where this was committed; without one they have to search.
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

    def check(self) -> None:
        """Refuse what the Hub would refuse, or what could not be meant, before anything is sent.

        :raises XetInputError: says which path or record.
        """
        if self.repo.is_bucket and (self.parent_commit or self.create_pr):
            raise XetInputError(f"{self.repo} is a bucket: it has no commits. Leave out parent_commit and create_pr.")
        arguments.text(f"commit_message for {self.repo}", self.message, MAX_MESSAGE)
        arguments.text(f"commit_description for {self.repo}", self.description, MAX_DESCRIPTION)
        # Left empty, these would not check what the caller wanted checked.
        for name in ("parent_commit", "idempotency_key"):
            arguments.string(name, getattr(self, name))
        if not self.message.strip():
            raise XetInputError(f"commit_message for {self.repo} is empty.")
        if not self.files and not self.delete:
            raise XetInputError(f"nothing to commit to {self.repo}: neither files nor paths to delete were given.")
        seen: set[str] = set()
        here: set[str] = set()  # URIs that are of this repository: a few, for many files
        for file in self.files:
            try:
                answers.xet_file(file)
            except answers.WrongAnswerError as error:
                named = str(file.get("path")) if isinstance(file, Mapping) else file
                raise XetInputError(
                    f"files must be Xet file records, as XetUploadOperator returns them in 'files'; {named!r:.200} is "
                    f"a record with {error}."
                ) from None
            check_path(file["path"])
            if file["repo"] not in here and not Repo.from_uri(file["repo"]).is_same_repo(self.repo):
                raise XetInputError(
                    f"{file['path']} was uploaded for {file['repo']}; it cannot be committed to {self.repo}."
                )
            if file["path"] in seen:
                raise XetInputError(f"{file['path']} occurs twice among the files to commit to {self.repo}.")
            here.add(file["repo"])
            seen.add(file["path"])
        if isinstance(self.delete, str):
            raise XetInputError(f"delete must be a list of paths, not the text {self.delete!r}.")
        gone: set[str] = set()
        for path in self.delete:
            plain = path.removesuffix("/")
            check_path(plain)
            if plain in gone:
                raise XetInputError(f"{path} occurs twice among the paths to be deleted in {self.repo}.")
            gone.add(plain)
        # Which of the two the Hub does first is not documented: the new file could be the one that goes.
        folders = {path for path in self.delete if path.endswith("/")}
        for path in seen if gone else ():
            above = {path[: at + 1] for at, char in enumerate(path) if char == "/"}
            if path in gone or above & folders:
                raise XetInputError(f"{path} is to be both committed to and deleted from {self.repo}.")


def commit_key(request: CommitRequest, files: Sequence[XetFile]) -> str:
    """Return the key that marks this piece of work in the commit's description.

    :param files: those of the request, inline ones with the digest of their content.
    """
    work = [
        request.repo.uri,
        request.message,
        request.description,
        sorted((file["path"], file["sha256"] or "", file["size"]) for file in files),
        sorted(request.delete),
        request.parent_commit,
        request.create_pr,
        request.idempotency_key or uuid.uuid4().hex,
    ]
    return hashlib.sha256(json.dumps(work).encode()).hexdigest()[:32]
