"""A Hub in memory: which requests a commit takes, and what follows from each answer, in a millisecond.

The client is the real one; its session answers from one repository instead of sending anything.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NoReturn
from urllib.parse import unquote

import requests

from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.publish import commit
from airflow_provider_xethub.xet.publish.card_work import CardWork
from airflow_provider_xethub.xet.publish.commit import CommitRequest, UploadMode, git_blob_id
from airflow_provider_xethub.xet.records import XetCommitResult
from airflow_provider_xethub.xet.repo import Repo
from support.commit_builders import record

REPO = Repo("acme/corpus", "dataset")
ENDPOINT = "https://hub.example"

Entry = Mapping[str, Any]
"""A file, as the Hub lists it."""

Answer = Callable[[Callable[[], object]], object]
"""Returns the JSON of a response, or raises; the argument does what was requested, and returns what the Hub says."""


@dataclass(frozen=True)
class Sent:
    """A request.

    :param options: those of the session.
    """

    method: str
    path: str
    options: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.method} {self.path.removeprefix(REPO.api_path)}"

    @property
    def lines(self) -> list[Any]:
        """The body of a commit."""
        return [json.loads(line) for line in self.options["data"].splitlines()]

    @property
    def header(self) -> dict[str, str]:
        """The title of a commit, its description and its parent."""
        return self.lines[0]["value"]


@dataclass(frozen=True)
class Made:
    """A commit, with all files of the repository by path."""

    oid: str
    title: str
    description: str
    files: Mapping[str, Entry]


class RefusedError(Exception):
    """An unsuccessful response.

    :param body: its JSON.
    """

    def __init__(self, status: int, body: object = None) -> None:
        super().__init__(status)
        self.status = status
        self.body = body or {"error": "No."}


def raises(error: Exception) -> Answer:
    """The request does not arrive."""

    def answer(_: object) -> NoReturn:
        raise error

    return answer


def refused(status: int, body: object = None) -> Answer:
    """The Hub does nothing, and answers with this status."""
    return raises(RefusedError(status, body))


def lost(error: Exception | None = None) -> Answer:
    """The Hub does what was requested, and its response is lost. Default: a gateway answers 500."""

    def answer(do: Callable[[], object]) -> NoReturn:
        do()
        raise error or RefusedError(500)

    return answer


def says(value: object) -> Answer:
    """The Hub does nothing, and says this."""
    return lambda _: value


def after(action: Callable[[], object]) -> Answer:
    """Something happens just before."""
    return lambda do: (action(), do())[1]


def usual(do: Callable[[], object]) -> object:
    """As ever."""
    return do()


class MemoryHub(Hub):
    """A client, and its Hub.

    :ivar branches: the commits of each branch and pull request, newest first.
    :ivar statuses: those of the pull requests.
    :ivar comments: the comments with which pull requests were closed.
    :ivar sent: the requests so far.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(ENDPOINT, **options)
        self.branches = {"main": [Made(f"{1:040x}", "initial commit", "", {})]}
        self.statuses: dict[int, str] = {}
        self.comments: dict[int, str] = {}
        self.sent: list[Sent] = []
        self._merges: dict[int, str] = {}
        self._count = 1
        self._answers: dict[str, Iterator[Answer]] = {}
        self.session.request = self._respond  # type: ignore[method-assign, assignment]

    def on(self, route: str, *answers: Answer, then: Answer = usual) -> None:
        """Answer the next requests to a route in these ways, and all later ones as ``then`` says.

        :param route: a regular expression of method and path, such as ``POST /commit/.*``.
        """
        self._answers[route] = itertools.chain(answers, itertools.repeat(then))

    def commit(self, files: Mapping[str, bytes | None], title: str = "theirs", revision: str = "main") -> str:
        """Commit as somebody else, and return the id of the commit; a file without content is deleted."""
        there = {path: entry for path, entry in self.branches[revision][0].files.items() if path not in files}
        there |= {path: _entry(path, content) for path, content in files.items() if content is not None}
        return self._add(revision, title, "", there)

    def titles(self, revision: str = "main") -> list[str]:
        """The titles of all commits but the first, oldest first."""
        return [each.title for each in self.branches[revision][-2::-1]]

    def files(self, revision: str = "main") -> set[str]:
        return set(self.branches[revision][0].files)

    def current(self, revision: str, path: str) -> str | None:
        """The digest by which the Hub identifies the content of a file."""
        entry = self.branches[revision][0].files.get(path)
        return None if entry is None else entry.get("lfs", entry)["oid"]

    def routes(self) -> list[str]:
        """The requests since the last time."""
        routes = [str(each) for each in self.sent]
        self.sent.clear()
        return routes

    def posted(self) -> list[Sent]:
        """The requests for a commit, also those that failed."""
        return [each for each in self.sent if str(each).startswith("POST /commit/")]

    # --- the Hub

    def _respond(self, method: str, path: str, **options: Any) -> requests.Response:
        sent = Sent(method, path, options)
        self.sent.append(sent)
        response = requests.Response()
        response.url, response.status_code = f"{ENDPOINT}{path}", 200
        response.request = SimpleNamespace(method=method, url=response.url)  # type: ignore[assignment]
        answers = next((each for route, each in self._answers.items() if re.fullmatch(route, str(sent))), iter([usual]))
        try:
            body = next(answers)(lambda: self._answer(sent))
        except RefusedError as error:
            body, response.status_code = error.body, error.status
        response.raw = io.BytesIO(json.dumps(body).encode())
        return response

    def _answer(self, sent: Sent) -> object:
        method, _, path = str(sent).partition(" /")
        kind, *rest = path.split("/", 2)
        params = sent.options.get("params") or {}
        if kind == "discussions":
            return self._discussion(sent, int(rest[0]), rest[1:])
        if (method, path, params) == ("GET", "refs", {"include_prs": "1"}):
            return {"pullRequests": [{"ref": f"refs/pr/{number}"} for number in self.statuses]}
        history = self._history(unquote(rest[0]))
        if (method, kind) == ("POST", "commit"):
            return self._commit(sent, unquote(rest[0]), params)
        if (method, kind) == ("GET", "commits"):
            newest = history[: int(params["limit"])]
            return [{"id": each.oid, "title": each.title, "message": each.description} for each in newest]
        files = history[0].files
        folders = {path[:at] for path in files for at, char in enumerate(path) if char == "/"}
        if (method, kind) == ("POST", "paths-info"):
            asked = sent.options["json"]["paths"]
            return [
                files[path] if path in files else _folder(path) for path in asked if path in files or path in folders
            ]
        assert (method, kind) == ("GET", "tree"), str(sent)
        folder = unquote(rest[1]) if len(rest) > 1 else ""
        if folder not in {"", *folders}:
            raise RefusedError(404)
        return [entry for path, entry in files.items() if not folder or path.startswith(f"{folder}/")]

    def _history(self, revision: str) -> list[Made]:
        for commits in self.branches.values():
            for at, each in enumerate(commits):
                if each.oid == revision:
                    return commits[at:]
        if revision not in self.branches:
            raise RefusedError(404)
        return self.branches[revision]

    def _commit(self, sent: Sent, revision: str, params: Mapping[str, str]) -> object:
        (_, header), *changes = [(line["key"], line["value"]) for line in sent.lines]
        history = self.branches[revision]
        if header.get("parentCommit", history[0].oid) != history[0].oid:
            raise RefusedError(412)
        files = dict(history[0].files)
        for key, value in changes:
            path = value["path"]
            if key == "deletedFile":
                del files[path]
            elif key == "deletedFolder":
                files = {each: entry for each, entry in files.items() if not each.startswith(path)}
            else:
                content = base64.b64decode(value["content"]) if key == "file" else None
                files = {each: entry for each, entry in files.items() if not each.startswith(f"{path}/")}
                files[path] = _entry(path, content, value.get("oid", ""), value.get("size", 0))
        said = {}
        if params.get("create_pr") == "1":
            number = len(self.statuses) + 1
            self.statuses[number] = "open"
            revision, said = f"refs/pr/{number}", {"pullRequestUrl": f"https://elsewhere.example/discussions/{number}"}
            self.branches[revision] = list(history)
        return {"commitOid": self._add(revision, header["summary"], header["description"], files), **said}

    def _discussion(self, sent: Sent, number: int, action: Sequence[str]) -> object:
        mine, main = self.branches[f"refs/pr/{number}"], self.branches["main"]
        base = next(each for each in mine if each in main).files
        ours, theirs = (
            {path: files.get(path) for path in files.keys() | base.keys() if files.get(path) != base.get(path)}
            for files in (mine[0].files, main[0].files)
        )
        if action == ["status"]:
            self.statuses[number] = sent.options["json"]["status"]
            self.comments[number] = sent.options["json"]["comment"]
        elif action == ["merge"]:
            files = {path: entry for path, entry in {**main[0].files, **ours}.items() if entry is not None}
            self.statuses[number] = "merged"
            title = next(each for each in reversed(mine) if each not in main).title
            self._merges[number] = self._add("main", f"{title} (#{number})", "", files)
        return {
            "isPullRequest": True,
            "status": self.statuses[number],
            "changes": {"base": "refs/heads/main", "mergeCommitId": self._merges.get(number)},
            "filesWithConflicts": sorted(ours.keys() & theirs.keys()),
        }

    def _add(self, revision: str, title: str, description: str, files: Mapping[str, Entry]) -> str:
        self._count += 1
        oid = f"{self._count:040x}"
        self.branches[revision].insert(0, Made(oid, title, description, files))
        return oid


