"""The pages in a real browser: wide and narrow, light and dark, with and without JavaScript.

``XETHUB_SCREENSHOTS=1`` also takes the pictures of the documentation again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

import pytest
import requests

from xethub_local.control.fault import Fault
from xethub_local.server import LocalHub

pytestmark = pytest.mark.long

STATIC = Path(__file__).parents[2] / "docs/_static"
_WIDTHS = {"desktop": 1200, "phone": 360}
_PATHS = {
    "index": "/",
    "activity": "/_local/activity",
    "activity paused": "/_local/activity?paused=1",
    "dataset": "/datasets/acme/penguins",
    "model": "/acme/penguin-classifier",
    "space": "/spaces/acme/dashboard",
    "private model": "/acme/secret",
    "bucket": "/buckets/acme/raw",
    "bucket folder": "/buckets/acme/raw/tree/2026",
    "bucket file": "/buckets/acme/raw/blob/2026/camera-1.raw",
    "tag": "/datasets/acme/penguins/tree/v1",
    "folder": "/datasets/acme/penguins/tree/main/splits",
    "file in CAS": "/datasets/acme/penguins/blob/main/splits/train.parquet",
    "file inline": "/datasets/acme/penguins/blob/main/README.md",
    "private file": "/acme/secret/blob/main/weights.bin",
    "commits": "/datasets/acme/penguins/commits/main",
    "commit": "/datasets/acme/penguins/commit/main",
    "first commit": "/datasets/acme/penguins/commit/v1",
    "discussions": "/datasets/acme/penguins/discussions",
    "pull request": "/datasets/acme/penguins/discussions/1",
    "branches and tags": "/datasets/acme/penguins/refs",
    "odd folder": "/datasets/odd/names/tree/main/odd",
    "odd file": "/datasets/odd/names/blob/main/odd/%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E%20%26%20"
    "%27more%27%20%231%2050%25.txt",
    "odd long name": "/datasets/odd/names/tree/main/long",
    "odd commit": "/datasets/odd/names/commit/main",
    "odd branches": "/datasets/odd/names/refs",
    "odd discussion": "/datasets/odd/names/discussions/1",
    "odd pull request": "/datasets/odd/names/discussions/2",
    "many files": "/datasets/odd/names/tree/main/many?page=2",
    "no such repository": "/datasets/acme/none",
    "no such page": "/datasets",
}
_VISIBLE = {
    "index": ["acme/penguins", "Private", "Delete a photo that was there twice"],
    "dataset": ["Saved by deduplication", "observations.parquet", "splits"],
    "bucket": ["2026", "log.bin"],
    "file in CAS": ["Deduplication", "Shares bytes with", "observations.parquet", "xethub-local get dataset:acme/"],
    "file inline": ["Measurements of three species"],
    "private file": ["xethub-local get model:acme/secret"],
    "commit": ["photos/gentoo-again.jpg", "deleted"],
    "pull request": ["They asked to be named.", "+Thanks to all observers.", "open"],
    "branches and tags": ["season-3", "v1", "As published", "refs/pr/1"],
    "odd commit": ['<script>alert("x")</script>'],
    "odd file": ['<script>alert("x")</script> & <b>bold</b>'],
    "many files": ["Page 2 of 3", "0100.txt"],
    "activity": ["Requests by route and client", "hf_xet/", "status=503"],
    "no such repository": ["Repository not found", "See all repositories"],
    "no such page": ["The page /datasets"],
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    from support.demo_repositories import fill

    with LocalHub(tmp_path_factory.mktemp("hub")) as running:
        fill(running)
        running.faults.add(Fault("GET /api/nothing/.*", status=503, times=2))
        yield running


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", _WIDTHS)
def test_every_kind_of_page_is_sound(hub: LocalHub, browser: Any, width: str, scheme: str, scripts: bool) -> None:
    viewport = {"width": _WIDTHS[width], "height": 800}
    context = browser.new_context(viewport=viewport, color_scheme=scheme, java_script_enabled=scripts)
    page = context.new_page()
    noticed: list[str] = []
    page.on("console", lambda message: noticed.append(message.text))
    page.on("pageerror", lambda error: noticed.append(str(error)))
    page.on("dialog", lambda dialog: (noticed.append(dialog.message), dialog.dismiss()))
    # What is still loading when the next page is asked for is given up.
    page.on("requestfailed", lambda request: "ABORTED" in request.failure or noticed.append(f"failed: {request.url}"))
    page.on("request", lambda request: request.url.startswith(hub.url) or noticed.append(f"left: {request.url}"))
    problems = []
    for name, path in _PATHS.items():
        status = page.goto(hub.url + path).status
        missing = name.startswith("no such")
        # A browser itself notes on its console that a page was answered 404.
        found = [text for text in noticed if not (missing and "404" in text)]
        noticed.clear()
        text = page.inner_text("body")
        found += [f"does not show {words!r}" for words in _VISIBLE.get(name, []) if words not in text]
        found += [] if status == (404 if missing else 200) else [f"status {status}"]
        found += page.evaluate(_CHECKS)
        problems += [f"{name}: {problem}" for problem in found]
    context.close()
    assert problems == []


def test_who_uses_the_keyboard_sees_where_they_are(hub: LocalHub, browser: Any) -> None:
    page = browser.new_page()
    page.goto(hub.url + "/datasets/acme/penguins")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    for _ in range(12):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", page.evaluate("document.activeElement.outerHTML")
    page.close()


def test_the_revision_is_chosen_without_a_script(hub: LocalHub, browser: Any) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(hub.url + "/datasets/acme/penguins")
    assert not page.get_by_role("link", name="season-3").is_visible()
    page.locator("summary").first.click()
    page.get_by_role("link", name="v1", exact=True).click()
    assert page.url.endswith("/datasets/acme/penguins/tree/v1")
    assert not page.get_by_text("splits").is_visible()
    context.close()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_the_activity_page_keeps_up_by_itself(hub: LocalHub, browser: Any, scripts: bool) -> None:
    context = browser.new_context(java_script_enabled=scripts)
    page = context.new_page()
    page.goto(hub.url + "/_local/activity")
    agent = f"watched-{scripts}/1.0"
    assert agent not in page.inner_text("body")
    requests.get(f"{hub.url}/api/whoami-v2", headers={"User-Agent": agent}, timeout=20)
    page.get_by_text(agent).wait_for(timeout=30_000)
    page.get_by_role("link", name="Pause").click()
    assert page.locator("meta[http-equiv=refresh]").count() == 0
    context.close()


class _Links(HTMLParser):
    """The addresses that a page leads to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {value for name, value in attrs if name in ("href", "src") and value}


