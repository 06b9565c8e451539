"""Hold the network settings of a worker for the Hub and CAS: certificate authorities and proxy.

``requests`` receives the settings with each request. ``hf_xet`` reads them only from environment variables, when an
operation starts: :mod:`airflow_provider_xethub.xet.cas.session` sets them for that moment.
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
    """Hold the network settings of a connection; the worker's environment applies where they are ``None``.

    :param ca_bundle: file or folder with the certificate authorities to trust. Default: the system's.
    :param proxy: URL of the proxy. It may contain a username and password, so it is never shown. ``NO_PROXY`` does not
        apply to it.
    """

    ca_bundle: str | None = None
    proxy: str | None = field(default=None, repr=False)

    def requests_options(self) -> dict[str, Any]:
        """Return keyword arguments for each request of ``requests``; they override the environment."""
        options: dict[str, Any] = {"verify": self.ca_bundle} if self.ca_bundle else {}
        if self.proxy:
            options["proxies"] = {"http": self.proxy, "https": self.proxy}
        return options

    def environment(self, direct: str | None = None) -> dict[str, str | None]:
        """Return the environment variables that give ``hf_xet`` the same settings; ``None`` for one to unset.

        ``hf_xet`` prefers proxy variables in capitals, and does not read the variables in which ``requests`` looks for
        the CA bundle. If only those are set, they are passed on to ``hf_xet``.

        :param direct: address to reach without a proxy.
        """
        variables: dict[str, str | None] = {}
        if self.proxy:
            variables |= {"HTTP_PROXY": self.proxy, "HTTPS_PROXY": self.proxy, "NO_PROXY": direct, "no_proxy": None}
        elif direct and any(os.environ.get(name) for name in _PROXY_VARIABLES):
            bypassed = os.environ.get("NO_PROXY", os.environ.get("no_proxy", ""))
            variables["NO_PROXY"] = f"{bypassed},{direct}" if bypassed else direct
        trusted = self._trusted()
        if trusted:
            folder = Path(trusted).is_dir()
            variables |= {"SSL_CERT_FILE": None if folder else trusted, "SSL_CERT_DIR": trusted if folder else None}
        return {name: value for name, value in variables.items() if os.environ.get(name) != value}

    def client_trust(self) -> str | bool:
        """Return what ``hf_xet`` trusts, as the argument ``verify`` of ``requests``."""
        system = ssl.get_default_verify_paths()  # considers SSL_CERT_FILE and SSL_CERT_DIR
        return self._trusted() or system.cafile or system.capath or True

    def _trusted(self) -> str | None:
        if self.ca_bundle or any(os.environ.get(name) for name in _CLIENT_CA_VARIABLES):
            return self.ca_bundle
        return next((path for name in _REQUESTS_CA_VARIABLES if (path := os.environ.get(name))), None)


def host_and_port(proxy: str) -> str:
    """Return host and port of a proxy URL, without username and password."""
    # urlsplit would mistake the rest of a password after "/" or "#" for the path.
    rest = proxy.rpartition("@")[2] if "@" in proxy else proxy.partition("://")[2] or proxy
    return re.split(r"[/?#\\]", rest)[0]


def find_proxy(proxies: Mapping[str, str], url: str) -> str | None:
    """Return the one of ``proxies`` that ``requests`` uses for a URL; ``None`` if it uses none."""
    return proxies.get(urlsplit(url).scheme) or proxies.get("all")
