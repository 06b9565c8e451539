"""The web pages: repositories, files, commits, pull requests, and what is going on. "Open on the Hub" opens them.

A browser sends no Hub token, so private repositories are shown to whoever sits at this machine, and to nobody else.
Pages need no script, and their policy forbids any: what repositories hold may be HTML, and stays text.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from airflow_provider_xethub.local.control.faults import Faults
from airflow_provider_xethub.local.control.request_log import RequestLog
from airflow_provider_xethub.local.hub.request import HubBackend, HubRequest, hub_route, web_path
from airflow_provider_xethub.local.metadata.buckets import BucketFiles
from airflow_provider_xethub.local.metadata.repositories import Repository
from airflow_provider_xethub.local.pages import discussions as page_discussions
from airflow_provider_xethub.local.pages import files as page_files
from airflow_provider_xethub.local.pages import history as page_history
from airflow_provider_xethub.local.pages.activity import activity_page
from airflow_provider_xethub.local.pages.files import Item
from airflow_provider_xethub.local.pages.frame import (
    ACTIVITY_PATH,
    ICON_PATH,
    STYLE_PATH,
    icon_response,
    page_response,
    style_response,
)
from airflow_provider_xethub.local.pages.html import joined, link, tag
from airflow_provider_xethub.local.pages.index import index_page
from airflow_provider_xethub.local.pages.repository import RepositoryView
from airflow_provider_xethub.local.store.errors import HubError, RepoNotFoundError

Show = Callable[[RepositoryView], Response]


def routes(hub: HubBackend, bucket_files: BucketFiles, kind: str) -> list[Route]:
    """Return the page routes of one type of repository."""
    table = _bucket_pages(bucket_files) if kind == "buckets" else _repository_pages()
    return [_route(hub, web_path(kind) + path, partial(_of_repository, show), kind) for path, show in table.items()]


def index_route(hub: HubBackend, bucket_files: BucketFiles) -> Route:
    """Return the route of the page that lists everything."""

    def index(request: HubRequest) -> Response:
        found = request.hub.repositories.find_all()
        return index_page(request, [each for each in found if _is_visible(request, each)], bucket_files)

    return _route(hub, "/", index, "")


def local_routes(hub: HubBackend, log: RequestLog, faults: Faults) -> list[Route]:
    """Return the routes beneath ``/_local/`` that a browser asks for; none of them is counted."""

    def activity(request: HubRequest) -> Response:
        if not _is_this_machine(request):
            raise HubError(403, "What is going on here is shown to browsers on the same machine only.")
        return activity_page(log.counters(), faults.armed(), paused=request.flag("paused"))

    return [
        _route(hub, ACTIVITY_PATH, activity, ""),
        hub_route(hub, STYLE_PATH, lambda _: style_response(), "GET", identifies=False),
        hub_route(hub, ICON_PATH, lambda _: icon_response(), "GET", identifies=False),
    ]


def wants_page(request: Request) -> bool:
    """Whether a browser asks, which is to be told in a page what programs are told in JSON."""
    path = str(request.scope["path"])
    return "text/html" in request.headers.get("accept", "") and not path.startswith(("/api/", "/cas/", "/v1/"))


def error_page(error: HubError) -> Response:
    """Return the page that says what is wrong, and leads on."""
    title = "Not found" if error.status == 404 else "Not allowed" if error.status in (401, 403) else "Not possible"
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
        # The Hub shows a bucket's files under this address too: huggingface_hub makes no other for them.
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
    if not repository.private or (request.identity and request.identity.allows(repository.name, "read")):
        return True
    return _is_this_machine(request)


def _is_this_machine(request: HubRequest) -> bool:
    client = request.http.client
    try:
        return client is not None and ipaddress.ip_address(client.host).is_loopback
    except ValueError:
        return False