def test_every_link_of_the_site_leads_somewhere(hub: LocalHub) -> None:
    session = requests.Session()
    session.headers["Accept"] = "text/html"
    seen: dict[str, int] = {}
    waiting = [f"{hub.url}/"]
    while waiting:
        url = waiting.pop()
        if url in seen:
            continue
        assert urlsplit(url).netloc == urlsplit(hub.url).netloc, url
        answer = session.get(url, timeout=60)
        seen[url] = answer.status_code
        if answer.headers.get("content-type", "").startswith("text/html") and "/resolve/" not in url:
            waiting += [urldefrag(urljoin(url, link)).url for link in _Links(answer.text).found]
    assert {url: status for url, status in seen.items() if status != 200} == {}
    kinds = {re.sub(r"[0-9a-f]{40}|\d+", "N", urlsplit(url).path) for url in seen}
    assert {"/datasets/acme/penguins/commit/N", "/_local/page.css", "/buckets/acme/raw/resolve/log.bin"} <= kinds
    assert len(seen) > 300


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_of_the_documentation_are_taken(browser: Any, scheme: str, tmp_path: Path) -> None:
    from support.demo_repositories import fill

    with LocalHub(tmp_path / "hub") as hub:
        fill(hub, with_odd_ones=False)
        page = browser.new_page(viewport={"width": 1200, "height": 760}, color_scheme=scheme)
        page.goto(hub.url + "/datasets/acme/penguins")
        picture = page.screenshot()
        page.close()
    assert len(picture) < 200_000
    if os.environ.get("XETHUB_SCREENSHOTS"):
        (STATIC / f"local-hub-{scheme}.png").write_bytes(picture)


