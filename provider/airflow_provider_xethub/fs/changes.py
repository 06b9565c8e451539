"""Changes that the filesystem makes: each is one commit for each repository."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.fs.paths import HubPath, parse_file
from airflow_provider_xethub.xet.message_text import shortened
from airflow_provider_xethub.xet.publish.request import CommitRequest
from airflow_provider_xethub.xet.records import xet_file_record
from airflow_provider_xethub.xet.repo import Repo

if TYPE_CHECKING:
    from airflow_provider_xethub.fs.open_files import WritingFile
    from airflow_provider_xethub.hooks.xethub import XetHubConnection
    from airflow_provider_xethub.xet.records import XetFile

_MAX_NAMED = 3


def record(file: HubPath, info: Mapping[str, Any]) -> XetFile:
    """Return the Xet file record of a file that the filesystem's ``info`` describes."""
    return xet_file_record(
        file.path,
        info["size"],
        file.repo.uri,
        sha256=info["sha256"],
        xet_hash=info["xet_hash"],
        blob_id=info["blob_id"] or None,
    )


def publish(hook: XetHubConnection, files: Sequence[WritingFile]) -> None:
    """Publish written files of one repository in one commit; the last one of a path counts."""
    by_path = {file.hub_path.path: file for file in files}
    records = [file.record for file in by_path.values() if file.record is not None]
    contents = {path: file.content for path, file in by_path.items() if file.content is not None}
    message = next((file.message for file in files if file.message), None)
    request = CommitRequest(files[0].hub_path.repo, records, message=message or _message("Write", list(by_path)))
    published = hook.publish_contents(contents, request)
    for file in files:
        file.published, file.content = published, None


def delete(hook: XetHubConnection, infos: Sequence[Mapping[str, Any]]) -> None:
    """Delete files and folders."""
    by_repo: dict[Repo, list[str]] = {}
    for info in infos:
        file = parse_file(info["name"])
        by_repo.setdefault(file.repo, []).append(file.path + ("/" if info["type"] == "directory" else ""))
    for repo, paths in by_repo.items():
        hook.commit(CommitRequest(repo, (), delete=paths, message=_message("Delete", paths)))


def copy(
    hook: XetHubConnection,
    files: Sequence[tuple[Mapping[str, Any], str]],
    *,
    move: bool,
    rewrite: Callable[[Sequence[tuple[str, str]]], None],
) -> None:
    """Copy files to other paths, or move them.

    The Hub copies them, except from a bucket to a repository: those files are read and written.

    :param files: what ``info`` says of each file, and the path of its copy.
    :param move: whether to delete the originals.
    :param rewrite: reads and writes files, given the paths of the originals and of the copies.
    :raises XetInputError: two files would get the same path. Nothing was changed.
    """
    jobs: dict[tuple[Repo, Repo], list[tuple[HubPath, Mapping[str, Any], HubPath]]] = {}
    sources: dict[tuple[Repo, str], str] = {}
    for info, target in files:
        source, destination = parse_file(info["name"]), parse_file(target)
        if (first := sources.setdefault((destination.repo, destination.path), info["name"])) != info["name"]:
            raise XetInputError(f"{first} and {info['name']} would both become {target}. Nothing was changed.")
        jobs.setdefault((source.repo, destination.repo), []).append((source, info, destination))
    for (source_repo, target_repo), job in jobs.items():
        paths = [source.path for source, _, _ in job]
        within = move and source_repo == target_repo
        if source_repo.is_bucket and not target_repo.is_bucket:
            rewrite([(info["name"], destination.name_of(destination.path)) for _, info, destination in job])
        else:
            by_path = {destination.path: record(source, info) for source, info, destination in job}
            delete_too = [path for path in paths if path not in by_path] if within else ()
            message = _message("Move" if within else "Copy", paths)
            hook.copy_as(by_path, CommitRequest(target_repo, (), delete=delete_too, message=message))
        if move and not within:
            hook.commit(CommitRequest(source_repo, (), delete=paths, message=_message("Move away", paths)))


def _message(verb: str, paths: Sequence[str]) -> str:
    return f"{verb} {shortened(paths, _MAX_NAMED)}"
