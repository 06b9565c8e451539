"""Reads an Airflow connection of type ``xethub``: each field in one place, wrong ones named, none shown."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_xethub.exceptions import XetAirflowConnectionError, XetHubError, XetInputError
from airflow_provider_xethub.hooks.connections import credential_policy, identities, plain_http
from airflow_provider_xethub.hooks.tokens import sealing
from airflow_provider_xethub.xet import arguments, urls
from airflow_provider_xethub.xet.network.settings import Network
from airflow_provider_xethub.xet.repo import DEFAULT_REVISION, Repo, RepoType
from airflow_provider_xethub.xet.urls import DEFAULT_ENDPOINT

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.hub.client import Hub

_MAX_SECONDS = 600.0
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"(?P<scheme>https?)://(?P<name>[^/?#]*?)(?::(?P<port>\d{1,5}))?(?P<path>/.*)?", re.IGNORECASE)


def read(conn_id: str, get: Callable[[str], Any]) -> Any | None:
    """Read a connection from Airflow; ``None`` where Airflow says that it is not defined.

    Airflow says the same while a secrets backend or its own API server fails, and for a stored value that it cannot
    parse; it logs the reason at debug level only.

    :param get: Airflow's ``BaseHook.get_connection``.
    :raises XetAirflowConnectionError: Airflow failed in another way.
    """
    try:
        return get(conn_id)
    except AirflowNotFoundException:
        return None
    except Exception as error:
        raise XetAirflowConnectionError(
            f"Airflow could not read connection {conn_id!r} ({type(error).__name__}). Check the secrets backend and "
            "Airflow's API server; the task may be retried."
        ) from error


def not_found(conn_id: str) -> XetAirflowConnectionError:
    """Return the error for a connection that Airflow says is not defined."""
    return XetAirflowConnectionError(
        f"Airflow found no connection {conn_id!r}. Create it, or retry if it exists: Airflow reports the same while a "
        "secrets backend or its API server is unavailable. Add one of the type xethub in the UI, or with: airflow "
        "connections import connections.json (xethub_conn_id=None on workers that have none on purpose)."
    )


def needed(conn_id: str | None, error: XetHubError) -> XetHubError:
    """Return the error for work that fails without a connection; it is final only where the task names none.

    :param error: the error where the task names no connection.
    """
    if conn_id is None:
        return error
    return XetAirflowConnectionError(
        f"{error} Airflow found no connection {conn_id!r}; it reports the same while a secrets backend or its API "
        "server is unavailable, so the task may be retried."
    )


def endpoint(connection: Any) -> str:
    """Return the Hub's URL without a trailing slash; ``host`` may have a scheme and a port of its own.

    :raises XetInputError: it is not an http or https URL, or the port contradicts it.
    """
    host = (connection.host or "").strip().rstrip("/")
    port = _port(connection)
    if not host:
        if port not in (None, _DEFAULT_PORTS["https"]):
            raise XetInputError(
                f"Connection {connection.conn_id!r} has port {port} but no host. Set the host to the URL of the Hub, "
                "or leave the port empty."
            )
        return DEFAULT_ENDPOINT
    if "://" not in host:
        # In the URI form of a connection the host has no scheme; "schema" takes its place.
        host = f"{connection.schema or 'https'}://{host}"
    match = _HOST.fullmatch(host)
    if match is None or match["name"].lower().rstrip(":") in _DEFAULT_PORTS or not _is_hub(host):
        raise XetInputError(
            f"The host of connection {connection.conn_id!r} is not the URL of a Hub. Write it like {DEFAULT_ENDPOINT}."
        )
    if match["port"] and port is not None and port != int(match["port"]):
        raise XetInputError(
            f"Connection {connection.conn_id!r} has port {port}, but its host says {match['port']}. Leave the port "
            "empty."
        )
    if match["port"] or port in (None, _DEFAULT_PORTS[match["scheme"].lower()]):
        return host
    return f"{match['scheme']}://{match['name']}:{port}{match['path'] or ''}"


def _port(connection: Any) -> int | None:
    """Return the port; JSON may have it as a string.

    :raises XetInputError: it is not a port.
    """
    try:
        port = int(connection.port or 0) or None
    except (TypeError, ValueError):
        port = -1
    if port is not None and not 0 < port < 1 << 16:
        raise XetInputError(
            f"The port of connection {connection.conn_id!r} must be a number from 1 to 65535. Correct it, or leave it "
            "empty."
        )
    return port


def extras(connection: Any) -> dict[str, Any]:
    """Return the extras; reading them also registers those with a secret's name for masking.

    :raises XetInputError: they are not a JSON object.
    """
    try:
        value = connection.extra_dejson
    except Exception:  # Airflow's own error shows the value, which may contain a secret
        value = None
    if not isinstance(value, dict):
        raise XetInputError(f"The extra of connection {connection.conn_id!r} is not a JSON object.")
    return dict(value)


def _text(connection: Any, name: str) -> str:
    """Return an extra that is a string.

    :raises XetInputError: it is not a string.
    """
    value = extras(connection).get(name) or ""
    if not isinstance(value, str):
        raise XetInputError(f"The extra {name!r} of connection {connection.conn_id!r} must be a string.")
    arguments.text(f"The extra {name!r} of connection {connection.conn_id!r}", value)
    return value.strip()


def _is_url(url: str) -> bool:
    """Whether it is an http or https URL with a host that all clients parse the same way."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return known and urls.flaw(url) is None


