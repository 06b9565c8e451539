"""A person at a browser, and everything that the browser was sent on the way."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import ConsoleMessage, Error, Page, Route, WebError, expect, sync_playwright

from support import chromium

PICTURES = Path(__file__).parents[2] / "docs/_static"
WIDTH, HEIGHT = 1280, 800
PATIENCE = 120_000
"""Milliseconds that a page may take: the machine may be busy."""

# What Airflow's pages ask for; the rest is their program, which is the same for everybody.
_DATA = re.compile(r"^[^?]*/(api/v2|ui)/")
# A program that Airflow 3.3.2 refers to and does not have, for templates in SQL.
_MISSING = re.compile(r"/static/wasm/sqlparser_rs_wasm")

# Airflow's pages follow the system in a script, which notes here what it has chosen.
_FOLLOWS = """scheme => {
    const chosen = document.documentElement.style.colorScheme;
    return !chosen || chosen === scheme;
}"""


class Visitor:
    """Someone who uses Airflow in a browser.

    :ivar page: where they are.
    :ivar seen: what the browser was sent and what the pages became, by the address it came from.
    :ivar problems: errors on the browser's console, and in scripts.
    """

    def __init__(self, page: Page, airflow: str, folder: Path) -> None:
        self.page = page
        self.seen: dict[str, str] = {}
        self.problems: list[str] = []
        self._airflow = airflow
        self._folder = folder
        context = page.context
        context.route(_DATA, self._read_answer)
        context.on("console", self._console)
        context.on("weberror", self._weberror)

    def _read_answer(self, route: Route) -> None:
        """Keep what a script of the page is sent. Asked for later, a browser may have thrown it away."""
        with suppress(Error):  # the page has been left
            answer = route.fetch(timeout=PATIENCE, max_redirects=0)
            place = f"{route.request.method} {route.request.url}"
            self._keep(place, f"{answer.headers}\n{answer.body().decode(errors='replace')}")
            route.fulfill(response=answer)

    def _weberror(self, error: WebError) -> None:
        self.problems.append(f"{error.error} (on {self.page.url})")

    def _console(self, message: ConsoleMessage) -> None:
        url = message.location.get("url", "")
        if message.type == "error" and not _MISSING.search(url):
            self.problems.append(f"{message.text} ({url}, on {self.page.url})")

    def visit(self, path: str) -> None:
        """Open a page of Airflow by its address."""
        self.read()
        self.page.goto(f"{self._airflow}{path}")

    def read(self, page: Page | None = None) -> None:
        """Keep what the page is now."""
        page = page or self.page
        self._keep(page.url, page.content())

    def _keep(self, place: str, text: str) -> None:
        self.seen[place] = f"{self.seen.get(place, '')}\n{text}"

    def shows(self, *texts: str | re.Pattern[str]) -> None:
        """Wait until the page shows all of these."""
        for text in texts:
            expect(self.page.locator("body")).to_contain_text(text, timeout=PATIENCE)

    def picture(self, name: str, page: Page | None = None, *, height: int = HEIGHT) -> None:
        """Take a picture of the page, light and dark; into the documentation where ``XETHUB_SCREENSHOTS`` is set."""
        page = page or self.page
        page.set_viewport_size({"width": WIDTH, "height": height})
        # What hovers over the page because the pointer is there belongs to no picture.
        page.mouse.move(WIDTH // 2, height - 1)
        folder = PICTURES if os.environ.get("XETHUB_SCREENSHOTS") else self._folder
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_function(_FOLLOWS, arg=scheme)
            taken = Image.open(BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
            path = folder / f"{name}-{scheme}.png"
            # The pages have few colours: with 256, a picture is a third as large and looks the same.
            taken.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
            assert path.stat().st_size < 100_000, f"{path.name}: {path.stat().st_size} bytes"
        page.set_viewport_size({"width": WIDTH, "height": HEIGHT})

    def sideways(self) -> int:
        """How many pixels the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - innerWidth"))


@contextmanager
def visitor(airflow: str, folder: Path) -> Iterator[Visitor]:
    """Somebody logged in to the Airflow at that address, with a window of ``WIDTH`` by ``HEIGHT``."""
    folder.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium.executable(), args=chromium.FLAGS, timeout=PATIENCE
        )
        context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light", locale="en")
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.goto(f"{airflow}/auth/token/login?next=/connections")
        somebody = Visitor(page, airflow, folder)
        try:
            yield somebody
        except BaseException:
            with suppress(Error):
                page.screenshot(path=folder / "at-the-end.png")
            raise
        finally:
            browser.close()
