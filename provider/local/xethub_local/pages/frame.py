"""The common parts of all pages: the document, icons, and how sizes, times and hashes are shown."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from pathlib import Path

from starlette.responses import HTMLResponse, Response

from xethub_local.display import age_text, share_text, size_text
from xethub_local.pages.html import Html, link, tag

STYLE_PATH, ICON_PATH, ACTIVITY_PATH = "/_local/page.css", "/_local/icon.svg", "/_local/activity"
PUBLISHERS_PATH = "/_local/trusted-publishers"
PAGE_HEADERS = {
    # Only our own style sheet and icon are loaded, and no script runs, so that content of repositories stays text.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_SHORT_HASH = 12
_MARK = (
    '<rect class="back" width="32" height="32" rx="8"/>'
    '<path class="front" d="M7 7h8v8H7zM17 7h8v8h-8zM7 17h8v8H7z"/>'
    '<path class="line" d="M17.75 17.75h6.5v6.5h-6.5z"/>'
)
_ICONS = {
    "folder": "M1.5 3.5h4.2l1.6 1.8h7.2v7.7h-13z",
    "file": "M3.5 1.5h6l3 3v10h-9zM9.2 1.8v3h3",
}


def page_response(title: str, content: Html, *, status: int = 200, here: str = "", refresh: int = 0) -> Response:
    """Return a page.

    :param title: the title of the document, most specific part first; it is not shown in the content.
    :param here: the path of the current page, if the navigation has a link to it.
    :param refresh: seconds after which the browser refreshes the page; 0 means never.
    """
    navigation = [
        link(path, text, aria_current="page" if path == here else None)
        for path, text in (("/", "Repositories"), (PUBLISHERS_PATH, "Publishers"), (ACTIVITY_PATH, "Activity"))
    ]
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", http_equiv="refresh", content=refresh) if refresh else None,
        tag("title", f"{title} · local Hub"),
        tag("link", rel="icon", href=ICON_PATH, type="image/svg+xml"),
        tag("link", rel="stylesheet", href=STYLE_PATH),
    ]
    body = [
        link("#content", "Skip to the content", class_="skip"),
        tag(
            "header",
            tag(
                "div",
                link("/", _mark(), tag("span", "local Hub"), class_="brand"),
                tag("nav", navigation, aria_label="Main"),
                class_="inner",
            ),
            class_="top",
        ),
        tag("main", content, id="content"),
        tag(
            "footer",
            tag("p", "xethub-local, a development server: do not keep anything here that you need.", class_="inner"),
        ),
    ]
    document = tag("html", tag("head", head), tag("body", body), lang="en")
    return HTMLResponse(f"<!doctype html>{document}", status, PAGE_HEADERS)


def style_response() -> Response:
    """Return the style sheet."""
    text = Path(__file__).with_name("page.css").read_text()
    return Response(text, media_type="text/css", headers=PAGE_HEADERS)


def icon_response() -> Response:
    """Return the logo as an image, for the tab of the browser."""
    style = "<style>.back{fill:#0f766e}.front{fill:#fff}.line{fill:none;stroke:#fff;stroke-width:1.5}</style>"
    text = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">{style}{_MARK}</svg>'
    # The policy of the pages would block the style in the image.
    headers = {**PAGE_HEADERS, "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
    return Response(text, media_type="image/svg+xml", headers=headers)


def icon(name: str) -> Html:
    """Return an icon that screen readers skip: ``folder`` or ``file``."""
    path = f'<path d="{_ICONS[name]}"/>'
    return tag("svg", Html(path), viewBox="0 0 16 16", class_=f"icon {name}", aria_hidden="true")


def size(count: int) -> Html:
    """Return a readable size, with the exact number as a tooltip."""
    return tag("data", size_text(count), value=count, title=f"{count:,} bytes")


def moment(seconds: float, now: float | None = None) -> Html:
    """Return how long ago a time in UNIX seconds was, with the exact time as a tooltip."""
    exact = datetime.fromtimestamp(seconds, tz=timezone.utc)
    shown = age_text((time.time() if now is None else now) - seconds)
    return tag("time", shown, datetime=f"{exact:%Y-%m-%dT%H:%M:%SZ}", title=f"{exact:%d %b %Y, %H:%M:%S} UTC")


def short_hash(text: str) -> Html:
    """Return the first characters of a Xet hash or commit id, with all of it as a tooltip."""
    return tag("code", text[:_SHORT_HASH], title=text, class_="hash")


def share_bar(part: int, whole: int, what: str) -> Html:
    """Return a share as a bar and a percentage; ``what`` says in the tooltip what is shared."""
    percent = 100 * part / whole if whole else 0
    # An SVG, because the policy of the pages forbids inline styles.
    bar = (
        '<rect class="all" width="100" height="8" rx="4"/>'
        f'<rect class="part" width="{min(100.0, percent):.1f}" height="8" rx="4"/>'
    )
    return tag(
        "span",
        tag("svg", Html(bar), viewBox="0 0 100 8", class_="bar", aria_hidden="true", preserveAspectRatio="none"),
        tag("span", share_text(part, whole)),
        class_="share",
        title=what,
    )


def pages_of(path: str, page: int, total: int) -> Html | None:
    """Return links to the previous and the next page, or ``None`` if there is only one page."""
    if total <= 1:
        return None
    before = link(f"{path}?page={page - 1}", "← Previous", rel="prev") if page > 1 else None
    after = link(f"{path}?page={page + 1}", "Next →", rel="next") if page < total else None
    return tag("nav", before, tag("span", f"Page {page:,} of {total:,}"), after, class_="pages", aria_label="Pages")


def empty(*children: object) -> Html:
    """Return a paragraph to show instead of an empty table."""
    return tag("p", *children, class_="empty")


def stats(*pairs: tuple[str, object]) -> Html:
    """Return a list of facts with their names."""
    return tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs], class_="stats")


def _mark() -> Html:
    return tag("svg", Html(_MARK), viewBox="0 0 32 32", class_="mark", aria_hidden="true")
