"""Publishing files that are already in CAS: one atomic commit, safe to retry. Buckets: :mod:`bucket`.

No public client API exists for this, so the requests are our own: ``preupload`` asks the Hub which files it stores
inline, ``commit`` takes newline-delimited JSON. A contract test compares that with what ``huggingface_hub`` sends.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_xethub.exceptions import (
    XetConflictError,
    XetConnectionError,
    XetInputError,
    XetNotFoundError,
    XetProtocolError,
    XetServerError,
)
from airflow_provider_xethub.hub import Hub, with_retries
from airflow_provider_xethub.hub_errors import not_what_was_asked
from airflow_provider_xethub.records import XetCommit, XetCommitResult, XetFile
from airflow_provider_xethub.repo import Repo, check_path

log = logging.getLogger(__name__)

PREUPLOAD_BATCH = 256
"""Files in one preupload request; the Hub takes no more."""

KEY_TRAILER = "Xet-Commit-Key"
"""Last line of a commit's description: by it a retry finds a commit whose answer was lost."""

_COMMITS_TO_SEARCH = 20
_PULL_REQUESTS_TO_SEARCH = 5
_MAX_NAMED = 10


@dataclass(frozen=True)
class UploadMode:
    """What the Hub wants done with a file.

    :param inline: whether its content travels in the commit instead of through CAS.
    :param current: id of the content now at that path: sha256, or git blob sha1 for inline files; ``None`` if new.
    :param ignored: whether the repository's ``.gitignore`` excludes it.
    """

    inline: bool
    current: str | None
    ignored: bool


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
    """

    repo: Repo
    files: Sequence[XetFile]
    delete: Sequence[str] = ()
    message: str = "Upload with airflow-provider-xethub"
    description: str = ""
    parent_commit: str | None = None
    create_pr: bool = False
    idempotency_key: str | None = None

    def check(self) -> None:
        """Refuse what the Hub would refuse, or what could not be meant, before anything is sent.

        :raises XetInputError: says which path or record.
        """
        if self.repo.is_bucket and (self.parent_commit or self.create_pr):
            raise XetInputError(f"{self.repo} is a bucket: it has no commits. Leave out parent_commit and create_pr.")
        if not self.message.strip():
            raise XetInputError(f"commit_message for {self.repo} is empty.")
        if not self.files and not self.delete:
            raise XetInputError(f"nothing to commit to {self.repo}: neither files nor paths to delete were given.")
        seen: set[str] = set()
        for file in self.files:
            if not isinstance(file, Mapping) or not {"path", "size", "repo"} <= set(file):
                raise XetInputError("files must be Xet file records, as XetUploadOperator returns them in 'files'.")
            check_path(file["path"])
            if not Repo.from_uri(file["repo"]).is_same_repo(self.repo):
                raise XetInputError(
                    f"{file['path']} was uploaded for {file['repo']}; it cannot be committed to {self.repo}."
                )
            if file["path"] in seen:
                raise XetInputError(f"{file['path']} occurs twice among the files to commit to {self.repo}.")
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
        for path in seen:
            above = {path[: at + 1] for at, char in enumerate(path) if char == "/"}
            if path in gone or above & folders:
                raise XetInputError(f"{path} is to be both committed to and deleted from {self.repo}.")


def upload_modes(hub: Hub, repo: Repo, files: Sequence[XetFile], *, create_pr: bool = False) -> dict[str, UploadMode]:
    """Ask the Hub what to do with each file (``POST …/preupload``), by path.

    :param files: with ``path``, ``size`` and ``sample``.
    :raises XetHubError: see :meth:`airflow_provider_xethub.hub.Hub.request`.
    """
    about = f"the preupload request for {repo}"
    modes: dict[str, UploadMode] = {}
    for start in range(0, len(files), PREUPLOAD_BATCH):
        batch = files[start : start + PREUPLOAD_BATCH]
        answer = hub.json(
            "POST",
            f"{repo.api_path}/preupload/{repo.quoted_revision}",
            about=about,
            params={"create_pr": "1"} if create_pr else None,
            json={"files": [{"path": f["path"], "size": f["size"], "sample": f.get("sample", "")} for f in batch]},
        )
        try:
            for entry in answer["files"]:
                # The Hub speaks of "lfs" and "regular"; an empty file has no pointer, clients commit it inline.
                modes[entry["path"]] = UploadMode(
                    entry["uploadMode"] == "regular", entry.get("oid"), entry.get("shouldIgnore", False)
                )
        except (KeyError, TypeError) as error:
            raise XetProtocolError(f"The Hub at {hub.endpoint} answered {about} without {error}.") from None
    missing = [file["path"] for file in files if file["path"] not in modes]
    if missing:
        raise XetProtocolError(f"The Hub at {hub.endpoint} did not answer {about} for {missing[0]}.")
    for file in files:
        if file["size"] == 0:
            modes[file["path"]] = UploadMode(True, modes[file["path"]].current, modes[file["path"]].ignored)
    return modes


def git_blob_id(content: bytes) -> str:
    """Return git's id of a file with this content: sha1 over a header and the bytes."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def payload(
    request: CommitRequest, files: Sequence[XetFile], contents: Mapping[str, bytes], parent: str | None, key: str
) -> Iterator[dict[str, Any]]:
    """Yield the lines of the commit request; ``contents`` holds the bytes of the inline files by path."""
    header: dict[str, Any] = {"summary": request.message, "description": _description(request, key)}
    if parent is not None:
        header["parentCommit"] = parent
    yield {"key": "header", "value": header}
    for file in files:
        if file["path"] in contents:
            content = base64.b64encode(contents[file["path"]]).decode()
            yield {"key": "file", "value": {"content": content, "path": file["path"], "encoding": "base64"}}
        else:
            value = {"path": file["path"], "algo": "sha256", "oid": file["sha256"], "size": file["size"]}
            yield {"key": "lfsFile", "value": value}
    for path in request.delete:
        kind = "deletedFolder" if path.endswith("/") else "deletedFile"
        yield {"key": kind, "value": {"path": path}}


