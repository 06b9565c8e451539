"""Listings in batches: what was chosen at one commit is listed again, page by page, and nothing is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from airflow_provider_xethub.exceptions import XetNotFoundError, XetSourceError
from airflow_provider_xethub.xet import answers
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.manifest import Totals
from airflow_provider_xethub.xet.manifests.spool import Spool, spooled
from airflow_provider_xethub.xet.path_patterns import matches
from airflow_provider_xethub.xet.records import XetFile, XetManifest
from airflow_provider_xethub.xet.repo import Repo

Found = tuple[Repo, list[XetFile], "Spool | None"]


def pages(
    hub: Hub, repo: Repo, path: str | None = None, patterns: Sequence[str] | None = None
) -> Iterator[list[XetFile]]:
    """List the chosen files, one response of the Hub at a time, in the Hub's order.

    :param path: only this file, or those in this folder; a slash at the end says that it is a folder.
    :param patterns: only paths that match one of these.
    :raises XetNotFoundError: repository, revision or path does not exist.
    """
    name = path.strip("/") if path is not None else None
    found = False
    one = hub.get_files(repo, [name]) if path and name and not path.endswith("/") else []
    for page in [one] if one else folder_pages(hub, repo, name or "", recursive=True):
        found = found or bool(page)
        yield _matching(page, patterns)
    if name and not found:
        raise XetNotFoundError(f"{path} does not exist in {repo}. Check the path.", status=404)


def _matching(files: list[XetFile], patterns: Sequence[str] | None) -> list[XetFile]:
    return files if patterns is None else [file for file in files if matches(file["path"], patterns)]


def folder_pages(hub: Hub, repo: Repo, folder: str, *, recursive: bool) -> Iterator[list[XetFile]]:
    """List the files of a folder, one response of the Hub at a time.

    :param folder: its path; empty for the root.
    """
    about = f"the listing of {folder or 'all files'} in {repo}"
    for entries in hub.tree_pages(repo, folder or None, recursive=recursive):
        with hub.reading(about):
            files = [answers.file_record(each, repo.uri) for each in entries if answers.kind(each) == "file"]
        yield files


def find(
    hub: Hub,
    repo: Repo,
    path: str | None,
    patterns: Sequence[str] | None,
    limit: int,
    commit_of: Callable[[Repo], str],
) -> Found:
    """List the chosen files: in memory up to a limit, otherwise on disk, and then all at one commit.

    :param limit: most files that are returned as a list.
    :param commit_of: returns the commit that a revision is at; asked only beyond the limit.
    :returns: the repository at the revision that was listed, and either the records sorted by path, or a spool.
    """
    few: list[XetFile] = []
    for page in pages(hub, repo, path, patterns):
        few += page
        if len(few) > limit:
            break
    else:
        return repo, sorted(few, key=lambda file: file["path"]), None
    del few, page
    # The first pages again, if need be: someone may commit while a branch is listed.
    pinned = repo if repo.is_bucket else repo.at(commit_of(repo))
    return pinned, [], spooled(pages(hub, pinned, path, patterns))


def manifest_of(repo: Repo, totals: Totals, path: str | None, patterns: Sequence[str] | None) -> XetManifest:
    """Return the manifest of a listing.

    :param repo: the repository at the commit that was listed, or a bucket.
    """
    return {
        "manifest": "listing",
        "repo": repo.uri,
        "file_count": totals.file_count,
        "bytes": totals.bytes,
        "path": path,
        "patterns": None if patterns is None else list(patterns),
        "digest": totals.digest,
    }


def read(hub: Hub, manifest: XetManifest) -> Spool:
    """List again what a manifest stands for, and compare the result.

    :param manifest: checked.
    :raises XetSourceError: it is something else now.
    :raises XetNotFoundError: the repository or the commit does not exist any more.
    """
    repo = Repo.from_uri(manifest["repo"])
    spool = Spool()
    for page in _pages_of(hub, repo, manifest):
        spool.add(page)
        if spool.totals.file_count > manifest["file_count"]:
            break
    found = spool.finish().totals
    if found.file_count != manifest["file_count"] or found.bytes != manifest["bytes"]:
        raise _differs(manifest, f"{found.file_count} files with {found.bytes} bytes", repo)
    if found.digest != manifest["digest"]:
        raise _differs(manifest, "other files of the same number and size", repo)
    return spool


def _pages_of(hub: Hub, repo: Repo, manifest: XetManifest) -> Iterator[list[XetFile]]:
    if "folders" not in manifest:
        yield from pages(hub, repo, manifest["path"], manifest["patterns"])
        return
    for folder in manifest["folders"]:
        for page in folder_pages(hub, repo, folder.strip("/"), recursive=folder.endswith("/")):
            yield _matching(page, manifest["patterns"])


def _differs(manifest: XetManifest, found: str, repo: Repo) -> XetSourceError:
    cause = (
        "The bucket changed since it was listed; with [xethub] manifest_storage, a listing is kept as it was"
        if repo.is_bucket
        else "A commit does not change, so the manifest was edited, or the Hub lists something else"
    )
    return XetSourceError(
        f"{repo} lists other files than the manifest: run the task that listed it again. There are {found} instead of "
        f"{manifest['file_count']} with {manifest['bytes']}. {cause}. Nothing was used."
    )
