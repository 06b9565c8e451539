"""The built documentation in a real browser: on a telephone, a laptop and a wide screen, light and dark.

``XETHUB_SCREENSHOTS=FOLDER`` also writes a picture of each page into a folder, to look at.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
# Where `make docs` builds: what it built before is not built again.
SITE = ROOT / "docs/_build/html"
_WIDTHS = (390, 1024, 1920)
_GENERATED = {"genindex.html", "py-modindex.html", "search.html"}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print no request."""

    def do_GET(self) -> None:
        """Answer a browser that looks for an icon, which the site does not have."""
        if self.path == "/favicon.ico":
            self.send_response(204)
            self.end_headers()
        else:
            super().do_GET()


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The address of the documentation, as it is in this checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "AIRFLOW_HOME"}
    sphinx = Path(sys.executable).parent / "sphinx-build"
    subprocess.run([sphinx, "-q", "-b", "html", "docs", SITE], cwd=ROOT, env=environment, check=True, timeout=250)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(SITE))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_every_page_is_readable_at_every_width_in_light_and_dark(site: str, browser: Any) -> None:
    page = browser.new_page()
    noticed: list[str] = []
    page.on("console", lambda message: noticed.append(message.text))
    page.on("pageerror", lambda error: noticed.append(str(error)))
    page.on(
        "request", lambda request: request.url.startswith((site, "data:")) or noticed.append(f"left: {request.url}")
    )
    names = sorted(path.name for path in SITE.glob("*.html"))
    assert len(names) > 40
    problems = []
    for name in names:
        page.set_viewport_size({"width": _WIDTHS[0], "height": 800})
        page.goto(f"{site}/{name}")
        for width in _WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            problems += [f"{name} at {width}: {problem}" for problem in page.evaluate(_LAYOUT)]
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            if name not in _GENERATED:
                problems += [f"{name}, {scheme}: {problem}" for problem in page.evaluate(_CONTRAST)]
            take_picture(page, name, scheme)
        problems += [f"{name}: {text}" for text in noticed]
        noticed.clear()
    page.close()
    assert problems == []


def test_the_checks_find_what_they_look_for(browser: Any) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.set_content(_FAULTY)
    found = [problem.partition(":")[0] for problem in page.evaluate(_LAYOUT) + page.evaluate(_CONTRAST)]
    page.close()
    assert found == [
        "scrolls sideways by 110",
        "cut",
        "beyond the page",
        "no description",
        "does not load",
        "contrast 1.48",
    ]


def take_picture(page: Any, name: str, scheme: str) -> None:
    folder = os.environ.get("XETHUB_SCREENSHOTS", "1")
    if folder != "1":
        for width in _WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            page.screenshot(path=Path(folder) / f"{Path(name).stem}-{width}-{scheme}.png", full_page=True)


def test_no_drawing_cuts_or_covers_a_text(site: str, browser: Any) -> None:
    page = browser.new_page()
    problems = []
    for name in sorted(path.name for path in (SITE / "_static").glob("*.svg")):
        page.goto(f"{site}/_static/{name}")
        problems += [f"{name}: {problem}" for problem in page.evaluate(_TEXTS)]
    page.close()
    assert problems == []


def test_drawings_follow_the_page_also_if_a_reader_switches_it(site: str, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1024, "height": 800}, color_scheme="light")
    page.goto(f"{site}/scale.html")
    drawing = page.locator("article img[src$='.svg']").first
    darkest, _ = brightness(page, drawing)
    assert darkest < 80, "dark text on a light page"
    while page.locator("body").get_attribute("data-theme") != "dark":
        page.locator("button.theme-toggle").locator("visible=true").first.click()
    _, brightest = brightness(page, drawing)
    assert brightest > 200, "light text on a dark page"
    page.close()


def brightness(page: Any, element: Any) -> tuple[int, int]:
    """The darkest and the brightest pixel of what a reader sees of an element, from 0 to 255."""
    picture = base64.b64encode(element.screenshot()).decode()
    return tuple(page.evaluate(_BRIGHTNESS, f"data:image/png;base64,{picture}"))  # type: ignore[return-value]


def test_commands_are_copied_without_their_prompt(site: str, browser: Any) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"{site}/publish.html")
    page.locator("div.highlight").first.hover()
    page.locator("button.copybtn").first.click()
    assert page.evaluate("navigator.clipboard.readText()").startswith("from airflow.sdk import DAG\n\nfrom airflow_pro")
    page.goto(f"{site}/waiting.html")
    console = page.locator("div.highlight-console").first
    console.hover()
    console.locator("button.copybtn").click()
    assert page.evaluate("navigator.clipboard.readText()").startswith("xethub-local serve --create-repo")
    context.close()


_FAULTY = """<!doctype html><article style="position: absolute; left: 0; margin: 0; color: black; background: white">
<p style="width: 100px; overflow: hidden; white-space: nowrap">This text is too long for its box.</p>
<p style="width: 500px; text-align: right">This text is beyond the right edge.</p>
<p style="color: #d4d4d4">This text is too faint.</p><img src="data:image/png;base64,AAAA">
</article>"""

