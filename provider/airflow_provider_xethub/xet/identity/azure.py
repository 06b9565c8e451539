"""Tokens of Microsoft Entra ID: of the managed identity, or the AKS workload identity, that this worker has.

Source: "How managed identities work" and "Microsoft Entra Workload ID" in Azure's documentation. A worker gets no ID
token, but an access token for an application: a JWT that an issuer of the tenant signs. It is asked for with the
application's ID URI, which is the audience of version 1.0 tokens; that of version 2.0 tokens is the client ID instead.

An application may have an https ID URI only in a verified domain of its tenant ("Restrictions on identifier URIs of
Microsoft Entra applications"), and no tenant can verify ``huggingface.co``. By what is public, Entra thus issues tokens
for a Hub in a domain of yours, and none that huggingface.co accepts. This was not tried with the real service. On AKS,
the cluster's own issuer can do it: a projected service-account token is an identity of the kind ``file``.
"""

from __future__ import annotations

import os
from typing import Any

from airflow_provider_xethub.exceptions import XetIdentityError, XetIdentityUnavailableError
from airflow_provider_xethub.xet.identity import libraries

_LIMITS = {"connection_timeout": 3, "read_timeout": 5, "retry_total": 1, "retry_status": 1, "retry_backoff_max": 1}
"""Of each request. The library alone would try six times, for half a minute, and wait for minutes."""

_FINAL = frozenset({400, 401, 403})
"""Statuses that another attempt does not change. A metadata service also responds with 404 and 410 while it starts."""

_WORKLOAD = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE")
"""What AKS sets for a pod with a workload identity."""


class AzureIdentity:
    """The managed identity of a VM, App Service or Container App, or the workload identity of a pod.

    ``AZURE_CLIENT_ID`` chooses a user-assigned identity.
    """

    name = "azure"

    def id_token(self, audience: str) -> str:
        """Return a token of Entra ID for the application whose ID URI is the audience.

        :raises XetIdentityError: ``azure-identity`` is missing, the worker has no identity, or the tenant no such
            application.
        :raises XetIdentityUnavailableError: the service did not respond, or has a problem.
        """
        with libraries.of_extra("azure", "azure-identity"):
            from azure.identity import ManagedIdentityCredential

        # Of both kinds, the library takes that which the environment describes. A metadata server is never behind a
        # proxy, and a proxy would see the token; Entra's own endpoint may be.
        is_workload = all(os.environ.get(name) for name in _WORKLOAD)
        statuses: list[int] = []

        def note(response: Any) -> None:
            statuses.append(response.http_response.status_code)

        options: dict[str, Any] = {**_LIMITS, "use_env_settings": is_workload, "raw_response_hook": note}
        try:
            with (
                libraries.quiet("azure", "msal"),
                ManagedIdentityCredential(client_id=os.environ.get("AZURE_CLIENT_ID"), **options) as credential,
            ):
                return str(credential.get_token(f"{audience}/.default").token)
        except Exception as error:
            problem = libraries.shown(getattr(error, "message", "") or error)
        if statuses and statuses[-1] in _FINAL:
            raise XetIdentityError(
                f"Azure issued no token for {audience}. The worker needs an identity, and the tenant an application "
                f"with this ID URI; for huggingface.co, use a token file instead. ({problem})"
            )
        raise XetIdentityUnavailableError(
            f"Azure issued no token for {audience}. Check that this worker runs on Azure, has an identity, and may "
            f"reach its metadata service. ({problem})"
        )
