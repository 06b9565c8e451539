"""The server that a URL names. Only URLs that every parser reads alike are accepted. Pure: no I/O.

``urlsplit``, the HTTP library and the transfer client disagree about the host of a URL with a backslash, a user part, a
control character or a non-ASCII character: one might compare another host than the one another connects to.
"""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

DEFAULT_ENDPOINT = "https://huggingface.co"
"""The public Hub, used by connections without a host."""

_PORTS = {"http": 80, "https": 443}
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5})?)?(?=[/?#]|\Z)", re.IGNORECASE
)


def flaw(url: str) -> str | None:
    """Return why parsers may read a URL, absolute or relative, differently; ``None`` where they agree."""
    if "\\" in url:
        return "a backslash"
    if not url.isascii():
        return "non-ASCII characters"
    if not all("!" <= char <= "~" for char in url):
        return "spaces or control characters"
    return None


def origin(url: str, base: str = "") -> str:
    """Return scheme, host and port of an http or https URL, in lower case and with the default port written out.

    :param base: the URL that a relative one is relative to.
    :raises ValueError: it is not such a URL, or parsers may read it differently. The message does not repeat the URL.
    """
    found = flaw(url)
    if found:
        raise ValueError(f"a URL with {found}")
    try:
        match = _URL.match(urljoin(base, url))
    except ValueError:
        match = None
    if match is None:
        raise ValueError("an invalid URL")
    scheme = match["scheme"].lower()
    port = int(match["port"] or _PORTS[scheme])
    if not 0 < port < 1 << 16:
        raise ValueError("an invalid URL")
    return f"{scheme}://{match['host'].lower()}:{port}"


def shown_origin(url: str, base: str = "") -> str:
    """Return :func:`origin` for a message, or what is wrong with the URL."""
    try:
        return origin(url, base)
    except ValueError as error:
        return str(error)


def canonical(url: str) -> str:
    """Return an http or https URL with scheme and host in lower case, without a default port and a slash at the end.

    :raises ValueError: as for :func:`origin`.
    """
    of, parts = origin(url), urlsplit(url)
    scheme = of.partition("://")[0]
    return f"{of.removesuffix(f':{_PORTS[scheme]}')}{parts.path.rstrip('/')}"


def path(url: str) -> str:
    """Return the path of a URL, without a slash at the end; empty for the root."""
    return urlsplit(url).path.rstrip("/")


def is_loopback(url: str) -> bool:
    """Return whether a URL names this machine itself: ``localhost``, 127.0.0.0/8 or ``[::1]``.

    :raises ValueError: as for :func:`origin`.
    """
    host = origin(url).partition("://")[2].rpartition(":")[0]
    return host in ("localhost", "[::1]") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None
