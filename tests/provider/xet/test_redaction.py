"""What a real server and the real client say is shown without secrets."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from airflow_provider_xethub.exceptions import XetForbiddenError, XetTransferError
from airflow_provider_xethub.hooks.events import failed
from airflow_provider_xethub.hooks.xethub import XetHubConnection
from airflow_provider_xethub.xet.cas import session as cas_session
from airflow_provider_xethub.xet.hub import client as hub_module
from airflow_provider_xethub.xet.network.settings import Network
from support.small_server import Answer, SmallServer

TOKEN = "hf_" + "S" * 34

PASSWORD = "d%2For#9b2e"


def test_a_server_that_repeats_secrets_shows_none(connection, monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_TRIES", 1)
    key, password = "proxy-key-5e1f0c-9a77", "door-9b2e47d1"

    def echo(asked):
        said = f"{asked.headers['x-key']} and {asked.headers['authorization']} and anna:{password} are bad"
        return Answer({"error": said}, 403, {"X-Error-Message": said} if "whoami" in asked.path else {})

    extra = {"secret_headers": {"X-Key": key}, "proxy": f"http://anna:{password}@127.0.0.1:1"}
    with SmallServer(echo) as server:
        # Its own proxy would not answer: this one is only known.
        monkeypatch.setattr("airflow_provider_xethub.xet.network.settings.Network.requests_options", lambda self: {})
        connection(host=server.url, password=TOKEN, extra=json.dumps(extra))
        hook = XetHubConnection()
        texts = [hook.test_connection()[1]]
        for work in (hook.whoami, lambda: hook.list_files(hook.repo("acme/m"))):
            with pytest.raises(XetForbiddenError) as caught:
                work()
            texts += [repr(caught.value), json.dumps(failed(caught.value))]
    for text in texts:
        assert "*** and Bearer *** and ***:*** are bad" in text
        assert not any(secret in text for secret in (key, password, TOKEN, "anna"))


def test_what_the_client_says_is_shown_without_secrets(repo, hook):
    """Also with a token of another connection: the proxy is that of the task's own."""
    access = hook.cas_access()(hook.get_token(repo, "read"))
    access.refresh.tokens.append("xet-of-a-refresh")
    given = replace(access, secrets=None, refresh=None, network=Network(None, f"http://anna:{PASSWORD}@proxy:1"))
    said = f"odd: {access.token.access_token}, xet-of-a-refresh, {hook._connection.found.password}, {PASSWORD}"
    for each, absent in ((access, said.split(", ")[:3]), (given, [access.token.access_token, PASSWORD])):
        with pytest.raises(XetTransferError) as caught, cas_session.translated_errors(each, "the upload", upload=True):
            raise RuntimeError(said)
        assert "***" in str(caught.value)
        assert not any(one.removeprefix("odd: ") in str(caught.value) for one in absent)
