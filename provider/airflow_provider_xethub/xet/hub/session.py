"""Provide the ``requests`` session of a Hub, which sends requests to no other server.

The connection's timeout, certificate authorities, headers and redirect rule apply to every request that carries the Hub
token. ``huggingface_hub.HfApi`` 2.4 accepts none of these per instance: its requests have no timeout, and its client
follows redirects to other origins (without the Hub token).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import requests

from airflow_provider_xethub.exceptions import XetInputError, XetRedirectError
from airflow_provider_xethub.xet import urls
from airflow_provider_xethub.xet.network.bounded_answers import BoundedAdapter
from airflow_provider_xethub.xet.network.settings import Network
from airflow_provider_xethub.xet.redaction import Secrets

USER_AGENT = "airflow-provider-xethub"


class HubSession(requests.Session):
    """Bind a ``requests.Session`` to one Hub: relative URLs, a timeout, and no request to another origin.

    :ivar before_sending: called before each request, and raises if none may be sent. ``None``: nothing is checked.
    """

    def __init__(
        self,
        endpoint: str,
        hub_token: str | None,
        *,
        timeout: float,
        network: Network,
        headers: Mapping[str, str],
        secrets: Secrets,
    ) -> None:
        super().__init__()
        self.endpoint = endpoint
        self._timeout = timeout
        self._network = network.requests_options()
        self._hub_token = hub_token
        self._secrets = secrets
        self.before_sending: Callable[[], None] | None = None
        self.headers["User-Agent"] = USER_AGENT
        self.headers.update(headers)
        self.auth = self._authorise
        for scheme in ("https://", "http://"):
            self.mount(scheme, BoundedAdapter())

    def __reduce__(self) -> NoReturn:
        raise TypeError("A session with a Hub token cannot be pickled. Pickle the hook, or its connection ID.")

    def _authorise(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        # An auth callable, not a header, which requests would replace by a credential from ~/.netrc.
        if self._hub_token and self._is_here(request.url or ""):
            request.headers["Authorization"] = f"Bearer {self._hub_token}"
        return request

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request; ``url`` may be a path on the Hub, and the connection's timeout is the default."""
        kwargs.setdefault("timeout", self._timeout)
        # Explicit for each request: REQUESTS_CA_BUNDLE and NO_PROXY override the settings of a session.
        kwargs = {**self._network, **kwargs}
        text = url.decode() if isinstance(url, bytes) else url
        if text.startswith("/"):
            text = f"{self.endpoint}/{text.lstrip('/')}"
        else:
            self._check(text)
        return super().request(method, text, *args, **kwargs)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a request to the Hub, including one that follows a redirect; reject one to another origin."""
        self._check(request.url or "")  # the URL that is actually requested
        self.check_credential()
        return super().send(request, **kwargs)

    def check_credential(self) -> None:
        """Check whether the credential may be used; for those that send requests with it in another way.

        :raises XetHubError: what ``before_sending`` raises.
        """
        if self.before_sending is not None:
            self.before_sending()

    def _check(self, url: str) -> None:
        if not self._is_here(url):
            raise XetInputError(
                f"This session sends requests only to the Hub at {self.endpoint}, not to {urls.shown_origin(url)}."
            )

    def _is_here(self, url: str, base: str = "") -> bool:
        return urls.shown_origin(url, base) == urls.origin(self.endpoint)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Follow a redirect within the Hub (a renamed repository); reject one to another origin."""
        target = super().get_redirect_target(resp)
        if target is None:
            return None
        if not self._is_here(target, resp.url):
            origin = self._secrets.hide(urls.shown_origin(target, resp.url))
            resp.close()
            raise XetRedirectError(
                f"The Hub at {self.endpoint} redirects to {origin}. The Hub token is not sent there. If that is your "
                "Hub, set it as the host of the connection.",
                status=resp.status_code,
            )
        return target

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:  # noqa: ARG002
        """Authorise a redirected request like the first one, never with a credential from ~/.netrc."""
        self._authorise(prepared_request)