def _is_hub(url: str) -> bool:
    """Whether it is an http or https URL without a user, a query and a fragment."""
    try:
        urls.origin(url)
    except ValueError:
        return False
    return "?" not in url and "#" not in url


def hub_token(connection: Any) -> str | None:
    """Return the Hub token, without whitespace around it from pasting.

    :raises XetInputError: it contains a character that is not allowed in an HTTP header.
    """
    token = (connection.password or "").strip()
    if not all("!" <= char <= "~" for char in token):
        raise XetInputError(
            f"The password of connection {connection.conn_id!r} is not a Hub token: it contains whitespace, control or "
            "non-ASCII characters."
        )
    return token or None


def seconds(connection: Any, name: str, default: float) -> float:
    """Return an extra that is a duration in seconds.

    :raises XetInputError: it is not a number from 1 to 600.
    """
    value = extras(connection).get(name)
    try:
        number = float(value) if value not in (None, "") else default
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if not 1 <= number <= _MAX_SECONDS:
        raise XetInputError(
            f"The extra {name!r} of connection {connection.conn_id!r} must be between 1 and 600 seconds."
        )
    return number


def transfer_limits(connection: Any) -> tuple[int | None, int | None, int | None]:
    """Return the most requests at a time, and the most and the fewest bytes per second, of each task.

    ``None`` stands for no limit.

    :raises XetInputError: one is not valid.
    """
    found = extras(connection)
    where = f"of connection {connection.conn_id!r}"
    # The form stores an empty field as an empty string.
    given = {name: None if str(value).strip() == "" else value for name, value in found.items()}
    return (
        arguments.concurrency(f"The extra 'max_concurrency' {where}", given.get("max_concurrency")),
        arguments.byte_count(f"The extra 'max_bandwidth' {where}", given.get("max_bandwidth")),
        arguments.byte_count(f"The extra 'min_rate' {where}", given.get("min_rate")),
    )


def network(connection: Any) -> Network:
    """Return the certificate authorities and the proxy for the Hub and CAS.

    :raises XetInputError: the CA bundle does not exist, or the proxy is not a URL.
    """
    return Network(_ca_bundle(connection), _proxy(connection))


def _ca_bundle(connection: Any) -> str | None:
    """Return the file with the certificate authorities to trust, or ``None`` for the system's.

    :raises XetInputError: it does not exist; ``requests`` would raise a bare ``OSError`` at each request.
    """
    path = _text(connection, "ca_bundle") or None
    if path is not None and not Path(path).exists():
        raise XetInputError(
            f"The extra 'ca_bundle' of connection {connection.conn_id!r} is not a file on this worker: {path}"
        )
    return path


def _proxy(connection: Any) -> str | None:
    """Return the URL of the proxy, and hide its password in the logs; ``None`` for that of the environment.

    :raises XetInputError: it is not an http or https URL; such a proxy variable would have no effect.
    """
    url = _text(connection, "proxy")
    if not url:
        return None
    parts = urlsplit(url) if _is_url(url) else None
    if parts is None or parts.path not in ("", "/") or parts.query:
        raise XetInputError(
            f"The extra 'proxy' of connection {connection.conn_id!r} is not the URL of a proxy, such as "
            "http://proxy.example:3128."
        )
    for secret in (parts.password or "", unquote(parts.password or "")):
        sealing.mask(secret)
    return url


def _is_header(name: str, text: str) -> bool:
    """Whether HTTP can carry the header; otherwise the client would raise in the middle of a request."""
    plain = all(" " <= char <= "~" or char == "\t" for char in text) and text == text.strip()
    return plain and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) is not None


