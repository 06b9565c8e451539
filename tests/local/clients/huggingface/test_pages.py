"""Pages escape what strangers named, and show private repositories on this machine only."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import requests
from huggingface_hub import HfApi

from support.hub_calls import binary, upload
from xethub_local.app import build_app
from xethub_local.local_store import LocalStore
from xethub_local.server import LocalHub


def test_pages_show_repositories_files_and_commits_and_escape_names(hub: LocalHub, api: HfApi, repo: str) -> None:
    oid = upload(api, repo, "<b>x.bin", binary("page"), commit_message="<script>alert(1)</script>")
    base = f"{hub.url}/datasets/{repo}"
    pages = {path: requests.get(hub.url + path, timeout=20).text for path in ("/",)}
    pages |= {path: requests.get(base + path, timeout=20).text for path in ("", "/tree/main", f"/commit/{oid}")}
    assert repo in pages["/"]
    for path in ("", "/tree/main", f"/commit/{oid}"):
        assert "&lt;b&gt;x.bin" in pages[path]
    assert all("<script>" not in text and "<b>x" not in text for text in pages.values())
    for missing in (f"/commit/{'0' * 40}", "/discussions/1", "/discussions/99999999999999999999"):
        assert requests.get(base + missing, timeout=20).status_code == 404


@pytest.mark.parametrize(("client", "status"), [("127.0.0.1", 200), ("192.0.2.1", 404)])
def test_a_private_page_is_shown_on_this_machine_only(tmp_path: Path, client: str, status: int) -> None:
    store = LocalStore(tmp_path)
    store.repositories.create("models/acme/secret", private=True)
    path = "/acme/secret"
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
    scope |= {"headers": [(b"host", b"127.0.0.1")], "client": (client, 1), "server": ("x", 80), "scheme": "http"}
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(build_app(store)(scope, receive, send))  # type: ignore[arg-type]
    store.close()
    assert sent[0]["status"] == status
