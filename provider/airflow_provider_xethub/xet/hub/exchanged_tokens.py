"""Keep the Hub tokens of a keyless connection: one for each repository, exchanged again before it expires."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from copy import copy
from typing import NoReturn

from airflow_provider_xethub.exceptions import XetHubError, XetPublisherError
from airflow_provider_xethub.xet import urls
from airflow_provider_xethub.xet.hub import resources
from airflow_provider_xethub.xet.hub.resources import Resource
from airflow_provider_xethub.xet.hub.token_exchange import ExchangedToken
from airflow_provider_xethub.xet.identity import jwt
from airflow_provider_xethub.xet.identity.jwt import IdToken
from airflow_provider_xethub.xet.identity.sources import Identity
from airflow_provider_xethub.xet.message_text import duration
from airflow_provider_xethub.xet.repo import Repo

MARGIN = 120.0
"""Seconds before its expiry from which a token is replaced; at most a quarter of its lifetime."""

_MAX_KEPT = 256
"""Repositories whose token is kept; that of the one that was not used for longest is exchanged again."""

_PAUSE = 10.0
"""Seconds between two attempts to replace a token that is still valid."""

_REFUSED = 30.0
"""Seconds for which the Hub is not asked again whether a repository has a publisher."""

log = logging.getLogger(__name__)


class ExchangedTokens:
    """The tokens of one connection. Threads may share it.

    :param identity: where ID tokens come from; asked anew for each exchange, as files and services renew theirs.
    :param endpoint: URL of the Hub.
    :param exchange: exchanges an ID token for a resource; the last argument says whether to retry.
    :param user: name of a user, if the tokens are to be for the gated repositories of that user.
    :param on_secret: called with each ID token before it is sent, and with each token that the Hub issues.
    :ivar user: ``None`` if each token is for a repository.
    """

    def __init__(
        self,
        identity: Identity,
        endpoint: str,
        exchange: Callable[[IdToken, Resource], ExchangedToken],
        *,
        user: str | None = None,
        on_secret: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.identity = identity
        self.audience = urls.canonical(endpoint)
        self._prefix = len(urls.path(endpoint))
        self._exchange = exchange
        self.user = resources.of_user(user) if user else None
        self._on_secret = on_secret
        self._entries: OrderedDict[Resource, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> NoReturn:
        raise TypeError("Exchanged tokens cannot be pickled. Pickle the hook, or its connection ID.")

    def of_repo(self, repo: Repo) -> Resource:
        """Return what a token has to be for, to work on a repository.

        :raises XetIdentityError: it is a bucket.
        """
        resource = resources.of_repo(repo)
        return self.user or resource

    def of_url(self, url: str) -> Resource:
        """Return what a token has to be for, to send a request to a URL, or a path, on the Hub.

        :raises XetIdentityError: the request is not about one repository.
        """
        path = urls.path(url) if url.startswith("/") else urls.path(url)[self._prefix :]
        resource = resources.of_path(path)
        return self.user or resource

    def get(
        self, resource: Resource, *, rejected: str | None = None, with_retries: WithRetries = lambda once: once()
    ) -> str:
        """Return a valid token for a resource.

        :param rejected: a token that the Hub has just rejected, which is not returned again.
        :param with_retries: repeats an exchange that failed for the time being.
        :raises XetHubError: there is no ID token, or the Hub issues no token for it.
        """
        with self._lock:
            entry = self._entries.setdefault(resource, _Entry())
            self._entries.move_to_end(resource)
            while len(self._entries) > _MAX_KEPT:
                self._entries.popitem(last=False)
        asked = time.monotonic()
        # Others wait here for the same token, but not for that of another repository.
        with entry.lock:
            now = time.monotonic()
            if entry.failure and (entry.failed_at >= asked or (entry.is_refused and now < entry.failed_at + _REFUSED)):
                raise copy(entry.failure)
            is_valid = entry.token != rejected and now < entry.expires_at
            if not is_valid:
                try:
                    self._renew(entry, resource, with_retries)
                except XetHubError as error:
                    entry.failure, entry.failed_at = copy(error), time.monotonic()
                    raise
            elif now >= entry.renew_at:
                try:
                    self._renew(entry, resource, lambda once: once())
                except XetHubError as error:
                    entry.renew_at = now + _PAUSE
                    left = duration(entry.expires_at - now)
                    log.warning(
                        "The token for %s is valid for %s more, and was not replaced: %s", resource, left, error
                    )
            token = entry.token
        # It may have been displaced by newer ones.
        self._on_secret(token)
        return token

    def resource_with(self, token: str) -> Resource | None:
        """Return the resource that a token is, or was last, for; ``None`` if it is not known any more."""
        with self._lock:
            entries = list(self._entries.items())
        return next((resource for resource, entry in entries if token in (entry.token, entry.before)), None)

    def id_token(self) -> IdToken:
        """Return a valid ID token for the Hub, read or issued now.

        :raises XetIdentityError: there is none, or it must not be sent.
        """
        id_token = jwt.check(self.identity.id_token(self.audience), self.audience, self.identity.name)
        self._on_secret(id_token.text)
        return id_token

    def advice(self, resource: Resource) -> str:
        """Return which trusted publisher a resource needs, for a message about a token that may too little."""
        with self._lock:
            entry = self._entries.get(resource)
        described = entry.described if entry else ""
        at = resource.settings_url(self.audience)
        return f"{at}{f', for {described}' if described else ''} (identity {self.identity.name})"

    def _renew(self, entry: _Entry, resource: Resource, with_retries: WithRetries) -> None:
        def once() -> tuple[float, IdToken, ExchangedToken]:
            id_token, started = self.id_token(), time.monotonic()
            return started, id_token, self._exchange(id_token, resource)

        started, id_token, token = with_retries(once)
        self._on_secret(token.text)
        is_first = not entry.token
        entry.before, entry.token = entry.token, token.text
        entry.described, entry.failure = id_token.described, None
        entry.expires_at = started + token.lifetime
        entry.renew_at = entry.expires_at - min(MARGIN, token.lifetime / 4)
        level = logging.INFO if is_first else logging.DEBUG
        log.log(
            level,
            "Exchanged the ID token of %s for a token of %s, valid for %s.",
            self.identity.name,
            resource,
            duration(token.lifetime),
        )


Exchange = tuple[float, IdToken, ExchangedToken]
WithRetries = Callable[[Callable[[], Exchange]], Exchange]


class _Entry:
    """The token for one resource; ``lock`` guards the rest."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.token = self.before = self.described = ""
        self.expires_at = self.renew_at = self.failed_at = 0.0
        self.failure: XetHubError | None = None

    @property
    def is_refused(self) -> bool:
        """Whether the last exchange failed because there is no publisher."""
        return isinstance(self.failure, XetPublisherError)
