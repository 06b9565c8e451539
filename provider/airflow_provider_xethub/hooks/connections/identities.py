"""Which identity a keyless connection names, and whether the administrator allows it.

Whoever edits a connection chooses among the identities of the workers, but must not be able to collect their ID tokens.
So the administrator's configuration, and never the connection, says which files and variables are identities, which
class is, and to which Hubs an ID token may be sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.exceptions import XetHubError, XetIdentityError, XetInputError
from airflow_provider_xethub.get_provider_info import IDENTITIES
from airflow_provider_xethub.hooks.connections import configuration
from airflow_provider_xethub.xet import urls
from airflow_provider_xethub.xet.urls import DEFAULT_ENDPOINT

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.identity.sources import Identity

Extra = Callable[[str], str]
"""Returns an extra of the connection, by its name; empty where it has none."""


def of(
    conn_id: str, extra: Extra, *, has_password: bool, endpoint: str, header_names: Iterable[str] = ()
) -> Identity | None:
    """Return the identity that a connection names, or ``None`` where it names none.

    Nothing is opened, read or sent yet. The first use raises :class:`XetIdentityError` if the administrator does not
    allow the identity, or this Hub.

    :param conn_id: of the connection, for messages.
    :param extra: its extras.
    :param has_password: whether it has a Hub token.
    :param endpoint: URL of its Hub.
    :param header_names: its extra headers.
    :raises XetInputError: the connection contradicts itself.
    """
    kind = extra("identity")
    if not kind:
        for name in ("identity_file", "identity_variable", "identity_user"):
            if extra(name):
                raise XetInputError(
                    f"Connection {conn_id!r} has the extra {name!r} but no identity. Set its identity, or leave that "
                    "extra empty."
                )
        return None
    if kind not in IDENTITIES:
        raise XetInputError(
            f"The identity {kind!r:.60} of connection {conn_id!r} is unknown; use one of {', '.join(IDENTITIES)}."
        )
    if has_password:
        raise XetInputError(
            f"Connection {conn_id!r} has both a Hub token and an identity, and only one can apply. Remove the "
            "Hub token (password), or the identity."
        )
    for name, of_kind in (("identity_file", "file"), ("identity_variable", "variable")):
        if extra(name) and kind != of_kind:
            raise XetInputError(
                f"Connection {conn_id!r} has the extra {name!r}, but its identity is {kind!r}. Leave that extra empty, "
                f"or set the identity to {of_kind!r}."
            )
    named = ""
    if kind == "file":
        named = _needed(conn_id, extra, "identity_file", "the path of a file")
    elif kind == "variable":
        named = _needed(conn_id, extra, "identity_variable", "the name of an environment variable")

    def open_source() -> Identity:
        _check_endpoint(conn_id, endpoint, on_this_machine=kind not in _FOR_ANY_AUDIENCE)
        _check_route(conn_id, endpoint, ca_bundle=extra("ca_bundle"), header_names=header_names)
        return _SOURCES[kind](conn_id, extra)

    return _ConnectionIdentity(f"{kind} {named}".rstrip(), open_source)


class _ConnectionIdentity:
    """The identity of a connection, which is opened when the first ID token is needed.

    A worker that was given a Xet token may have the connection, but neither this identity nor its configuration.

    :param name: what messages call it until it is open.
    :param open_source: checks that the administrator allows it, and opens it.
    """

    def __init__(self, name: str, open_source: Callable[[], Identity]) -> None:
        self._name = name
        self._open_source = open_source
        self._source: Identity | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return self._source.name if self._source else self._name

    def id_token(self, audience: str) -> str:
        """Return an ID token of the source.

        :raises XetIdentityError: the administrator does not allow the identity, or this Hub; or the source fails.
        """
        if self._source is None:
            self._source = self._open_source()
        return self._source.id_token(audience)


_FOR_ANY_AUDIENCE = ("google", "azure", "aws", "custom")
"""Kinds that may get an ID token for whatever Hub the connection names, and not for one chosen before."""


def _check_endpoint(conn_id: str, endpoint: str, *, on_this_machine: bool) -> None:
    """Refuse a Hub that the administrator has not allowed: some identities are issued for any audience.

    :param on_this_machine: whether any Hub on this machine is allowed.
    :raises XetIdentityError: it is not allowed.
    """
    allowed = {DEFAULT_ENDPOINT}
    for each in configuration.identity_endpoints():
        try:
            allowed.add(urls.canonical(each))
        except ValueError:
            raise XetIdentityError(
                f"[xethub] identity_endpoints contains {each!r:.100}, which is not the URL of a Hub. Ask the "
                "administrator to correct it."
            ) from None
    if urls.canonical(endpoint) not in allowed and not (on_this_machine and urls.is_loopback(endpoint)):
        raise XetIdentityError(
            f"No identity may be sent to {endpoint}, the host of connection {conn_id!r}. Correct the host, or ask the "
            "administrator to add it to [xethub] identity_endpoints. Nothing was sent."
        )


_ROUTING_HEADERS = frozenset({"host", "transfer-encoding", "content-length"})
"""Headers with which a server in front of several Hubs can be made to pass a request on to another one."""


def _check_route(conn_id: str, endpoint: str, *, ca_bundle: str, header_names: Iterable[str]) -> None:
    """Refuse a keyless connection that says itself which server is the Hub.

    Who edits a connection could otherwise have another server pass for the Hub: with a certificate authority of their
    own, which may lie on the workers among downloaded files, and a proxy that leads there.

    :raises XetIdentityError: it does.
    """
    if ca_bundle:
        raise XetIdentityError(
            f"Connection {conn_id!r} has an identity, so it cannot choose its own CA bundle: leave ca_bundle empty, "
            f"and set REQUESTS_CA_BUNDLE on the workers. Otherwise another server could pass for {endpoint}."
        )
    for name in header_names:
        if name.strip().lower() in _ROUTING_HEADERS:
            raise XetIdentityError(
                f"Connection {conn_id!r} has an identity, so it cannot set the header {name!r:.60}: remove it from its "
                f"secret headers. Otherwise its requests could reach another server than {endpoint}."
            )


def _file(_: str, extra: Extra) -> Identity:
    from airflow_provider_xethub.xet.identity import files

    return files.choose(extra("identity_file"), configuration.identity_files())


def _variable(_: str, extra: Extra) -> Identity:
    from airflow_provider_xethub.xet.identity import variables

    return variables.choose(extra("identity_variable"), configuration.identity_variables())


def _needed(conn_id: str, extra: Extra, name: str, what: str) -> str:
    value = extra(name)
    if not value:
        raise XetInputError(
            f"Connection {conn_id!r} does not say which identity it means. Set its extra {name!r} to {what} that the "
            "administrator allows."
        )
    return value


def _custom(_: str, __: Extra) -> Identity:
    path = configuration.identity_class()
    if not path:
        raise XetIdentityError(
            "No class for custom identities is configured. Ask the administrator to set [xethub] identity_class, or "
            "choose another identity in the connection."
        )
    module, _, name = path.rpartition(".")
    try:
        source = getattr(import_module(module), name)()
    except Exception as error:
        raise XetIdentityError(
            f"The class {path!r:.200} of [xethub] identity_class cannot be used here ({type(error).__name__})."
            " It must be importable, and need no arguments."
        ) from error
    return _CustomIdentity(path, source)


class _CustomIdentity:
    """The administrator's own class, whose errors are converted.

    :param path: its import path.
    :param source: an object of it.
    """

    def __init__(self, path: str, source: Any) -> None:
        self._source = source
        self.name = f"class {path}"

    def id_token(self, audience: str) -> str:
        """Return what the class returns.

        :raises XetIdentityError: it raised an error. Its text is logged nowhere, as it might contain the ID token.
        """
        try:
            token = self._source.id_token(audience)
        except XetHubError:
            raise
        except Exception as error:
            raise XetIdentityError(
                f"Identity {self.name} failed ({type(error).__name__}). Correct it; to have the task retried instead, "
                "let it raise XetIdentityUnavailableError."
            ) from None
        if not isinstance(token, str):
            raise XetIdentityError(
                f"Identity {self.name} returned {type(token).__name__} instead of a string. Correct it."
            )
        return token


def _google(_: str, __: Extra) -> Identity:
    from airflow_provider_xethub.xet.identity.google import GoogleIdentity

    return GoogleIdentity()


def _azure(_: str, __: Extra) -> Identity:
    from airflow_provider_xethub.xet.identity.azure import AzureIdentity

    return AzureIdentity()


def _aws(_: str, __: Extra) -> Identity:
    from airflow_provider_xethub.xet.identity.aws import AwsIdentity

    return AwsIdentity()


_SOURCES: dict[str, Callable[[str, Extra], Identity]] = {
    "file": _file,
    "variable": _variable,
    "google": _google,
    "azure": _azure,
    "aws": _aws,
    "custom": _custom,
}
