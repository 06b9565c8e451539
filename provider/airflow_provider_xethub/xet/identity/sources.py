"""What every source of ID tokens offers. Each kind of identity is a module of its own beside this one."""

from __future__ import annotations

from typing import Protocol


class Identity(Protocol):
    """An identity of this worker, for which someone issues ID tokens (JWTs of an OpenID Connect issuer).

    Each call returns a token that is valid now: nothing is kept here, because files and services renew theirs. Nothing
    is checked here either: :func:`airflow_provider_xethub.xet.identity.jwt.check` does that for all kinds.
    """

    @property
    def name(self) -> str:
        """What messages call it, such as ``file /var/run/secrets/huggingface/token``; without any secret."""
        ...

    def id_token(self, audience: str) -> str:
        """Return an ID token, as it is sent.

        :param audience: what its claim ``aud`` has to be: the URL of the Hub, without a slash at the end. A source that
            cannot choose the audience returns what it has.
        :raises XetIdentityError: there is none, and retrying does not help.
        :raises XetIdentityUnavailableError: the service that issues it did not respond, or has a problem.
        """
        ...
