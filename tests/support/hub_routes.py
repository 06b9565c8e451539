"""The routes that ``huggingface_hub`` requests, by its sources, and those that the local Hub says that it has.

``python -m support.hub_routes`` writes the page about them.
"""

from __future__ import annotations

import re
import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import requests

from xethub_local.metadata.repositories import RESERVED_NAMESPACES
from xethub_local.server import LocalHub

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/local-hub-routes.md"
DIFFERENCES = ROOT / "docs/local-hub-differences.md"
REPOSITORY = "acme/corpus"

_CLIENT = Path(huggingface_hub.__file__).parent
_REQUEST = re.compile(r'f"\{[^{}"]*endpoint[^{}"]*\}(/(?:api|oauth)/[^"?]*)', re.IGNORECASE)
_HOLE = re.compile(r"\{[^{}]*\}")
# Where the client puts a path together from other parts than the repository's type and id.
_UNUSUAL = {
    "/api/buckets/{}": ["/api/buckets/acme", "/api/buckets/acme/corpus"],
    "/api/buckets/{}/{}": ["/api/buckets/acme/corpus"],
    "/api/buckets/{}/tree{}": ["/api/buckets/acme/corpus/tree", "/api/buckets/acme/corpus/tree/x"],
    "/api/{}s/{}/tree/{}{}": ["/api/datasets/acme/corpus/tree/x", "/api/datasets/acme/corpus/tree/x/y"],
    "/api/{}s/{}/auth-check": ["/api/datasets/acme/corpus/auth-check", "/api/datasets/acme/corpus/auth-check/write"],
    "/api/{}/discussions/{}/{}": [
        f"/api/datasets/acme/corpus/discussions/1/{what}"
        for what in ("merge", "comment", "status", "title", "comment/x/edit", "comment/x/hide")
    ],
    "/api/{}s/{}/xet-{}-token": [
        *(f"/api/datasets/acme/corpus/xet-{scope}-token/main" for scope in ("read", "write")),
        *(f"/api/buckets/acme/corpus/xet-{scope}-token" for scope in ("read", "write")),
    ],
    "/api/{}/{}/duplicate": ["/api/datasets/acme/corpus/duplicate"],
}
# Paths outside of the API, each by words of the source that requests it.
_FILES = {
    "/{repo_id}/resolve/{revision}/{filename}": [
        "/acme/corpus/resolve/main/a.bin",
        "/datasets/acme/corpus/resolve/main/a.bin",
        "/spaces/acme/corpus/resolve/main/a.bin",
        "/buckets/acme/corpus/resolve/a.bin",
    ],
    ".git/info/lfs/objects/batch": [
        "/acme/corpus.git/info/lfs/objects/batch",
        "/datasets/acme/corpus.git/info/lfs/objects/batch",
        "/spaces/acme/corpus.git/info/lfs/objects/batch",
    ],
}
# What git itself asks for.
_GIT = ["git-upload-pack", "git-receive-pack", "info/refs", "info/lfs/locks", "info/lfs/locks/verify"]


def requested() -> dict[str, list[str]]:
    """Return the paths that the client asks for, with made-up values, by what its source says."""
    found: dict[str, list[str]] = {}
    for file in _CLIENT.rglob("*.py"):
        text = file.read_text()
        for source in _REQUEST.findall(text):
            template = _HOLE.sub("{}", source)
            path = re.sub(r"^/api/\{\}s/\{\}", f"/api/datasets/{REPOSITORY}", template)
            path = re.sub(r"^/api/(models|datasets|spaces|buckets)/\{\}", rf"/api/\1/{REPOSITORY}", path)
            found[template] = _UNUSUAL.get(template, [path.replace("{}", "x")])
        found |= {words: paths for words, paths in _FILES.items() if words in text}
    return found | {f"git: {each}": [f"/{REPOSITORY}.git/{each}"] for each in _GIT}


def described(hub: LocalHub) -> Mapping[str, Any]:
    """Return what the server itself says that it serves: operations by method, by path."""
    paths: dict[str, Any] = requests.get(f"{hub.url}/_local/openapi.json", timeout=10).json()["paths"]
    return paths