_CHECKS = r"""() => {
  const found = [];
  const all = selector => [...document.querySelectorAll(selector)];
  const shown = node => `${node.tagName} ${node.className} ${node.textContent.slice(0, 40)}`;
  if (document.documentElement.scrollWidth > innerWidth) {
    const wide = all('body *').find(node => node.getBoundingClientRect().right > innerWidth + 1
      && !node.closest('pre, .unseen, .skip, caption, thead, .cut'));
    found.push(`scrolls sideways: ${wide ? shown(wide) : ''}`);
  }
  for (const [selector, count] of [['h1', 1], ['main', 1], ['body > header', 1], ['body > footer', 1], ['title', 1]])
    if (all(selector).length !== count) found.push(`${all(selector).length} ${selector}`);
  if (document.documentElement.lang !== 'en') found.push('no language');
  if (!document.title.endsWith(' · local Hub')) found.push(`title ${document.title}`);
  let level = 0;
  for (const heading of all('h1, h2, h3, h4')) {
    if (+heading.tagName[1] > level + 1) found.push(`skips a level: ${shown(heading)}`);
    if (!heading.textContent.trim()) found.push('empty heading');
    level = +heading.tagName[1];
  }
  const names = all('nav').map(node => node.getAttribute('aria-label'));
  if (names.includes(null) || new Set(names).size !== names.length) found.push(`landmarks ${names}`);
  for (const link of all('a')) if (!link.textContent.trim()) found.push(`link without a name: ${link.href}`);
  for (const table of all('table')) {
    if (!table.caption || !table.caption.textContent) found.push('table without a caption');
    if (table.querySelector('th:not([scope])') || !table.querySelector('th')) found.push('headings without a scope');
    if (table.querySelector('td:not([role=cell])')) found.push('cells without a role');
  }
  for (const box of all('pre'))
    if (box.tabIndex < 0 || !box.getAttribute('aria-label')) found.push(`pre ${shown(box)}`);
  const ids = all('[id]').map(node => node.id);
  if (new Set(ids).size !== ids.length) found.push(`ids ${ids}`);
  if (all('script, [style], img, iframe, object, embed').length) found.push('an element that no page has');
  if (all('[onclick], [onerror], [onload]').length) found.push('an event handler');

  // Contrast of every text with what is behind it: WCAG AA.
  const numbers = color => (color.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const over = (top, below) => {
    const alpha = top[3] === undefined ? 1 : top[3];
    return [0, 1, 2].map(index => top[index] * alpha + below[index] * (1 - alpha));
  };
  const ground = node => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) layers.unshift(numbers(getComputedStyle(at).backgroundColor));
    return layers.reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const light = color => {
    const [r, g, b] = color.map(part => part / 255).map(p => p <= .04045 ? p / 12.92 : ((p + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement, style = getComputedStyle(node);
    if (!walker.currentNode.data.trim() || !node.checkVisibility()) continue;
    const below = ground(node), text = over(numbers(style.color), below);
    const [high, low] = [light(text), light(below)].sort((a, b) => b - a);
    const ratio = (high + .05) / (low + .05), size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (isLarge ? 3 : 4.5)) found.push(`contrast ${ratio.toFixed(2)}: ${shown(node)}`);
  }
  return found;
}"""
