"""Copies of files from one repository to another, without moving the bytes that are in CAS.

For a repository, the Hub duplicates the files (``POST …/lfs-files/duplicate``, as ``huggingface_hub`` 2.4 does for
``CommitOperationCopy``), and a commit names them by sha256. Into a bucket, they are put by their Xet hash and source
repository. Files that a repository stores inline are not in CAS: they are read and sent again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from airflow_provider_xethub.exceptions import (
    XetForbiddenError,
    XetIdentityError,
    XetInputError,
    XetNotFoundError,
    XetResponseError,
    XetSourceError,
    XetUnauthorizedError,
)
from airflow_provider_xethub.xet import answers, arguments
from airflow_provider_xethub.xet import records as limits
from airflow_provider_xethub.xet.files.targets import digest_of, new_digest
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.hub.preupload import UploadMode
from airflow_provider_xethub.xet.message_text import counted, named, shortened
from airflow_provider_xethub.xet.process.path_table import PathTable, Row
from airflow_provider_xethub.xet.publish.planned_files import MarkedPaths
from airflow_provider_xethub.xet.publish.records_on_disk import RecordsOnDisk
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.records import (
    XetCommitResult,
    XetCopied,
    XetCopyResult,
    XetFile,
    changed_files,
    xet_file_record,
)
from airflow_provider_xethub.xet.repo import Repo

BATCH = 500
"""Files in one request to duplicate, as many as ``huggingface_hub`` sends."""

_MAX_NAMED = 10
_PATH = "path of the copy"
_BY_HAND = "Download with XetDownloadOperator and upload with XetUploadOperator instead."


@dataclass(frozen=True)
class Copies:
    """A planned copy. Of many files, all of it is on disk.

    :param source: the repository of all originals; the record of each names its revision.
    :param request: the commit, with the records of the copies; checked.
    :param original: returns the record in ``source`` by the path of the copy.
    :param inline: paths of the copies whose original is stored inline.
    """

    source: Repo
    request: CommitRequest
    original: Callable[[str], XetFile]
    inline: Collection[str]


def plan_copies(
    source: Repo, files: Sequence[XetFile], request: CommitRequest, path_in_repo: str | None, *, single: bool
) -> Copies:
    """Plan copies below a folder, and refuse what cannot be copied.

    :param path_in_repo: the folder below which the files keep their paths; the root where ``None``. A ``single`` file
        may have its new path here, without a slash at the end.
    :raises XetInputError: as :func:`plan_copies_as`, or ``path_in_repo`` is empty.
    """
    arguments.string("path_in_repo", path_in_repo)
    exact = single and len(files) == 1
    targets = ((_path_of(file["path"], path_in_repo, exact=exact), file) for file in files)
    return plan_copies_as(source, targets, request, are_many=len(files) > limits.IN_MEMORY)


def plan_copies_as(
    source: Repo, targets: Iterable[tuple[str, XetFile]], request: CommitRequest, *, are_many: bool = False
) -> Copies:
    """Plan copies under given paths, and refuse what cannot be copied.

    ``.gitattributes`` has no meaning in a bucket and is left out there, as by ``huggingface_hub``.

    :param targets: the path of each copy, and its original in ``source``.
    :param are_many: keep them on disk, in the order of the paths of the copies.
    :raises XetInputError: the Hub cannot copy this, two files would get the same path, or a path is not valid.
    """
    target = request.repo
    if source.is_bucket and not target.is_bucket:
        raise XetInputError(f"The Hub cannot copy from a bucket ({source}) to a repository ({target}). {_BY_HAND}")
    planned = _planned(source, targets, target)
    if are_many:
        return _on_disk(source, planned, request)
    originals: dict[str, XetFile] = {}
    records: list[XetFile] = []
    for path, file in planned:
        records.append(_copy_record(path, file, target.uri))
        originals[path] = file
    request = replace(request, files=records)
    request.check()
    inline = {path for path, file in originals.items() if _is_inline(file)}
    return Copies(source, request, originals.__getitem__, inline)


def _planned(source: Repo, targets: Iterable[tuple[str, XetFile]], target: Repo) -> Iterator[tuple[str, XetFile]]:
    for path, file in targets:
        if target.is_bucket and not source.is_bucket and file["path"].rpartition("/")[2] == ".gitattributes":
            continue
        if not _is_inline(file) and not (file["xet_hash"] and (target.is_bucket or file["sha256"])):
            raise XetInputError(f"{file['path']} of {source} is not in CAS, so it cannot be copied. {_BY_HAND}")
        yield path, file


def _copy_record(path: str, file: XetFile, uri: str) -> XetFile:
    xet_hash = None if _is_inline(file) else file["xet_hash"]
    return xet_file_record(path, file["size"], uri, sha256=file["sha256"], xet_hash=xet_hash)


def _on_disk(source: Repo, planned: Iterable[tuple[str, XetFile]], request: CommitRequest) -> Copies:
    uri, rows = request.repo.uri, PathTable()
    for path, file in planned:
        row = Row(path, json.dumps({_PATH: path, **file}), marked=_is_inline(file))
        if not rows.add(row):
            raise request.twice(path)

    def copy_of(row: Any) -> XetFile:
        return _copy_record(row[_PATH], row, uri)

    def original(path: str) -> XetFile:
        row: Any = json.loads(rows.get(path) or "")
        del row[_PATH]
        return cast("XetFile", row)

    request = replace(request, files=RecordsOnDisk(rows, copy_of))
    request.check()
    return Copies(source, request, original, MarkedPaths(rows))


def modes(hub: Hub, repo: Repo, files: Sequence[XetFile]) -> dict[str, UploadMode]:
    """Return how each copy is stored (like its original), and what the repository has under its path now.

    :param repo: where the copies go.
    :param files: the records of the copies, or of a batch of them.
    """
    paths = [file["path"] for file in files]
    there = {file["path"]: file.get("blob_id") or file["sha256"] for file in hub.get_files(repo, paths)}
    return {file["path"]: UploadMode(not file["xet_hash"], there.get(file["path"]), False) for file in files}


def duplicate(hub: Hub, copies: Copies, files: Sequence[XetFile], known: Mapping[str, UploadMode]) -> None:
    """Duplicate the files of the source that are in CAS, before a commit names them.

    :param files: the records of the copies, or of a batch of them.
    :param known: from :func:`modes`; files that are there already are left out.
    :raises XetResponseError: the Hub could not copy some files, which are named. None of these files was committed.
    """
    source, target = copies.source, copies.request.repo
    if source.is_same_repo(target):
        return
    new = [file for file in files if not known[file["path"]].inline]
    new = [file for file in new if known[file["path"]].current != file["sha256"]]
    wanted = {file["sha256"]: copies.original(file["path"]) for file in new}
    about = f"the request to copy {counted(len(wanted), 'file')} from {source} to {target}"
    failed: list[str] = []
    everything = list(wanted.values())
    for start in range(0, len(everything), BATCH):
        batch = everything[start : start + BATCH]
        body = {
            "target": {"type": target.repo_type, "name": target.repo_id},
            "files": [
                {"xetHash": each["xet_hash"], "sha256": each["sha256"], "filename": each["path"]} for each in batch
            ],
        }
        try:
            # With the token of a keyless connection that may write: that of the source cannot.
            path = f"{source.api_path}/lfs-files/duplicate"
            answer = hub.json("POST", path, about=about, json=body, repo=target)
        except (XetUnauthorizedError, XetForbiddenError, XetNotFoundError) as error:
            if hub.exchanged is None:
                raise
            raise XetIdentityError(
                f"The Hub did not copy from {source} to {target} ({error.status}): it takes one token for both, and "
                f"that of a keyless connection is for {target} alone, so the source must be public. "
                f"None of these files was committed. {_BY_HAND}"
            ) from error
        with hub.reading(about):
            for each in answers.mapping(answer, "JSON").get("failed") or []:
                failed.append(f"{wanted[each['sha256']]['path']} ({hub.shown(each['error'])})")
    if failed:
        raise XetResponseError(
            f"The Hub could not copy {len(failed)} of {counted(len(wanted), 'file')} from {source} to {target}: "
            f"{shortened(failed, _MAX_NAMED, '; ')}. None of these files was committed. Both must be in the same "
            "storage region.",
            status=200,
        )


def read_original(hub: Hub, copies: Copies, path: str) -> bytes:
    """Return the content of one inline original.

    :raises XetSourceError: it no longer matches its record.
    """
    file = copies.original(path)
    content = hub.read_inline(Repo.from_uri(file["repo"]), file["path"]) if file["size"] else b""
    digest = digest_of(file)
    if digest is None and content:
        raise XetInputError(
            f"The record of {file['path']} of {copies.source} has no sha256 and no blob_id, so its content cannot "
            "be verified. It was not committed. Copy from records as XetListOperator returns them."
        )
    if len(content) != file["size"] or (digest and not _has_digest(content, *digest)):
        raise XetSourceError(
            f"{file['path']} of {named(f'{copies.source}')} changed since it was listed. Let the task list it again, "
            "or copy from a commit (source_revision). It was not committed."
        )
    return content


def _has_digest(content: bytes, kind: str, value: str) -> bool:
    state = new_digest(kind, len(content))
    state.update(content)
    return bool(state.hexdigest() == value)


def result(committed: XetCommitResult, copies: Copies) -> XetCopyResult:
    """Add to a commit the figures of the copy."""
    copied: XetCopied = {"files": 0, "bytes": 0, "inline_files": 0, "inline_bytes": 0}
    for file in changed_files(committed):
        copied["files"] += 1
        copied["bytes"] += file["size"]
        if file["path"] in copies.inline:
            copied["inline_files"] += 1
            copied["inline_bytes"] += file["size"]
    return {**committed, "copied": copied}


def _is_inline(file: XetFile) -> bool:
    # A listing has the blob id of inline files; a record of an earlier upload may have a Xet hash as well.
    return not file["size"] or "blob_id" in file or not (file["sha256"] or file["xet_hash"])


def _path_of(path: str, path_in_repo: str | None, *, exact: bool) -> str:
    if not path_in_repo:
        return path
    return path_in_repo if exact and not path_in_repo.endswith("/") else f"{path_in_repo.rstrip('/')}/{path}"
