"""The log of a failed task, as Airflow's page opens it: cause and remedy are visible without scrolling."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import TimeoutError as PageTimeoutError

from support.standalone import Run
from support.visitor import PATIENCE, WIDTH, Visitor

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

NOT_FOUND = "hf://datasets/local/no-such-data@main not found (404). Check repo_id"
FORBIDDEN = "No permission for hf://datasets/local/failing@main (403): use a Hub token"
DOWN = "could not be reached (connection refused). Check"
DAMAGED = "a.bin of hf://datasets/local/failing@main arrived damaged. Let the task retry"
DELETED = "hf://datasets/local/failing@main not found (404). Check repo_id"

# The page has loaded when it shows the end of the log. It opens there: nothing is scrolled here.
_IS_OPEN = """() => {
    const box = document.querySelector('[data-testid="virtual-scroll-container"]');
    return box && box.innerText.includes('Post Execute')
        && box.scrollTop + box.clientHeight >= box.scrollHeight - 2;
}"""

# Whether all characters of a text are inside of the box that scrolls, and of the window. Links are nodes of their own,
# so that a text may consist of several.
_IS_VISIBLE = """([text, level]) => {
    const box = document.querySelector('[data-testid="virtual-scroll-container"]');
    const within = box.getBoundingClientRect();
    const lines = [...box.querySelectorAll('*')].filter(each => each.textContent.includes(text)
        && each.textContent.includes(level) && ![...each.children].some(child => child.textContent.includes(text)
        && child.textContent.includes(level)));
    return lines.some(line => {
        let from = line.textContent.indexOf(text), to = from + text.length, at = 0;
        const range = document.createRange(), walker = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);
        for (let node = walker.nextNode(); node; node = walker.nextNode()) {
            if (at <= from && from < at + node.length) range.setStart(node, from - at);
            if (at < to && to <= at + node.length) range.setEnd(node, to - at);
            at += node.length;
        }
        const is = range.getBoundingClientRect();
        return is.width > 0 && is.left >= within.left && is.right <= Math.min(within.right, innerWidth)
            && is.top >= within.top && is.bottom <= Math.min(within.bottom, innerHeight);
    });
}"""


_RENAME = """([root, shown]) => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode())
        if (node.data.includes(root)) node.data = node.data.replaceAll(root, shown);
}"""


def assert_shown(somebody: Visitor, run: Run, task: str, message: str, level: str = "ERROR") -> None:
    """Open the page of a task, and find the message in what is visible of its log."""
    somebody.visit(run.path(task))
    somebody.page.wait_for_function(_IS_OPEN, timeout=PATIENCE)
    try:
        # A page that has just loaded may still move its lines.
        somebody.page.wait_for_function(_IS_VISIBLE, arg=[message, level], timeout=20_000)
    except PageTimeoutError:
        pytest.fail(f"not visible: {message}\n{somebody.page.inner_text('body')}")


@pytest.mark.parametrize(
    ("task", "message"),
    [("not_found", NOT_FOUND), ("forbidden", FORBIDDEN), ("hub_down", DOWN), ("damaged", DAMAGED)],
)
def test_the_message_is_visible_where_the_log_opens(
    somebody: Visitor, failed_run: Run, task: str, message: str
) -> None:
    assert_shown(somebody, failed_run, task, message)
    # A picture shows the same wherever the project is.
    somebody.page.set_viewport_size({"width": WIDTH, "height": 680})
    somebody.page.evaluate(_RENAME, [str(Path(__file__).parents[3]), "/home/airflow"])
    somebody.picture(f"airflow-failed-{task.replace('_', '-')}", height=680)


@pytest.mark.parametrize(("task", "message"), [("deferred", DELETED), ("decorated", NOT_FOUND)])
def test_so_it_is_where_a_trigger_or_a_decorated_task_fails(
    somebody: Visitor, failed_run: Run, task: str, message: str
) -> None:
    assert_shown(somebody, failed_run, task, message)


def test_in_a_task_that_uses_the_hook_the_exception_itself_is_visible(somebody: Visitor, failed_run: Run) -> None:
    # The page indents it, which leaves room for 80 characters.
    message = "XetNotFoundError: hf://datasets/local/no-such-data@main not found (404). Check"
    assert_shown(somebody, failed_run, "hook_in_a_task", message, level="")


def test_retries_within_a_request_are_visible_with_how_often_yet(somebody: Visitor, failed_run: Run) -> None:
    assert_shown(somebody, failed_run, "hub_down", "(6 of 6): The Hub at http://127.0.0.1:", level="WARNING")