def is_inline(path: str) -> bool:
    """Whether the Hub stores a file of this name inline."""
    return path.endswith((".txt", ".md"))


def publish(
    hub: MemoryHub, files: Mapping[str, bytes] | None = None, *, card: CardWork | None = None, **options: Any
) -> XetCommitResult:
    """Commit files, of which the Hub has said how it stores them."""
    contents = files or {}
    repo = options.pop("repo", REPO)
    unknown = {"sha256": None, "xet_hash": None}
    records = [record(repo, path, text, **(unknown if is_inline(path) else {})) for path, text in contents.items()]
    names = [*contents, *(["README.md"] if card else [])]
    modes = {path: UploadMode(is_inline(path), hub.current(repo.revision, path), False) for path in names}
    request = CommitRequest(repo, records, **{"message": "mine", **options})
    return commit.publish(
        hub, request, modes, lambda some: {each["path"]: contents[each["path"]] for each in some}, card
    )


def _entry(path: str, content: bytes | None, sha256: str = "", size: int = 0) -> Entry:
    if content is not None and not is_inline(path):
        described = record(REPO, path, content)
        sha256, size, content = str(described["sha256"]), described["size"], None
    if content is None:
        lfs = {"oid": sha256, "size": size}
        return {"type": "file", "path": path, "oid": "f" * 40, "size": size, "lfs": lfs, "xetHash": "ab" * 32}
    return {"type": "file", "path": path, "oid": git_blob_id(content), "size": len(content)}


def _folder(path: str) -> Entry:
    return {"type": "directory", "path": path, "oid": "f" * 40, "size": 0}
