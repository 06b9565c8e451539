"""Stand-ins on loopback for the services of the clouds that issue tokens, written after their public documentation.

Each is an answer for a :class:`~support.small_server.SmallServer`. It refuses what the real service refuses, and its
token comes from ``issue``, which is called with the audience that was asked for.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from urllib.parse import parse_qs

from support.small_server import Answer, Asked

Issue = Callable[[str], str]

ROLE = "arn:aws:iam::123456789012:role/airflow"
ACCESS_KEY = "ASIALOOPBACK0000"
SECRET_KEY = "aws-secret-5d0b72"
SESSION_TOKEN = "aws-session-91c4fe"
FEDERATED = "k8s-assertion-7c1e"
IDENTITY_HEADER = "app-service-3f77a0"


def jwt(audience: str | list[str], **claims: object) -> str:
    """Return a JWT that nobody signed, and which does not expire."""
    body = {"iss": "https://issuer.example", "sub": "worker", "aud": audience, "exp": 4_102_444_800, **claims}
    parts = [{"alg": "RS256", "typ": "JWT", "kid": "k"}, body]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


def google(issue: Issue) -> Callable[[Asked], Answer]:
    """Answer as Google Cloud's metadata server does for a service account.

    Source: "About VM metadata" (the header ``Metadata-Flavor`` in both directions) and "Verify the identity of a VM".
    """

    def answer(asked: Asked) -> Answer:
        flavor = {"Metadata-Flavor": "Google"}
        if asked.headers.get("metadata-flavor") != "Google" or "x-forwarded-for" in asked.headers:
            return Answer(b"Forbidden", 403, flavor)
        account = "/computeMetadata/v1/instance/service-accounts/default/"
        if (asked.method, asked.path) == ("GET", account) and asked.query.get("recursive") == ["true"]:
            content = {"aliases": ["default"], "email": "airflow@project.iam.gserviceaccount.com", "scopes": []}
            return Answer(content, 200, {**flavor, "Content-Type": "application/json"})
        if (asked.method, asked.path) != ("GET", f"{account}identity"):
            return Answer(b"Not Found", 404, flavor)
        audience = asked.query.get("audience", [""])
        if len(audience) != 1 or not audience[0] or asked.query.get("format") != ["full"]:
            return Answer(b"non-empty audience parameter required", 400, flavor)
        return Answer(issue(audience[0]).encode(), 200, {**flavor, "Content-Type": "text/html"})

    return answer


def azure_metadata(issue: Issue, resources: set[str], client_id: str | None = None) -> Callable[[Asked], Answer]:
    """Answer as the Instance Metadata Service of an Azure VM.

    Source: "How to use managed identities for Azure resources on an Azure VM to acquire an access token".

    :param resources: ID URIs of the applications in the tenant.
    :param client_id: the user-assigned identity. ``None``: the VM has a system-assigned one.
    """

    def answer(asked: Asked) -> Answer:
        if asked.headers.get("metadata") != "true":
            return _azure_error("invalid_request", "Required metadata header not specified")
        if asked.path != "/metadata/identity/oauth2/token" or asked.query.get("api-version") != ["2018-02-01"]:
            return Answer({"error": "not_found"}, 404)
        if asked.query.get("client_id", [None]) != [client_id]:
            return _azure_error("invalid_request", "Identity not found")
        return _azure_token(issue, resources, asked.query.get("resource", [""])[0])

    return answer


def app_service(issue: Issue, resources: set[str]) -> Callable[[Asked], Answer]:
    """Answer as the identity endpoint of Azure App Service.

    Source: "How to use managed identities for App Service and Azure Functions", REST endpoint reference.
    """

    def answer(asked: Asked) -> Answer:
        if asked.headers.get("x-identity-header") != IDENTITY_HEADER:
            return Answer({"statusCode": 401, "message": "Unauthorized"}, 401)
        if asked.query.get("api-version") != ["2019-08-01"]:
            return Answer({"statusCode": 400, "message": "Invalid api-version"}, 400)
        return _azure_token(issue, resources, asked.query.get("resource", [""])[0])

    return answer


def entra(issue: Issue, resources: set[str]) -> Callable[[Asked], Answer]:
    """Answer as ``login.microsoftonline.com`` for the client credentials flow with a federated credential.

    Source: "Microsoft identity platform and the OAuth 2.0 client credentials flow", third case.
    """
    tenant = "https://login.microsoftonline.com/tenant"

    def answer(asked: Asked) -> Answer:
        if asked.path.endswith("/v2.0/.well-known/openid-configuration"):
            return Answer(
                {
                    "issuer": f"{tenant}/v2.0",
                    "authorization_endpoint": f"{tenant}/oauth2/v2.0/authorize",
                    "token_endpoint": f"{tenant}/oauth2/v2.0/token",
                }
            )
        if asked.method != "POST" or asked.path != "/tenant/oauth2/v2.0/token":
            return Answer({"error": "not_found"}, 404)
        form = {name: values[0] for name, values in parse_qs(asked.body.decode()).items()}
        if (
            form.get("grant_type") != "client_credentials"
            or form.get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            or form.get("client_assertion") != FEDERATED
            or form.get("client_id") != "client"
        ):
            return _azure_error("invalid_client", "AADSTS700213: No matching federated identity record found.")
        return _azure_token(issue, resources, form.get("scope", "").removesuffix("/.default"))

    return answer


def _azure_token(issue: Issue, resources: set[str], resource: str) -> Answer:
    if resource not in resources:
        return _azure_error(
            "invalid_resource",
            f"AADSTS500011: The resource principal named {resource} was not found in the tenant named Contoso.",
        )
    return Answer(
        {
            "access_token": issue(resource),
            "expires_in": 3599,
            "ext_expires_in": 3599,
            "expires_on": str(int(time.time()) + 3599),
            "resource": resource,
            "token_type": "Bearer",
        },
        headers={"Content-Type": "application/json"},
    )


def _azure_error(code: str, description: str) -> Answer:
    return Answer({"error": code, "error_description": description}, 400, {"Content-Type": "application/json"})


def container_credentials(asked: Asked) -> Answer:
    """Answer as the credentials endpoint of an ECS task or an EKS pod identity.

    Source: "Container credential provider" in the reference of AWS SDKs.
    """
    if asked.headers.get("authorization") != "pod-identity":
        return Answer({"message": "Unauthorized"}, 401)
    return Answer(
        {
            "AccessKeyId": ACCESS_KEY,
            "SecretAccessKey": SECRET_KEY,
            "Token": SESSION_TOKEN,
            "Expiration": _time(3600),
            "AccountId": "123456789012",
        }
    )


def sts(issue: Issue, refusal: tuple[int, str, str] | None = None) -> Callable[[Asked], Answer]:
    """Answer as a regional endpoint of AWS STS: ``GetWebIdentityToken`` and ``AssumeRoleWithWebIdentity``.

    Source: AWS Security Token Service API reference. The signature is not computed, only that it is there.

    :param refusal: status, code and message for ``GetWebIdentityToken``.
    """

    def answer(asked: Asked) -> Answer:
        form = {name: values[0] for name, values in parse_qs(asked.body.decode()).items()}
        if form.get("Action") == "AssumeRoleWithWebIdentity":
            if form.get("WebIdentityToken") != FEDERATED or form.get("RoleArn") != ROLE:
                return _sts_error(400, "InvalidIdentityToken", "No OpenIDConnect provider found")
            return _sts_answer(
                "AssumeRoleWithWebIdentity",
                f"<Credentials><AccessKeyId>{ACCESS_KEY}</AccessKeyId><SecretAccessKey>{SECRET_KEY}</SecretAccessKey>"
                f"<SessionToken>{SESSION_TOKEN}</SessionToken><Expiration>{_time(3600)}</Expiration></Credentials>",
            )
        if form.get("Action") != "GetWebIdentityToken":
            return _sts_error(400, "InvalidAction", "Could not find operation")
        if asked.headers.get(
            "x-amz-security-token"
        ) != SESSION_TOKEN or f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/" not in asked.headers.get(
            "authorization", ""
        ):
            return _sts_error(403, "InvalidClientTokenId", "The security token included in the request is invalid.")
        if "Audience.member.2" in form or not form.get("Audience.member.1"):
            return _sts_error(400, "ValidationError", "one audience")
        if form.get("SigningAlgorithm") not in {"RS256", "ES384"} or not 60 <= int(form["DurationSeconds"]) <= 3600:
            return _sts_error(400, "ValidationError", "parameters")
        if refusal:
            return _sts_error(*refusal)
        token = issue(form["Audience.member.1"])
        return _sts_answer(
            "GetWebIdentityToken",
            f"<WebIdentityToken>{token}</WebIdentityToken><Expiration>{_time(300)}</Expiration>",
        )

    return answer


_STS = 'xmlns="https://sts.amazonaws.com/doc/2011-06-15/"'
_XML = {"Content-Type": "text/xml"}


def _sts_answer(action: str, result: str) -> Answer:
    body = f"<{action}Response {_STS}><{action}Result>{result}</{action}Result></{action}Response>"
    return Answer(body.encode(), headers=_XML)


def _sts_error(status: int, code: str, message: str) -> Answer:
    error = f"<Type>Sender</Type><Code>{code}</Code><Message>{message}</Message>"
    return Answer(f"<ErrorResponse {_STS}><Error>{error}</Error></ErrorResponse>".encode(), status, _XML)


def _time(seconds: float) -> str:
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
