"""Publishing files that are already in CAS in one atomic commit that is safe to retry. For buckets, see :mod:`bucket`.

No public client API exists for this, so the requests are our own: ``preupload`` asks the Hub which files it stores
inline, ``commit`` takes newline-delimited JSON. A contract test compares them with what ``huggingface_hub`` sends.

Work that is too large for one commit becomes several consecutive commits. A line in their descriptions identifies the
work and how much of it they contain, so that a retry finds them and continues from there. Where the branch must change
only once, these commits go to a pull request that is merged at the end.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, cast

from airflow_provider_xethub.exceptions import (
    XetConflictError,
    XetConnectionError,
    XetHubError,
    XetNotFoundError,
    XetProtocolError,
    XetResponseError,
    XetServerError,
    XetTimeoutError,
)
from airflow_provider_xethub.xet import answers, tracing
from airflow_provider_xethub.xet.hub.client import Hub, with_retries
from airflow_provider_xethub.xet.hub.history import parents
from airflow_provider_xethub.xet.hub.preupload import UploadMode, own_gitignore, upload_modes
from airflow_provider_xethub.xet.identifiers import COMMIT_ID
from airflow_provider_xethub.xet.message_text import counted, shortened
from airflow_provider_xethub.xet.publish import pull_requests
from airflow_provider_xethub.xet.publish.card_work import CardWork
from airflow_provider_xethub.xet.publish.parts import (
    MAX_CHANGES,
    MAX_INLINE_BYTES,
    ContentsOf,
    Limits,
    Part,
    Work,
    encoded,
    git_blob_id,
    plan_work,
)
from airflow_provider_xethub.xet.publish.planned_files import Planned
from airflow_provider_xethub.xet.publish.records_on_disk import batches
from airflow_provider_xethub.xet.publish.request import COMMIT_TIMEOUT, CommitRequest, commit_key
from airflow_provider_xethub.xet.records import XetCommit, XetCommitResult, XetFile
from airflow_provider_xethub.xet.repo import Repo

__all__ = [
    "CommitRequest",
    "ContentsOf",
    "UploadMode",
    "Work",
    "git_blob_id",
    "own_gitignore",
    "publish",
    "publish_work",
    "upload_modes",
]

log = logging.getLogger(__name__)

KEY_TRAILER = "Xet-Commit-Key"
"""Last line of a commit's description, by which a retry finds a commit whose response was lost."""

ADVISED_CHANGES = 100
"""Changes in one commit that the Hub recommends. A commit that is too large for it is halved, but not below this."""

STATE = "xethub_commit"
"""Key of the task state, which holds the key of the work and its newest commit so far."""

_PULL_REQUEST = "refs/pr/"
_MAX_OVERTAKES = 100
"""How often in a row someone else may commit first before the request is repeated more slowly."""

_PLANNED_AGAIN = "The branch has changed, so this is planned again."
_COMMITS_TO_SEARCH = 50
_PULL_REQUESTS_TO_SEARCH = 5
_MAX_NAMED = 10
_TOO_LARGE = 413
_GATEWAY_TIMEOUT = 504


@dataclass(frozen=True)
class _Published:
    """A commit of the work, its repository and revision, and the position in the work's order up to which it goes."""

    commit: XetCommit
    repo: Repo
    until: int
    pull_request: str | None


class _CommitTooLargeError(Exception):
    """The Hub did not complete a commit in time, or rejects its size."""


class _SeveralCommitsNeededError(Exception):
    """The work does not fit into one commit, and must not change the branch more than once."""


