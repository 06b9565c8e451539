"""The host names for which the server answers: those that its user chose, and no others that resolve to this machine.

A web page can make its own host name resolve to this machine (DNS rebinding). A browser then takes this server for the
origin of the page, whose scripts can read everything that needs no credential. Its ``Host`` header is still that name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from xethub_local.hub.request import error_response
from xethub_local.store.errors import HubError

_MISDIRECTED = 421


class KnownHosts:
    """Rejects requests for unknown hosts. ``localhost`` and loopback addresses are always known.

    :param names: further host names of the server, without port.
    :param public_url: the origin at which clients reach the server, or a function that returns it.
    :param any_address: whether every IP address is known, for a server that other machines can reach. Web pages cannot
        use an IP address as their name.
    """

    def __init__(
        self,
        app: ASGIApp,
        names: Collection[str] = (),
        *,
        public_url: str | Callable[[], str] | None = None,
        any_address: bool = False,
    ) -> None:
        self._app = app
        self._names = {"localhost", *map(plain_name, names)}
        self._public_url = public_url
        self._any_address = any_address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reject the request, or let the application handle it."""
        # Browsers always send a Host.
        host = Headers(scope=scope).get("host") if scope["type"] == "http" else None
        if not host or self._is_known(plain_name(host)):
            await self._app(scope, receive, send)
            return
        error = HubError(
            _MISDIRECTED,
            f"The local Hub does not answer for the host {host[:100]!r}. To allow this name, start it with "
            "--allow-host or --public-url (LocalHub: allowed_hosts or public_url).",
        )
        await error_response(error)(scope, receive, send)

    def _is_known(self, name: str) -> bool:
        if name in self._names or name == self._public_name():
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._any_address or address.is_loopback

    def _public_name(self) -> str | None:
        url = self._public_url() if callable(self._public_url) else self._public_url
        return urlsplit(url).hostname if url else None


def plain_name(host: str) -> str:
    """Return a host without its port, brackets and final dot, in lower case."""
    name = host.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    name = name if name.count(":") > 1 else name.partition(":")[0]  # several colons: an IPv6 address
    return name.removesuffix(".")


def is_loopback(host: str) -> bool:
    """Return whether ``host`` is this machine: ``localhost`` or a loopback address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
