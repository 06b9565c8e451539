"""Mirrors a source to a repository or a bucket: compare, plan, and publish the difference.

In a repository, what was listed is what is compared and replaced: the commit requires the listed head, and a concurrent
commit that touches the same paths leads to a new plan. The branch changes once. A bucket has no commits: there,
additions come first and deletions last, and a file is deleted only if it is still the one that was listed.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property

from airflow_provider_xethub.exceptions import XetConflictError, XetEmptySourceError, XetNotFoundError
from airflow_provider_xethub.xet import answers
from airflow_provider_xethub.xet.files.content_identity import identity
from airflow_provider_xethub.xet.files.digest_memory import DigestMemory
from airflow_provider_xethub.xet.files.found_files import FoundFiles, SourceFile
from airflow_provider_xethub.xet.files.mirror import plan as mirror_plan
from airflow_provider_xethub.xet.files.mirror.plan import Plan, Rules
from airflow_provider_xethub.xet.hub import preupload, pull_requests
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.hub.folders import list_folder
from airflow_provider_xethub.xet.message_text import shortened
from airflow_provider_xethub.xet.publish.commit import KEY_TRAILER
from airflow_provider_xethub.xet.publish.records_on_disk import batches
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.records import (
    XetCommit,
    XetFile,
    XetMirrorPlan,
    XetMirrorResult,
    XetPublishResult,
    no_transfer,
    published_record,
)
from airflow_provider_xethub.xet.repo import Repo
from airflow_provider_xethub.xet.transfer import upload
from airflow_provider_xethub.xet.transfer.same_content import SourceContents

log = logging.getLogger(__name__)

MARK = "Xet-Mirror-Key"
"""A line in the description of a mirror's commit, by which a retry finds it even if there is nothing left to do."""

MAX_PLANS = 5
"""How often a mirror is planned, while others keep committing to the same paths."""

_KEY = re.compile(rf"^{KEY_TRAILER}: ([0-9a-f]+)", re.MULTILINE)
_COMMITS_TO_SEARCH = 50
_PULL_REQUESTS_TO_SEARCH = 5
_MAX_NAMED = 10

Publish = Callable[[FoundFiles, CommitRequest], XetPublishResult]
"""Uploads files, and publishes them with the deletions of the request."""