def publish(
    hub: Hub,
    request: CommitRequest,
    modes: Mapping[str, UploadMode],
    contents_of: ContentsOf,
    card: CardWork | None = None,
) -> XetCommitResult:
    """Publish the files in one commit, or find the commit of an earlier attempt.

    More than :data:`~airflow_provider_xethub.xet.publish.parts.MAX_CHANGES` changes, or more than
    :data:`~airflow_provider_xethub.xet.publish.parts.MAX_INLINE_BYTES` of inline content, are published in
    several commits, as is a commit that the Hub does not complete in time.

    :param request: checked.
    :param modes: from :func:`~airflow_provider_xethub.xet.hub.preupload.upload_modes`.
    :param contents_of: returns the bytes of inline files by path; called for one part at a time.
    :param card: the card, which is not among the files of the request.
    :raises XetConflictError: the branch is no longer at ``parent_commit``.
    :raises XetNotFoundError: repository, branch, or a path to delete does not exist.
    """
    return publish_work(hub, request, plan_work(request, modes, contents_of, card))


def publish_work(hub: Hub, request: CommitRequest, work: Work) -> XetCommitResult:
    """Publish what was compared with the repository; see :func:`publish`.

    :param request: its files are those of the work.
    :param work: complete.
    """
    with tracing.operation("xethub.commit", request.repo) as traced:
        result = _publish_work(hub, request, work)
        unchanged = len(result["unchanged"])
        traced.set(files=len(result["files"]) - unchanged, skipped=unchanged, commit=result["oid"])
        if not result["created"]:
            traced.set(outcome="unchanged")
    return result


def _publish_work(hub: Hub, request: CommitRequest, work: Work) -> XetCommitResult:
    publication = _Publication(hub, request, work, commit_key(request, work.key_files()))
    try:
        publication.publish()
    except _SeveralCommitsNeededError:
        return _publish_through_pull_request(publication, hub, request, work)
    return publication.result()


def _publish_through_pull_request(
    direct: _Publication, hub: Hub, request: CommitRequest, work: Work
) -> XetCommitResult:
    """Make the commits on a pull request, and merge it.

    :param direct: a commit to the branch that the Hub may have made after it timed out.
    """
    proposal = replace(request, create_pr=True)
    publication = _Publication(hub, proposal, work, commit_key(proposal, work.key_files()), is_merged_later=True)
    publication.publish()
    result = publication.result()
    proposed = Repo.from_uri(result["repo"])
    number = answers.discussion_number(proposed.revision)
    log.info("All %s are in pull request %s.", counted(len(publication.done), "part"), result["pull_request"])
    if pull_requests.merged_as(hub, proposed, number) is None:
        if direct.found_late():
            pull_requests.close(hub, proposed, number, "The same changes were committed to the branch.")
            return direct.result()
        if touched := publication.touched_since(request.parent_commit):
            pull_requests.close(hub, proposed, number, _PLANNED_AGAIN)
            raise XetConflictError(
                f"{request.repo} is no longer at {request.parent_commit}: someone else committed. "
                f"{shortened(touched, _MAX_NAMED)} changed since. Pull request {number} was closed without a merge. "
                "Read the new head and decide again, or leave out parent_commit.",
                status=409,
            )
    try:
        merged: XetCommit = {**pull_requests.merge(hub, proposed, number), "repo": request.repo.uri}
    except XetConflictError:
        pull_requests.close(hub, proposed, number, _PLANNED_AGAIN)
        raise
    return {
        **result,
        **merged,
        "files": cast("list[XetFile]", work.files.published(merged["repo"])),
        "pull_request": None,
        "pull_request_number": None,
        "commits": [merged],
    }


