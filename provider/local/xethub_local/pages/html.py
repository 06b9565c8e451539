"""HTML that is safe by default: everything except :class:`Html` is escaped. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

_WITHOUT_END = frozenset({"br", "hr", "link", "meta", "rect", "path", "circle"})


class Html(str):
    """A string that is HTML already, and is not escaped again."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """Return an element. Children are escaped unless they are :class:`Html`; ``None`` is omitted.

    :param attributes: ``class_`` stands for ``class``, ``data_label`` for ``data-label``; ``None`` and ``False`` are
        omitted, ``True`` is an attribute without a value.
    """
    shown = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _WITHOUT_END:
        return Html(f"<{name}{shown}>")
    return Html(f"<{name}{shown}>{joined(*children)}</{name}>")


def joined(*children: object) -> Html:
    """Return the concatenated children, escaped unless they are :class:`Html`; iterables are flattened."""
    return Html("".join(_child(child) for child in children))


def link(url: str, /, *children: object, **attributes: object) -> Html:
    """Return a link."""
    return tag("a", *children, href=url, **attributes)


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, and its kind: ``number``, ``path`` (as wide as possible) or none."""

    heading: str
    kind: str = ""


def table(caption: str, columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> Html:
    """Return a table; on a narrow screen each row becomes a card, whose lines show the headings.

    The roles repeat the meaning of the elements, because some browsers drop it for tables that are laid out as cards.

    :param caption: what the table shows, for screen readers.
    """
    head = tag(
        "tr",
        [tag("th", column.heading, scope="col", role="columnheader", class_=column.kind or None) for column in columns],
        role="row",
    )
    body = [
        tag(
            "tr",
            [
                tag("td", content, role="cell", data_label=column.heading or None, class_=column.kind or None)
                for column, cell in zip(columns, row, strict=True)
                for content in [joined(cell) and tag("div", cell)]
            ],
            role="row",
        )
        for row in rows
    ]
    return tag(
        "table",
        tag("caption", caption, class_="unseen"),
        tag("thead", head, role="rowgroup"),
        tag("tbody", body, role="rowgroup"),
        role="table",
    )


def _child(child: object) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    if isinstance(child, Iterable) and not isinstance(child, str):
        return joined(*child)
    return escape(str(child))


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    shown = name.rstrip("_").replace("_", "-")
    return f" {shown}" if value is True else f' {shown}="{escape(str(value))}"'
