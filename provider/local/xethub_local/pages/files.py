"""Pages of the content of a repository: its folders and files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from starlette.responses import Response

from xethub_local.content.storage_use import StorageUse, segments_of, sharing, storage_use
from xethub_local.display import count_text, size_text
from xethub_local.formats.hashing import to_hex
from xethub_local.metadata.history import Commit
from xethub_local.metadata.trees import Entry
from xethub_local.pages.frame import (
    empty,
    icon,
    moment,
    pages_of,
    share_bar,
    short_hash,
    size,
    stats,
)
from xethub_local.pages.html import Column, Html, link, table, tag
from xethub_local.pages.repository import RepositoryView, crumbs, part_shown, short_ref
from xethub_local.repo import DEFAULT_REVISION
from xethub_local.store.errors import EntryNotFoundError, RevisionNotFoundError

MAX_SHOWN_BYTES = 64 * 1024
_MAX_ROWS = 50
_SHARED = "of its bytes are also used elsewhere in this repository, or were in an earlier version"


@dataclass(frozen=True)
class Item:
    """A row of a folder: a file, or a folder with the number and the size of its files.

    :param cas_bytes: bytes that are stored in CAS; ``shared``: those of them that are also used elsewhere.
    :param commit: the last commit that changed it; empty in a bucket, where ``uploaded`` is set instead.
    """

    path: str
    size: int
    files: int = 0
    xet_hash: str | None = None
    commit: str = ""
    uploaded: float = 0.0
    cas_bytes: int = 0
    shared: int = 0

    @property
    def is_folder(self) -> bool:
        """Whether this is a folder, which has at least one file."""
        return self.files > 0


def tree_page(view: RepositoryView) -> Response:
    """Show a folder at a revision."""
    repositories = view.request.hub.repositories
    revision = view.request.param("revision") or DEFAULT_REVISION
    path = view.request.param("path").strip("/")
    commit = repositories.resolve(view.name, revision)
    entries = repositories.entries(view.name, commit)
    inside = [
        Item(entry.path, entry.size, 0, entry.xet_hash, entry.commit)
        for entry in entries
        if entry.kind != "directory" and (not path or entry.path.startswith(f"{path}/"))
    ]
    if path and not inside:
        raise EntryNotFoundError(view.name, path, commit.id)
    use = storage_use(repositories.db, view.name, [item.xet_hash for item in inside if item.xet_hash])
    items = _folded(inside, path, use, {entry.path: entry.commit for entry in entries if entry.kind == "directory"})
    rows, page, pages = part_shown(view.request, items)
    titles = _commits(view, {item.commit for item in rows if item.commit})
    columns = [
        Column("Name", "path"),
        Column("Size", "number"),
        Column("Shared"),
        Column("Xet hash"),
        Column("Last commit"),
        Column("Changed"),
    ]
    shown = [
        [
            _name(view, revision, item, path),
            size(item.size),
            _share(item),
            short_hash(item.xet_hash) if item.xet_hash else _muted("" if item.is_folder else "inline"),
            *_last_change(view, titles.get(item.commit)),
        ]
        for item in rows
    ]
    return view.page(
        f"{path} at {revision}" if path else "",
        "Files",
        tag("div", _revisions(view, revision), crumbs(view, revision, path) if path else None, class_="where"),
        _last_commit(view, commit) if not path else None,
        _summary(inside, use),
        tag("h2", f"Files in {path}" if path else "Files", class_="unseen"),
        table("Files and folders", columns, shown) if shown else empty("There are no files here."),
        pages_of(view.url("tree", revision, path), page, pages),
        revision=revision,
    )


def bucket_page(view: RepositoryView, files: Sequence[Item]) -> Response:
    """Show a folder of a bucket; ``files`` are all files of the bucket."""
    path = view.request.param("path").strip("/")
    inside = [file for file in files if file.path.startswith(f"{path}/")] if path else files
    if path and not inside:
        raise EntryNotFoundError(view.name, path)
    hashes = [file.xet_hash for file in inside if file.xet_hash]
    use = storage_use(view.request.hub.repositories.db, view.name, hashes)
    rows, page, pages = part_shown(view.request, _folded(inside, path, use, {}))
    columns = [
        Column("Name", "path"),
        Column("Size", "number"),
        Column("Shared"),
        Column("Xet hash"),
        Column("Uploaded"),
    ]
    shown = [
        [
            _name(view, "", item, path),
            size(item.size),
            _share(item),
            short_hash(item.xet_hash) if item.xet_hash else None,
            moment(item.uploaded, view.now) if item.uploaded else None,
        ]
        for item in rows
    ]
    return view.page(
        path,
        "",
        tag("div", crumbs(view, "", path), class_="where") if path else None,
        _summary(inside, use),
        tag("h2", f"Files in {path}" if path else "Files", class_="unseen"),
        table("Files and folders", columns, shown) if shown else empty("There are no files here."),
        pages_of(view.url("tree", "", path) if path else view.repository.web_path, page, pages),
    )


def file_page(view: RepositoryView) -> Response:
    """Show a file at a revision: its properties, the bytes that it shares, and its text if it is small."""
    repositories = view.request.hub.repositories
    revision, path = view.request.param("revision"), view.request.path()
    commit = repositories.resolve(view.name, revision)
    entry = repositories.entry(view.name, commit, path)
    if entry.kind == "directory":
        return tree_page(view)
    changed = _commits(view, {entry.commit}).get(entry.commit)
    paths = {file.xet_hash: file.path for file in repositories.entries(view.name, commit) if file.xet_hash}
    facts = [
        ("Size", size(entry.size)),
        ("Stored", "in CAS" if entry.xet_hash else "inline, in the commit"),
        *zip(("Last commit", "Changed"), _last_change(view, changed), strict=True),
    ]
    return view.page(
        f"{path} at {revision}",
        "Files",
        tag("div", _revisions(view, revision), crumbs(view, revision, path, is_file=True), class_="where"),
        tag("h2", path.rpartition("/")[2]),
        stats(*facts),
        _hashes(entry),
        _access(view, view.url("resolve", revision, path), f"{view.command_name}@{revision}:{path}"),
        _text(view, entry),
        _deduplication(view, revision, entry.xet_hash, entry.size, paths) if entry.xet_hash else None,
        revision=revision,
    )


def bucket_file_page(view: RepositoryView, files: Sequence[Item]) -> Response:
    """Show a file of a bucket."""
    path = view.request.path()
    file = next((each for each in files if each.path == path), None)
    if file is None or file.xet_hash is None:
        raise EntryNotFoundError(view.name, path)
    paths = {each.xet_hash: each.path for each in files if each.xet_hash}
    return view.page(
        path,
        "",
        tag("div", crumbs(view, "", path, is_file=True), class_="where"),
        tag("h2", path.rpartition("/")[2]),
        stats(("Size", size(file.size)), ("Stored", "in CAS"), ("Uploaded", moment(file.uploaded, view.now))),
        tag("dl", tag("dt", "Xet hash"), tag("dd", tag("code", file.xet_hash)), class_="hashes"),
        _access(view, view.url("resolve", "", path), f"{view.command_name}:{path}"),
        _deduplication(view, "", file.xet_hash, file.size, paths),
    )


def _folded(files: Iterable[Item], folder: str, use: StorageUse, commits: Mapping[str, str]) -> list[Item]:
    """Return the direct content of a folder: folders first, each with the sums of the files below it."""
    prefix = f"{folder}/" if folder else ""
    beneath: dict[str, list[Item]] = {}
    direct = []
    for file in files:
        shared = use.shared.get(file.xet_hash, 0) if file.xet_hash else 0
        item = replace(file, cas_bytes=file.size if file.xet_hash else 0, shared=shared)
        name, slash, _ = file.path.removeprefix(prefix).partition("/")
        if slash:
            beneath.setdefault(prefix + name, []).append(item)
        else:
            direct.append(item)
    folders = [
        Item(
            path,
            sum(item.size for item in items),
            len(items),
            commit=commits.get(path, ""),
            uploaded=max(item.uploaded for item in items),
            cas_bytes=sum(item.cas_bytes for item in items),
            shared=sum(item.shared for item in items),
        )
        for path, items in sorted(beneath.items())
    ]
    return [*folders, *direct]


def _name(view: RepositoryView, revision: str, item: Item, folder: str) -> list[object]:
    name = item.path[len(folder) + 1 :] if folder else item.path
    if item.is_folder:
        target = link(view.url("tree", revision, item.path), icon("folder"), name)
        return [target, " ", tag("small", count_text(item.files, "file"))]
    return [link(view.url("blob", revision, item.path), icon("file"), name)]


def _share(item: Item) -> Html | None:
    return share_bar(item.shared, item.cas_bytes, f"{size_text(item.shared)} {_SHARED}") if item.cas_bytes else None


def _summary(files: Sequence[Item], use: StorageUse) -> Html:
    total = sum(file.size for file in files)
    pairs: list[tuple[str, object]] = [("Files", f"{len(files):,}"), ("Size", size(total))]
    if use.size:
        is_smaller = size_text(use.packed) != size_text(use.distinct)
        compressed = [" ", _muted(f"{size_text(use.packed)} compressed")] if is_smaller else None
        pairs += [
            ("Stored in CAS, each chunk once", [size(use.distinct), compressed]),
            ("Saved by deduplication", [size(use.saved), " ", share_bar(use.saved, use.size, "of the bytes in CAS")]),
        ]
    return stats(*pairs)


def _last_commit(view: RepositoryView, commit: Commit) -> Html:
    return tag(
        "p",
        link(view.url("commit", commit.id), commit.title or "no title", class_="title"),
        " ",
        tag(
            "span", commit.author, " · ", moment(commit.created, view.now), " · ", short_hash(commit.id), class_="muted"
        ),
        class_="last",
    )


def _revisions(view: RepositoryView, revision: str) -> Html:
    refs = view.request.hub.repositories.refs(view.name)[:_MAX_ROWS]
    return tag(
        "details",
        tag("summary", tag("span", "Revision ", class_="muted"), revision),
        tag("ul", [tag("li", link(view.url("tree", short_ref(ref.ref)), short_ref(ref.ref))) for ref in refs]),
        class_="choice",
    )


def _commits(view: RepositoryView, ids: Iterable[str]) -> dict[str, Commit]:
    found = {}
    for commit_id in ids:
        try:
            found[commit_id] = view.request.hub.repositories.resolve(view.name, commit_id)
        except RevisionNotFoundError:  # squashed away
            continue
    return found


def _last_change(view: RepositoryView, commit: Commit | None) -> tuple[Html | None, Html | None]:
    if commit is None:
        return None, None
    title = tag("span", commit.title or "no title", class_="cut", title=commit.title)
    return link(view.url("commit", commit.id), title), moment(commit.created, view.now)


def _hashes(entry: Entry) -> Html:
    known = [("Xet hash", entry.xet_hash), ("sha256", entry.sha256), ("git id", entry.oid)]
    pairs = [[tag("dt", name), tag("dd", tag("code", value))] for name, value in known if value]
    return tag("dl", pairs, class_="hashes")


def _access(view: RepositoryView, url: str, place: str) -> Html:
    """Return how to get the file: a command, and a link if it needs no Hub token, which browsers do not send."""
    gates = view.request.hub.repositories.gates
    is_open = not view.repository.private and (view.is_bucket or gates.mode(view.name) is None)
    return tag(
        "div",
        link(url, "Download", class_="button", download=True) if is_open else None,
        tag("pre", tag("code", f"xethub-local get {place}"), tabindex="0", aria_label="Command"),
        class_="access",
    )


def _text(view: RepositoryView, entry: Entry) -> list[Html] | None:
    if entry.xet_hash or entry.size > MAX_SHOWN_BYTES:
        return None
    text = text_of(view.request.hub.repositories.blob(entry.oid))
    if not text:
        return None
    return [tag("h3", "Content"), tag("pre", tag("code", text), class_="text", tabindex="0", aria_label="Content")]


def text_of(content: bytes) -> str | None:
    """Return the content of a text file as a string, or ``None`` for binary content."""
    if b"\0" in content:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def _deduplication(
    view: RepositoryView, revision: str, xet_hash: str, file_size: int, paths: dict[str, str]
) -> list[object]:
    db = view.request.hub.repositories.db
    use = storage_use(db, view.name, [xet_hash])
    part = use.shared.get(xet_hash, 0)
    segments = segments_of(db, xet_hash)
    others = sorted(sharing(db, view.name, xet_hash).items(), key=lambda pair: -pair[1])
    facts = stats(
        ("Also used elsewhere", [size(part), " ", share_bar(part, file_size, _SHARED)]),
        ("Only here", size(file_size - part)),
        ("Chunk ranges", f"{len(segments):,}"),
        ("Compressed", size(use.packed)),
    )
    shown = [
        [
            link(view.url("blob", revision, paths[other]), paths[other]) if other in paths else "an earlier version",
            size(shared),
            short_hash(other),
        ]
        for other, shared in others[:_MAX_ROWS]
    ]
    terms = [
        [short_hash(to_hex(each.xorb_hash)), f"{each.first:,} to {each.last - 1:,}", size(each.raw_bytes)]
        for each in segments[:_MAX_ROWS]
    ]
    return [
        tag("h3", "Deduplication"),
        facts,
        [
            tag("h4", "Shares bytes with"),
            table(
                "Files that share bytes", [Column("File", "path"), Column("Bytes", "number"), Column("Xet hash")], shown
            ),
            _rest(len(others)),
        ]
        if shown
        else None,
        [
            tag("h4", "Consists of"),
            table("Chunk ranges", [Column("Xorb"), Column("Chunks"), Column("Bytes", "number")], terms),
            _rest(len(segments)),
        ]
        if terms
        else None,
    ]


def _rest(count: int) -> Html | None:
    return tag("p", f"and {count - _MAX_ROWS:,} more", class_="muted") if count > _MAX_ROWS else None


def _muted(text: str) -> Html | None:
    return tag("small", text) if text else None