def headers(connection: Any) -> dict[str, str]:
    """Return the extra headers, and mask their values in the logs.

    :raises XetInputError: they are not a JSON object of strings.
    """
    value = extras(connection).get("secret_headers") or {}
    try:
        parsed = json.loads(value) if isinstance(value, str) else value
        if not all(isinstance(text, str) and _is_header(name, text) for name, text in parsed.items()):
            raise TypeError
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise XetInputError(
            f"The extra 'secret_headers' of connection {connection.conn_id!r} is not a JSON object of strings."
        ) from None
    for text in parsed.values():
        sealing.mask(text)
    return dict(parsed)


class LazyConnection:
    """The Airflow connection of a hook, read when it is first needed, and the Hub behind it.

    :param conn_id: ``None`` on a worker that has no connection.
    :param get: Airflow's ``BaseHook.get_connection``.
    """

    def __init__(self, conn_id: str | None, get: Callable[[str], Any]) -> None:
        self.conn_id = conn_id
        self._get = get
        self._found: Any | None = None

    @property
    def found(self) -> Any | None:
        """The Airflow connection, or ``None`` where Airflow returns none; only one that was found is kept.

        :raises XetAirflowConnectionError: Airflow failed while it read the connection.
        """
        if self._found is None and self.conn_id is not None:
            self._found = read(self.conn_id, self._get)
        return self._found

    @property
    def endpoint(self) -> str | None:
        """URL of the Hub, without a credential; ``None`` where the connection was not found."""
        return endpoint(self.found) if self.found else None

    @property
    def network(self) -> Network:
        """Proxy and certificate authorities for the Hub and CAS; those of the environment without a connection."""
        return self._network if self.found else Network()

    @cached_property
    def _network(self) -> Network:
        return network(self.found)

    @cached_property
    def hub(self) -> Hub:
        """The Hub with this connection's credential and settings.

        :raises XetAirflowConnectionError: Airflow did not return the connection.
        :raises XetInputError: there is no connection id, or a field of the connection is wrong.
        """
        return self.open_hub(f"connection {self.conn_id!r}")

    def open_hub(self, credential: str) -> Hub:
        """Return a new client of the Hub.

        :param credential: what messages call the credential.
        :raises XetWeakCredentialError: no Hub token is allowed in connections.
        :raises XetHubError: as for :attr:`hub`.
        """
        from airflow_provider_xethub.xet.hub.client import DEFAULT_TIMEOUT, Hub

        found = self.found
        if found is None:
            if self.conn_id is None:
                raise XetInputError("This needs a connection to the Hub, but xethub_conn_id is None.")
            raise not_found(self.conn_id)
        url, token = endpoint(found), hub_token(found)
        plain_http.warn_once(url)
        extra, more = partial(_text, found), headers(found)
        identity = identities.of(str(self.conn_id), extra, has_password=bool(token), endpoint=url, header_names=more)
        hub = Hub(
            url,
            token,
            credential=credential,
            conn_id=self.conn_id,
            timeout=seconds(found, "timeout", DEFAULT_TIMEOUT),
            network=self.network,
            headers=more,
            identity=identity,
            identity_user=extra("identity_user") if identity else None,
            on_secret=sealing.mask_short_lived,
        )
        return credential_policy.guard(hub, token)

    def default(self, name: str) -> Any:
        """Return the connection's default for an argument; ``None`` where there is no connection id.

        :raises XetAirflowConnectionError: the connection was not found.
        """
        found = self.found
        if found is not None:
            return extras(found).get(name)
        if self.conn_id is not None:
            # Its defaults are unknown.
            raise not_found(self.conn_id)
        return None

    def repo(self, repo_id: str | None, repo_type: str | None, revision: str | None) -> Repo:
        """Return a repository; what is ``None`` or empty comes from the connection's defaults.

        :raises XetInputError: a name is not valid, or there is no repo_id anywhere.
        :raises XetAirflowConnectionError: something is left out, and Airflow did not return the connection.
        """
        repo_id = repo_id or self.default("repo_id")
        if not repo_id:
            raise XetInputError(
                f"repo_id is missing: give it to the task, or set it as default in connection {self.conn_id!r}."
            )
        repo_type = repo_type or self.default("repo_type") or "model"
        if repo_type == "bucket":
            return Repo(repo_id, "bucket", revision or DEFAULT_REVISION)
        revision = revision or self.default("revision") or DEFAULT_REVISION
        return Repo(repo_id, cast("RepoType", repo_type), revision)
