"""How a worker reaches the Hub and CAS: whom it trusts and through which proxy. The same for both; for nothing else.

``requests`` is told with each request. ``hf_xet`` can only be told by the environment, which it reads where an
operation begins: :mod:`airflow_provider_xethub.xet.cas.session` sets it for that moment.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_REQUESTS_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_PROXY_VARIABLES = tuple(each for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY") for each in (name, name.lower()))
_CLIENT_CA_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True)
class Network:
    """What the connection says about the network; where it says nothing, the environment of the worker holds.

    :param ca_bundle: file or folder with the certificate authorities to trust, instead of the system's.
    :param proxy: URL of the proxy; may carry user and password, so never shown. ``NO_PROXY`` does not apply to it.
    """

    ca_bundle: str | None = None
    proxy: str | None = field(default=None, repr=False)

    def requests_options(self) -> dict[str, Any]:
        """Return keyword arguments of a request of ``requests``; given with each, they win over its environment."""
        options: dict[str, Any] = {"verify": self.ca_bundle} if self.ca_bundle else {}
        if self.proxy:
            options["proxies"] = {"http": self.proxy, "https": self.proxy}
        return options

    def environment(self, direct: str | None = None) -> dict[str, str | None]:
        """Return the variables that tell ``hf_xet`` the same; ``None`` for one that must not be there.

        Of the proxy variables it takes the one in capitals first. It does not know those that ``requests`` reads for
        the authorities; where only they are set, they count for CAS too.

        :param direct: an address that no proxy is for.
        """
        variables: dict[str, str | None] = {}
        if self.proxy:
            variables |= {"HTTP_PROXY": self.proxy, "HTTPS_PROXY": self.proxy, "NO_PROXY": direct, "no_proxy": None}
        elif direct and any(os.environ.get(name) for name in _PROXY_VARIABLES):
            others = os.environ.get("NO_PROXY", os.environ.get("no_proxy", ""))
            variables["NO_PROXY"] = f"{others},{direct}" if others else direct
        trusted = self._trusted()
        if trusted:
            folder = Path(trusted).is_dir()
            variables |= {"SSL_CERT_FILE": None if folder else trusted, "SSL_CERT_DIR": trusted if folder else None}
        return {name: value for name, value in variables.items() if os.environ.get(name) != value}

    def client_trust(self) -> str | bool:
        """Return what ``hf_xet`` trusts, as ``requests`` wants to be told it."""
        system = ssl.get_default_verify_paths()  # knows SSL_CERT_FILE and SSL_CERT_DIR
        return self._trusted() or system.cafile or system.capath or True

    def _trusted(self) -> str | None:
        if self.ca_bundle or any(os.environ.get(name) for name in _CLIENT_CA_VARIABLES):
            return self.ca_bundle
        return next((path for name in _REQUESTS_CA_VARIABLES if (path := os.environ.get(name))), None)


def host_and_port(proxy: str) -> str:
    """Return what may be shown of a proxy's URL: neither user nor password."""
    # Not urlsplit first: it takes what follows a "/" or "#" in a password for the path.
    rest = proxy.rpartition("@")[2] if "@" in proxy else proxy.partition("://")[2] or proxy
    return re.split(r"[/?#\\]", rest)[0]


def find_proxy(proxies: Mapping[str, str], url: str) -> str | None:
    """Return the proxy for a URL among those that ``requests`` would use, or ``None``."""
    return proxies.get(urlsplit(url).scheme) or proxies.get("all")
