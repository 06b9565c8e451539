"""The routes of the web pages: repositories, files, commits, pull requests, activity. "Open on the Hub" links to them.

Browsers send no Hub token, so private repositories are shown only to browsers on this machine. Pages work without
scripts, and their policy forbids any, so that HTML in repositories stays text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from xethub_local.control.faults import Faults
from xethub_local.control.request_log import RequestLog
from xethub_local.hub.hosts import is_loopback
from xethub_local.hub.request import HubBackend, HubRequest, hub_route, web_path
from xethub_local.metadata.buckets import BucketFiles
from xethub_local.metadata.repositories import Repository
from xethub_local.pages import discussions as page_discussions
from xethub_local.pages import files as page_files
from xethub_local.pages import history as page_history
from xethub_local.pages.activity import activity_page
from xethub_local.pages.files import Item
from xethub_local.pages.frame import (
    ACTIVITY_PATH,
    ICON_PATH,
    PUBLISHERS_PATH,
    STYLE_PATH,
    icon_response,
    page_response,
    style_response,
)
from xethub_local.pages.html import joined, link, tag
from xethub_local.pages.index import index_page
from xethub_local.pages.publishers import publishers_page
from xethub_local.pages.repository import RepositoryView
from xethub_local.store.errors import HubError, RepoNotFoundError
from xethub_local.store.issuer import ISSUER_PATH
from xethub_local.store.publishers import Publishers

Show = Callable[[RepositoryView], Response]


def routes(hub: HubBackend, bucket_files: BucketFiles, kind: str) -> list[Route]:
    """Return the routes of the pages of one type of repository."""
    table = _bucket_pages(bucket_files) if kind == "buckets" else _repository_pages()
    return [_route(hub, web_path(kind) + path, partial(_of_repository, show), kind) for path, show in table.items()]


def index_route(hub: HubBackend, bucket_files: BucketFiles) -> Route:
    """Return the route of the page that lists all repositories."""

    def index(request: HubRequest) -> Response:
        found = request.hub.repositories.find_all()
        visible = [repository for repository in found if _is_visible(request, repository)]
        return index_page(request, visible, bucket_files)

    return _route(hub, "/", index, "")


def local_routes(hub: HubBackend, log: RequestLog, faults: Faults, publishers: Publishers) -> list[Route]:
    """Return the routes for browsers under ``/_local/``, which the request log leaves out."""

    def activity(request: HubRequest) -> Response:
        if not _is_this_machine(request):
            raise HubError(403, "Only browsers on the same machine can see the activity of the local Hub.")
        return activity_page(log.counters(), faults.armed(), paused=request.flag("paused"))

    def trusted_publishers(request: HubRequest) -> Response:
        if not _is_this_machine(request):
            raise HubError(403, "Only browsers on the same machine can see the publishers of the local Hub.")
        return publishers_page(publishers.find(), request.origin + ISSUER_PATH, request.hub.access.now())

    return [
        _route(hub, ACTIVITY_PATH, activity, ""),
        _route(hub, PUBLISHERS_PATH, trusted_publishers, ""),
        hub_route(hub, STYLE_PATH, lambda _: style_response(), "GET", identifies=False),
        hub_route(hub, ICON_PATH, lambda _: icon_response(), "GET", identifies=False),
    ]


def wants_page(request: Request) -> bool:
    """Return whether the request comes from a browser, which gets errors as pages instead of JSON."""
    path = str(request.scope["path"])
    return "text/html" in request.headers.get("accept", "") and not path.startswith(("/api/", "/cas/", "/v1/"))


def error_page(error: HubError) -> Response:
    """Return a page with the error and a link to all repositories."""
    title = "Not found" if error.status == 404 else "Not allowed" if error.status in (401, 403) else "Request failed"
    content = joined(
        tag("h1", title),
        tag("p", error.message, class_="lead"),
        tag("p", link("/", "See all repositories"), ", or in a terminal: ", tag("code", "xethub-local ls")),
    )
    return page_response(title, content, status=error.status)


def _repository_pages() -> dict[str, Show]:
    return {
        "": page_files.tree_page,
        "/tree/{revision}": page_files.tree_page,
        "/tree/{revision}/{path:path}": page_files.tree_page,
        "/blob/{revision}/{path:path}": page_files.file_page,
        "/commits/{revision}": page_history.commits_page,
        "/commit/{revision}": page_history.commit_page,
        "/discussions": page_discussions.discussions_page,
        "/discussions/{number}": page_discussions.discussion_page,
        "/refs": page_history.refs_page,
    }


def _bucket_pages(bucket_files: BucketFiles) -> dict[str, Show]:
    def folder(view: RepositoryView) -> Response:
        items = _items(bucket_files, view)
        path = view.request.param("path")
        # The real Hub shows the files of a bucket at this URL, too; huggingface_hub builds no other one for them.
        if any(item.path == path for item in items) and not any(item.path.startswith(f"{path}/") for item in items):
            return page_files.bucket_file_page(view, items)
        return page_files.bucket_page(view, items)

    def file(view: RepositoryView) -> Response:
        return page_files.bucket_file_page(view, _items(bucket_files, view))

    return {"": folder, "/tree": folder, "/tree/{path:path}": folder, "/blob/{path:path}": file}


def _items(bucket_files: BucketFiles, view: RepositoryView) -> Sequence[Item]:
    return [
        Item(file.path, file.size, 0, file.xet_hash, uploaded=file.uploaded) for file in bucket_files.beneath(view.name)
    ]


def _route(hub: HubBackend, path: str, show: Callable[[HubRequest], Response], kind: str) -> Route:
    def page(request: HubRequest) -> Response:
        try:
            return show(request)
        except HubError as error:
            return error_page(error)

    return hub_route(hub, path, page, "GET", kind=kind)


def _of_repository(show: Show, request: HubRequest) -> Response:
    repository = request.hub.repositories.get(request.repository)
    if not _is_visible(request, repository):
        raise RepoNotFoundError(request.repository)
    if not _is_this_machine(request):
        request.require_files()
    return show(RepositoryView(request, repository))


def _is_visible(request: HubRequest, repository: Repository) -> bool:
    return request.can_see(repository) or _is_this_machine(request)


def _is_this_machine(request: HubRequest) -> bool:
    client = request.http.client
    return client is not None and is_loopback(client.host)
