"""What it means when no answer comes, from the Hub or from CAS: the one place that reads what ``requests`` raises."""

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

PROXY_WANTS_CREDENTIAL = 407

_PROBE_SECONDS = 5.0
_CUT_OFF = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
"""The other side hung up during the handshake, as one does that restarts: this says nothing about its certificate."""

_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})\b")
_NAMES: dict[Service, str] = {"Hub": "the Hub", "CAS": "CAS"}


def from_exception(
    error: requests.RequestException, *, about: str, service: Service, url: str, network: Network
) -> XetHubError:
    """Return the error for an exception of ``requests``.

    The library's own text is not repeated: it may quote a proxy's URL with its password.

    :param about: what was asked, such as ``the read token request for hf://acme/m@main``.
    :param url: of the service, without a path.
    """
    who = f"{_NAMES[service]} at {url}"
    if isinstance(error, requests.exceptions.ProxyError):
        status = next((int(found[1]) for each in _chain(error) if (found := _TUNNEL.search(str(each)))), None)
        return proxy_error(status, about=about, service=service, url=url, network=network, reason=_reason(error))
    if isinstance(error, requests.exceptions.SSLError) and not any(isinstance(e, _CUT_OFF) for e in _chain(error)):
        instead = ", or check that host begins with the right scheme"
        return XetTLSError(
            f"The certificate of {who} is not trusted here, so {about} was not sent. Set ca_bundle in the connection"
            f"{instead if service == 'Hub' else ' (SSL_CERT_FILE on a worker that has none)'}."
        )
    # While the body arrives, a timeout is a ConnectionError to requests.
    if isinstance(error, requests.exceptions.Timeout) or any(isinstance(e, ReadTimeoutError) for e in error.args):
        raise_it = ", or raise timeout in the connection" if service == "Hub" else " and the proxy"
        return XetTimeoutError(f"{capitalized(who)} did not answer to {about} in time. Check the network{raise_it}.")
    if isinstance(error, (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        check = "the network and the host of the connection" if service == "Hub" else "the network and the proxy"
        return XetConnectionError(
            f"{capitalized(who)} could not be reached for {about} ({_reason(error)}). Check {check}."
        )
    if isinstance(error, (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL)):
        # The URL itself was checked before: this is about a proxy.
        proxy = network.proxy or find_proxy(get_environ_proxies(url), url)
        if proxy:
            return _unusable_proxy(proxy, f"{about} was not sent to {who}", network)
    return XetProtocolError(
        f"{capitalized(who)} gave an unusable answer to {about} ({type(error).__name__}).", service=service
    )


def proxy_error(
    status: int | None, *, about: str, service: Service, url: str, network: Network, reason: str = ""
) -> XetConnectionError:
    """Return the error for a proxy that does not pass a request on; its user and password are not shown.

    :param status: what it answered, or ``None`` where nothing came.
    """
    found = network.proxy or find_proxy(get_environ_proxies(url), url)
    name = f"The proxy {host_and_port(found)}" if found else "A proxy"
    where = "proxy in the connection" if network.proxy else "HTTPS_PROXY, HTTP_PROXY and NO_PROXY on this worker"
    way = f"on the way to {_NAMES[service]} at {url}"
    if status == PROXY_WANTS_CREDENTIAL:
        return XetProxyError(
            f"{name} {way} wants a user and a password, or other ones (407), so {about} was not sent. Correct {where}."
        )
    if status is not None and status < 500:
        return XetProxyError(
            f"{name} {way} does not let this worker pass ({status}), so {about} was not sent. Ask its administrator to "
            f"allow {url}, or correct {where}."
        )
    why = f"answered {status}" if status else "could not be reached" + (f" ({reason})" if reason else "")
    return XetConnectionError(f"{name} {way} {why}, so {about} was not sent. Check {where}.")


def _unusable_proxy(proxy: str, so: str, network: Network) -> XetProxyError:
    """Return the error for a proxy that ``requests`` cannot use; any part of its URL may be a password."""
    where = "proxy in the connection" if network.proxy else "HTTPS_PROXY, HTTP_PROXY or ALL_PROXY"
    if proxy.lower().startswith("socks"):
        return XetProxyError(
            f"SOCKS proxies need the package PySocks on this worker, so {so}. Install it (pip install PySocks), or set "
            f"{where} to the URL of an HTTP proxy."
        )
    return XetProxyError(
        f"The proxy of this worker is not a usable URL, so {so}. Set {where} like http://proxy.example:3128."
    )


def probe(url: str, *, about: str, service: Service, network: Network) -> XetHubError | None:
    """Ask a service once more in a way that tells why it does not answer: the client of CAS hides that.

    :returns: the reason, or ``None`` if it answers now, whatever it says.
    """
    session = requests.Session()
    session.auth = lambda request: request  # otherwise requests would send what ~/.netrc says
    options = {**network.requests_options(), "verify": network.client_trust()}
    try:
        answer = session.head(url, timeout=_PROBE_SECONDS, allow_redirects=False, **options)
    except requests.RequestException as error:
        return from_exception(error, about=about, service=service, url=url, network=network)
    finally:
        session.close()
    if answer.status_code == PROXY_WANTS_CREDENTIAL:
        return proxy_error(answer.status_code, about=about, service=service, url=url, network=network)
    return None


def fetch_status(url: str, token: str, network: Network) -> int | None:
    """Return what a service answers to a request for the first byte of something; ``None`` where it does not answer."""
    session = requests.Session()
    session.auth = lambda request: request  # otherwise requests would send what ~/.netrc says
    options = {**network.requests_options(), "verify": network.client_trust()}
    headers = {"Authorization": f"Bearer {token}", "Range": "bytes=0-0"}
    try:
        with session.get(
            url, headers=headers, timeout=_PROBE_SECONDS, allow_redirects=False, stream=True, **options
        ) as answer:
            return answer.status_code
    except requests.RequestException:
        return None
    finally:
        session.close()


def _reason(error: BaseException) -> str:
    """Say in a few words why no connection came about, from the innermost error."""
    for current in _chain(error):
        if type(current).__name__ == "NameResolutionError":
            return "its name is not known here"
        if isinstance(current, OSError) and current.errno and current.strerror:
            return os_reason(current)
    return "the connection broke"


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error and all that it came from."""
    found: list[BaseException] = []
    todo: list[Any] = [error]
    while todo:
        current = todo.pop()
        if not isinstance(current, BaseException) or any(current is each for each in found):
            continue
        found.append(current)
        todo += [current.__cause__, current.__context__, getattr(current, "reason", None), *current.args]
    return found
