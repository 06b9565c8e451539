"""Find the content that a repository stores but nothing in it refers to any more, and delete it permanently.

The Hub stores the content of every file that was ever pushed, also after its history was squashed or its branch
deleted, and does not say what is still in use. So this reads the trees of all commits that a branch, tag, pull request
or conversion can reach, and compares them with the Hub's list of stored content. What that cannot tell:

* An upload whose commit is still to come has pushed its content already, so content counts as unreferenced only some
  time after it was pushed.
* A commit that is made after the trees were read can refer to content that was pushed long ago. References are compared
  again directly before the deletion, and then nothing is deleted; a commit between that comparison and the deletion is
  not noticed.

Source: ``GET …/lfs-files``, ``POST …/lfs-files/batch`` and the trees as ``huggingface_hub`` 2.4 reads them, and the
OpenAPI description of the Hub, in which ``filename``, ``ref`` and ``xetHash`` of stored content are optional. Which of
its identifiers a tree repeats is not documented, so each is compared with each.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.exceptions import (
    XetConflictError,
    XetForbiddenError,
    XetInputError,
    XetProtocolError,
    XetRevisionNotFoundError,
)
from airflow_provider_xethub.xet import answers
from airflow_provider_xethub.xet.hub.api import refs
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.message_text import counted, shortened, size
from airflow_provider_xethub.xet.records import XetCleanup, XetStoredFile
from airflow_provider_xethub.xet.repo import Repo

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.hub.api.calls import ApiCalls

MAX_COMMITS = 1000
"""Commits whose trees are read at most: each takes at least one request."""

MIN_AGE = timedelta(days=7)
"""Default for the time since content was pushed: longer than the longest upload."""

MOST_RECORDS = 100
"""Records in the result, as in an asset event: XCom is a row in a database."""

_PAGE_OF_LOG = 50

log = logging.getLogger(__name__)

Now = Callable[[], datetime]


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass(frozen=True)
class _Stored:
    """Content that the Hub stores: what to call it in a deletion, all of its identifiers, and its record."""

    deletion_id: str
    ids: frozenset[str]
    pushed: datetime
    record: XetStoredFile


@dataclass
class _InUse:
    """What the trees of all reachable commits refer to: a path, by the identifiers of its content."""

    paths: dict[frozenset[str], str] = field(default_factory=dict)

    @property
    def ids(self) -> set[str]:
        return {each for ids in self.paths for each in ids}


def delete_unreferenced(
    calls: ApiCalls, repo: Repo, *, dry_run: bool = True, min_age: timedelta = MIN_AGE, now: Now = _utc_now
) -> XetCleanup:
    """Delete stored content that no branch, tag, pull request or conversion can reach; it cannot be restored.

    :param dry_run: only list it.
    :param min_age: keep what was pushed more recently: an upload in progress may be about to commit it.
    :param now: returns the time.
    :raises XetInputError: it is a bucket, which stores only the files that it has; or it has too many commits.
    :raises XetConflictError: a reference moved in the meantime. Nothing was deleted.
    :raises XetProtocolError: the Hub's list lacks content that is in use, so what is unreferenced cannot be known.
        Nothing was deleted.
    """
    if repo.is_bucket:
        raise XetInputError(f"{repo} is a bucket: it has no history, and stores only the files that it has.")
    before = _all_refs(calls, repo)
    in_use = _read_trees(calls.hub, repo, before)
    stored = _list_stored(calls.hub, repo)
    used_ids = in_use.ids
    known = {each for one in stored for each in one.ids}
    if missing := sorted(path for ids, path in in_use.paths.items() if not ids & known):
        raise XetProtocolError(
            f"What is unreferenced in {repo.repo_id} cannot be known: the Hub's list of stored files lacks "
            f"{counted(len(missing), 'file')} in use ({shortened(missing, 3)}). Nothing was deleted. If these were "
            "committed just now, try again later."
        )
    # What shares an identifier with content in use may be deleted with it.
    kept_ids = used_ids.union(*(each.ids for each in stored if each.ids & used_ids))
    unused = [each for each in stored if not each.ids & kept_ids]
    old = [each for each in unused if each.pushed <= now() - min_age]
    old.sort(key=lambda each: (-each.record["size"], each.record["path"] or ""))
    kept = len(stored) - len(unused)
    _report(repo, old, dry_run=dry_run, kept=kept, recent=len(unused) - len(old))
    if old and not dry_run:
        if _all_refs(calls, repo) != before:
            raise XetConflictError(
                f"Someone committed to {repo.repo_id} or changed its branches meanwhile. Nothing was deleted. Run the "
                "task again while nothing else writes to the repository."
            )
        _delete(calls, repo, old)
    return {
        "repo": repo.uri,
        "dry_run": dry_run,
        "deleted": bool(old) and not dry_run,
        "files": [each.record for each in old[:MOST_RECORDS]],
        "file_count": len(old),
        "bytes": sum(each.record["size"] for each in old),
        "kept": kept,
    }


def _all_refs(calls: ApiCalls, repo: Repo) -> dict[str, str | None]:
    """Return the commits of all references by revision; ``None`` for a pull request that has no reference any more."""
    listed = refs.read_refs(calls.hub, repo, pull_requests=True)
    found: dict[str, str | None] = {}
    for kind, by_name in listed.items():
        # A branch and a tag may have the same name, and only one of them is found by it.
        found |= {f"{kind}:{name}": commit for name, commit in by_name.items()}
    # Whether the Hub lists the references of closed and merged pull requests is not documented.
    for number in _pull_requests(calls, repo):
        name = f"pullRequests:refs/pr/{number}"
        if name not in found:
            found[name] = _head_of(calls.hub, repo.at(f"refs/pr/{number}"))
    return found


def _head_of(hub: Hub, repo: Repo) -> str | None:
    try:
        return refs.head(hub, repo)
    except XetRevisionNotFoundError:
        return None


def _pull_requests(calls: ApiCalls, repo: Repo) -> list[int]:
    def numbers(api: Any) -> list[int]:
        found = api.get_repo_discussions(
            repo.repo_id, repo_type=repo.repo_type, discussion_type="pull_request", discussion_status="all"
        )
        return [each.num for each in found]

    try:
        return calls.run(f"the list of pull requests of {repo}", numbers)
    except XetForbiddenError as error:
        # The wording is a guess. Any other refusal ends the work: unknown pull requests may refer to anything.
        if "disabled" not in str(error):
            raise
        return []


def _read_trees(hub: Hub, repo: Repo, all_refs: dict[str, str | None]) -> _InUse:
    commits: dict[str, None] = {}
    for name, head in all_refs.items():
        for commit in _history(hub, repo, name.partition(":")[2], head):
            commits[commit] = None
            if len(commits) > MAX_COMMITS:
                raise XetInputError(
                    f"{repo.repo_id} has more than {MAX_COMMITS:,} commits, too many to read what each refers to. "
                    "Squash its branches first (XetSquashHistoryOperator), and delete tags that are not needed."
                )
    log.info("Reading the files of %s in %s.", counted(len(commits), "commit"), repo.repo_id)
    in_use = _InUse()
    for number, commit in enumerate(commits, 1):
        at = repo.at(commit)
        for entry in hub.tree(at, recursive=True):
            with hub.reading(f"the listing of all files in {at}"):
                _add(in_use, entry)
        if number % _PAGE_OF_LOG == 0:
            log.info("Read %d of %s.", number, counted(len(commits), "commit"))
    return in_use


def _history(hub: Hub, repo: Repo, revision: str, head: str | None) -> Iterator[str]:
    """Return the ids of all commits that a reference can reach."""
    first = None
    with suppress(XetRevisionNotFoundError):
        for commit in _commits(hub, repo.at(revision)):
            first = first or commit
            yield commit
    if head is None or first == head:
        return
    try:
        yield from _commits(hub, repo.at(head))
    except XetRevisionNotFoundError:
        # Of a tag with a message, this can be git's object for the tag, whose commits were found by its name.
        if first is None:
            raise


def _commits(hub: Hub, repo: Repo) -> Iterator[str]:
    about = f"the commits of {repo}"
    for page in hub.pages(f"{repo.api_path}/commits/{repo.quoted_revision}", None, about):
        with hub.reading(about):
            for entry in page:
                yield answers.commit_id(answers.mapping(entry, "a commit").get("id"))


def _add(in_use: _InUse, entry: object) -> None:
    """Note the content of a file that is not stored inline. An empty file has none."""
    if answers.kind(entry) != "file":
        return
    file = answers.mapping(entry, "an entry")
    lfs = {} if file.get("lfs") is None else answers.mapping(file["lfs"], "'lfs'")
    given = (lfs.get("oid"), file.get("xetHash"), file.get("oid"))
    if (lfs or file.get("xetHash")) and answers.integer(file.get("size"), "a size"):
        in_use.paths.setdefault(frozenset(map(str, filter(None, given))), answers.path(file.get("path")))


def _list_stored(hub: Hub, repo: Repo) -> list[_Stored]:
    about = f"the list of stored files of {repo}"
    found = []
    for page in hub.pages(f"{repo.api_path}/lfs-files", None, about):
        with hub.reading(about):
            found += [_stored(answers.mapping(each, "a stored file")) for each in page]
    return found


def _stored(entry: Any) -> _Stored:
    deletion_id = answers.identifier(entry.get("fileOid"), "'fileOid'")
    sha256 = answers.sha256(entry.get("oid"))
    pushed = answers.moment(entry.get("pushedAt"))
    if pushed is None:
        raise answers.WrongAnswerError("no 'pushedAt'")
    path = answers.text(entry.get("filename")) or None
    record: XetStoredFile = {
        "path": path,
        "size": int(entry.get("size")),
        "sha256": sha256,
        "pushed_at": pushed.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }
    ids = {deletion_id, sha256, *filter(None, [entry.get("xetHash")])}
    return _Stored(deletion_id, frozenset(map(str, ids)), pushed, record)


def _report(repo: Repo, old: list[_Stored], *, dry_run: bool, kept: int, recent: int) -> None:
    total = size(sum(each.record["size"] for each in old))
    log.info(
        "Found %s (%s) that nothing in %s refers to%s. Kept: %d in use, %d pushed recently.",
        *(
            counted(len(old), "stored file"),
            total,
            repo.repo_id,
            "; this is a dry run" if dry_run else "",
            kept,
            recent,
        ),
    )
    for each in old[:MOST_RECORDS]:
        file = each.record
        log.info("%10s  %s  %s  %s", size(file["size"]), file["pushed_at"][:10], file["sha256"][:12], file["path"])
    if len(old) > MOST_RECORDS:
        log.info("… and %d more.", len(old) - MOST_RECORDS)


def _delete(calls: ApiCalls, repo: Repo, old: list[_Stored]) -> None:
    from huggingface_hub.hf_api import LFSFileInfo

    # Of these, huggingface_hub sends fileOid only.
    named = [
        LFSFileInfo(
            fileOid=each.deletion_id,
            filename=each.record["path"] or "",
            oid=each.record["sha256"],
            pushedAt=each.record["pushed_at"],
            size=each.record["size"],
        )
        for each in old
    ]
    ids = {each.deletion_id for each in old}
    calls.change(
        f"the deletion of {counted(len(old), 'stored file')} of {repo}",
        # Nothing refers to the content, so there is no history to rewrite, and commits keep their ids.
        lambda api: api.permanently_delete_lfs_files(
            repo.repo_id, named, rewrite_history=False, repo_type=repo.repo_type
        ),
        lambda: ids.isdisjoint(each.deletion_id for each in _list_stored(calls.hub, repo)),
    )
    log.info("Deleted %s of %s permanently.", counted(len(old), "stored file"), repo.repo_id)
