"""Publishing to a bucket: files in CAS are put by their Xet hash; there are no commits, no history and no inline files.

Source: ``POST /api/buckets/{namespace}/{name}/batch`` as ``huggingface_hub`` 2.4 sends it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, cast

from airflow_provider_xethub.exceptions import XetInputError, XetNotFoundError, XetResponseError
from airflow_provider_xethub.xet import answers, tracing
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.manifests import listing
from airflow_provider_xethub.xet.message_text import counted, repo_in, shortened
from airflow_provider_xethub.xet.publish.planned_files import Planned, PlannedFiles
from airflow_provider_xethub.xet.publish.records_on_disk import batches
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.records import XetCommitResult, XetFile
from airflow_provider_xethub.xet.repo import Repo

log = logging.getLogger(__name__)

BATCH = 1000
"""Changes in one request, as many as ``huggingface_hub`` sends."""

_MAX_NAMED = 10

Origin = Callable[[str], Repo | None]


class Changes:
    """Puts and deletes files. Those with the same Xet hash in the bucket are skipped, so a retry does only the rest.

    Not atomic: the Hub takes :data:`BATCH` changes at a time, and applies each on its own.

    :param request: checked; its ``message`` and ``description`` are not used.
    :param origin: returns the repository or bucket of a file that was not uploaded to this bucket, by its path.
    :param paced: calls what sends requests, and again after a wait where the Hub's rate limit is reached.
    :ivar is_changed: whether the Hub has made some of the changes.
    """

    def __init__(
        self,
        hub: Hub,
        request: CommitRequest,
        origin: Origin = lambda _: None,
        paced: Callable[[Callable[[], Any]], Any] = lambda requests: requests(),
    ) -> None:
        self._paced = paced
        self._hub = hub
        self._request = request
        self._origin = origin
        self._files = PlannedFiles()
        self._deleted: list[str] | None = None
        self._waiting: list[dict[str, Any]] = []
        self.is_changed = False

    def put(self, files: Sequence[XetFile]) -> None:
        """Put files that are in CAS, some of them later.

        :raises XetInputError: a file is not in CAS.
        :raises XetNotFoundError: the bucket, or a path to delete, does not exist. Nothing was changed.
        :raises XetResponseError: some changes failed, and are named; the others were made.
        """
        bucket = self._request.repo
        for file in files:
            if not file["xet_hash"]:
                raise XetInputError(
                    f"{file['path']} has no Xet hash: it is stored inline, not in CAS. Upload it to {bucket} first."
                )
        if self._deleted is None:
            self._deleted = self._paced(lambda: _to_delete(self._hub, self._request))
        found = self._paced(lambda: self._hub.get_files(bucket, [file["path"] for file in files]))
        there = {file["path"]: (file["xet_hash"], file["size"]) for file in found}
        unchanged = {file["path"] for file in files if there.get(file["path"]) == (file["xet_hash"], file["size"])}
        self._waiting += _changes([file for file in files if file["path"] not in unchanged], self._origin)
        self._send(least=BATCH)
        self._files.add(Planned(file, inline=False, unchanged=file["path"] in unchanged) for file in files)

    def complete(self) -> XetCommitResult:
        """Send what is left, with the deletions, and return what was published."""
        request, bucket = self._request, self._request.repo
        for some in batches(self._deleted or ()):
            self._waiting += [{"type": "deleteFile", "path": path} for path in some]
            self._send(least=BATCH)
        self._send(least=1)
        unchanged = self._files.unchanged
        return {
            "oid": "",
            "url": f"{self._hub.endpoint}{bucket.web_path}",
            "repo": bucket.uri,
            "title": request.message,
            "description": request.description,
            "files": cast("list[XetFile]", self._files.published(bucket.uri)),
            "deleted": list(request.delete),
            "unchanged": cast("list[str]", unchanged if self._files.are_on_disk else sorted(unchanged)),
            "created": self.is_changed,
            "pull_request": None,
            "pull_request_number": None,
            "commits": [],
        }

    def _send(self, least: int) -> None:
        while len(self._waiting) >= least:
            some = self._waiting[:BATCH]
            with tracing.operation("xethub.commit", self._request.repo, files=len(some)):
                self._paced(partial(_send, self._hub, self._request.repo, some))
            del self._waiting[:BATCH]
            self.is_changed = True


def _to_delete(hub: Hub, request: CommitRequest) -> list[str]:
    """Return the paths of all files to delete; a folder stands for everything in it.

    In a retry, an earlier attempt may have deleted them: a bucket has no commits that would tell.
    """
    plain = [path for path in request.delete if not path.endswith("/")]
    missing = set(plain) - {file["path"] for file in hub.get_files(request.repo, plain)}
    found = list(plain)
    for folder in (path for path in request.delete if path.endswith("/")):
        pages = listing.folder_pages(hub, request.repo, folder, recursive=True)
        inside = [file["path"] for page in pages for file in page]
        found += inside
        if not inside:
            missing.add(folder)
    if missing and request.idempotency_key is not None and not request.is_first_try:
        log.info("Not found in %s, so deleted by an earlier attempt: %s.", request.repo, ", ".join(sorted(missing)))
        return [path for path in found if path not in missing]
    if missing:
        raise XetNotFoundError(
            f"Cannot delete {', '.join(sorted(missing))} from {request.repo}: not found. Check delete. Nothing was "
            "changed.",
            status=404,
        )
    return found


def _changes(files: Sequence[XetFile], origin: Origin) -> Iterator[dict[str, Any]]:
    now = int(time.time() * 1000)
    for file in files:
        change: dict[str, Any] = {"type": "addFile", "path": file["path"], "xetHash": file["xet_hash"], "mtime": now}
        if source := origin(file["path"]):
            change |= {"type": "copyFile", "sourceRepoType": source.repo_type, "sourceRepoId": source.repo_id}
        yield change


def _send(hub: Hub, bucket: Repo, changes: Sequence[dict[str, Any]]) -> None:
    about = f"the change of {counted(len(changes), 'file')} in {bucket}"
    answer = hub.json(
        "POST",
        f"{bucket.api_path}/batch",
        about=about,
        headers={"Content-Type": "application/x-ndjson"},
        data="".join(json.dumps(change) + "\n" for change in changes).encode(),
        # 422 means that all changes failed; its body lists the reasons like that of a success.
        accept=(422,),
    )
    with hub.reading(about):
        found = answers.mapping(answer, "JSON")
        if "failed" not in found and "error" in found:
            raise XetResponseError(
                f"The Hub rejected a request for {repo_in(about)} (422). Correct what it says below, or report it. The "
                f"Hub says: {hub.shown(found['error'])}",
                status=422,
            )
        refused = answers.sequence(found.get("failed"), "'failed'")
        reasons = {answers.path(each["path"]): hub.shown(each["error"]) for each in refused}
    # They existed before: if the response to the first request was lost, a second one finds nothing to delete.
    deleted = [change["path"] for change in changes if change["type"] == "deleteFile" and change["path"] in reasons]
    gone = set(deleted) - {file["path"] for file in hub.get_files(bucket, deleted)}
    failed = [f"{path} ({reason})" for path, reason in reasons.items() if path not in gone]
    if failed:
        raise XetResponseError(
            f"{len(failed)} of {len(changes)} changes in {bucket} failed: {shortened(failed, _MAX_NAMED, '; ')}. The "
            "others succeeded; a retry makes only the missing ones.",
            status=422,
        )