@dataclass(frozen=True)
class Mirror:
    """A source, and the folder of a repository that becomes equal to it.

    :param hub: the Hub.
    :param files: all files of the source that are selected, with their paths in the repository.
    :param request: the commit, without ``files`` and ``delete``.
    :param rules: what may be touched.
    :param publish: publishes the difference.
    :param memory: remembers digests of local files that did not change; ``None``: all are read.
    """

    hub: Hub
    files: FoundFiles
    request: CommitRequest
    rules: Rules
    publish: Publish
    memory: DigestMemory | None = None

    def plan(self) -> XetMirrorPlan:
        """Return what the mirror would change now. Nothing is uploaded and nothing is changed.

        :raises XetHubError: as for :meth:`run`.
        """
        parent, there = self._listed()
        plan = self._plan(self._contents(), parent, there)
        return plan.as_record(self.request.repo.uri, parent)

    def run(self) -> XetMirrorResult:
        """Make the folder equal to the source.

        :raises XetEmptySourceError: the source has no file, and ``allow_empty`` is not set.
        :raises XetInputError: more would be removed than ``max_delete_share`` allows, or a file that stays is in the
            way of another one. Nothing was changed.
        :raises XetConflictError: others keep committing to the same paths. Nothing was committed.
        """
        repo = self.request.repo
        if repo.is_bucket:
            return self._run_in_bucket()
        request = _marked(self.request, self.rules)
        contents = self._contents()
        number = 0
        while True:
            number += 1
            parent, there = self._listed()
            plan = self._plan(contents, parent, there)
            if not plan.is_needed:
                earlier = None if request.is_first_try else _Earlier(self.hub, request, self.rules).find()
                return earlier or _result(_nothing_to_do(self._newest(repo.at(parent))), plan, repo, parent)
            try:
                published = self._publish(plan, replace(request, parent_commit=parent, atomic=True))
            except (XetConflictError, XetNotFoundError) as error:
                if self.request.parent_commit or self._head() == parent:
                    raise
                if number == MAX_PLANS:
                    raise XetConflictError(
                        f"{repo} changed {number} times in the mirrored files while they were compared. Nothing was "
                        f"committed. Let the task retry when the other writers are done. {error}",
                        status=error.status,
                    ) from error
                log.info("%s has changed since it was listed. Comparing again. %s", repo, error)
                continue
            return _result(published, plan, repo, parent)

    def _head(self) -> str:
        return self._newest(self.request.repo)["oid"]

    def _newest(self, repo: Repo) -> XetCommit:
        """Return the newest commit of a revision, as a commit of the branch."""
        commits = self.hub.latest_commits(repo)
        if not commits:
            raise XetNotFoundError(f"{repo} has no commits yet.", status=404)
        return {**commits[0], "repo": self.request.repo.uri}

    def _listed(self) -> tuple[str, Mapping[str, XetFile]]:
        """Return the commit that is compared, and its files in the folder, by path."""
        repo = self.request.repo
        parent = "" if repo.is_bucket else self.request.parent_commit or self._head()
        listed = repo if repo.is_bucket else repo.at(parent)
        return parent, list_folder(self.hub, listed, self.rules.folder)

    def _contents(self) -> SourceContents:
        """Return the contents of files in memory; of others, each batch has its own."""
        return SourceContents([] if self._many else list(self.files), self.memory)

    def _plan(self, contents: SourceContents, parent: str, there: Mapping[str, XetFile]) -> Plan:
        """Compare the source with a listing, and check the result."""
        repo = self.request.repo
        if not self.files and not self.rules.allow_empty:
            raise XetEmptySourceError(
                f"The source has no file, so the mirror would remove everything from {repo}. Nothing was changed. "
                "Check the source; if this is meant, set allow_empty=True."
            )
        found = mirror_plan.Comparison(self.rules)
        ignored: set[str] = set()
        # Many files are on disk, and compared in batches.
        for batch in batches(self.files):
            here = contents if not self._many else SourceContents(batch, self.memory)
            equal = here.equal({f.path_in_repo: there[f.path_in_repo] for f in batch if f.path_in_repo in there})
            ignored |= self._ignored([file for file in batch if file.path_in_repo not in equal], there, parent)
            for file in batch:
                path = file.path_in_repo
                if path not in ignored:
                    found.add_wanted(path, file.size, is_there=path in there, is_equal=path in equal)
        if ignored:
            log.warning(
                "Left out, because the .gitignore of %s excludes them: %s", repo, shortened(sorted(ignored), _MAX_NAMED)
            )
        wanted = _Wanted(self._by_path, ignored)
        for path in there:
            if path not in wanted:
                found.add_stray(path, is_untouchable=path in ignored)
        plan = found.plan()
        mirror_plan.check(plan, wanted, there, self.rules, str(repo), has_folders=not repo.is_bucket)
        return plan

    @property
    def _many(self) -> FoundFiles | None:
        """The files, if they are on disk."""
        return self.files if self.files.are_on_disk else None

    @cached_property
    def _by_path(self) -> dict[str, SourceFile] | _OnDisk:
        return _OnDisk(self._many) if self._many else {file.path_in_repo: file for file in self.files}

    def _ignored(self, files: Sequence[SourceFile], there: Mapping[str, XetFile], parent: str) -> set[str]:
        """Return which files the ``.gitignore`` of the repository excludes: no upload includes them."""
        repo = self.request.repo
        if repo.is_bucket or not files:
            return set()
        own = self._by_path.get(preupload.GITIGNORE)
        if own is None and preupload.GITIGNORE not in there:
            is_there = self.rules.folder and self.hub.get_files(repo.at(parent), [preupload.GITIGNORE])
            if not is_there:
                return set()
        upload.fetch_samples(files)
        named = [own] if own else []
        text = preupload.own_gitignore(upload.source_records(named, repo.uri), lambda _: upload.read_inline(named))
        records = upload.with_samples(upload.source_records(files, repo.uri), files)
        modes = preupload.upload_modes(self.hub, repo, records, gitignore=text)
        return {path for path, mode in modes.items() if mode.ignored}

    def _publish(self, plan: Plan, request: CommitRequest) -> XetPublishResult:
        files = FoundFiles()
        for path in heapq.merge(plan.added, plan.changed):
            files.add(self._by_path[path])
        return self.publish(files, replace(request, delete=plan.removed))

    def _run_in_bucket(self) -> XetMirrorResult:
        """Put what is new and changed, and then delete what is no longer in the source.

        A retry after a failure does the rest, because it compares again.
        """
        bucket = self.request.repo
        parent, there = self._listed()
        plan = self._plan(self._contents(), parent, there)
        result = _nothing_to_do(_bucket_commit(self.hub, self.request))
        if self.request.idempotency_key is not None and not self.request.is_first_try:
            # An earlier attempt may have put any of them, and no commit says which.
            result["files"] = [there[path] for path in plan.unchanged]
            result["unchanged"] = list(plan.unchanged)
        if not plan.is_needed:
            return _result(result, plan, bucket, parent)
        if plan.added or plan.changed:
            put = self._publish(replace(plan, removed=[]), self.request)
            known = {"files": [*put["files"], *result["files"]], "unchanged": result["unchanged"]}
            result = {**put, **known}  # type: ignore[typeddict-item]
        now = {file["path"]: file for file in self.hub.get_files(bucket, plan.removed)}
        same = [path for path in plan.removed if path in now and identity(now[path]) == identity(there[path])]
        if changed := sorted(set(plan.removed) & now.keys() - set(same)):
            log.warning(
                "Kept in %s, because others changed them since they were listed: %s",
                bucket,
                shortened(changed, _MAX_NAMED),
            )
        if same:
            self.publish(FoundFiles(), replace(self.request, delete=same))
        plan = replace(plan, removed=same, kept=sorted({*plan.kept, *changed}))
        created = result["created"] or bool(same)
        return _result({**result, "deleted": same, "created": created}, plan, bucket, parent)