def left_out() -> dict[str, re.Pattern[str]]:
    """Return the routes of the table of what is left out, as they are written."""
    section = DIFFERENCES.read_text().partition("## What it leaves out")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    return {route: pattern(route) for row in rows for route in re.findall(r"`(/[^`]+)`", row)}


def pattern(route: str) -> re.Pattern[str]:
    """Return what a route matches: parts in braces, and ``…`` for everything that follows."""
    text = re.escape(route.removesuffix("…")).replace(r"\{kind\}", "(models|datasets|spaces)")
    text = text.replace(r"\{namespace\}", f"(?!({'|'.join(RESERVED_NAMESPACES)})/)[^/]+").replace(r"\{path\}", ".+")
    return re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", text) + ("(/.*)?" if route.endswith("…") else ""))


def page(paths: Mapping[str, Any]) -> str:
    """Return the page: every route of the Hub and of CAS, and how many the client requests besides.

    :param paths: as :func:`described` returns them.
    """
    asked = {template: paths for template, paths in requested().items() if not template.startswith("git: ")}
    # The ID of the data folder is a part of the URL of its CAS.
    routes = {re.sub("^/cas/[0-9a-f]{16}/", "{cas}/", path): each for path, each in paths.items()}
    of_cas = {path: methods for path, methods in routes.items() if _tag(methods).startswith("cas.")}
    of_hub = {path: each for path, each in routes.items() if path not in of_cas and not path.startswith("/_local/")}
    patterns = {path: pattern(path) for path in of_hub}
    there = [each for each in asked.values() if all(any(p.fullmatch(path) for p in patterns.values()) for path in each)]
    examples = [path for each in asked.values() for path in each]
    return "\n".join(
        [
            "# Routes of the local Hub",
            "",
            _prose(
                "Generated from the routes of the server and from the sources of `huggingface_hub`; a test compares "
                "this page with both."
            ),
            "",
            _prose(
                f"`huggingface_hub` {huggingface_hub.__version__} requests {len(asked)} routes of the Hub: "
                f"{len(there)} exist here, and {len(asked) - len(there)} do not. "
                "[What it leaves out](local-hub-differences.md#what-it-leaves-out) lists the missing ones by what they "
                "are for. A running server describes parameters, bodies and responses in "
                "`GET /_local/openapi.json`. The control routes are in "
                "[Test your DAGs](testing.md#over-http)."
            ),
            "",
            "## The Hub",
            "",
            _prose(
                "The last column says whether `huggingface_hub` requests the route. The others are for "
                "`@huggingface/hub`, browsers and issuers, or their URLs are in the response to another route."
            ),
            "",
            "| Route | Methods | What it does | `huggingface_hub` |",
            "|---|---|---|---|",
            *(
                f"| {_row(path, methods)} | {'yes' if any(map(patterns[path].fullmatch, examples)) else 'no'} |"
                for path, methods in sorted(of_hub.items())
            ),
            "",
            "## CAS",
            "",
            "`hf_xet` and `@huggingface/hub` request these. `{cas}` is the URL that comes with a Xet token.",
            "",
            "| Route | Methods | What it does |",
            "|---|---|---|",
            *(f"| {_row(path, methods)} |" for path, methods in sorted(of_cas.items())),
            "",
        ]
    )


def _tag(methods: Mapping[str, Any]) -> str:
    return f"{next(iter(methods.values()))['tags'][0]}."


def _prose(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def _row(path: str, methods: Mapping[str, Any]) -> str:
    names = [f"`{method.upper()}`" for method in methods if method != "head"] or ["`HEAD`"]
    summaries = dict.fromkeys(each["summary"].replace("``", "`").replace("|", r"\|") for each in methods.values())
    return f"`{path}` | {', '.join(names)} | {' '.join(summaries)}"


def main() -> None:
    """Write the page."""
    with tempfile.TemporaryDirectory() as folder, LocalHub(folder) as hub:
        PAGE.write_text(page(described(hub)))


if __name__ == "__main__":
    main()
