"""Check the built documentation: every link within it leads somewhere, all pages are there, and none needs a network.

Sphinx checks what MyST resolves. This reads what a browser gets: also in SVG, raw HTML, menus and the API reference.
``make docs`` runs it after each build:

    python tests/support/site_links.py docs/_build/html
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_DOCS = Path(__file__).parents[2] / "docs"
_ONCE_IN_OPERATORS = """xettokenoperator xetlistoperator xetuploadoperator what-is-uploaded a-model-or-dataset-card
fan-out xetcommitoperator very-large-commits millions-of-files several-tasks-commit-at-the-same-time xetcopyoperator
xetmirroroperator xetdownloadoperator the-hugging-face-cache object-storage memory what-a-retry-knows metrics templates
xetfilesensor xetrevisionsensor xetscansensor xetmergepullrequestoperator xetclosepullrequestoperator
xetcommentpullrequestoperator xetpullrequestsensor xetforgettokenoperator task-xethub the-hook-in-a-task
arguments-of-every-operator nothing-selected-nothing-to-do"""
"""Anchors of the page that had all operators. Who kept a link to one of them finds the way there."""


class _Page(HTMLParser):
    """The anchors of a page, and the addresses that it leads to or loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and (name == "id" or (name == "name" and tag == "a")):
                self.anchors.add(value)
            elif value and name in ("href", "src", "xlink:href"):
                self.links.add(value)


def broken(site: Path) -> list[str]:
    """Return each link that leads nowhere, as ``page: link``."""
    pages = {path: _Page(path.read_text()) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            missing = anchor and target in pages and anchor not in pages[target].anchors
            if missing or not target.is_file():
                found.append(f"{path.relative_to(site)}: {link}")
    return found


def missing(site: Path) -> list[str]:
    """Return each page that was not built, and each old anchor that is gone."""
    pages = {f"{page.stem}.html" for page in _DOCS.glob("*.md")} - {page.name for page in site.glob("*.html")}
    # Logs of failed tasks link to the section about their error.
    errors = re.findall(r"^### (\w+Error)$", (_DOCS / "errors.md").read_text(), re.MULTILINE)
    wanted = {"operators.html": _ONCE_IN_OPERATORS.split(), "errors.html": [name.lower() for name in errors]}
    anchors = {
        f"{page}: no #{anchor}"
        for page, names in wanted.items()
        for anchor in set(names) - _Page((site / page).read_text()).anchors
    }
    return [*sorted(f"{page}: missing" for page in pages), *sorted(anchors)]


def loaded(site: Path) -> list[str]:
    """Return what pages load from other servers, as ``page: element``."""
    element = re.compile(r"<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=\"(?:https?:)?//[^\"]*")
    return [
        f"{page.name}: {each}" for page in sorted(site.glob("*.html")) for each in element.findall(page.read_text())
    ]


if __name__ == "__main__":
    built = Path(sys.argv[1]).resolve()
    wrong = [*broken(built), *missing(built), *loaded(built)]
    print("\n".join(wrong), end="\n" if wrong else "", file=sys.stderr)
    sys.exit(bool(wrong))
