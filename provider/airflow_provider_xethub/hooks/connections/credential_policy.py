"""``[xethub] minimum_credential``: refuse connections whose credential is weaker than the administrator requires.

It protects from a careless connection, not from code: a task with the connection can read its password.
"""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_xethub.exceptions import XetWeakCredentialError
from airflow_provider_xethub.hooks.connections import configuration
from airflow_provider_xethub.hooks.connections.credentials import (
    EXCHANGED_PREFIX,
    PULL_REQUEST,
    READ,
    WRITE,
    Credential,
)

if TYPE_CHECKING:
    from airflow_provider_xethub.xet.hub.client import Hub


@dataclass
class _Answer:
    """What the Hub said about one credential. The lock is held while it is asked, so that it is asked once."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    is_being_asked: bool = False
    credential: Credential | None = None


_answers: dict[str, _Answer] = {}
"""By a digest of endpoint and Hub token. A failed question leaves no answer; a changed token is another credential."""

# A lock that another thread held at the fork would stay locked in the child.
os.register_at_fork(after_in_child=_answers.clear)


def guard(hub: Hub, hub_token: str | None) -> Hub:
    """Return the Hub; it refuses to send anything with a credential that is too weak.

    A connection without a Hub token is never refused: it either names an identity, or reads what is public.

    :param hub_token: the credential.
    :raises XetInputError: the configuration is wrong.
    :raises XetWeakCredentialError: no Hub token is allowed in connections.
    """
    required = configuration.minimum_credential()
    if required == "any" or not hub_token:
        return hub
    if required == "keyless":
        raise XetWeakCredentialError(
            f"{_of(hub)} has a Hub token (password). Remove it and choose an identity: the administrator requires "
            "[xethub] minimum_credential = keyless. The repositories need a trusted publisher for the identity."
        )
    if not hub_token.startswith(EXCHANGED_PREFIX):
        digest = hashlib.sha256(f"{hub.endpoint}\n{hub_token}".encode()).hexdigest()
        hub.session.before_sending = lambda: _check(hub, digest)
    return hub


def _check(hub: Hub, digest: str) -> None:
    """Ask the Hub what kind of token it is, unless this process knows, and refuse one that is not fine-grained."""
    answer = _answers.setdefault(digest, _Answer())
    with answer.lock:
        if answer.is_being_asked:
            return  # this is the question
        if answer.credential is None:
            answer.is_being_asked = True
            try:
                answer.credential = Credential.of(hub.whoami())
            finally:
                answer.is_being_asked = False
        found = answer.credential
    if not found.is_fine_grained:
        kind = hub.shown(found.shown_kind)
        raise XetWeakCredentialError(
            f"{_of(hub)} has {kind}. Store a fine-grained one as its password, or choose an identity: the "
            f"administrator requires [xethub] minimum_credential = fine_grained. Create it at "
            f"{hub.endpoint}/settings/tokens, with {READ} for the repositories of your DAGs, {WRITE} for uploads and "
            f"{PULL_REQUEST} for pull requests."
        )
    hub.session.before_sending = None


def _of(hub: Hub) -> str:
    return hub.credential[:1].upper() + hub.credential[1:]
