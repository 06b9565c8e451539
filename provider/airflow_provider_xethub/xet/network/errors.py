"""Turn exceptions of ``requests`` into errors of this provider, for the Hub and CAS alike."""

from __future__ import annotations

import re
import ssl
from typing import Any

import requests
from requests.utils import get_environ_proxies
from urllib3.exceptions import ReadTimeoutError

from airflow_provider_xethub.exceptions import (
    Service,
    XetConnectionError,
    XetHubError,
    XetProtocolError,
    XetProxyError,
    XetTimeoutError,
    XetTLSError,
)
from airflow_provider_xethub.xet.message_text import capitalized, os_reason
from airflow_provider_xethub.xet.network.settings import Network, find_proxy, host_and_port

PROXY_AUTHENTICATION_REQUIRED = 407

_PROBE_SECONDS = 5.0
_HANDSHAKE_CLOSED = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
"""The server closed the connection during the handshake, for example in a restart: no problem of its certificate."""

_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"})
"""What OpenSSL says when the server answers the handshake with something else, usually plain http."""

_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})\b")
_NAMES: dict[Service, str] = {"Hub": "the Hub", "CAS": "CAS"}


def from_exception(
    error: requests.RequestException, *, about: str, service: Service, url: str, network: Network
) -> XetHubError:
    """Return the error for an exception of ``requests``.

    The message does not repeat the text of the library, which may quote a proxy URL with its password.

    :param about: what was requested, such as ``the read token request for hf://acme/m@main``.
    :param service: which service was called.
    :param url: URL of the service, without a path.
    :param network: the network settings of the request.
    """
    who = f"{_NAMES[service]} at {url}"
    if isinstance(error, requests.exceptions.ProxyError):
        status = next((int(found[1]) for each in _chain(error) if (found := _TUNNEL.search(str(each)))), None)
        return proxy_error(status, about=about, service=service, url=url, network=network, reason=_reason(error))
    if isinstance(error, requests.exceptions.SSLError) and not any(
        isinstance(e, _HANDSHAKE_CLOSED) for e in _chain(error)
    ):
        if any(isinstance(e, ssl.SSLError) and e.reason in _NO_TLS for e in _chain(error)):
            remedy = f"If it speaks http, write {url.replace('https://', 'http://', 1)} as host of the connection"
            remedy = remedy if service == "Hub" else "Check the proxy"
            return XetTLSError(f"{capitalized(who)} does not speak https. {remedy}. {capitalized(about)} was not sent.")
        alternative = ", or check the scheme of the host"
        return XetTLSError(
            f"The certificate of {who} is not trusted here. Set ca_bundle in the connection"
            f"{alternative if service == 'Hub' else ' (SSL_CERT_FILE on a worker without the connection)'}. "
            f"{capitalized(about)} was not sent."
        )
    # While the body arrives, requests reports a timeout as a ConnectionError.
    if isinstance(error, requests.exceptions.Timeout) or any(isinstance(e, ReadTimeoutError) for e in error.args):
        raise_it = ", or raise timeout in the connection" if service == "Hub" else " and the proxy"
        return XetTimeoutError(
            f"{capitalized(who)} did not respond in time. Check the network{raise_it}. No response came to {about}."
        )
    if isinstance(error, (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        check = "the network and the host of the connection" if service == "Hub" else "the network and the proxy"
        return XetConnectionError(
            f"{capitalized(who)} could not be reached ({_reason(error)}). Check {check}. This ended {about}."
        )
    if isinstance(error, (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL)):
        # The URL of the service was checked before, so this is about a proxy.
        proxy = network.proxy or find_proxy(get_environ_proxies(url), url)
        if proxy:
            return _unusable_proxy(proxy, f"{capitalized(about)} was not sent to {who}.", network)
    return XetProtocolError(
        f"{capitalized(who)} returned an unusable response ({type(error).__name__}). Check the host and the proxy. "
        f"This was the response to {about}.",
        service=service,
    )


def proxy_error(
    status: int | None, *, about: str, service: Service, url: str, network: Network, reason: str = ""
) -> XetConnectionError:
    """Return the error for a proxy that did not forward a request, without its username and password.

    :param status: the HTTP status that the proxy returned; ``None`` if it did not respond.
    :param reason: why the proxy did not respond, for the message.
    """
    found = network.proxy or find_proxy(get_environ_proxies(url), url)
    name = f"The proxy {host_and_port(found)}" if found else "A proxy"
    where = "proxy in the connection" if network.proxy else "HTTPS_PROXY, HTTP_PROXY and NO_PROXY on this worker"
    lost = f"It is on the way to {_NAMES[service]} at {url}; {about} was not sent."
    if status == PROXY_AUTHENTICATION_REQUIRED:
        return XetProxyError(f"{name} requires a (different) username and password (407). Correct {where}. {lost}")
    if status is not None and status < 500:
        return XetProxyError(
            f"{name} blocks {url} ({status}). Ask its administrator to allow it, or correct {where}. {lost}"
        )
    why = f"returned {status}" if status else "could not be reached" + (f" ({reason})" if reason else "")
    return XetConnectionError(f"{name} {why}. Check {where}. {lost}")


def _unusable_proxy(proxy: str, consequence: str, network: Network) -> XetProxyError:
    """Return the error for a proxy that ``requests`` cannot use, without its URL: any part of it may be a password."""
    where = "proxy in the connection" if network.proxy else "HTTPS_PROXY, HTTP_PROXY or ALL_PROXY"
    if proxy.lower().startswith("socks"):
        return XetProxyError(
            "A SOCKS proxy needs the package PySocks on this worker. Install it (pip install PySocks), or set "
            f"{where} to the URL of an HTTP proxy. {consequence}"
        )
    return XetProxyError(
        f"The proxy URL of this worker is invalid. Set {where} to a URL like http://proxy.example:3128. {consequence}"
    )


def probe(url: str, *, about: str, service: Service, network: Network) -> XetHubError | None:
    """Send a request to a service to find out why it does not respond, because the CAS client hides the reason.

    :param about: what was requested, for the message.
    :returns: the reason; ``None`` if the service responds now, with any status.
    """
    session = requests.Session()
    session.auth = lambda request: request  # otherwise requests would send a credential from ~/.netrc
    options = {**network.requests_options(), "verify": network.client_trust()}
    try:
        response = session.head(url, timeout=_PROBE_SECONDS, allow_redirects=False, **options)
    except requests.RequestException as error:
        return from_exception(error, about=about, service=service, url=url, network=network)
    finally:
        session.close()
    if response.status_code == PROXY_AUTHENTICATION_REQUIRED:
        return proxy_error(response.status_code, about=about, service=service, url=url, network=network)
    return None


def fetch_status(url: str, token: str, network: Network) -> int | None:
    """Request the first byte of ``url`` and return the HTTP status; ``None`` without a response."""
    session = requests.Session()
    session.auth = lambda request: request  # otherwise requests would send a credential from ~/.netrc
    options = {**network.requests_options(), "verify": network.client_trust()}
    headers = {"Authorization": f"Bearer {token}", "Range": "bytes=0-0"}
    try:
        with session.get(
            url, headers=headers, timeout=_PROBE_SECONDS, allow_redirects=False, stream=True, **options
        ) as response:
            return response.status_code
    except requests.RequestException:
        return None
    finally:
        session.close()


def _reason(error: BaseException) -> str:
    """Return a few words that say why the connection failed, from the innermost error."""
    for current in _chain(error):
        if type(current).__name__ == "NameResolutionError":
            return "the host name could not be resolved"
        if isinstance(current, OSError) and current.errno and current.strerror:
            return os_reason(current)
    return "the connection was closed"


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error and all errors that caused it."""
    found: list[BaseException] = []
    todo: list[Any] = [error]
    while todo:
        current = todo.pop()
        if not isinstance(current, BaseException) or any(current is each for each in found):
            continue
        found.append(current)
        todo += [current.__cause__, current.__context__, getattr(current, "reason", None), *current.args]
    return found
