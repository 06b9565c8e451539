"""Register the endpoint for the Hub's webhooks with Airflow's API server, if ``[xethub] webhook_secret`` is set.

Airflow loads plugins in every process, so this module imports as little as possible. The plugin is registered by the
entry point ``airflow.plugins``: Airflow loads the ``plugins`` of the provider info only with ``[core]
lazy_discover_providers = False``, and then a second time.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import Any

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

from airflow_provider_xethub.exceptions import XetInputError
from airflow_provider_xethub.get_provider_info import DEFAULT_CONN_ID
from airflow_provider_xethub.hooks.connections.configuration import SECTION

log = logging.getLogger(__name__)

URL_PREFIX = "/xethub"


class XetHubPlugin(AirflowPlugin):
    """Add ``POST /xethub/webhook`` to Airflow's API server if a secret is configured."""

    name = "xethub"

    @cached_property
    def fastapi_apps(self) -> list[Any]:  # type: ignore[override]
        """Return the endpoint if it is enabled. Only the API server reads this attribute."""
        try:
            # Airflow's own configuration, not the one of tasks: this reads the secrets backend of the servers.
            secret = conf.get(SECTION, "webhook_secret", fallback="") or ""
            conn_id = conf.get(SECTION, "webhook_conn_id", fallback=DEFAULT_CONN_ID) or None
        except Exception as error:
            # For example a command that fails. The API server must start anyway, without the endpoint.
            log.error(
                "Airflow could not read [xethub] webhook_secret (%s). The endpoint for webhooks is disabled.",
                type(error).__name__,
            )
            return []
        if not secret.strip():
            return []
        from airflow_provider_xethub.hooks.tokens import sealing
        from airflow_provider_xethub.xet.hub.webhooks import WebhookSecrets

        try:
            secrets = WebhookSecrets(secret)
        except XetInputError as error:
            log.error("The endpoint for webhooks is disabled: %s", error)
            return []
        if not secrets:
            return []
        for each in secret.split(","):
            sealing.mask(each.strip())
        from airflow_provider_xethub.plugins.webhook_app import build_app

        return [{"app": build_app(secrets, conn_id), "url_prefix": URL_PREFIX, "name": "Webhooks of the Xet Hub"}]
