"""What must hold in every cell, whatever the matrix says of it. Each is a pure function of the facts of one cell.

``tests/unit/faults/test_invariants.py`` plants a violation of each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from faults.columns import COLUMNS
from faults.results import Effects
from faults.steps import Step
from simulation import invariants as simulated
from simulation.attempts import Attempt

VISIBLE = 100
"""Characters of a message that Airflow's page shows without scrolling."""

TRANSIENT = frozenset(
    ["408", "429", "500", "503", "504", "dropped", "cut", "lost 500", "lost drop", "stall", "drip", "slow"]
)
"""What may be over a minute later, so that Airflow's retries have to go on."""

DIVIDES = frozenset(["413", "504"])
"""After these, a commit is divided into smaller ones, as documented."""

SUCCESS = ("success", "skipped", "waits")

# A sentence, or a part of one, that tells the reader what to do.
_REMEDY = re.compile(
    r"(^|[.:;,)] |, and |, or )(Add|Ask|Check|Choose|Clear|Correct|Create|Decide|Delete|Fetch|Free|Give|Install|"
    r"Increase|Let|Lower|Make|Merge|Name|Publish|Raise|Read|Remove|Reopen|Report|Retry|Run|Set|Start|Store|Unset|Update|Upload|Use|Wait|"
    r"Write|check|let|please|retry|set|use|wait)\b"
)
_SUBJECT = re.compile(
    r"hf://|Hub|CAS|[Tt]oken|[Cc]onnection|[Ff]ile|[Cc]ommit|[Rr]epositor|[Rr]equest|[Pp]ull request|"
    r"\b(?:dataset|model|space|bucket) [\w.-]+/[\w.-]+|\b(?:branch|tag) \w"
)


@dataclass
class Facts:
    """What is known after a cell.

    :param attempts: the tries, with the fault.
    :param cleared: the try after them, without the fault, if they failed.
    :param before: what there was before the first try; ``after`` the last one; ``final``, after the cleared one.
    :param undisturbed: what there is after a run without faults.
    :param value: the result of the task; likewise the one without faults.
    :param printed: what was printed and logged.
    """

    row: str
    column: str
    step: Step
    attempts: Sequence[Attempt]
    cleared: Attempt | None = None
    before: Effects = field(default_factory=dict)
    after: Effects = field(default_factory=dict)
    final: Effects = field(default_factory=dict)
    undisturbed: Effects = field(default_factory=dict)
    value: Any = None
    expected_value: Any = None
    printed: str = ""
    secrets: Iterable[str] = ()

    @property
    def last(self) -> Attempt:
        """The last try with the fault."""
        return self.attempts[-1]

    @property
    def failed(self) -> Iterable[Attempt]:
        """The tries that ended with an error."""
        return [each for each in self.attempts if each.state not in SUCCESS]

    @property
    def divides(self) -> bool:
        """Whether a commit may have been divided."""
        return self.column in DIVIDES

    def is_of_a_divided_commit(self, key: str, found: str = "") -> bool:
        """Return whether a fact is about the pull request of a commit that was divided but must be one, as documented.

        It is merged or closed in the end.
        """
        if not self.divides or any(key in each for each in (self.before, self.undisturbed)):
            return False
        return " refs/pr/" in key or (" discussion " in key and found.startswith(("merged", "closed")))


def every_final_name_is_a_whole_file(facts: Facts) -> Iterable[str]:
    """A file on the worker is as it was, or as it has to be, and there is no other one."""
    for effects in (facts.after, facts.final):
        for key, found in effects.items():
            if key.startswith("out ") and found not in (facts.before.get(key), facts.undisturbed.get(key)):
                yield f"{key} is {found}"


def nothing_is_half_visible(facts: Facts) -> Iterable[str]:
    """The files of a branch are those from before, or those from afterwards; in a bucket, each one is."""
    for effects in (facts.after, facts.final):
        for branch, keys in _branches([facts.before, facts.undisturbed, effects]).items():
            if facts.is_of_a_divided_commit(f"{branch} "):
                continue
            states = [{key: each.get(key) for key in keys} for each in (facts.before, facts.undisturbed, effects)]
            if branch.startswith("buckets/") or facts.divides:
                torn = [key for key in keys if states[2][key] not in (states[0][key], states[1][key])]
                yield from (f"{key} is {states[2][key]}" for key in torn)
            elif states[2] not in states[:2]:
                yield f"{branch} is neither as before nor as afterwards: {states[2]}"


def nothing_is_done_twice(facts: Facts) -> Iterable[str]:
    """There are no more commits, pull requests, comments, branches and repositories than without faults."""
    for effects in (facts.after, facts.final):
        for key, found in effects.items():
            if key.startswith(("out ", "temporary ", "new xorbs", "stored ")) or _is_file(key):
                continue
            if facts.is_of_a_divided_commit(key, found):
                continue
            allowed = {facts.before.get(key), facts.undisturbed.get(key)}
            if key.endswith(" commits") and facts.divides:
                continue
            is_less = key.endswith(" commits") and int(found) < int(facts.undisturbed.get(key, "0"))
            if found not in allowed and not is_less:
                yield f"{key}: {found} instead of {facts.undisturbed.get(key, 'nothing')}"