class _OnDisk:
    """The files of a source by path."""

    def __init__(self, found: FoundFiles) -> None:
        self._found = found
        self.get = found.get

    def __getitem__(self, path: str) -> SourceFile:
        file = self._found.get(path)
        if file is None:
            raise KeyError(path)
        return file

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and self._found.has(path)

    def __iter__(self) -> Iterator[str]:
        return self._found.paths()


class _Wanted:
    """The paths of a source without those that are ignored."""

    def __init__(self, files: dict[str, SourceFile] | _OnDisk, ignored: Collection[str]) -> None:
        self._files = files
        self._ignored = ignored

    def __contains__(self, path: object) -> bool:
        return path in self._files and path not in self._ignored

    def __iter__(self) -> Iterator[str]:
        return (path for path in self._files if path not in self._ignored)


def _marked(request: CommitRequest, rules: Rules) -> CommitRequest:
    """Return the request with the line that a retry searches for, if it can be retried."""
    if request.idempotency_key is None:
        return request
    return replace(request, description=f"{request.description}\n\n{_mark(request, rules)}".lstrip())


def _mark(request: CommitRequest, rules: Rules) -> str:
    work = json.dumps([request.repo.uri, rules.folder, request.idempotency_key])
    return f"{MARK}: {hashlib.sha256(work.encode()).hexdigest()[:32]}"