class _Publication:
    """The commits of one piece of work: those found, and those still to be made.

    :ivar done: the commits so far, in order.
    :ivar parent: the required parent of the next commit; ``None`` for any.
    """

    def __init__(
        self, hub: Hub, request: CommitRequest, work: Work, key: str, *, is_merged_later: bool = False
    ) -> None:
        self._hub = hub
        self._request = request
        self._work = work
        self._key = key
        self._is_merged_later = is_merged_later
        self.done: list[_Published] = []
        self.parent = request.parent_commit
        self._is_found = False

    @property
    def _until(self) -> int:
        return self.done[-1].until if self.done else 0

    @property
    def _repo(self) -> Repo:
        """The target of the next commit: the pull request, once it is open."""
        return self.done[-1].repo if self.done else self._request.repo

    @property
    def _is_atomic(self) -> bool:
        """Whether several commits need a pull request; one on a pull request is not possible, nor needed."""
        request = self._request
        return request.atomic and not request.create_pr and not request.repo.revision.startswith(_PULL_REQUEST)

    @property
    def _opens_pull_request(self) -> bool:
        return self._request.create_pr and not self.done

    def publish(self) -> None:
        """Make the commits that are missing."""
        # An earlier attempt with the same key may have committed and lost the response. Every later attempt asks, as
        # someone may have changed the files since, and a second commit of the same work would undo that.
        may_be_done = self._request.idempotency_key is not None and not self._request.is_first_try
        if may_be_done and self._find():
            log.info("Found %s of this work in %s.", counted(len(self.done), "commit"), self._repo)
            self._is_found = True
        limits = Limits(MAX_CHANGES, MAX_INLINE_BYTES)
        parts = self._work.parts(self._until, limits)
        self._check_deletions(parts)
        if self._is_atomic and len(parts) > 1:
            raise _SeveralCommitsNeededError
        while parts:
            try:
                self._make(parts)
            except _CommitTooLargeError as error:
                if self._is_atomic:
                    log.warning("%s Continuing with a pull request.", error)
                    raise _SeveralCommitsNeededError from None
                limits = parts[0].halved()
                log.warning("%s Continuing with parts of at most %d changes.", error, limits.changes)
            except XetHubError as error:
                if self.done:
                    error.args = (f"{error} {self._so_far(len(parts))}",)
                raise
            else:
                if self._until == parts[0].until:
                    parts = parts[1:]
                    continue
            parts = self._work.parts(self._until, limits)

    def found_late(self) -> bool:
        """Return whether the Hub has made a commit of this work since its request timed out."""
        return self._search()

    def touched_since(self, parent: str | None) -> list[str]:
        """Return which paths of this work have changed on the branch since a commit."""
        head = self._hub.latest_commits(self._request.repo)
        if parent is None or not head or head[0]["oid"] == parent:
            return []
        return self._touched(self._work.parts(0, Limits(MAX_CHANGES, MAX_INLINE_BYTES)), parent, head[0]["oid"])

    def _so_far(self, missing: int) -> str:
        return (
            f"{len(self.done)} of {len(self.done) + missing} parts are committed ({self.done[-1].commit['oid']} is the "
            "last); a retry of the task commits the rest."
        )

    def _check_deletions(self, parts: Sequence[Part]) -> None:
        if not self._request.delete:
            return
        paths = [each for part in parts for each in part.planned() if isinstance(each, str)]
        existing = self._hub.existing_paths(self._repo, [path.removesuffix("/") for path in paths])
        if missing := [path for path in paths if path not in existing]:
            # The Hub itself accepts the plain path of a folder, and deletes everything in it.
            hints = [f" {path} is a folder: write {path}/ to delete it." for path in missing if f"{path}/" in existing]
            named = ", ".join(path.removesuffix("/") for path in missing)
            raise XetNotFoundError(
                f"Cannot delete {named} from {self._request.repo}: not found. Check delete. {self._nothing()}."
                f"{''.join(hints)}",
                status=404,
            )

    def _nothing(self) -> str:
        return "Nothing more was committed" if self.done else "Nothing was committed"

    def _make(self, parts: Sequence[Part]) -> None:
        """Send the first part until the Hub has it once. After a lost response, search for it before sending again."""
        part, number, total = parts[0], len(self.done) + 1, len(self.done) + len(parts)
        is_title_of_all = self._is_merged_later and number == 1  # the merge gets the title of the pull request
        suffix = f" (part {number} of {total})" if total > 1 and not is_title_of_all else ""
        title = self._request.message + suffix

        unsettled: XetHubError | None = None  # of the last request, while nobody knows whether it had an effect

        def once() -> XetConflictError | None:
            nonlocal unsettled
            moves = 0
            while True:
                if unsettled is not None:
                    # The search failed, too. Sending the commit again without one could make it twice.
                    if self._search():
                        return None
                    if refused := self._follow_head(unsettled, parts):
                        return refused
                    unsettled = None
                parent = self.parent
                try:
                    self._add([self._post(part, title)])
                    return None
                except (XetConnectionError, XetServerError, XetConflictError) as error:
                    unsettled = error
                    if self._search():
                        return None
                    if refused := self._follow_head(error, parts):
                        return refused
                    unsettled = None
                    if isinstance(error, XetConflictError) and self.parent != parent and moves < _MAX_OVERTAKES:
                        moves += 1
                        continue  # someone else committed, so there is no reason to wait
                    if _took_too_long(error) and part.count > ADVISED_CHANGES:
                        raise _CommitTooLargeError(f"{error}") from None
                    raise
                except XetResponseError as error:
                    if error.status == _TOO_LARGE and part.count > 1:
                        raise _CommitTooLargeError(f"{error}") from None
                    if isinstance(error, XetProtocolError):
                        # The commit may have been made although its response cannot be read.
                        with suppress(XetHubError):
                            if self._search():
                                return None
                        error.args = (f"{error} Whether the commit was made is unknown.",)
                    raise

        if refused := with_retries(once, also=lambda error: isinstance(error, XetConflictError)):
            raise refused
        self._remember()
        if total > 1:
            log.info("Part %d of %d is in %s: %s", number, total, self._repo, self.done[-1].commit["url"])

    def _follow_head(self, error: XetHubError, parts: Sequence[Part]) -> XetConflictError | None:
        """Let the next attempt follow the current head; return an error where that would undo other work."""
        if self._request.parent_commit is None:
            if not self._opens_pull_request:
                # The Hub may still be working on the first request. With the current head as parent, only one of the
                # two can succeed.
                head = self._hub.latest_commits(self._repo)
                self.parent = head[0]["oid"] if head else None
            return None
        if not isinstance(error, XetConflictError) or self.parent is None:
            return None
        head = self._hub.latest_commits(self._repo)
        touched = self._touched(parts, self.parent, head[0]["oid"]) if head else ["everything"]
        if touched or self._opens_pull_request:
            named = f" {shortened(touched, _MAX_NAMED)} changed since." if touched else ""
            return XetConflictError(
                f"{self._repo} has changed: someone else committed. Read its new head and decide again, or leave out "
                f"parent_commit. It is no longer at {self.parent}.{named} {self._nothing()}.",
                status=error.status,
            )
        log.info("%s is now at %s, which changed none of these paths.", self._repo, head[0]["oid"])
        self.parent = head[0]["oid"]
        return None

    def _touched(self, parts: Sequence[Part], since: str, until: str) -> list[str]:
        """Return which paths still to commit differ between two commits; all if the first is not found."""
        changes = (change for part in parts for change in part.planned())
        return sorted(path for batch in batches(changes) for path in self._touched_of(batch, since, until))

    def _touched_of(self, batch: Sequence[Planned | str], since: str, until: str) -> list[str]:
        changes = [change.record if isinstance(change, Planned) else change for change in batch]
        paths = [change if isinstance(change, str) else change["path"] for change in changes]
        files = [path for path in paths if not path.endswith("/")]
        folders = [path.removesuffix("/") for path in paths if path.endswith("/")]

        # A new file in the place of a folder removes what is in it, and the other way round.
        above = {path[:at] for path in files for at, char in enumerate(path) if char == "/"}
        named = sorted({*files, *above})

        def content(revision: str) -> dict[str, tuple[Any, ...]]:
            repo = self._repo.at(revision)
            found = self._hub.get_files(repo, named)
            for folder in folders:
                found += self._hub.list_files(repo, folder)
            there: dict[str, tuple[Any, ...]] = {
                path: () for path in self._hub.existing_paths(repo, files) if path.endswith("/")
            }
            there |= {file["path"]: (file["size"], file["sha256"], file.get("blob_id")) for file in found}
            return there

        try:
            before, after = content(since), content(until)
        except XetNotFoundError:
            return sorted(paths)
        return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))

    def _post(self, part: Part, title: str) -> _Published:
        hub, repo = self._hub, self._repo
        about = f"the commit to {repo}"
        description = f"{self._request.description}\n\n{self._trailer(part.until)}".lstrip()
        header = {"summary": title, "description": description}
        if self.parent is not None:
            header["parentCommit"] = self.parent
        response = hub.json(
            "POST",
            f"{repo.api_path}/commit/{repo.quoted_revision}",
            about=about,
            retry=False,
            params={"create_pr": "1"} if self._opens_pull_request else None,
            headers={"Content-Type": "application/x-ndjson"},
            timeout=max(hub.timeout, COMMIT_TIMEOUT),
            data=encoded(header, self._work.lines(part)),
        )
        with hub.reading(about):
            answer = answers.mapping(response, "JSON")
            if self._opens_pull_request:
                repo = repo.at(f"{_PULL_REQUEST}{answers.discussion_number(answer.get('pullRequestUrl'))}")
            commit = hub.commit_record(repo, answer.get("commitOid"), title, description)
        # Build the URL here: the one in the response may lead anywhere.
        return _Published(commit, repo, part.until, self._url_of(repo) if self._opens_pull_request else None)

    def _trailer(self, until: int) -> str:
        size = len(self._work)
        reach = "" if until == size and not self.done else f" ({until} of {size})"
        return f"{KEY_TRAILER}: {self._key}{reach}"

    def _add(self, commits: Sequence[_Published]) -> bool:
        """Keep the commits that go further than the ones before, and return whether there are any."""
        new = [each for each in commits if each.until > self._until]
        if new:
            self.done += new
            # With a required parent, the next commit must follow these, so that other commits in between are noticed.
            self.parent = self.done[-1].commit["oid"] if self._request.parent_commit else None
        return bool(new)

    def _find(self) -> bool:
        """Find what earlier attempts committed; one may have been killed before it stored its last commit."""
        self._recall()
        if self._until < len(self._work):
            self._search()
        return bool(self.done)

    def _unchanged_before(self, first: _Published) -> Collection[str]:
        """Return which paths had this content before the first commit of an earlier attempt.

        The repository has that commit now, so a comparison with its head would call unchanged what the commit changed.
        """
        hub, oid, files = self._hub, first.commit["oid"], self._work.files
        try:
            parent = parents(hub, first.repo.at(oid), [oid])[oid]
            if not parent:
                return ()
            there = first.repo.at(str(parent))
            return files.compare_again(
                path
                for batch in batches(files.by_path())
                for path in _same(batch, hub.get_files(there, [file.record["path"] for file in batch]))
            )
        except XetNotFoundError:
            return ()  # the history was squashed since

    def _remember(self) -> None:
        last = self.done[-1]
        known = {"key": self._key, "oid": last.commit["oid"], "revision": last.repo.revision}
        self._request.task_state.remember(STATE, known)

    def _recall(self) -> None:
        """Find the commits that an earlier attempt stored, even behind many newer ones or on an older pull request."""
        known = self._request.task_state.recall(STATE)
        oid, revision = str(known.get("oid")), str(known.get("revision"))
        is_pull_request = self._request.create_pr and re.fullmatch(rf"{_PULL_REQUEST}\d+", revision)
        if known.get("key") != self._key or not COMMIT_ID.fullmatch(oid):
            return
        if not is_pull_request and (self._request.create_pr or revision != self._request.repo.revision):
            return
        repo = self._request.repo.at(revision)
        with suppress(XetNotFoundError):  # it was deleted
            self._add(self._of_this_work(repo, self._url_of(repo) if is_pull_request else None, oid))

    def _url_of(self, pull_request: Repo) -> str:
        number = pull_request.revision.removeprefix(_PULL_REQUEST)
        return f"{self._hub.endpoint}{pull_request.web_path}/discussions/{number}"

    def _search(self) -> bool:
        """Search the newest commits of the branch, or of the newest pull requests, for this work."""
        if not self._opens_pull_request:
            return self._add(self._of_this_work(self._repo, None))
        repo, hub = self._request.repo, self._hub
        about = f"the branches of {repo}"
        refs = hub.json("GET", f"{repo.api_path}/refs", about=about, params={"include_prs": "1"})
        with hub.reading(about):
            found = answers.mapping(refs, "JSON").get("pullRequests") or []
            pulls = sorted((answers.discussion_number(ref.get("ref")) for ref in found), reverse=True)
        newest = [repo.at(f"{_PULL_REQUEST}{number}") for number in pulls[:_PULL_REQUESTS_TO_SEARCH]]
        return any(self._add(self._of_this_work(each, self._url_of(each))) for each in newest)

    def _of_this_work(self, repo: Repo, pull_request: str | None, until: str | None = None) -> list[_Published]:
        """Return the commits with this work's key, oldest first, among the newest or among those up to a known one."""
        pattern = re.compile(rf"^{KEY_TRAILER}: {self._key}(?: \((\d+) of \d+\))?\s*$", re.MULTILINE)
        found = []
        for commit in reversed(self._hub.latest_commits(repo.at(until) if until else repo, _COMMITS_TO_SEARCH)):
            if mark := pattern.search(commit["description"]):
                here: XetCommit = {**commit, "repo": repo.uri}
                found.append(_Published(here, repo, int(mark[1] or len(self._work)), pull_request))
        return found

    def result(self) -> XetCommitResult:
        """Return the published files and the commits that published them."""
        head = self.done[-1].commit if self.done else self._head()
        unchanged = self._unchanged_before(self.done[0]) if self._is_found else self._work.files.unchanged
        opened = next((each for each in self.done if each.pull_request), None)
        pull_request = opened.pull_request if opened else None
        number = int(opened.repo.revision.removeprefix(_PULL_REQUEST)) if opened else None
        return {
            **head,
            "files": cast("list[XetFile]", self._published_files(head["repo"])),
            "deleted": list(self._request.delete),
            "unchanged": cast("list[str]", unchanged if self._work.files.are_on_disk else sorted(unchanged)),
            "created": bool(self.done),
            "pull_request": pull_request,
            "pull_request_number": number,
            "commits": [each.commit for each in self.done],
        }

    def _published_files(self, uri: str) -> Sequence[XetFile]:
        """Return the records, with that of the card which an earlier attempt wrote: its block may be another one."""
        card, files = self._work.card, self._work.files
        if card is None or not self._is_found:
            return files.published(uri)
        last = self.done[-1]
        there = self._hub.get_files(last.repo.at(last.commit["oid"]), [card["path"]])
        for file in there:
            files.replace_record(file)
        return files.published(uri)

    def _head(self) -> XetCommit:
        head = self._hub.latest_commits(self._request.repo)
        if not head:
            raise XetProtocolError(f"The Hub at {self._hub.endpoint} has no commit of {self._request.repo}.")
        return head[0]


def _same(files: Sequence[Planned], there: Sequence[XetFile]) -> Iterator[str]:
    """Yield the paths of files that have the content that is there."""
    before = {file["path"]: file["sha256"] or file.get("blob_id") for file in there}
    for file in files:
        record = file.record
        if before.get(record["path"]) == (record.get("blob_id") if file.inline else record["sha256"]):
            yield record["path"]


def _took_too_long(error: XetHubError) -> bool:
    return isinstance(error, XetTimeoutError) or (
        isinstance(error, XetServerError) and error.status == _GATEWAY_TIMEOUT
    )
