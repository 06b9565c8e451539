"""Pages of a repository's history: commits, one commit, branches and tags."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.responses import Response

from xethub_local.metadata.history import HEADS, PULLS, TAGS, Commit
from xethub_local.pages.changes import changes_between, changes_shown
from xethub_local.pages.frame import empty, moment, pages_of, short_hash, stats
from xethub_local.pages.html import Column, Html, link, table, tag
from xethub_local.pages.repository import RepositoryView, part_shown, short_ref


def commits_page(view: RepositoryView) -> Response:
    """Show the history of a revision, newest first."""
    revision = view.request.param("revision")
    history = view.request.hub.repositories.commits(view.name, revision)
    shown, page, pages = part_shown(view.request, history)
    return view.page(
        f"Commits at {revision}",
        "Commits",
        tag("h2", f"Commits at {revision}"),
        commit_table(view, shown),
        pages_of(view.url("commits", revision), page, pages),
        revision=revision,
    )


def commit_page(view: RepositoryView) -> Response:
    """Show a commit and its changes."""
    repositories = view.request.hub.repositories
    commit = repositories.resolve(view.name, view.request.param("revision"))
    parent = repositories.resolve(view.name, commit.parent) if commit.parent else None
    changes = changes_between(view, parent, commit)
    return view.page(
        f"{commit.title} ({commit.id[:8]})",
        "Commits",
        tag("h2", commit.title or "no title"),
        tag("p", commit.message, class_="message") if commit.message else None,
        stats(
            ("Author", commit.author),
            ("Date", moment(commit.created, view.now)),
            ("Commit", short_hash(commit.id)),
            ("Parent", view.commit_link(parent.id) if parent else "none"),
        ),
        tag("p", link(view.url("tree", commit.id), "All files at this commit")),
        changes_shown(view, changes, commit.id, parent.id if parent else ""),
        revision=commit.id,
    )


def refs_page(view: RepositoryView) -> Response:
    """List branches, tags and the branches of pull requests."""
    repositories = view.request.hub.repositories
    refs = repositories.refs(view.name)
    content: list[object] = []
    for title, prefix in (("Branches", HEADS), ("Tags", TAGS), ("Pull requests", PULLS)):
        rows = []
        for ref in refs:
            if not ref.ref.startswith(prefix):
                continue
            commit = repositories.resolve(view.name, ref.commit)
            rows.append(
                [
                    link(view.url("tree", short_ref(ref.ref)), short_ref(ref.ref)),
                    [link(view.url("commit", commit.id), commit.title or "no title"), " ", tag("small", ref.message)],
                    short_hash(commit.id),
                    moment(commit.created, view.now),
                ]
            )
        columns = [Column("Name", "path"), Column("Commit"), Column("Id"), Column("Date")]
        content += [tag("h3", title), table(title, columns, rows) if rows else empty(f"No {title.lower()}.")]
    return view.page("Branches and tags", "Branches and tags", tag("h2", "Branches and tags"), content)


def commit_table(view: RepositoryView, commits: Iterable[Commit]) -> Html:
    """Return commits as a table, in the given order."""
    columns = [Column("Title", "path"), Column("Author"), Column("Commit"), Column("Date")]
    rows = [
        [
            link(view.url("commit", commit.id), commit.title or "no title"),
            commit.author,
            short_hash(commit.id),
            moment(commit.created, view.now),
        ]
        for commit in commits
    ]
    return table("Commits, newest first", columns, rows)
