"""Pages of discussions and pull requests: the list, and a single one with its comments and changes."""

from __future__ import annotations

from starlette.responses import Response

from xethub_local.http.json_fields import whole_number
from xethub_local.metadata.discussions import Discussion, DiscussionEvent
from xethub_local.pages.changes import changes_between, changes_shown
from xethub_local.pages.frame import empty, moment, pages_of, stats
from xethub_local.pages.history import commit_table
from xethub_local.pages.html import Column, Html, link, table, tag
from xethub_local.pages.repository import RepositoryView, part_shown
from xethub_local.store.errors import HubError

_TAB = "Discussions"


def discussions_page(view: RepositoryView) -> Response:
    """List discussions and pull requests, newest first."""
    found = [*reversed(view.request.hub.commits.discussions.find_all(view.name))]
    shown, page, pages = part_shown(view.request, found)
    columns = [Column("Title", "path"), Column("Kind"), Column("Status"), Column("Author"), Column("Opened")]
    rows = [
        [
            [link(view.url("discussions", str(each.number)), each.title), " ", tag("small", f"#{each.number}")],
            "Pull request" if each.is_pull_request else "Discussion",
            _status(each),
            each.author,
            moment(each.created, view.now),
        ]
        for each in shown
    ]
    return view.page(
        "Discussions and pull requests",
        _TAB,
        tag("h2", "Discussions and pull requests"),
        table("Discussions and pull requests", columns, rows)
        if rows
        else empty("No discussions or pull requests yet."),
        pages_of(view.url("discussions"), page, pages),
    )


def discussion_page(view: RepositoryView) -> Response:
    """Show a discussion or pull request with its comments, commits and changes."""
    number = whole_number(view.request.param("number"))
    if number is None:
        raise HubError(404, f"{view.name} has no discussion {view.request.param('number')[:40]!r}.")
    discussions = view.request.hub.commits.discussions
    found = discussions.get(view.name, number)
    comments = [event for event in discussions.events(view.name, number) if event.type == "comment"]
    return view.page(
        f"{found.title} #{found.number}",
        _TAB,
        tag("h2", found.title, " ", tag("span", f"#{found.number}", class_="muted")),
        stats(
            ("Status", _status(found)),
            ("Kind", "Pull request" if found.is_pull_request else "Discussion"),
            *([("Into", tag("code", found.base))] if found.is_pull_request else []),
            ("Author", found.author),
            ("Opened", moment(found.created, view.now)),
        ),
        [_comment(view, event) for event in comments],
        _changes(view, found) if found.is_pull_request else None,
    )


def _comment(view: RepositoryView, event: DiscussionEvent) -> Html:
    is_hidden = bool(event.data.get("hidden"))
    text = "This comment is hidden." if is_hidden else _text_of(event)
    return tag(
        "article",
        tag("p", tag("strong", event.author), " ", tag("small", moment(event.created, view.now))),
        tag("p", text, class_="message muted" if is_hidden else "message"),
        class_="comment",
    )


def _text_of(event: DiscussionEvent) -> str:
    latest = event.data.get("latest")
    return str(latest.get("raw", "")) if isinstance(latest, dict) else ""


def _changes(view: RepositoryView, pull: Discussion) -> list[object]:
    repositories = view.request.hub.repositories
    history = repositories.commits(view.name, pull.ref)
    # A merge makes a new commit, so the commits of a pull request never become ancestors of its base.
    known = {commit.id for commit in repositories.commits(view.name, _base(view, pull))}
    own = []
    for commit in history:
        if commit.id in known:
            break
        own.append(commit)
    fork = history[len(own)] if len(own) < len(history) else None
    return [
        tag("p", link(view.url("tree", pull.ref), "All files of this pull request")),
        [tag("h3", "Commits"), commit_table(view, own)] if own else None,
        changes_shown(view, changes_between(view, fork, history[0]), history[0].id, fork.id if fork else ""),
    ]


def _base(view: RepositoryView, pull: Discussion) -> str:
    """Return the branch that a pull request targets, or ``main`` if that branch was deleted."""
    try:
        view.request.hub.repositories.resolve(view.name, pull.base)
    except HubError:
        return "main"
    return pull.base


def _status(found: Discussion) -> Html:
    return tag("span", found.status, class_=f"label {found.status}")