class _Earlier:
    """The search for the commit of an earlier attempt.

    After a commit whose response was lost, the next attempt finds nothing left to do. It reports that commit, so that
    the event of its outlet is complete.
    """

    def __init__(self, hub: Hub, request: CommitRequest, rules: Rules) -> None:
        self._hub = hub
        self._request = request
        self._rules = rules
        self._mark = _mark(request, rules) if request.idempotency_key is not None else None

    def find(self) -> XetMirrorResult | None:
        """Return what an earlier attempt committed to the branch; ``None`` where it committed nothing.

        The commits of an open pull request are found when they are made again.
        """
        if self._mark is None:
            return None
        history = self._hub.latest_commits(self._request.repo, _COMMITS_TO_SEARCH + 1)
        at = next((at for at, commit in enumerate(history) if self._is_marked(commit)), None)
        key = None if at is None else _key(history[at])
        if at is None and not self._request.create_pr and (merged := self._merged()):
            oid, key = merged
            at = next((at for at, commit in enumerate(history) if commit["oid"] == oid), None)
        if at is None:
            return None
        # The commits of a merged pull request may follow one another on the branch.
        parent = next((each["oid"] for each in history[at + 1 :] if key is None or _key(each) != key), None)
        if parent is None:
            return None
        log.info("An earlier attempt of this task has committed: %s", history[at]["url"])
        return self._describe(history[at], parent)

    def _is_marked(self, commit: XetCommit) -> bool:
        return self._mark in commit["description"].splitlines()

    def _merged(self) -> tuple[str, str | None] | None:
        """Return the commit by which the pull request of an earlier attempt was merged, and the key of its work.

        It is a guess that the description of that commit need not repeat those of the pull request's commits.
        """
        hub, repo = self._hub, self._request.repo
        about = f"the branches of {repo}"
        refs = hub.json("GET", f"{repo.api_path}/refs", about=about, params={"include_prs": "1"})
        with hub.reading(about):
            listed = answers.mapping(refs, "JSON").get("pullRequests") or []
            numbers = sorted((answers.discussion_number(ref.get("ref")) for ref in listed), reverse=True)
        for number in numbers[:_PULL_REQUESTS_TO_SEARCH]:
            with suppress(XetNotFoundError):
                found = pull_requests.get(hub, repo, number)
                if found.status != "merged":
                    continue
                for commit in hub.latest_commits(found.repo, _COMMITS_TO_SEARCH):
                    if commit["oid"] in found.oids and self._is_marked(commit):
                        return pull_requests.merge_commit(hub, found)["oid"], _key(commit)
        return None

    def _describe(self, commit: XetCommit, parent: str) -> XetMirrorResult:
        """Return the result of a commit: its difference from the one before."""
        repo, folder = self._request.repo, self._rules.folder
        before = list_folder(self._hub, repo.at(parent), folder)
        after = list_folder(self._hub, repo.at(commit["oid"]), folder)
        equal = {path for path in before.keys() & after.keys() if identity(before[path]) == identity(after[path])}
        sizes = {path: file["size"] for path, file in after.items()}
        added, changed = sorted(after.keys() - before.keys()), sorted(before.keys() & after.keys() - equal)
        removed = sorted(before.keys() - after.keys())
        plan = Plan(added, changed, removed, sorted(equal), (), sum(sizes[path] for path in (*added, *changed)))
        here: XetCommit = {**commit, "repo": repo.uri}
        return {
            **here,
            "files": [published_record(after[path], repo.uri) for path in sorted((*added, *changed))],
            "deleted": removed,
            "unchanged": [],
            "created": True,
            "pull_request": None,
            "pull_request_number": None,
            "commits": [here],
            "transfer": no_transfer(),
            "plan": plan.as_record(repo.uri, parent),
        }


def _key(commit: XetCommit) -> str | None:
    """Return what all commits of one piece of work have in common."""
    found = _KEY.search(commit["description"])
    return found[1] if found else None


def _nothing_to_do(commit: XetCommit) -> XetPublishResult:
    """Return the result of a mirror that changes nothing.

    :param commit: what was compared.
    """
    return {
        **commit,
        "files": [],
        "deleted": [],
        "unchanged": [],
        "created": False,
        "pull_request": None,
        "pull_request_number": None,
        "commits": [],
        "transfer": no_transfer(),
    }


def _result(published: XetPublishResult, plan: Plan, repo: Repo, parent: str) -> XetMirrorResult:
    return {**published, "plan": plan.as_record(repo.uri, parent)}


def _bucket_commit(hub: Hub, request: CommitRequest) -> XetCommit:
    bucket = request.repo
    url = f"{hub.endpoint}{bucket.web_path}"
    return {"oid": "", "url": url, "repo": bucket.uri, "title": request.message, "description": request.description}
