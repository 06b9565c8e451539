"""ID tokens of AWS: of the role that this worker has.

Source: AWS Security Token Service API reference, ``GetWebIdentityToken`` (outbound identity federation, November 2025):
a JWT for any audience, whose issuer belongs to the account and whose subject is the ARN of the role. The operation does
not exist on the global endpoint ``sts.amazonaws.com``, so the regional one is asked, whatever
``AWS_STS_REGIONAL_ENDPOINTS`` says.
"""

from __future__ import annotations

import os

from airflow_provider_xethub.exceptions import XetIdentityError, XetIdentityUnavailableError
from airflow_provider_xethub.xet.identity import libraries

_SETTINGS = {"connect_timeout": 3, "read_timeout": 5, "retries": {"total_max_attempts": 2, "mode": "standard"}}
"""Of every request to STS. The library alone would wait a minute for each, and try five times."""

_LIFETIME = 300
"""Seconds; exchanged at once. AWS allows 60 to 3600, and never more than is left of the role's session."""

_FINAL = {
    "AccessDenied": "Allow the role sts:GetWebIdentityToken for this audience.",
    "AccessDeniedException": "Allow the role sts:GetWebIdentityToken for this audience.",
    "OutboundWebIdentityFederationDisabledException": "Enable outbound identity federation for the account.",
    "OutboundWebIdentityFederationDisabled": "Enable outbound identity federation for the account.",
}


class AwsIdentity:
    """The role of this worker on AWS: of its container, its Kubernetes service account or its instance.

    ``botocore`` finds the credentials of the role, wherever its documentation says.
    """

    name = "aws"

    def id_token(self, audience: str) -> str:
        """Return an ID token of STS.

        :raises XetIdentityError: ``botocore`` is missing, no region is set, or the role may not have an ID token.
        :raises XetIdentityUnavailableError: there are no credentials, or STS did not respond or has a problem.
        """
        with libraries.of_extra("aws", "botocore"):
            import botocore.session
            from botocore.config import Config
            from botocore.exceptions import ClientError

        session = botocore.session.get_session()
        # Lambda, ECS and EKS set AWS_REGION, which botocore does not read.
        region = session.get_config_variable("region") or os.environ.get("AWS_REGION")
        if not region or region == "aws-global":
            raise XetIdentityError(
                "Identity aws needs a region: set AWS_REGION for this worker and the triggerer. Only regional "
                "endpoints of STS issue ID tokens."
            )
        session.set_config_variable("sts_regional_endpoints", "regional")
        session.set_default_client_config(Config(**_SETTINGS))
        code = ""
        try:
            # Debug messages show responses and signatures.
            with libraries.quiet("botocore"):
                client = session.create_client("sts", region_name=region)
                answer = client.get_web_identity_token(
                    Audience=[audience], DurationSeconds=_LIFETIME, SigningAlgorithm="RS256"
                )
            return str(answer.get("WebIdentityToken") or "")
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code") or "")
            problem = libraries.shown(error)
        except Exception as error:
            problem = f"{type(error).__name__}: {libraries.shown(error)}"
        if code in _FINAL:
            raise XetIdentityError(f"AWS STS in {region} issued no ID token. {_FINAL[code]} ({problem})")
        raise XetIdentityUnavailableError(
            f"AWS STS in {region} issued no ID token. Check that this worker has a role, and may reach the regional "
            f"endpoint of STS. ({problem})"
        )
