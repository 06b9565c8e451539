"""The warning about a Hub that is reached over plain http: everyone on the way reads the credentials."""

from __future__ import annotations

import logging

from airflow_provider_xethub.xet import urls

log = logging.getLogger(__name__)

_warned: set[str] = set()
"""Endpoints that this process has warned about: a sensor or a triggerer opens the same Hub again and again."""


def advice(endpoint: str) -> str | None:
    """Return what to say about an endpoint; ``None`` where its traffic is encrypted, or never leaves this machine.

    The Hub then also names a CAS over plain http, where the Xet token and all content are in the clear; see
    :func:`airflow_provider_xethub.xet.token.check_cas_url`. Digests come the same way, so they show no change.

    :param endpoint: the URL of a Hub, as :func:`~airflow_provider_xethub.hooks.connections.connection.endpoint`
        returns it.
    """
    if urls.origin(endpoint).startswith("https://") or urls.is_loopback(endpoint):
        return None
    return (
        f"{endpoint} is reached over plain http: everyone on the way can read the Hub token, Xet tokens and files, and "
        "change them. Use https in the host of the connection, unless the network is trusted."
    )


def warn_once(endpoint: str) -> None:
    """Log the advice about an endpoint, once in each process."""
    if (text := advice(endpoint)) and (hub := urls.canonical(endpoint)) not in _warned:
        _warned.add(hub)
        log.warning("%s", text)
