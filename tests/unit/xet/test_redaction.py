"""What a server or a client says is shown without any secret of the connection, in whatever form it is repeated."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_xethub.xet.hub.errors import shown
from airflow_provider_xethub.xet.redaction import Secrets

TOKEN = "hf_" + "S" * 34
KEY = 'Basic pröxy-"key" 5e1f0c/9a=='
PASSWORD = "d%2For#9b2e"


@pytest.fixture
def secrets():
    return Secrets(TOKEN, {"X-Key": KEY, "X-Short": "eu1", "X-Flag": "1"}, f"http://anna:{PASSWORD}@proxy:1")


@pytest.mark.parametrize(
    "said",
    [
        TOKEN,
        TOKEN.upper(),
        f"Bearer {TOKEN}!",
        KEY,
        json.dumps(KEY),
        quote(KEY, safe=""),
        KEY.removeprefix("Basic "),
        PASSWORD,
        "d/or#9b2e",
        quote("d/or#9b2e", safe=""),
        "user anna",
        "region eu1?",
        base64.b64encode(b"anna:d/or#9b2e").decode(),
    ],
)
def test_every_form_of_a_secret_is_hidden(secrets, said):
    hidden = secrets.hide(f"<{said}>")
    assert "***" in hidden
    for part in (TOKEN, "5e1f0c", "9b2e", "anna", "eu1"):
        assert part not in hidden


def test_ordinary_words_stay():
    said = "susanna got 1 of 21 files from neu1town"
    assert Secrets(TOKEN, {"X-Short": "eu1", "X-Flag": "1", "X-None": ""}, "http://anna@proxy").hide(said) == said
    assert Secrets().hide(said) == said


def test_xet_tokens_are_added_and_old_ones_make_room():
    secrets = Secrets()
    for number in range(300):
        secrets.add(f"xet-token-{number:03}-a", f"xet-token-{number:03}-a")
    assert secrets.hide("xet-token-299-a xet-token-200-a") == "*** ***"


def test_a_proxy_of_the_environment_is_known(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://anna:door-9b2e@proxy:1")
    assert Secrets().hide("door-9b2e") == "***"


@given(st.text(), st.text(), st.text())
def test_any_value_can_be_hidden_and_any_text_read(token, header, said):
    hidden = Secrets(token, {"X": header}, f"http://{header}:{token}@x").hide(said + token)
    assert len(token.strip()) < 6 or token not in hidden or token in "*" * 9


def test_what_is_cut_off_at_the_end_of_a_long_text_is_hidden_before():
    assert "hf_S" not in shown("a b " * 70 + TOKEN, Secrets(TOKEN))
