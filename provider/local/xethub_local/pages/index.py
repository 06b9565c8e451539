"""The first page: all repositories."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import Response

from xethub_local.hub.request import HubRequest
from xethub_local.metadata.buckets import BucketFiles
from xethub_local.metadata.history import Commit
from xethub_local.metadata.repositories import Repository
from xethub_local.pages.frame import moment, page_response, pages_of, size
from xethub_local.pages.html import Column, Html, joined, link, table, tag
from xethub_local.pages.repository import part_shown
from xethub_local.repo import DEFAULT_REVISION

_PER_PAGE = 50


def index_page(request: HubRequest, repositories: Sequence[Repository], bucket_files: BucketFiles) -> Response:
    """List the repositories that the user can see."""
    shown, page, pages = part_shown(request, repositories, _PER_PAGE)
    columns = [
        Column("Repository", "path"),
        Column("Type"),
        Column("Files", "number"),
        Column("Size", "number"),
        Column("Last commit"),
        Column("Changed"),
    ]
    rows = [_row(request, repository, bucket_files) for repository in shown]
    return page_response(
        "Repositories",
        joined(
            tag("h1", "Repositories"),
            tag("p", f"{len(repositories):,} on this machine", class_="lead") if rows else None,
            table("Repositories", columns, rows) if rows else _first_steps(),
            pages_of("/", page, pages),
        ),
        here="/",
    )


def _row(request: HubRequest, repository: Repository, bucket_files: BucketFiles) -> list[object]:
    namespace, _, name = repository.repo_id.partition("/")
    kind = repository.kind.removesuffix("s")
    now = request.hub.access.now()
    title = link(repository.web_path, tag("span", f"{namespace}/", class_="namespace"), name)
    private = [" ", tag("span", "Private", class_="label private")] if repository.private else None
    if repository.kind == "buckets":
        files = bucket_files.beneath(repository.name)
        sizes = [file.size for file in files]
        changed = max((file.uploaded for file in files), default=repository.created)
        commit = None
    else:
        head = request.hub.repositories.resolve(repository.name, DEFAULT_REVISION)
        entries = request.hub.repositories.entries(repository.name, head)
        sizes = [entry.size for entry in entries if entry.kind != "directory"]
        changed, commit = head.created, _commit(repository, head)
    return [
        [title, private],
        tag("span", kind, class_=f"label {kind}"),
        f"{len(sizes):,}",
        size(sum(sizes)),
        commit,
        moment(changed, now),
    ]


def _commit(repository: Repository, head: Commit) -> Html:
    title = tag("span", head.title or "no title", class_="cut", title=head.title)
    return link(f"{repository.web_path}/commit/{head.id}", title)


def _first_steps() -> Html:
    return tag(
        "div",
        tag("p", "No repositories yet. Create one, and store a file in it:"),
        tag(
            "pre",
            tag("code", "xethub-local create-repo dataset:acme/corpus\nxethub-local put birds.csv dataset:acme/corpus"),
            tabindex="0",
            aria_label="Commands",
        ),
        class_="empty",
    )
