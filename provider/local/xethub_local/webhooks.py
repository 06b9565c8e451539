"""Webhooks of the local Hub: report to a URL which branches, tags and pull requests moved.

Source of the payload: the Hub's documentation of webhooks, payload version 3. The real Hub reports each commit on its
own; here, commits made between two polls of the data folder are reported together, whichever process made them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from http.client import HTTPException
from types import TracebackType
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from xethub_local.metadata.history import HEADS
from xethub_local.repo import DEFAULT_REVISION, Repo
from xethub_local.server import LocalHub

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.25
_TIMEOUT_SECONDS = 30.0


class WebhookSender:
    """Sends webhooks until the ``with`` block ends; for trying out a receiver.

    ::

        with LocalHub(folder) as hub, WebhookSender(hub, "http://127.0.0.1:8080/xethub/webhook", secret):
            ...

    :param url: where to send them.
    :param secret: value of the header ``X-Webhook-Secret``.
    :raises ValueError: the URL is not an http or https URL.
    """

    def __init__(self, hub: LocalHub, url: str, secret: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("a webhook needs an http or https URL.")
        self._hub = hub
        self._url = url
        self._headers = {"Content-Type": "application/json", **({"X-Webhook-Secret": secret} if secret else {})}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="xethub-webhooks", daemon=True)
        self._known: dict[str, dict[str, str]] = {}

    def __enter__(self) -> WebhookSender:
        self._known = self._hub.repositories.refs_of_all()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(_POLL_SECONDS):
            now = self._hub.repositories.refs_of_all()
            for name, refs in now.items():
                if updated := _changed_refs(self._known.get(name, {}), refs):
                    self._send(_payload(self._hub.url, name, refs, updated))
            self._known = now

    def _send(self, body: dict[str, Any]) -> None:
        request = Request(self._url, json.dumps(body).encode(), self._headers, method="POST")  # noqa: S310 - checked
        try:
            with urlopen(request, timeout=_TIMEOUT_SECONDS):  # noqa: S310
                return
        except HTTPError as error:
            with error:
                why = f"HTTP status {error.code}: {error.read(500).decode('utf-8', 'replace')}"
        except (OSError, HTTPException) as error:
            why = f"{type(error).__name__}: {error}"
        log.warning("Could not deliver the webhook for %s: %s", body["repo"]["name"], why)


def _changed_refs(before: dict[str, str], now: dict[str, str]) -> list[dict[str, str | None]]:
    return [
        {"ref": ref, "oldSha": before.get(ref), "newSha": now.get(ref)}
        for ref in sorted(before.keys() | now.keys())
        if before.get(ref) != now.get(ref)
    ]


def _payload(origin: str, name: str, refs: dict[str, str], updated: list[dict[str, str | None]]) -> dict[str, Any]:
    kind, _, repo_id = name.partition("/")
    repo = Repo(repo_id, kind.removesuffix("s"))  # type: ignore[arg-type]
    return {
        "event": {"action": "update", "scope": "repo.content"},
        "repo": {
            "type": repo.repo_type,
            "name": repo_id,
            "id": _object_id(name),
            "private": False,
            "url": {"web": f"{origin}{repo.web_path}", "api": f"{origin}{repo.api_path}"},
            "headSha": refs.get(HEADS + DEFAULT_REVISION),
            "owner": {"id": _object_id(repo_id.partition("/")[0])},
        },
        "updatedRefs": updated,
        "webhook": {"id": _object_id(origin), "version": 3},
    }


def _object_id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
