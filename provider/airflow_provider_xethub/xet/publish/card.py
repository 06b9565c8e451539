"""The card of a repository, its ``README.md``: the user's own text, and a marked block that says what published it.

Only the block changes from run to run; it is replaced where it is, and everything around it is kept as it is. Pure: no
I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.xet import arguments

PATH = "README.md"
BEGIN = "<!-- xethub begin: replaced by each run, do not edit -->"
END = "<!-- xethub end -->"

MAX_TEXT = 1_000_000
"""Characters of a card."""

_MAX_FACTS = 50
_MAX_FACT = 500
# Never across the beginning of another one: without its end, the first one is text of the user.
_BLOCK = re.compile(r"<!-- xethub begin\b(?:(?!<!-- xethub begin\b).)*?<!-- xethub end -->", re.DOTALL)
_FRONT_MATTER = re.compile(r"\A(\s*---[\r\n]+)(.*?)([\r\n]+---(?:\r?\n|\Z))", re.DOTALL)


@dataclass
class Card:
    """The model or dataset card that is published with files, as ``README.md`` in the same commit.

    A block between two comments says what published the files: DAG, run and task, inputs, sizes and deduplication. Each
    run replaces it, and only it. All attempts of a task instance write the same block, except for the figures of the
    transfer. If nothing but the block would change, the card is left as it is.

    :param text: the user's own text, with or without front matter. ``None``: the ``README.md`` among the files, or the
        one that the repository has.
    :param data: fields to set in the front matter, such as ``{"license": "apache-2.0"}``; all others are kept.
    :param inputs: URIs of what the files were made from. The assets in the task's ``inlets`` and those that started the
        run are added.
    :param facts: more lines for the block, by title.
    """

    template_fields: ClassVar[Sequence[str]] = ("text", "data", "inputs", "facts")

    text: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    inputs: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse what cannot be intended.

        :raises XetInputError: a field has a wrong type.
        """
        if self.text is not None:
            arguments.text("card.text", self.text, MAX_TEXT)
        for name in ("data", "facts"):
            if not isinstance(getattr(self, name), Mapping):
                raise XetInputError(f"card.{name} must be a dictionary, not {type(getattr(self, name)).__name__}.")
        if isinstance(self.inputs, (str, bytes)) or not isinstance(self.inputs, Sequence):
            raise XetInputError(f"card.inputs must be a list of URIs, not {self.inputs!r:.80}.")


def block(facts: Sequence[tuple[str, str]]) -> str:
    """Return the marked block with a table of facts."""
    rows = [f"| {_cell(title)} | `{_cell(value)}` |" for title, value in facts[:_MAX_FACTS]]
    if len(facts) > _MAX_FACTS:
        rows.append(f"| … | {len(facts) - _MAX_FACTS} more |")
    return "\n".join([BEGIN, "", "| Published by | Airflow |", "|---|---|", *rows, "", END])


def _cell(text: str) -> str:
    """Return text that stays inside its cell, and inside the block."""
    fit = "".join(char if char.isprintable() else " " for char in text).replace("-->", "--\u203a")
    fit = " ".join(fit.replace("|", "\u2502").replace("`", "'").split())
    return fit if len(fit) <= _MAX_FACT else f"{fit[: _MAX_FACT - 1]}…"


def has_block(text: str) -> bool:
    """Return whether a text has a block."""
    return bool(_BLOCK.search(text))


def with_block(text: str, new: str) -> str:
    """Return a text with the block in place of its first one, or at the end."""
    if has_block(text):
        return _BLOCK.sub(lambda _: new, text, count=1)
    return f"{text.rstrip()}\n\n{new}\n".lstrip("\n")


def skeleton(text: str) -> str:
    """Return a text without the content of its block, the same for every content."""
    return with_block(text, f"{BEGIN}{END}")


def with_data(text: str, data: Mapping[str, Any]) -> str:
    """Return a card with these fields in its front matter; other fields and their comments stay as they are.

    ``RepoCard`` of ``huggingface_hub`` reads and writes the fields.

    :raises XetInputError: the front matter is not YAML, or a value cannot be written as YAML.
    """
    from huggingface_hub import RepoCard

    found = _FRONT_MATTER.match(text)
    try:
        if not found:
            return f"---\n{_yaml(data)}\n---\n\n{text.lstrip()}".rstrip() + "\n"
        known = RepoCard(found[0]).data.to_dict()  # type: ignore[no-untyped-call]
        new = {name: value for name, value in data.items() if name not in known or known[name] != value}
        lines = _with_fields(found[2], new, known)
    except XetInputError:
        raise
    except Exception as error:  # of a YAML library that we do not depend on
        reason = " ".join(str(error).split())
        raise XetInputError(f"The front matter of {PATH}, or card.data, is not valid YAML: {reason:.300}") from None
    return f"{found[1]}{lines}{found[3]}{text[found.end() :]}"


def _with_fields(lines: str, new: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """Replace the lines of fields that change, and append new fields."""
    newline = "\r\n" if "\r\n" in lines else "\n"
    for name, value in new.items():
        dumped = _yaml({name: value}).replace("\n", newline)
        # A field ends where a line begins with something else than white space, an element of a list, or a comment.
        field_lines = re.compile(
            rf"^{re.escape(str(name))}[ \t]*:.*?(?=\r?\n[^\s#-]|\r?\n#|\Z)", re.DOTALL | re.MULTILINE
        )
        if name not in known:
            lines = f"{lines.rstrip()}{newline if lines.strip() else ''}{dumped}"
        elif field_lines.search(lines):
            lines = field_lines.sub(lambda _, dumped=dumped: dumped, lines)  # type: ignore[misc]
        else:
            raise XetInputError(
                f"The field {name!r} in the front matter of {PATH} cannot be replaced. Write it as {name}: …"
            )
    return lines


def _yaml(fields: Mapping[str, Any]) -> str:
    from huggingface_hub import CardData

    return CardData(**fields).to_yaml()
