"""Check that every link within the built documentation leads to a page and an anchor that exist.

Sphinx checks what MyST resolves. This reads what a browser gets: also in SVG, raw HTML, menus and the API reference.

    python tests/support/site_links.py docs/_build/html
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


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


def anchors(page: Path) -> set[str]:
    return _Page(page.read_text()).anchors


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


if __name__ == "__main__":
    lead_nowhere = broken(Path(sys.argv[1]).resolve())
    print("\n".join(lead_nowhere), end="\n" if lead_nowhere else "", file=sys.stderr)
    sys.exit(bool(lead_nowhere))
