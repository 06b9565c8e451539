"""The provider's client of the Hub, against small servers that say what a test wants."""

from __future__ import annotations

import time

import pytest

from airflow_provider_xethub.exceptions import XetHubError, XetResponseError
from airflow_provider_xethub.xet.hub.client import Hub
from airflow_provider_xethub.xet.repo import Repo
from support.small_server import Answer, SmallServer

HUB_TOKEN = "hf_0123456789abcdefghijklmnopqrst"
REPO = Repo("acme/corpus", "dataset")
AT_ONCE = {"Retry-After": "0"}


def client(url: str, hub_token: str | None = HUB_TOKEN, **options) -> Hub:
    return Hub(url, hub_token, credential="connection 'xethub_default'", **options)


def token_answer(**fields: str) -> Answer:
    """Return the answer to a token request, with these fields instead of its own."""
    return Answer({"accessToken": "xet_0", "exp": int(time.time()) + 900, "casUrl": "https://cas.example", **fields})


def refusal(answer: Answer, kind: type[XetHubError] = XetResponseError) -> XetHubError:
    """Ask for a token, and return the error that the answer leads to. What may pass is asked for again."""
    with SmallServer(answer) as server, pytest.raises(kind) as caught:
        client(server.url).xet_token(REPO, "read")
    assert len(server.asked) == 1 or answer.status == 429 or answer.status >= 500
    return caught.value
