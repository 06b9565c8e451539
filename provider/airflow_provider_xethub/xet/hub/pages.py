"""Find the page of the Hub that shows what a task did. No I/O.

Source of the URLs: the routes that ``HfUri.to_url`` of ``huggingface_hub`` 2.4 knows (``tree``, ``blob``; a bucket has
only ``tree``), and the URLs of commits and discussions in responses of the Hub.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from airflow_provider_xethub.xet.records import XetCommit, XetFile
from airflow_provider_xethub.xet.repo import Repo

Kind = Literal["folder", "file", "commit", "discussion"]


@dataclass(frozen=True)
class HubPage:
    """Identify a page of a repository.

    :param repo: the repository, at the revision of the page.
    :param kind: what the page shows.
    :param name: path of the folder (empty: the root) or file, ID of the commit, or number of the discussion.
    """

    repo: Repo
    kind: Kind = "folder"
    name: str = ""

    @property
    def path(self) -> str:
        """Return the percent-encoded path on the Hub, such as ``/datasets/acme/corpus/blob/main/a.bin``."""
        root = self.repo.web_path
        if self.kind in ("commit", "discussion"):
            return f"{root}/{self.kind if self.kind == 'commit' else 'discussions'}/{quote(self.name, safe='')}"
        inside = f"/{quote(self.name)}" if self.name else ""
        if self.repo.is_bucket:
            return f"{root}/tree{inside}" if inside else root
        return f"{root}/{'blob' if self.kind == 'file' else 'tree'}/{self.repo.quoted_revision}{inside}"


def page_of_files(repo: Repo, files: Sequence[XetFile]) -> HubPage:
    """Return the page of a single file, or of the folder that contains all files."""
    if len(files) == 1:
        return HubPage(repo, "file", files[0]["path"])
    return HubPage(repo, "folder", common_folder([file["path"] for file in files]))


def page_of_commit(commit: XetCommit, files: Sequence[XetFile] = (), pull_request: str | None = None) -> HubPage:
    """Return the page of a commit, of the pull request that it opened, or, in a bucket, of its ``files``."""
    repo = Repo.from_uri(commit["repo"])
    if repo.is_bucket or not commit["oid"]:
        return page_of_files(repo, files)
    # The number comes from the revision, not from the URL in the response of the Hub.
    number = repo.revision.removeprefix("refs/pr/")
    if pull_request and number.isdecimal():
        return HubPage(repo, "discussion", number)
    return HubPage(repo, "commit", commit["oid"])


def common_folder(paths: Sequence[str]) -> str:
    """Return the deepest folder that contains all paths; of sorted paths, the first and the last differ most."""
    if not paths:
        return ""
    first, last = ([*path.split("/")[:-1]] for path in (min(paths), max(paths)))
    common = []
    for one, other in zip(first, last, strict=False):
        if one != other:
            break
        common.append(one)
    return "/".join(common)
