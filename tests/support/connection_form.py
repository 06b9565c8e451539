"""The form in which a connection is made."""

from __future__ import annotations

from typing import Any

from support.visitor import Visitor


def open_form(somebody: Visitor) -> Any:
    """Open the form for a new connection, of our type; return the dialog."""
    somebody.visit("/connections")
    somebody.page.get_by_role("button", name="Add Connection").click()
    form = somebody.page.get_by_role("dialog")
    form.get_by_label("Connection ID").fill("xethub_default")
    form.get_by_role("combobox").fill("hug")
    somebody.page.keyboard.press("Enter")
    form.get_by_label("Hub endpoint").wait_for()
    return form


def save(form: Any) -> None:
    form.get_by_role("button", name="Save", exact=True).click()
    form.wait_for(state="hidden")
