"""The plugin: an endpoint for the Hub's webhooks in Airflow's API server, where ``[xethub] webhook_secret`` is set.

Airflow loads plugins in every process, so this imports no more than it must. It is found by the entry point
``airflow.plugins``: what provider info names as ``plugins`` is loaded only with ``[core] lazy_discover_providers =
False``, and then twice.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.get_provider_info import DEFAULT_CONN_ID
from airflow_provider_xethub.hooks.configuration import SECTION

log = logging.getLogger(__name__)

URL_PREFIX = "/xethub"


class XetHubPlugin(AirflowPlugin):
    """Adds ``POST /xethub/webhook`` to Airflow's API server; without a secret it adds nothing."""

    name = "xethub"

    @cached_property
    def fastapi_apps(self) -> list[Any]:  # type: ignore[override]
        """The endpoint, where it is switched on. Only the API server asks for it."""
        try:
            # Airflow's own configuration, and not that of tasks: this reads the secrets backend of the servers.
            secret = conf.get(SECTION, "webhook_secret", fallback="") or ""
            conn_id = conf.get(SECTION, "webhook_conn_id", fallback=DEFAULT_CONN_ID) or None
        except Exception as error:
            # A command that fails, for example: the API server shall start all the same, without the endpoint.
            log.error("[xethub] webhook_secret cannot be read (%s): no webhooks are received.", type(error).__name__)
            return []
        if not secret.strip():
            return []
        from airflow_provider_xethub.hooks import sealing
        from airflow_provider_xethub.xet.hub.webhooks import WebhookSecrets

        try:
            secrets = WebhookSecrets(secret)
        except XetInputError as error:
            log.error("No webhooks are received: %s", error)
            return []
        if not secrets:
            return []
        for each in secret.split(","):
            sealing.mask(each.strip())
        from airflow_provider_xethub.plugins.webhook_app import build_app

        return [{"app": build_app(secrets, conn_id), "url_prefix": URL_PREFIX, "name": "Webhooks of the Xet Hub"}]