def a_success_has_done_its_work(facts: Facts) -> Iterable[str]:
    """What succeeds leaves the same as without faults, and returns the same."""
    ended = facts.cleared or facts.last
    if ended.state not in SUCCESS:
        return
    final = facts.final
    for key in sorted({*facts.undisturbed, *final} - {"new xorbs"}):
        if (key.endswith(" commits") and facts.divides) or facts.is_of_a_divided_commit(key, final.get(key, "")):
            continue
        if final.get(key) != facts.undisturbed.get(key):
            wanted = facts.undisturbed.get(key, "missing")
            yield f"success, but {key} is {final.get(key, 'missing')} instead of {wanted}"
    value, expected = (_comparable(each, facts.row) for each in (facts.value, facts.expected_value))
    if value != expected and not facts.divides:
        yield f"success, but the result is {facts.value!r:.400} instead of {facts.expected_value!r:.400}"


def a_message_says_what_happened_and_what_to_do(facts: Facts) -> Iterable[str]:
    """Both are in the first characters."""
    for each in facts.failed:
        shown = each.message[:VISIBLE]
        if "AirflowSensorTimeout" in each.error:
            continue  # the words are Airflow's
        if not _SUBJECT.search(shown):
            yield f"the message does not say what happened to what: {shown!r}"
        elif not _REMEDY.search(shown):
            yield f"the message does not say what to do: {shown!r}"


def no_temporary_file_is_left(facts: Facts) -> Iterable[str]:
    """Temporary files are gone after the last try."""
    for effects in (facts.after, facts.final):
        yield from (f"{path} is left" for key, path in effects.items() if key.startswith("temporary "))


def no_credential_is_visible(facts: Facts) -> Iterable[str]:
    """No message, log line or result has one."""
    shown = [facts.printed, *(each.shown + each.message for each in facts.attempts)]
    return simulated.no_credential_is_visible(simulated.Facts(printed="\n".join(shown), secrets=facts.secrets))


def errors_are_the_providers_own(facts: Facts) -> Iterable[str]:
    """No error of a library reaches the task."""
    for each in facts.failed:
        if not {"XetHubError", "AirflowSensorTimeout"} & {*each.error}:
            yield f"{each.state}, {'/'.join(each.error[:1])}: {each.message[:300]}"


def what_may_be_over_soon_is_retried(facts: Facts) -> Iterable[str]:
    """Airflow's retries go on after a fault that is temporary."""
    timed_out = "AirflowSensorTimeout" in facts.last.error
    if facts.column in TRANSIENT and facts.last.state == "failed" and not timed_out:
        yield f"failed for good: {facts.last.message[:300]}"


def what_no_client_can_see_does_no_harm(facts: Facts) -> Iterable[str]:
    """What is only slow, or a wrong clock, ends no task."""
    if not COLUMNS[facts.column].is_loud and facts.last.state not in SUCCESS:
        yield f"{facts.last.state}: {facts.last.message[:300]}"


def without_the_fault_it_succeeds(facts: Facts) -> Iterable[str]:
    """A task that failed succeeds when it is cleared after the fault."""
    if facts.cleared is not None and facts.cleared.state not in SUCCESS:
        yield f"cleared, it fails: {'/'.join(facts.cleared.error[:1])}: {facts.cleared.message[:300]}"


INVARIANTS: tuple[Callable[[Facts], Iterable[str]], ...] = (
    every_final_name_is_a_whole_file,
    nothing_is_half_visible,
    nothing_is_done_twice,
    a_success_has_done_its_work,
    a_message_says_what_happened_and_what_to_do,
    no_temporary_file_is_left,
    no_credential_is_visible,
    errors_are_the_providers_own,
    what_may_be_over_soon_is_retried,
    what_no_client_can_see_does_no_harm,
    without_the_fault_it_succeeds,
)


def violations(facts: Facts) -> list[str]:
    """Return what does not hold, each once."""
    return [*dict.fromkeys(f"{check.__name__}: {text}" for check in INVARIANTS for text in check(facts))]


_NOT_KNOWN_TO_A_RETRY = {
    "create a repository": ("created",),
    "delete a repository": ("deleted",),
    "mirror from the Hub": ("files", "plan"),
    "update a repository": ("changed",),
    "delete unreferenced files": ("deleted", "files", "file_count", "bytes"),
    "create a branch": ("created",),
    "create a tag": ("created",),
    "delete a branch": ("deleted",),
    "delete a tag": ("deleted",),
    "squash the history": ("previous", "changed"),
}
"""What an earlier try may have done already, as the pages of these tasks say."""

_NOT_KNOWN_OF_A_BUCKET = ("created", "unchanged", "copied")
"""It has no commits that tell what an earlier try did. Nor does the Hub report sha256 of the files that it put."""


def _comparable(value: Any, row: str) -> Any:
    """Return a result without what a retry cannot know: a bucket has no commits that tell what an earlier try did."""
    is_bucket = "bucket" in row
    left_out = _NOT_KNOWN_OF_A_BUCKET if is_bucket else _NOT_KNOWN_TO_A_RETRY.get(row, ())
    if not isinstance(value, dict):
        return value
    found = {name: each for name, each in value.items() if name not in left_out}
    if is_bucket and isinstance(found.get("files"), list):
        found["files"] = [{**each, "sha256": None} if isinstance(each, dict) else each for each in found["files"]]
    return found


def _is_file(key: str) -> bool:
    """Return whether a fact is about a file of a repository: ``datasets/a/b refs/heads/main path``."""
    parts = key.split(" ", 2)
    return len(parts) == 3 and parts[0].count("/") == 2 and parts[1] != "discussion" and parts[2] != "commits"


def _branches(worlds: Sequence[Effects]) -> dict[str, list[str]]:
    """Return the facts about files, by repository and branch."""
    found: dict[str, list[str]] = {}
    for key in sorted({key for world in worlds for key in world if _is_file(key)}):
        found.setdefault(" ".join(key.split(" ", 2)[:2]), []).append(key)
    return found
