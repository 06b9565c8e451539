"""Changes that the filesystem makes: each is one commit for each repository."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.fs.places import Place, file_place
from airflow_provider_xethub.xet.message_text import shortened
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.records import xet_file_record
from airflow_provider_xethub.xet.repo import Repo

if TYPE_CHECKING:
    from airflow_provider_xethub.fs.files import WritingFile
    from airflow_provider_xethub.fs.xethub import XetHubFileSystem
    from airflow_provider_xethub.hooks.xethub import XetHubConnection
    from airflow_provider_xethub.xet.records import XetFile

_MAX_NAMED = 3


def record(where: Place, info: Mapping[str, Any]) -> XetFile:
    """Return the Xet file record of what the filesystem says of a file."""
    return xet_file_record(
        where.path,
        info["size"],
        where.repo.uri,
        sha256=info["sha256"],
        xet_hash=info["xet_hash"],
        blob_id=info["blob_id"] or None,
    )


def publish(hook: XetHubConnection, files: Sequence[WritingFile]) -> None:
    """Publish written files of one repository in one commit; the last one of a path counts."""
    by_path = {file.place.path: file for file in files}
    records = [file.record for file in by_path.values() if file.record is not None]
    contents = {path: file.content for path, file in by_path.items() if file.content is not None}
    message = next((file.message for file in files if file.message), None)
    request = CommitRequest(files[0].place.repo, records, message=message or _message("Write", list(by_path)))
    published = hook.publish_contents(contents, request)
    for file in files:
        file.published, file.content = published, None


def delete(hook: XetHubConnection, infos: Sequence[Mapping[str, Any]]) -> None:
    """Delete files and folders."""
    by_repo: dict[Repo, list[str]] = {}
    for info in infos:
        where = file_place(info["name"])
        by_repo.setdefault(where.repo, []).append(where.path + ("/" if info["type"] == "directory" else ""))
    for repo, paths in by_repo.items():
        hook.commit(CommitRequest(repo, (), delete=paths, message=_message("Delete", paths)))


def copy(fs: XetHubFileSystem, files: Sequence[tuple[Mapping[str, Any], str]], *, move: bool) -> None:
    """Copy files to other paths, or move them.

    The Hub does it, except from a bucket to a repository: these files are read and written.

    :raises XetInputError: two files would get the same path. Nothing was changed.
    """
    jobs: dict[tuple[Repo, Repo], list[tuple[Place, Mapping[str, Any], Place]]] = {}
    sources: dict[tuple[Repo, str], str] = {}
    for info, target in files:
        source, destination = file_place(info["name"]), file_place(target)
        if (first := sources.setdefault((destination.repo, destination.path), info["name"])) != info["name"]:
            raise XetInputError(f"{first} and {info['name']} would both become {target}. Nothing was changed.")
        jobs.setdefault((source.repo, destination.repo), []).append((source, info, destination))
    for (source_repo, target_repo), job in jobs.items():
        paths = [source.path for source, _, _ in job]
        within = move and source_repo == target_repo
        if source_repo.is_bucket and not target_repo.is_bucket:
            _stream(fs, job)
        else:
            by_path = {target.path: record(source, info) for source, info, target in job}
            delete_too = [path for path in paths if path not in by_path] if within else ()
            message = _message("Move" if within else "Copy", paths)
            fs.hook.copy_as(by_path, CommitRequest(target_repo, (), delete=delete_too, message=message))
        if move and not within:
            fs.hook.commit(CommitRequest(source_repo, (), delete=paths, message=_message("Move away", paths)))


def _stream(fs: XetHubFileSystem, job: Sequence[tuple[Place, Mapping[str, Any], Place]]) -> None:
    with fs.transaction:
        for _, info, target in job:
            with fs.open(info["name"], "rb") as source, fs.open(target.name(target.path), "wb") as stream:
                shutil.copyfileobj(source, stream, fs.blocksize)


def _message(verb: str, paths: Sequence[str]) -> str:
    return f"{verb} {shortened(paths, _MAX_NAMED)}"
