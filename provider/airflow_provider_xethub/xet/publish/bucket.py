"""Publishing to a bucket: files in CAS are put by their Xet hash; there are no commits, no history and no inline files.

Source: ``POST /api/buckets/{namespace}/{name}/batch`` as ``huggingface_hub`` 2.4 sends it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airflow_provider_xethub.exceptions import XetInputError, XetNotFoundError, XetResponseError
from airflow_provider_xethub.xet import answers
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.message_text import counted, shortened
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.records import XetCommitResult, XetFile, published_record
from airflow_provider_xethub.xet.repo import Repo

BATCH = 1000
"""Changes in one request, as many as ``huggingface_hub`` sends."""

_MAX_NAMED = 10


def publish(hub: Hub, request: CommitRequest, origins: Mapping[str, Repo] | None = None) -> XetCommitResult:
    """Put and delete files. Files with the same Xet hash in the bucket are skipped, so a retry does only the rest.

    Not atomic: the Hub takes :data:`BATCH` changes at a time, and applies each on its own.

    :param request: checked; its ``files`` are in CAS, its ``message`` and ``description`` are not used.
    :param origins: the repositories or buckets of files that were not uploaded to this bucket, by path.
    :raises XetNotFoundError: the bucket, or a path to delete, does not exist. Nothing was changed.
    :raises XetResponseError: some changes failed, and are named; the others were made.
    """
    bucket = request.repo
    for file in request.files:
        if not file["xet_hash"]:
            raise XetInputError(
                f"{file['path']} has no Xet hash: it is stored inline, not in CAS. Upload it to {bucket} first."
            )
    deleted = _to_delete(hub, request)
    there = {
        file["path"]: (file["xet_hash"], file["size"])
        for file in hub.get_files(bucket, [file["path"] for file in request.files])
    }
    unchanged = {f["path"] for f in request.files if there.get(f["path"]) == (f["xet_hash"], f["size"])}
    new = [file for file in request.files if file["path"] not in unchanged]
    changes = list(_changes(new, deleted, origins or {}))
    for start in range(0, len(changes), BATCH):
        _send(hub, bucket, changes[start : start + BATCH])
    return {
        "oid": "",
        "url": f"{hub.endpoint}{bucket.web_path}",
        "repo": bucket.uri,
        "title": request.message,
        "description": request.description,
        "files": [published_record(file, bucket.uri) for file in request.files],
        "deleted": list(request.delete),
        "unchanged": sorted(unchanged),
        "created": bool(changes),
        "pull_request": None,
        "pull_request_number": None,
        "commits": [],
    }


def _to_delete(hub: Hub, request: CommitRequest) -> list[str]:
    """Return the paths of all files to delete; a folder stands for everything in it."""
    plain = [path for path in request.delete if not path.endswith("/")]
    missing = set(plain) - {file["path"] for file in hub.get_files(request.repo, plain)} if plain else set()
    found = list(plain)
    for folder in (path for path in request.delete if path.endswith("/")):
        inside = [file["path"] for file in hub.list_files(request.repo, folder)]
        found += inside
        if not inside:
            missing.add(folder)
    if missing:
        raise XetNotFoundError(
            f"Cannot delete {', '.join(sorted(missing))} from {request.repo}: not found. Nothing was changed.",
            status=404,
        )
    return found


def _changes(files: Sequence[XetFile], deleted: Sequence[str], origins: Mapping[str, Repo]) -> Iterator[dict[str, Any]]:
    now = int(time.time() * 1000)
    for file in files:
        change: dict[str, Any] = {"type": "addFile", "path": file["path"], "xetHash": file["xet_hash"], "mtime": now}
        if origin := origins.get(file["path"]):
            change |= {"type": "copyFile", "sourceRepoType": origin.repo_type, "sourceRepoId": origin.repo_id}
        yield change
    for path in deleted:
        yield {"type": "deleteFile", "path": path}


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
        refused = answers.sequence(answers.mapping(answer, "JSON").get("failed"), "'failed'")
        failed = [f"{answers.path(each['path'])} ({hub.shown(each['error'])})" for each in refused]
    if failed:
        raise XetResponseError(
            f"{len(failed)} of {len(changes)} changes in {bucket} failed: {shortened(failed, _MAX_NAMED, '; ')}. The "
            "others succeeded; a retry makes only the missing ones.",
            status=422,
        )
