"""ID tokens of Google Cloud: of the service account that a VM, a pod or a Cloud Run service runs as.

Source: "Verify the identity of a VM" and "Workload Identity Federation for GKE" in Google Cloud's documentation: the
metadata server issues an ID token for any audience at ``instance/service-accounts/default/identity``. Its issuer is
``https://accounts.google.com``, and its subject the numeric ID of the service account. ``format=full`` adds ``email``,
and on a VM its project, zone and name.
"""

from __future__ import annotations

import time
from typing import Any

from airflow_provider_xethub.exceptions import XetIdentityError, XetIdentityUnavailableError
from airflow_provider_xethub.xet.identity import libraries

_TOGETHER = 5.0
"""Seconds after which no other attempt starts; the library alone would try five times, for half a minute."""

_EACH = 3.0
"""Seconds that an attempt may take."""


class GoogleIdentity:
    """The service account of this worker on Google Cloud.

    Only the metadata server is asked. A key file (``GOOGLE_APPLICATION_CREDENTIALS``) is not used: it would be a
    long-lived secret.
    """

    name = "google"

    def id_token(self, audience: str) -> str:
        """Return an ID token of the metadata server.

        :raises XetIdentityError: ``google-auth`` is missing, or the worker has no service account.
        :raises XetIdentityUnavailableError: the metadata server did not respond, or has a problem.
        """
        with libraries.of_extra("google", "google-auth"):
            from google.auth.compute_engine import IDTokenCredentials
            from google.auth.transport.requests import Request
        import requests

        status: int | None = None
        end = time.monotonic() + _TOGETHER
        # A metadata server is never behind a proxy, and a proxy would see the token.
        session = requests.Session()
        session.trust_env = False
        send = Request(session)

        def request(url: str, *, timeout: float | None = None, **options: Any) -> Any:
            nonlocal status
            left = end - time.monotonic()
            if left <= 0:
                raise _NotInTimeError
            response = send(url, timeout=min(timeout or _EACH, _EACH, left), **options)
            status = response.status
            return response

        problem = ""
        try:
            with session, libraries.quiet("google.auth"):
                credentials = IDTokenCredentials(request, audience, use_metadata_identity_endpoint=True)
                credentials.refresh(request)
            return str(credentials.token)
        except _NotInTimeError:
            problem = f"HTTP {status}" if status else "no response"
        except Exception as error:
            # Its message may repeat the response.
            problem = "its response is not a JWT" if status == requests.codes.ok else libraries.shown(error)
        if status is None or status >= requests.codes.server_error or status == requests.codes.too_many_requests:
            raise XetIdentityUnavailableError(
                "Google Cloud's metadata server issued no ID token. Check that this worker runs on Google Cloud and "
                f"may reach metadata.google.internal. ({problem})"
            )
        raise XetIdentityError(
            "Google Cloud's metadata server issued no ID token. Give this worker a service account: that of the VM, or "
            f"with Workload Identity Federation for GKE. ({problem})"
        )


class _NotInTimeError(Exception):
    """Not an error of the library, so that it does not try again."""
