"""Under which names the server answers: those that its user chose, and no others that happen to lead here.

A web page can give its own name the address of this machine (DNS rebinding). A browser then takes this server for the
page's own, and lets its scripts read everything that needs no credential. The ``Host`` it sends is still that name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from airflow_provider_xethub.local.hub.request import error_response
from airflow_provider_xethub.local.store.errors import HubError

_MISDIRECTED = 421


class KnownHosts:
    """Refuses requests for a host that is not known. This machine is always known: ``localhost`` and its addresses.

    :param names: what else it is called, without port.
    :param public_url: origin that clients reach the server at, or what returns it.
    :param any_address: whether every IP address is known, as where the server listens to other machines. No page can
        make one its name.
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
        """Refuse, or let the application answer."""
        # A request without a Host is of no browser.
        host = Headers(scope=scope).get("host") if scope["type"] == "http" else None
        if not host or self._is_known(plain_name(host)):
            await self._app(scope, receive, send)
            return
        error = HubError(
            _MISDIRECTED,
            f"The local Hub does not answer for the host {host[:100]!r}. If that is its name, start it with "
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
    name = name if name.count(":") > 1 else name.partition(":")[0]  # else an address of IPv6
    return name.removesuffix(".")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens at ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
