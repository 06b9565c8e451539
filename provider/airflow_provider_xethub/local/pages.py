"""Small web pages of repositories, commits and files: what "Open on the Hub" opens.

A browser sends no Hub token, so private repositories are shown to whoever sits at this machine, and to nobody else.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from functools import partial
from html import escape
from urllib.parse import quote

from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from airflow_provider_xethub.local.buckets import BucketFiles
from airflow_provider_xethub.local.history import HEADS, PULLS, TAGS, Commit
from airflow_provider_xethub.local.hub_errors import HubError, RepoNotFoundError
from airflow_provider_xethub.local.hub_request import Hub, HubRequest, hub_route, iso_time, web_path, whole_number
from airflow_provider_xethub.local.repositories import Repository
from airflow_provider_xethub.local.trees import Entry
from airflow_provider_xethub.repo import DEFAULT_REVISION

_MAX_ROWS = 1000
_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'", "Cache-Control": "no-store"}
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.25rem .75rem .25rem 0;"
    "border-bottom:1px solid #ddd;vertical-align:top}code{font-size:.85em;overflow-wrap:anywhere}"
    "a{color:#0b57d0;text-decoration:none}p.note{color:#666}"
)


def routes(hub: Hub, bucket_files: BucketFiles, kind: str) -> list[Route]:
    """Return the page routes of one type of repository."""
    one = web_path(kind)
    if kind == "buckets":
        return [_route(hub, one, partial(_bucket, bucket_files), kind)]
    return [
        _route(hub, one, _repository, kind),
        _route(hub, f"{one}/tree/{{revision}}", _repository, kind),
        _route(hub, f"{one}/commits/{{revision}}", _commits, kind),
        _route(hub, f"{one}/commit/{{revision}}", _commit, kind),
        _route(hub, f"{one}/discussions/{{number}}", _pull_request, kind),
    ]


def index_route(hub: Hub) -> Route:
    """Return the route of the page that lists everything."""
    return _route(hub, "/", _index, "")


def _route(hub: Hub, path: str, show: Callable[[HubRequest], str], kind: str) -> Route:
    def page(request: HubRequest) -> Response:
        try:
            return HTMLResponse(show(request), headers=_HEADERS)
        except HubError as error:
            return HTMLResponse(_page("Not found", f"<p>{escape(error.message)}</p>"), error.status, _HEADERS)

    return hub_route(hub, path, page, "GET", kind=kind)


def _index(request: HubRequest) -> str:
    rows = [
        [
            _link(repository.web_path, repository.name),
            "private" if repository.private else "public",
            iso_time(repository.created),
        ]
        for repository in request.hub.repositories.find_all()
        if _is_visible(request, repository)
    ]
    body = _table(["Repository", "", "Created"], rows) if rows else "<p>No repositories yet.</p>"
    return _page("Repositories", body)


def _repository(request: HubRequest) -> str:
    repository = _visible(request)
    revision = request.param("revision") or DEFAULT_REVISION
    commit = request.hub.repositories.resolve(repository.name, revision)
    entries = request.hub.repositories.entries(repository.name, commit)
    files = [entry for entry in entries if entry.kind != "directory"]
    refs = [
        _link(f"{repository.web_path}/tree/{quote(short, safe='')}", short)
        for ref in request.hub.repositories.refs(repository.name)
        for short in [ref.ref.removeprefix(HEADS).removeprefix(TAGS)]
    ]
    history = f"{repository.web_path}/commits/{quote(revision, safe='')}"
    body = (
        f"<p>At {escape(revision)}, commit {_commit_link(repository, commit.id)} · "
        f"{_link(history, 'history')} · "
        f"branches, tags, pull requests: {', '.join(refs)}</p>" + _files(repository, revision, files)
    )
    return _page(repository.name, body)


def _commits(request: HubRequest) -> str:
    repository = _visible(request)
    history = request.hub.repositories.commits(repository.name, request.param("revision"))
    rows = [
        [
            _commit_link(repository, commit.id),
            escape(commit.title),
            escape(commit.author),
            iso_time(commit.created),
        ]
        for commit in history[:_MAX_ROWS]
    ]
    return _page(f"{repository.name}: history", _table(["Commit", "Title", "Author", "Date"], rows))


def _commit(request: HubRequest) -> str:
    repository = _visible(request)
    commit = request.hub.repositories.resolve(repository.name, request.param("revision"))
    parent = _commit_link(repository, commit.parent) if commit.parent else "none"
    body = (
        f"<p><b>{escape(commit.title)}</b><br>{escape(commit.message)}</p>"
        f"<p>By {escape(commit.author)} at {iso_time(commit.created)}; "
        f"commit <code>{commit.id}</code>, parent {parent}; "
        f"{_link(f'{repository.web_path}/tree/{commit.id}', 'all files')}</p>"
    )
    changed, deleted = _changes(request, repository, commit)
    body += "<h2>Added or changed</h2>" + _files(repository, commit.id, changed)
    if deleted:
        body += "<h2>Deleted</h2>" + _table(["Path"], [[escape(path)] for path in deleted])
    return _page(f"{repository.name}: commit {commit.id[:8]}", body)


def _changes(request: HubRequest, repository: Repository, commit: Commit) -> tuple[list[Entry], list[str]]:
    def files(of: Commit) -> dict[str, Entry]:
        entries = request.hub.repositories.entries(repository.name, of)
        return {entry.path: entry for entry in entries if entry.kind != "directory"}

    after = files(commit)
    before = files(request.hub.repositories.resolve(repository.name, commit.parent)) if commit.parent else {}
    changed = [entry for path, entry in after.items() if before.get(path) != entry]
    return changed, sorted(before.keys() - after.keys())


def _pull_request(request: HubRequest) -> str:
    repository = _visible(request)
    pull = request.hub.commits.pull_request(repository.name, whole_number(request.param("number")) or 0)
    tree = f"{repository.web_path}/tree/{quote(f'{PULLS}{pull.number}', safe='')}"
    body = (
        f"<p>{escape(pull.description)}</p><p>{escape(pull.status)}, into {escape(pull.base)}, by "
        f"{escape(pull.author)} at {iso_time(pull.created)}; {_link(tree, 'files')}</p>"
    )
    return _page(f"{repository.name}: {pull.title} #{pull.number}", body)


def _bucket(bucket_files: BucketFiles, request: HubRequest) -> str:
    repository = _visible(request)
    rows = [
        [
            _link(f"{repository.web_path}/resolve/{quote(file.path)}", file.path),
            f"{file.size:,}",
            f"<code>{file.xet_hash}</code>",
        ]
        for file in bucket_files.beneath(repository.name)[:_MAX_ROWS]
    ]
    return _page(repository.name, _table(["Path", "Bytes", "Xet hash"], rows))


def _visible(request: HubRequest) -> Repository:
    repository = request.hub.repositories.get(request.repository)
    if not _is_visible(request, repository):
        raise RepoNotFoundError(request.repository)
    return repository


def _is_visible(request: HubRequest, repository: Repository) -> bool:
    if not repository.private or (request.identity and request.identity.allows(repository.name, "read")):
        return True
    client = request.http.client
    try:
        return client is not None and ipaddress.ip_address(client.host).is_loopback
    except ValueError:
        return False


def _files(repository: Repository, revision: str, files: list[Entry]) -> str:
    rows = [
        [
            _link(f"{repository.web_path}/resolve/{quote(revision, safe='')}/{quote(entry.path)}", entry.path),
            f"{entry.size:,}",
            f"<code>{entry.xet_hash or ''}</code>",
            _commit_link(repository, entry.commit),
        ]
        for entry in files[:_MAX_ROWS]
    ]
    more = f"<p>and {len(files) - _MAX_ROWS} more</p>" if len(files) > _MAX_ROWS else ""
    return _table(["Path", "Bytes", "Xet hash", "Last commit"], rows) + more


def _commit_link(repository: Repository, commit: str) -> str:
    return f"<code>{_link(f'{repository.web_path}/commit/{commit}', commit[:8])}</code>"


def _link(url: str, text: str) -> str:
    return f'<a href="{escape(url)}">{escape(text)}</a>'


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    cells = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{escape(name)}</th>' for name in head)}</tr>{cells}</table>"


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)} · local Hub</title>'
        f"<style>{_STYLE}</style><p>{_link('/', 'local Hub')}</p><h1>{escape(title)}</h1>{body}"
        '<p class="note">This is xethub-local, a development server.</p></html>'
    )
