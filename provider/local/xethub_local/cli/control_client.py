"""A client of the control API of the server that is running on a data folder, over loopback."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from xethub_local.cli.arguments import CommandError, opened_store
from xethub_local.store.announced_url import announced_url

_TIMEOUT_SECONDS = 30.0


class ControlClient:
    """Sends requests to the control API of the server that is running on a data folder.

    :ivar url: where this machine reaches the server.
    :raises CommandError: no server is running on it.
    """

    def __init__(self, folder: Path) -> None:
        with opened_store(folder) as store:
            self._token = store.tokens["write"]
        url = announced_url(folder)
        if url is None:
            raise CommandError(
                f"no local Hub is running on the folder {folder}. Start it with: xethub-local serve --folder {folder}"
            )
        self._folder = folder
        self.url = url

    def request(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Send a request and return the JSON object in the response, which is empty if the response has no body.

        :raises CommandError: the server does not respond, belongs to another folder, or rejects the request.
        """
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        # Never through a proxy, whatever the environment says: the server is on this machine.
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            status, text = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise CommandError(
                f"the server of the folder {self._folder} does not respond at {self.url} ({error}); it was probably "
                f"killed. Start it again with: xethub-local serve --folder {self._folder}"
            ) from error
        finally:
            connection.close()
        return self._parse(status, text)

    def _parse(self, status: int, text: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(text or b"{}")
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or status == 401:
            raise CommandError(
                f"the server at {self.url} belongs to another folder; {self._folder} was served there before. "
                f"Start its server again with: xethub-local serve --folder {self._folder}"
            )
        if status >= 400:
            raise CommandError(str(answer.get("error", f"the server answered {status}")))
        return answer
