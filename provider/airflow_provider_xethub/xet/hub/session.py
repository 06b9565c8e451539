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
from airflow_provider_xethub.xet import tracing, urls
from airflow_provider_xethub.xet.hub.exchanged_tokens import ExchangedTokens
from airflow_provider_xethub.xet.network.bounded_answers import BoundedAdapter
from airflow_provider_xethub.xet.network.settings import Network
from airflow_provider_xethub.xet.process import core_dumps
from airflow_provider_xethub.xet.redaction import Secrets
from airflow_provider_xethub.xet.repo import Repo

USER_AGENT = "airflow-provider-xethub"


class HubSession(requests.Session):
    """Bind a ``requests.Session`` to one Hub: relative URLs, a timeout, and no request to another origin.

    :param hub_token: sent with each request; ``None`` for none.
    :param exchanged: the tokens of a keyless connection, of which each request gets that of its repository.
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
        exchanged: ExchangedTokens | None = None,
    ) -> None:
        super().__init__()
        core_dumps.forbid_while(self)
        self.endpoint = endpoint
        self._timeout = timeout
        self._network = network.requests_options()
        self._hub_token = hub_token
        self._exchanged = exchanged
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
        if self._is_here(request.url or "") and (token := self._token(request)):
            request.headers["Authorization"] = f"Bearer {token}"
        return request

    def _token(self, request: requests.PreparedRequest) -> str | None:
        if self._exchanged is None:
            return self._hub_token
        return self._exchanged.get(self._exchanged.of_url(request.url or ""))

    def authorise_for(self, repo: Repo) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
        """Return the argument ``auth`` of a request about a repository that its URL does not name."""
        exchanged = self._exchanged
        if exchanged is None:
            return self._authorise

        def authorise(request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers["Authorization"] = f"Bearer {exchanged.get(exchanged.of_repo(repo))}"
            return request

        return authorise

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
        tracing.count_request()
        response = super().send(request, **kwargs)
        again = self._with_new_token(request, response)
        if again is None:
            return response
        tracing.count_request()
        tracing.count_retry()
        return super().send(again, **kwargs)

    def _with_new_token(
        self, request: requests.PreparedRequest, response: requests.Response
    ) -> requests.PreparedRequest | None:
        """Return a request to send once more after the Hub rejected its exchanged token, with another one.

        The publisher may have been replaced since the exchange, or this machine may have slept.
        """
        rejected = request.headers.get("Authorization", "").removeprefix("Bearer ")
        is_rejected = response.status_code == requests.codes.unauthorized and not response.history
        if self._exchanged is None or not rejected or not is_rejected or not self._is_here(request.url or ""):
            return None
        if hasattr(request.body, "__next__") or hasattr(request.body, "read"):
            return None  # it has been consumed
        resource = self._exchanged.resource_with(rejected)
        if resource is None:
            return None
        again = request.copy()
        again.headers["Authorization"] = f"Bearer {self._exchanged.get(resource, rejected=rejected)}"
        response.close()
        return again

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
                f"The Hub at {self.endpoint} redirects to {origin}. Check the host of the connection. The Hub token is "
                "not sent there. If that is your Hub, set it as the host.",
                status=resp.status_code,
            )
        return target

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Authorise a redirected request like the first one, never with a credential from ~/.netrc."""
        if "Authorization" in response.request.headers:
            self._authorise(prepared_request)
