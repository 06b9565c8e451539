"""The common parts of the pages of a repository: its header, its URLs, and the pagination of lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

from starlette.responses import Response

from xethub_local.http.json_fields import whole_number
from xethub_local.hub.request import HubRequest
from xethub_local.metadata.history import HEADS, TAGS
from xethub_local.metadata.repositories import Repository
from xethub_local.pages.frame import page_response, short_hash
from xethub_local.pages.html import Html, joined, link, tag

ROWS_PER_PAGE = 100

Row = TypeVar("Row")


@dataclass(frozen=True)
class RepositoryView:
    """A repository that the user can see, and the request for one of its pages."""

    request: HubRequest
    repository: Repository

    @property
    def name(self) -> str:
        """The name of the repository in the store, such as ``datasets/acme/corpus``."""
        return self.repository.name

    @property
    def is_bucket(self) -> bool:
        """Whether this is a bucket, which has no revisions and no commits."""
        return self.repository.kind == "buckets"

    @property
    def now(self) -> float:
        """The server's clock, UNIX seconds."""
        return self.request.hub.access.now()

    @property
    def command_name(self) -> str:
        """The repository as an argument of ``xethub-local``, such as ``dataset:acme/corpus``."""
        return f"{self.repository.kind.removesuffix('s')}:{self.repository.repo_id}"

    def url(self, view: str, revision: str = "", path: str = "") -> str:
        """Return the URL of a view, such as ``tree``, at a revision and a path; buckets have no revision."""
        parts = [self.repository.web_path, view, quote(revision, safe=""), quote(path)]
        return "/".join(part for part in parts if part)

    def commit_link(self, commit: str) -> Html:
        """Return a link to a commit, which shows the first characters of its id."""
        return link(self.url("commit", commit), short_hash(commit))

    def page(self, title: str, tab: str, *content: object, revision: str = "main") -> Response:
        """Return a page of this repository.

        :param title: the first part of the title of the document; empty for the main page.
        :param tab: the tab to which the page belongs.
        :param revision: the revision to which the tabs lead.
        """
        name = self.repository.repo_id
        return page_response(f"{title} · {name}" if title else name, joined(self._head(tab, revision), content))

    def _head(self, tab: str, revision: str) -> Html:
        namespace, _, name = self.repository.repo_id.partition("/")
        kind = self.repository.kind.removesuffix("s").capitalize()
        visibility = "Private" if self.repository.private else "Public"
        gated = None if self.is_bucket else self.request.hub.repositories.gates.mode(self.name)
        labels = [kind, visibility, *(["Gated"] if gated else [])]
        title = link(self.repository.web_path, tag("span", f"{namespace}/", class_="namespace"), name)
        return tag(
            "div",
            tag("p", [tag("span", label, class_=f"label {label.lower()}") for label in labels], class_="labels"),
            tag("h1", title),
            None if self.is_bucket else self._tabs(tab, revision),
            class_="repository",
        )

    def _tabs(self, tab: str, revision: str) -> Html:
        discussions = len(self.request.hub.commits.discussions.find_all(self.name))
        tabs = {
            "Files": self.url("tree", revision),
            "Commits": self.url("commits", revision),
            "Discussions": self.url("discussions"),
            "Branches and tags": self.url("refs"),
        }
        counts = {"Discussions": discussions}
        return tag(
            "nav",
            [
                link(
                    url,
                    name,
                    tag("span", f"{counts[name]:,}", class_="count") if counts.get(name) else None,
                    aria_current="page" if name == tab else None,
                )
                for name, url in tabs.items()
            ],
            class_="tabs",
            aria_label="Repository",
        )


def short_ref(ref: str) -> str:
    """Return the short form of a reference: ``main`` for ``refs/heads/main``; pull requests keep ``refs/pr/N``."""
    return ref.removeprefix(HEADS).removeprefix(TAGS)


def crumbs(view: RepositoryView, revision: str, path: str, *, is_file: bool = False) -> Html:
    """Return breadcrumbs for a path: a link for each folder, and the last part as text."""
    *folders, last = path.split("/")
    parts: list[object] = [link(view.url("tree", revision), view.repository.repo_id.partition("/")[2])]
    for depth, folder in enumerate(folders, 1):
        parts += ["/", link(view.url("tree", revision, "/".join(folders[:depth])), folder)]
    parts += ["/", tag("span", last, aria_current="page")]
    return tag("nav", parts, class_="crumbs", aria_label="File" if is_file else "Folder")


def part_shown(
    request: HubRequest, rows: Sequence[Row], per_page: int = ROWS_PER_PAGE
) -> tuple[Sequence[Row], int, int]:
    """Return the rows on the page in the query, the number of that page, and the number of pages."""
    pages = max(1, -(-len(rows) // per_page))
    page = min(pages, max(1, whole_number(request.query("page")) or 1))
    return rows[(page - 1) * per_page : page * per_page], page, pages
