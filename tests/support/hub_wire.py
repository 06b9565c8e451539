"""A local Hub as contract tests meet it: over plain HTTP, with nothing of a client in between."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests

from airflow_provider_xethub.xet.repo import Repo

if TYPE_CHECKING:
    from support.stored_content import Upload
    from xethub_local.server import LocalHub


@dataclass
class Wire:
    """Sends requests to a local Hub.

    A path starts with ``/``; ``{one}`` in it stands for the API path of ``repo``. Redirects are not followed.
    """

    hub: LocalHub
    repo: Repo
    session: requests.Session

    @property
    def one(self) -> str:
        """The API path of the repository."""
        return self.repo.api_path

    @property
    def web(self) -> str:
        """The path of the repository's page and files."""
        return self.repo.web_path

    def __call__(
        self,
        method: str,
        path: str,
        *,
        token: str | None = "write",  # noqa: S107 - the name of one
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> requests.Response:
        """Send one request; ``token`` is ``write``, ``read``, a token, or ``None``."""
        known = self.hub.token(token) if token in ("read", "write") else token  # type: ignore[arg-type]
        sent = {"Accept-Encoding": "identity", **({"Authorization": f"Bearer {known}"} if known else {})}
        url = path if path.startswith("http") else self.hub.url + path.replace("{one}", self.one)
        options.setdefault("allow_redirects", False)
        return self.session.request(method, url, headers=sent | (headers or {}), timeout=20, **options)

    def get(self, path: str, **options: Any) -> Any:
        """Return the JSON of a GET that succeeds."""
        answer = self("GET", path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def commit(
        self,
        *lines: dict[str, Any],
        revision: str = "main",
        query: str = "",
        token: str | None = "write",  # noqa: S107 - the name of one
        **header: Any,
    ) -> requests.Response:
        """Post a commit with these lines below its header."""
        every = [{"key": "header", "value": {"summary": "s", "description": "", **header}}, *lines]
        body = "".join(json.dumps(line) + "\n" for line in every)
        kind = {"Content-Type": "application/x-ndjson"}
        return self("POST", f"{{one}}/commit/{revision}{query}", data=body, headers=kind, token=token)

    def put(self, path: str, content: str = "text\n", **options: Any) -> str:
        """Commit a small file, and return the id of the commit."""
        value = {"path": path, "content": content, "encoding": "utf-8"}
        answer = self.commit({"key": "file", "value": value}, **options)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["commitOid"])

    def xet_token(self, scope: str = "read", revision: str = "main", **options: Any) -> dict[str, Any]:
        """Return the JSON of a Xet token."""
        return dict(self.get(f"{{one}}/xet-{scope}-token/{revision}", **options))

    def cas(self, method: str, path: str, *, scope: str | None = "read", **options: Any) -> requests.Response:
        """Send one request to CAS, with a Xet token for ``main``, or with none."""
        found = self.xet_token(scope or "read")
        return self(method, found["casUrl"] + path, token=found["accessToken"] if scope else None, **options)

    def upload(self, made: Upload) -> None:
        """Upload a file to CAS as clients do: its xorb, then its shard."""
        for path, body in ((f"/v1/xorbs/default/{made.xorb_hash}", made.body), ("/v1/shards", made.shard())):
            answer = self.cas("POST", path, scope="write", data=body)
            assert answer.status_code == 200, answer.text

    def put_large(self, path: str, made: Upload, **options: Any) -> requests.Response:
        """Commit a file that is in CAS."""
        oid = hashlib.sha256(made.raw).hexdigest()
        value = {"path": path, "algo": "sha256", "oid": oid, "size": len(made.raw)}
        return self.commit({"key": "lfsFile", "value": value}, **options)


def error_of(answer: requests.Response, status: int, code: str | None = None) -> str:
    """Check the status and the error code of a refusal, and return its message."""
    assert (answer.status_code, answer.headers.get("X-Error-Code")) == (status, code), answer.text
    return str(answer.json()["error"])
