"""How ``xethub-local`` talks to the running server of a data folder: its control API, over loopback."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_xethub.local.cli.arguments import CommandError, opened_store
from airflow_provider_xethub.local.store.announced_url import announced_url

_TIMEOUT_SECONDS = 30.0


class Control:
    """The control API of the server that serves a data folder.

    :raises CommandError: no server serves it.
    """

    def __init__(self, folder: Path) -> None:
        with opened_store(folder) as store:
            self._token = store.tokens["write"]
        url = announced_url(folder)
        if url is None:
            raise CommandError(
                f"no local Hub serves the folder {folder}. Start it with: xethub-local serve --folder {folder}"
            )
        self._folder = folder
        self._url = url

    def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Return the JSON object that a control route answers; an answer without a body is an empty one.

        :raises CommandError: nothing answers there, it is the server of another folder, or it refuses.
        """
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        # Not through a proxy, whatever the environment says: it is this machine.
        connection = http.client.HTTPConnection(urlsplit(self._url).netloc, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            status, text = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise CommandError(
                f"nothing answers at {self._url}, where the folder {self._folder} was served last ({error}): the "
                f"server was killed. Start it again with: xethub-local serve --folder {self._folder}"
            ) from error
        finally:
            connection.close()
        return self._read(status, text)

    def _read(self, status: int, text: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(text or b"{}")
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or status == 401:
            raise CommandError(
                f"another server answers at {self._url}, where the folder {self._folder} was served last. "
                f"Start it again with: xethub-local serve --folder {self._folder}"
            )
        if status >= 400:
            raise CommandError(str(answer.get("error", f"the server answered {status}")))
        return answer