def _description(request: CommitRequest, key: str) -> str:
    return f"{request.description}\n\n{KEY_TRAILER}: {key}".lstrip()


def publish(
    hub: Hub,
    request: CommitRequest,
    modes: Mapping[str, UploadMode],
    content_of: Callable[[XetFile], bytes],
) -> XetCommitResult:
    """Publish the files in one commit, or find that they are published already.

    :param modes: from :func:`upload_modes`.
    :param content_of: returns the bytes of a file that the Hub wants inline.
    :raises XetConflictError: the branch is not at ``parent_commit`` any more. Nothing was committed.
    :raises XetNotFoundError: repository, branch, or a path to delete does not exist. Nothing was committed.
    """
    request.check()
    files, contents, unchanged = _compare(request, modes, content_of)
    key = commit_key(request, files)
    changed = [file for file in files if file["path"] not in unchanged]
    # With a key of its own, an earlier try of the same work may have been here and lost the answer. Asked always: since
    # then somebody may have changed the files again, and a second commit of the same work would undo that.
    if request.idempotency_key is not None and (done := _find(hub, request, key)):
        return _result(request, done, files, unchanged, created=True)
    if missing := _missing(hub, request):
        raise XetNotFoundError(
            f"Cannot delete {', '.join(missing)} from {request.repo}: not there. Nothing was committed.", status=404
        )
    if not changed and not request.delete:
        head = hub.latest_commits(request.repo)
        if not head:
            raise XetProtocolError(f"The Hub at {hub.endpoint} knows no commit of {request.repo}.")
        return _result(request, _Published(head[0], None), files, unchanged, created=False)
    published = _send(hub, request, key, changed, contents)
    return _result(request, published, files, unchanged, created=True)


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


@dataclass(frozen=True)
class _Published:
    commit: XetCommit
    pull_request: str | None


def _compare(
    request: CommitRequest, modes: Mapping[str, UploadMode], content_of: Callable[[XetFile], bytes]
) -> tuple[list[XetFile], dict[str, bytes], set[str]]:
    """Return the files that are not ignored, the bytes of the inline ones, and the paths that are there already."""
    files: list[XetFile] = []
    contents: dict[str, bytes] = {}
    unchanged: set[str] = set()
    for file in request.files:
        path, mode = file["path"], modes[file["path"]]
        if mode.ignored:
            log.warning("%s is left out: the .gitignore of %s excludes it.", path, request.repo)
            continue
        record = file.copy()
        if mode.inline:
            contents[path] = content_of(file)
            record["sha256"] = hashlib.sha256(contents[path]).hexdigest()
            record["blob_id"] = git_blob_id(contents[path])
        elif not file["sha256"]:
            raise XetInputError(
                f"the record of {path} has no sha256, which a commit to {request.repo} needs. Upload it again."
            )
        if mode.current is not None and mode.current == (record["blob_id"] if mode.inline else record["sha256"]):
            unchanged.add(path)
        files.append(record)
    return files, contents, unchanged


def _missing(hub: Hub, request: CommitRequest) -> list[str]:
    if not request.delete:
        return []
    paths = [path.removesuffix("/") for path in request.delete]
    existing = hub.existing_paths(request.repo, paths)
    return [path for path in paths if path not in existing]


