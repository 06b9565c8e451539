"""The files in one folder of a repository. A missing folder has none."""

from __future__ import annotations

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.records import XetFile
from airflow_provider_xethub.xet.repo import Repo, folders_above


def list_folder(hub: Hub, repo: Repo, folder: str) -> dict[str, XetFile]:
    """Return the files in a folder of a repository, by path; none where the folder does not exist.

    :param folder: the path of the folder; empty for the root.
    :raises XetInputError: the folder, or one above it, is a file.
    :raises XetNotFoundError: the repository or the revision does not exist.
    """
    if folder and not repo.is_bucket:
        names = [folder, *folders_above(folder)]
        there = hub.existing_paths(repo, names)
        if file := next((name for name in names if name in there), None):
            raise XetInputError(
                f"path_in_repo {folder!r} cannot be a folder of {repo}: {file} is a file. Choose another."
            )
        if f"{folder}/" not in there:
            return {}
    found = hub.list_files(repo, f"{folder}/" if repo.is_bucket and folder else folder or None)
    return {file["path"]: file for file in found}
