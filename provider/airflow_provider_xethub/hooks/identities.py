"""Which identity a keyless connection names, and whether the administrator allows it.

Whoever edits a connection chooses among the identities of the workers, but must not be able to collect their ID tokens.
So the administrator's configuration, and never the connection, says which files and variables are identities, which
class is, and to which Hubs an ID token may be sent.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow_provider_xethub.exceptions import XetHubError, XetIdentityError, XetInputError
from airflow_provider_xethub.get_provider_info import IDENTITIES
from airflow_provider_xethub.hooks import configuration
from airflow_provider_xethub.xet import urls
from airflow_provider_xethub.xet.urls import DEFAULT_ENDPOINT

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.identity.sources import Identity

Extra = Callable[[str], str]
"""Returns an extra of the connection, by its name; empty where it has none."""


def of(conn_id: str, extra: Extra, *, has_password: bool, endpoint: str) -> Identity | None:
    """Return the identity that a connection names, or ``None`` where it names none. Nothing is read or sent yet.

    :param conn_id: of the connection, for messages.
    :param extra: its extras.
    :param has_password: whether it has a Hub token.
    :param endpoint: URL of its Hub.
    :raises XetInputError: the connection contradicts itself.
    :raises XetIdentityError: the administrator does not allow the identity, or this Hub.
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
    _check_endpoint(conn_id, endpoint)
    return _SOURCES[kind](conn_id, extra)


def _check_endpoint(conn_id: str, endpoint: str) -> None:
    """Refuse a Hub that the administrator has not allowed: some identities are issued for any audience.

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
    if urls.canonical(endpoint) not in allowed and not urls.is_loopback(endpoint):
        raise XetIdentityError(
            f"No identity may be sent to {endpoint}, the host of connection {conn_id!r}. Correct the host, or ask the "
            "administrator to add it to [xethub] identity_endpoints. Nothing was sent."
        )


def _file(conn_id: str, extra: Extra) -> Identity:
    from airflow_provider_xethub.xet.identity import files

    return files.choose(_needed(conn_id, extra, "identity_file", "the path of a file"), configuration.identity_files())


def _variable(conn_id: str, extra: Extra) -> Identity:
    from airflow_provider_xethub.xet.identity import variables

    named = _needed(conn_id, extra, "identity_variable", "the name of an environment variable")
    return variables.choose(named, configuration.identity_variables())


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


_SOURCES: dict[str, Callable[[str, Extra], Identity]] = {"file": _file, "variable": _variable, "custom": _custom}