_SHARED = r"""
  const shown = node => `${node.tagName} ${node.className} ${node.textContent.trim().slice(0, 50)}`;
  const texts = root => {
    const found = [], walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode;
      if (node.data.trim() && node.parentElement.checkVisibility({visibilityProperty: true})) found.push(node);
    }
    return found;
  };
"""

# A page never scrolls sideways. What is wider than it (code, a table) scrolls by itself, and no text is cut or covered.
_LAYOUT = (
    "() => {"
    + _SHARED
    + r"""
  const found = [];
  const scrolls = node => ['auto', 'scroll'].includes(getComputedStyle(node).overflowX);
  if (document.documentElement.scrollWidth > innerWidth) {
    const wide = [...document.querySelectorAll('article *')].find(
      node => node.getBoundingClientRect().right > innerWidth + 1 && !node.closest('pre, .table-wrapper'));
    found.push(`scrolls sideways by ${document.documentElement.scrollWidth - innerWidth}: ${wide ? shown(wide) : ''}`);
  }
  const range = document.createRange();
  for (const node of texts(document.querySelector('article') || document.body)) {
    range.selectNodeContents(node);
    const {left, right} = range.getBoundingClientRect();
    let at = node.parentElement, scrollable = false;
    for (; at && at !== document.body && !scrollable; at = at.parentElement) {
      const style = getComputedStyle(at), box = at.getBoundingClientRect();
      if (scrolls(at)) scrollable = true;
      else if (['hidden', 'clip'].includes(style.overflowX) && (right > box.right + 1 || left < box.left - 1)
               && style.position !== 'absolute') {
        found.push(`cut: ${shown(node.parentElement)}`);
        break;
      }
      // What does not fit into its cell would be drawn over the next one.
      if (['TD', 'TH'].includes(at.tagName) && right > box.right + 1) found.push(`wider than its cell: ${shown(at)}`);
    }
    if (!scrollable && right > innerWidth + 1) found.push(`beyond the page: ${shown(node.parentElement)}`);
  }
  for (const image of document.querySelectorAll('article img')) {
    if (!image.alt) found.push(`no description: ${image.src}`);
    if (image.complete && !image.naturalWidth) found.push(`does not load: ${image.src}`);
    const {width, height} = image.getBoundingClientRect();
    const off = Math.abs(width / height / (image.naturalWidth / image.naturalHeight) - 1);
    if (off > .03) found.push(`out of shape: ${image.src}`);
  }
  return [...new Set(found)].slice(0, 5);
}"""
)

# The contrast of text with what is behind it: WCAG AA.
_CONTRAST = (
    "() => {"
    + _SHARED
    + r"""
  const found = new Set();
  const numbers = color => (color.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const over = (top, below) => {
    const alpha = top[3] === undefined ? 1 : top[3];
    return [0, 1, 2].map(index => top[index] * alpha + below[index] * (1 - alpha));
  };
  const grounds = new Map();
  const ground = node => {
    if (!node) return matchMedia('(prefers-color-scheme: dark)').matches ? [0, 0, 0] : [255, 255, 255];
    if (!grounds.has(node))
      grounds.set(node, over(numbers(getComputedStyle(node).backgroundColor), ground(node.parentElement)));
    return grounds.get(node);
  };
  const light = color => {
    const [r, g, b] = color.map(part => part / 255).map(p => p <= .04045 ? p / 12.92 : ((p + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  for (const node of texts(document.querySelector('article') || document.body)) {
    const parent = node.parentElement, style = getComputedStyle(parent);
    if (parent.closest('.headerlink, svg')) continue;
    const below = ground(parent), text = over(numbers(style.color), below);
    const [high, low] = [light(text), light(below)].sort((a, b) => b - a);
    const ratio = (high + .05) / (low + .05), size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (isLarge ? 3 : 4.5)) found.add(`contrast ${ratio.toFixed(2)}: ${parent.tagName}.${parent.className}`);
  }
  return [...found].slice(0, 5);
}"""
)

_TEXTS = """() => {
  const found = [], {width, height} = document.documentElement.viewBox.baseVal;
  const boxes = [...document.querySelectorAll('text')].map(node => [node.textContent, node.getBBox()]);
  for (const [text, box] of boxes)
    if (box.x < 0 || box.y < 0 || box.x + box.width > width || box.y + box.height > height) found.push(`cut: ${text}`);
  for (const [index, [text, one]] of boxes.entries())
    for (const [other, two] of boxes.slice(index + 1))
      if (one.x < two.x + two.width && two.x < one.x + one.width
          && one.y + 3 < two.y + two.height && two.y + 3 < one.y + one.height) found.push(`${text} covers ${other}`);
  return found;
}"""

_BRIGHTNESS = """async address => {
  const image = new Image();
  image.src = address;
  await image.decode();
  const canvas = Object.assign(document.createElement('canvas'), {width: image.width, height: image.height});
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  const data = context.getImageData(0, 0, image.width, image.height).data;
  let low = 255, high = 0;
  for (let at = 0; at < data.length; at += 4) {
    const mean = Math.round((data[at] + data[at + 1] + data[at + 2]) / 3);
    low = Math.min(low, mean);
    high = Math.max(high, mean);
  }
  return [low, high];
}"""
