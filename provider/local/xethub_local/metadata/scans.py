"""What the Hub reports about its security scans of files: this Hub scans nothing, and reports what it was told.

The JSON follows the public OpenAPI description of the Hub: statuses, scanners, and which of their reports are always
there. By default every file is reported as scanned and safe.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from threading import Lock
from typing import Any

STATUSES = ("unscanned", "safe", "queued", "error", "caution", "suspicious", "unsafe")
NOT_OFFERED = "none"
"""The status of a rule for files about which the Hub reports nothing at all, not even that it has no result yet."""

SCANNERS = ("avScan", "pickleImportScan", "jFrogScan", "protectAiScan", "virusTotalScan")
_PICKLES = (".bin", ".ckpt", ".dill", ".joblib", ".pickle", ".pkl", ".pt", ".pth")
_ISSUES = ("caution", "suspicious", "unsafe")
_MAX_DELAY = 366 * 24 * 3600.0


@dataclass(frozen=True)
class ScanRule:
    """What to report about some files.

    :param status: one of :data:`STATUSES`, or :data:`NOT_OFFERED`.
    :param path: pattern of their paths (``*`` matches ``/`` as well).
    :param repository: pattern of the names of their repositories, such as ``datasets/acme/corpus``.
    :param scanner: which of :data:`SCANNERS` reports an issue.
    :param delay: seconds after the file's commit until which it is reported as ``queued``.
    :param message: what the scanner says.
    :raises ValueError: a field is not valid; the message names it.
    """

    status: str
    path: str = "*"
    repository: str = "*"
    scanner: str = "avScan"
    delay: float = 0.0
    message: str = ""

    def __post_init__(self) -> None:
        known = {"status": (*STATUSES, NOT_OFFERED), "scanner": SCANNERS}
        for name, choices in known.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r:.60}.")
        for name in ("path", "repository", "message"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} must be a string.")
        is_number = isinstance(self.delay, (int, float)) and not isinstance(self.delay, bool)
        if not is_number or not math.isfinite(self.delay) or not 0 <= self.delay <= _MAX_DELAY:
            raise ValueError("delay must be a number of seconds of at least 0.")

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> ScanRule:
        """Return the rule with these fields.

        :raises ValueError: a field is unknown, missing or not valid.
        """
        names = [field.name for field in fields(cls)]
        if unknown := sorted(set(body) - set(names)):
            raise ValueError(f"the field {unknown[0]!r:.60} is not known; use {', '.join(names)}.")
        if "status" not in body:
            raise ValueError("status is missing: it says what is reported about the files.")
        return cls(**body)

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)

    def applies(self, repository: str, path: str) -> bool:
        """Return whether the rule is about a file."""
        return fnmatchcase(repository, self.repository) and fnmatchcase(path, self.path)


_DEFAULT = ScanRule("safe")


class Scans:
    """The rules of a running server; the newest that applies decides.

    :param clock: UNIX seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = Lock()
        self._rules: list[ScanRule] = []

    def set(self, status: str, path: str = "*", **more: Any) -> ScanRule:
        """Add a rule; see :class:`ScanRule`."""
        rule = ScanRule(status, path, **more)
        self.add(rule)
        return rule

    def add(self, rule: ScanRule) -> None:
        """Add a rule, which takes precedence over the others."""
        with self._lock:
            self._rules.insert(0, rule)

    def rules(self) -> list[ScanRule]:
        """Return the rules, in the order in which they are tried."""
        with self._lock:
            return list(self._rules)

    def clear(self) -> None:
        """Remove all rules."""
        with self._lock:
            self._rules.clear()

    def report(self, repository: str, path: str, committed: float) -> dict[str, Any] | None:
        """Return the ``securityFileStatus`` of a file; ``None`` if the Hub reports nothing about it.

        :param committed: when the file was changed last, in UNIX seconds.
        """
        rule = next((each for each in self.rules() if each.applies(repository, path)), _DEFAULT)
        if rule.status == NOT_OFFERED:
            return None
        status = "queued" if self._clock() < committed + rule.delay else rule.status
        is_issue = status in _ISSUES
        usual = "safe" if is_issue else status
        reports: dict[str, Any] = {name: {"status": "unscanned"} for name in SCANNERS}
        reports["avScan"] = {"status": usual}
        if path.endswith(_PICKLES):
            reports["pickleImportScan"] = {"status": usual, "pickleImports": []}
        if is_issue:
            said = {"message": rule.message} if rule.message else {}
            reports[rule.scanner] = {"status": status, **said}
        return {"status": status, **reports}


def summary(reports: Mapping[str, dict[str, Any] | None]) -> dict[str, Any]:
    """Return the ``securityRepoStatus`` of a model, as readers of ``model_info(securityStatus=True)`` expect it.

    :param reports: the reports about its files, by path.
    """
    found = {path: report["status"] for path, report in reports.items() if report is not None}
    issues = [{"path": path, "level": status} for path, status in sorted(found.items()) if status in _ISSUES]
    is_done = bool(found) and not any(status in ("queued", "unscanned", "error") for status in found.values())
    return {"scansDone": is_done, "filesWithIssues": issues}