def _send(
    hub: Hub, request: CommitRequest, key: str, changed: Sequence[XetFile], contents: Mapping[str, bytes]
) -> _Published:
    """Send the commit until the Hub has it once. After a lost answer, look for it before sending again."""
    parent = request.parent_commit
    may_retry = True

    def once() -> _Published:
        nonlocal parent, may_retry
        try:
            return _post(hub, request, payload(request, changed, contents, parent, key), key)
        except (XetConnectionError, XetServerError, XetConflictError) as error:
            if found := _find(hub, request, key):
                return found
            if request.parent_commit is None and not request.create_pr:
                # The first request may still be under way at the Hub. Tied to the head as it is now, only one of the
                # two can succeed.
                head = hub.latest_commits(request.repo)
                parent = head[0]["oid"] if head else None
            elif isinstance(error, XetConflictError) and parent is not None:
                head = hub.latest_commits(request.repo)
                touched = _touched(hub, request, changed, parent, head[0]["oid"]) if head else ["everything"]
                if touched or request.create_pr:
                    may_retry = False
                    named = f" {', '.join(touched[:_MAX_NAMED])} changed since." if touched else ""
                    raise XetConflictError(
                        f"{request.repo} is not at {request.parent_commit} any more: somebody else committed.{named} "
                        "Nothing was committed. Read the new head and decide again, or leave out parent_commit.",
                        status=error.status,
                    ) from None
                log.info("%s moved on to %s, which changed none of these paths.", request.repo, head[0]["oid"])
                parent = head[0]["oid"]
            raise

    return with_retries(once, also=lambda error: isinstance(error, XetConflictError) and may_retry)


def _touched(hub: Hub, request: CommitRequest, changed: Sequence[XetFile], since: str, until: str) -> list[str]:
    """Return which paths of the request differ between two commits: all, where the first cannot be found."""
    paths = [file["path"] for file in changed] + [path for path in request.delete if not path.endswith("/")]
    folders = [path.rstrip("/") for path in request.delete if path.endswith("/")]

    def content(revision: str) -> dict[str, tuple[Any, ...]]:
        repo = request.repo.at(revision)
        found = hub.get_files(repo, paths) if paths else []
        for folder in folders:
            found += hub.list_files(repo, folder)
        return {file["path"]: (file["size"], file["sha256"], file.get("blob_id")) for file in found}

    try:
        before, after = content(since), content(until)
    except XetNotFoundError:
        return sorted([*paths, *request.delete])
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


def _post(hub: Hub, request: CommitRequest, lines: Iterator[dict[str, Any]], key: str) -> _Published:
    about = f"the commit to {request.repo}"
    response = hub.json(
        "POST",
        f"{request.repo.api_path}/commit/{request.repo.quoted_revision}",
        about=about,
        retry=False,
        params={"create_pr": "1"} if request.create_pr else None,
        headers={"Content-Type": "application/x-ndjson"},
        data="".join(json.dumps(line) + "\n" for line in lines).encode(),
    )
    oid = response.get("commitOid") if isinstance(response, dict) else None
    if not isinstance(oid, str):
        raise XetProtocolError(f"The Hub at {hub.endpoint} answered {about} without a commitOid.")
    pull_request = response.get("pullRequestUrl")
    repo = request.repo
    if pull_request:
        repo = repo.at(f"refs/pr/{pull_request.rstrip('/').rpartition('/')[2]}")
    return _Published(hub.commit_record(repo, oid, request.message, _description(request, key)), pull_request)


def _find(hub: Hub, request: CommitRequest, key: str) -> _Published | None:
    """Look for a commit with this key among the newest, on the branch or on the newest pull requests."""
    trailer = f"{KEY_TRAILER}: {key}"
    if not request.create_pr:
        commits = hub.latest_commits(request.repo, _COMMITS_TO_SEARCH)
        return next((_Published(c, None) for c in commits if trailer in c["description"]), None)
    about = f"the branches of {request.repo}"
    refs = hub.json("GET", f"{request.repo.api_path}/refs", about=about, params={"include_prs": "1"})
    try:
        numbers = sorted((int(ref["ref"].rpartition("/")[2]) for ref in refs.get("pullRequests") or []), reverse=True)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise not_what_was_asked(about, hub.endpoint, "something that is no list of references") from None
    for number in numbers[:_PULL_REQUESTS_TO_SEARCH]:
        commits = hub.latest_commits(request.repo.at(f"refs/pr/{number}"), 1)
        if commits and trailer in commits[0]["description"]:
            return _Published(commits[0], f"{hub.endpoint}{request.repo.web_path}/discussions/{number}")
    return None


def _result(
    request: CommitRequest,
    published: _Published,
    files: Sequence[XetFile],
    unchanged: Collection[str],
    *,
    created: bool,
) -> XetCommitResult:
    in_commit: list[XetFile] = []
    for file in files:
        record = file.copy()
        record.pop("sample", None)  # only a commit still to come needs it
        record["repo"] = published.commit["repo"]
        in_commit.append(record)
    return {
        **published.commit,
        "files": in_commit,
        "deleted": list(request.delete),
        "unchanged": sorted(unchanged),
        "created": created,
        "pull_request": published.pull_request,
    }
