"""What must be true after each try of each task. Each invariant is a pure function of the facts of one try.

``test_invariants.py`` plants a violation of each.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from simulation.faults import FaultSpec, kind, may_be_final
from simulation.model import Change, Tree, lost_changes, torn_paths, unexplained_commits
from xethub_local.control.logged_request import LoggedRequest

MOST_SECONDS = 30.0
MOST_REQUESTS = 600
MOST_NEW_MEMORY = 300_000_000
MOST_NEW_FILES = 200
"""Both ends of a connection are in this process, and the client closes those of an aborted session a little later."""


@dataclass(frozen=True)
class Violation:
    """An invariant that does not hold."""

    invariant: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}"


@dataclass
class RepoFacts:
    """What became of one repository during a try.

    :param before: its tree before.
    :param trees: the tree of each new commit, oldest first; of a bucket, its content now.
    :param changes: what may have been done to it.
    :param acknowledged: what was reported as done: of each group of alternatives, one.
    """

    before: Tree
    trees: Sequence[Tree]
    changes: Sequence[Change] = ()
    acknowledged: Sequence[Sequence[Change]] = ()
    is_bucket: bool = False

    @property
    def now(self) -> Tree:
        """The tree now."""
        return self.trees[-1] if self.trees else self.before


@dataclass
class Facts:
    """What is known after one try of one task.

    :param state: how Airflow says that it ended; ``killed`` if its process was killed.
    :param error: class of the error, and of its bases; empty if there was none.
    :param message: the error's message.
    :param is_quiet: whether there were no faults in this try.
    :param was_killed: whether this try, or an earlier one of the same task, was killed with SIGKILL.
    :param faults: the faults that have acted so far in this task.
    :param repos: what became of the repositories, by name.
    :param folder: files where the task puts them now, by path.
    :param known: the contents that each of these files may have, by path.
    :param leftovers: temporary files, here or there.
    :param printed: all that was printed, logged, stored as XCom or rendered, and the error.
    :param secrets: all credentials.
    :param requests: the requests of this try.
    :param may_write: names of the repositories for which the task may ask for more than to read.
    :param checks: what else is wrong with the result.
    """

    state: str = "success"
    error: Sequence[str] = ()
    message: str = ""
    is_quiet: bool = False
    was_killed: bool = False
    faults: Sequence[FaultSpec] = ()
    repos: Mapping[str, RepoFacts] = field(default_factory=dict)
    folder: Tree = field(default_factory=dict)
    known: Mapping[str, Sequence[bytes]] = field(default_factory=dict)
    leftovers: Sequence[str] = ()
    printed: str = ""
    secrets: Iterable[str] = ()
    requests: Sequence[LoggedRequest] = ()
    may_write: frozenset[str] = frozenset()
    seconds: float = 0.0
    new_memory: int = 0
    new_files: int = 0
    checks: Sequence[str] = ()


def nothing_acknowledged_is_lost(facts: Facts) -> Iterable[str]:
    """What a task reported as done is there."""
    for name, repo in facts.repos.items():
        yield from (f"{name}: {text}" for text in lost_changes(repo.now, repo.acknowledged))


def nothing_is_half_visible_or_committed_twice(facts: Facts) -> Iterable[str]:
    """Each commit is one whole change, each change is committed once, and no file of a bucket is torn."""
    for name, repo in facts.repos.items():
        if repo.is_bucket:
            torn = torn_paths(repo.before, repo.now, repo.changes)
            yield from (f"{name}: {path!r} has neither its earlier nor its new content" for path in torn)
        else:
            # A commit that is too large, or takes too long, is divided.
            parts = any({413, 504} & {fault.get("wire", {}).get("status")} for fault in facts.faults)
            wrong = unexplained_commits(repo.before, repo.trees, repo.changes, may_be_parts=parts)
            yield from (f"{name}: {text}" for text in wrong)


def every_final_name_is_a_whole_file(facts: Facts) -> Iterable[str]:
    """A file under its final name is byte for byte a version of the file in the repository, or as it was before."""
    for path, content in facts.folder.items():
        if content not in facts.known.get(path, ()):
            yield f"{path!r} has {len(content)} bytes that no version of the file has"


def no_temporary_file_is_left(facts: Facts) -> Iterable[str]:
    """Temporary files are gone when the task is; those of a killed process, when a later try has succeeded."""
    if facts.state == "success" or not facts.was_killed:
        yield from (f"{path} is left" for path in facts.leftovers)


def no_credential_is_visible(facts: Facts) -> Iterable[str]:
    """No credential is in a log, an XCom, a rendered field or an error, whole or in another spelling."""
    plain = facts.printed
    decoded = unquote(plain)
    for secret in facts.secrets:
        for text, where in ((plain, "plain"), (decoded, "URL-encoded")):
            if secret in text:
                yield f"a credential is visible ({where}): {secret[:4]}… near {_around(text, secret)!r}"
                break
        else:
            if any(each in plain for each in _base64_spellings(secret)):
                yield f"a credential is visible (base64): {secret[:4]}…"


def _around(text: str, secret: str) -> str:
    at = text.index(secret)
    return text[max(0, at - 60) : at]


def _base64_spellings(secret: str) -> Iterable[str]:
    """Return what base64 text of anything that contains the secret must contain, at each of three offsets."""
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + secret.encode()).decode()
        yield encoded[4 if offset else 0 : -4]


# The last one is sent to the source of a copy, and changes only the destination.
_SAFE_POSTS = re.compile(r"/api/.*/(paths-info|preupload)(/.*)?|/api/.*/lfs-files/duplicate")


def no_request_has_a_wider_scope_than_needed(facts: Facts) -> Iterable[str]:
    """Tasks that only read ask for no write token, and send nothing that changes a repository."""
    for request in facts.requests:
        if request.path.startswith("/cas/"):
            continue
        if any(f"/{quote(name)}/" in request.path for name in facts.may_write):
            continue
        if "xet-write-token" in request.path:
            yield f"{request.method} {request.path} asks for a write token"
        elif request.method not in ("GET", "HEAD") and not _SAFE_POSTS.fullmatch(request.path):
            yield f"{request.method} {request.path} changes something"


def time_memory_and_requests_are_bounded(facts: Facts) -> Iterable[str]:
    """No fault makes a task run on and on, ask again and again, or keep memory or open files."""
    if facts.seconds > MOST_SECONDS:
        yield f"the try took {facts.seconds:.0f} s"
    if len(facts.requests) > MOST_REQUESTS:
        yield f"the try sent {len(facts.requests)} requests"
    if facts.new_memory > MOST_NEW_MEMORY:
        yield f"the process has grown by {facts.new_memory / 1e6:.0f} MB"
    if facts.new_files > MOST_NEW_FILES:
        yield f"the process has {facts.new_files} more open files than at the start"


def errors_are_the_providers_own(facts: Facts) -> Iterable[str]:
    """A task that fails says why in an error that the provider, or Airflow, raised on purpose."""
    expected = {"XetHubError", "AirflowException", "AirflowTaskTerminated", "SystemExit", "Killed"}
    if facts.state not in ("success", "skipped") and not expected & set(facts.error):
        yield f"{'/'.join(facts.error[:1]) or facts.state}: {facts.message[:300]}"


def only_permanent_faults_end_a_task_for_good(facts: Facts) -> Iterable[str]:
    """What may be over a minute later does not make Airflow give up the retries that are left."""
    if facts.state == "failed" and not any(map(may_be_final, facts.faults)):
        yield f"failed for good after {[kind(fault) for fault in facts.faults]}: {facts.message[:300]}"


def without_faults_a_try_succeeds(facts: Facts) -> Iterable[str]:
    """Whatever happened before, a try that meets no fault succeeds."""
    if facts.is_quiet and facts.state != "success":
        yield f"{facts.state}, {'/'.join(facts.error[:1])}: {facts.message[:300]}"


def results_say_what_is_there(facts: Facts) -> Iterable[str]:
    """A step that succeeded has done what it was to do, and its results say so."""
    return facts.checks


INVARIANTS: tuple[Callable[[Facts], Iterable[str]], ...] = (
    nothing_acknowledged_is_lost,
    nothing_is_half_visible_or_committed_twice,
    every_final_name_is_a_whole_file,
    no_temporary_file_is_left,
    no_credential_is_visible,
    no_request_has_a_wider_scope_than_needed,
    time_memory_and_requests_are_bounded,
    errors_are_the_providers_own,
    only_permanent_faults_end_a_task_for_good,
    without_faults_a_try_succeeds,
    results_say_what_is_there,
)


def violations(facts: Facts) -> list[Violation]:
    """Return what does not hold."""
    return [Violation(check.__name__, text) for check in INVARIANTS for text in check(facts)]
