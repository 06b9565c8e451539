"""Facts about the real Hub and the real CAS, each with its source: what ``make conformance`` compares."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

FOLDER = Path(__file__).parent.parent / "local" / "conformance"
TABLE = FOLDER / "facts.json"

GUESS = "guess"
KINDS = ("specification", "documentation", "client", "issue", GUESS)
"""Kinds of sources, the strongest first."""

Kind = Literal["specification", "documentation", "client", "issue", "guess"]


@dataclass(frozen=True)
class Source:
    """Where facts come from.

    :param kind: one of :data:`KINDS`.
    :param title: what it is, with its version.
    :param where: where to find it.
    :param package: the installed distribution that it is the source code of, if it is one.
    """

    kind: Kind
    title: str
    where: str
    package: str = ""


@dataclass(frozen=True)
class Answer:
    """One possible answer of the real Hub where no source says which: how the local Hub gives it.

    :param says: what it is, in a few words.
    :param fault: fields of the fault that makes the local Hub give it; without any, the local Hub does by itself.
    """

    says: str
    fault: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fact:
    """One thing that the real Hub or CAS does.

    :param id: the name of its contract test, without ``test_``.
    :param route: the requests that it is about.
    :param behaviour: one sentence.
    :param source: key of a :class:`Source`; ``guess`` if there is none.
    :param section: where in the source: a heading, a function with its file, the number of an issue. For a guess: what
        the published pages say about it.
    :param differs: why the local Hub does something else on purpose, if it does.
    :param answers: for a guess, what the real Hub may do; for what differs, what the local Hub and the real one do.
    :param touches: the work of the provider that meets these answers, or shows that it does not: a key of ``WORK`` in
        ``tests/provider/test_guesses.py``, with the words that are explained there.
    """

    id: str
    route: str
    behaviour: str
    source: str
    section: str
    differs: str = ""
    answers: tuple[Answer, ...] = ()
    touches: tuple[str, ...] = ()

    @property
    def test(self) -> str:
        """The name of the contract test."""
        return f"test_{self.id}"

    @property
    def is_guess(self) -> bool:
        """Whether no source was found."""
        return self.source == GUESS


def load() -> tuple[dict[str, Source], list[Fact]]:
    """Return all sources by their key, and all facts."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    sources = {key: Source(**value) for key, value in table["sources"].items()}
    facts = []
    for value in table["facts"]:
        answers = tuple(Answer(**answer) for answer in value.pop("answers", ()))
        touches = tuple(value.pop("touches", ()))
        facts.append(Fact(**value, answers=answers, touches=touches))
    return sources, facts


SOURCES, FACTS = load()
GUESSES = [fact for fact in FACTS if fact.is_guess]
